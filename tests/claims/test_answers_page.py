"""studies/claims_page.py: costs by claim by hand, and what is written by people stays."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from whytransfer.claims import CLAIMS
from whytransfer.claims.suite import of_claims
from whytransfer.commands.study_stages import STAGES
from whytransfer.records import Result
from whytransfer.study.plan import grid_of
from whytransfer.study.store import StudyFolder
from whytransfer.study.study_file import read_study

SCRIPT = Path(__file__).parents[2] / "studies" / "claims_page.py"
SECONDS = {"pretrain": 120.0, "transfer": 30.0, "diagnose-errors": 60.0}


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("claims_page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ran(tmp_path):
    """C03 and C06 at one seed: they share two pretrainings and two detectors; C03 has two segmenters besides."""
    whole = {**of_claims([CLAIMS["C03"], CLAIMS["C06"]], "demo", "data"), "seeds": [0]}
    store, cells = StudyFolder.create(tmp_path / "out"), []
    for k, cell in enumerate(grid_of(read_study(whole), STAGES).cells):
        cells.append((cell, f"{cell.stage}-{k}"))
        card = store.begin(cell, cells[-1][1], {}, {"machine": "a desk, 2 threads"})
        result = Result("m", "d", "t", "top1", 12.5, "%", "higher", 9, 0, provenance={"long": [0.5] * 99})
        store.finish(card, [result], 9.0, SECONDS[cell.stage])
    store.keep_study("claims-demo", cells, {})
    rows = [
        {"id": i, "source": "s", "finding": "f", "paper": "p", "scale": "demo", "verdict": v, "why": "w", "effects": []}
        for i, v in (("C03", "not run"), ("C06", "not run"))
    ]
    (tmp_path / "out" / "claims.json").write_text(json.dumps(rows))
    return tmp_path


def test_a_claim_costs_all_its_cells_and_the_whole_costs_each_once(script, ran):
    text = script.page(ran / "out", "demo", "")
    # 2 pretrainings, 2 detectors: 5 minutes; and 2 segmenters, or the errors: one more
    assert "C03 6.0, C06 6.0." in text and "All cells together took 7.0 minutes" in text
    assert "7 of 7 cells are finished, of seed 0." in text and "a desk, 2 threads" in text
    assert "0 hold, 0 contradicted, 0 undecided, 2 not run" in text


def test_words_under_read_stay_and_raw_values_lie_beside_the_page(script, ran, monkeypatch):
    page = ran / "docs" / "page.md"
    monkeypatch.setattr(sys, "argv", ["claims_page.py", str(ran / "out"), "--scale", "demo", "--page", str(page)])
    script.main()
    page.write_text(page.read_text().replace("## Read\n", "## Read\n\nNothing was found.\n"))
    script.main()
    once = page.read_text()
    script.main()
    assert page.read_text() == once and once.count("Nothing was found.") == 1
    raw = [json.loads(line) for line in (page.parent / "raw" / "claims-demo.jsonl").read_text().splitlines()]
    assert len(raw) == 7 and raw[0]["value"] == 12.5 and "provenance" not in raw[0]
