"""The sample report and its pictures in docs/: small, of no machine, and what they say they are."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from report_rows import data_of

DOCS = Path(__file__).parents[2] / "docs"
SAMPLE = DOCS / "sample-report.html"


def test_the_sample_is_small_and_names_no_machine():
    assert SAMPLE.stat().st_size < 1_000_000
    data = data_of(SAMPLE)
    for text in (SAMPLE.read_text(), json.dumps(data["evidence"])):
        assert not re.search(r"(?<![\w.])/(work|tmp|home|root|Users)/", text)
    assert len(data["specs"]) >= 10 and len(data["evidence"]["numbers"]) > 100
    assert all(cell["link"].startswith("../whytransfer-demo/cells/") for cell in data["evidence"]["cells"])


@pytest.mark.parametrize("path", sorted(DOCS.glob("pictures/report-*.png")), ids=lambda path: path.stem)
def test_its_pictures_are_small(path: Path):
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert picture.width in (390, 1280)
