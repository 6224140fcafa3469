"""`whytransfer diagnose inversion`: files that it leaves, what it prints, what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from whytransfer.commands import diagnose_inversion as command
from whytransfer.commands.diagnose_inversion import DiagnoseInversionSettings, diagnose_inversion, show
from whytransfer.diagnosis import inversion, inverted_pictures
from whytransfer.diagnosis.hourglass import Hourglass
from whytransfer.errors import InputError


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    """The command has the published network; here it is a narrow one."""
    narrow, full = Hourglass((4, 4), (3, 3), 2, 4), inversion.Inversion
    monkeypatch.setattr(inversion, "Inversion", lambda *a, **k: full(*a, network=narrow, draws=50, **k))


SETTINGS = {"images": "scenes:2:0:32", "size": 32, "budget": 0.001, "previews": 1}


def test_gallery_figures_and_results(tmp_path, capsys):
    specs = ("random:resnet18-small", "random:resnet18-small:1")
    settings = DiagnoseInversionSettings(backbone=specs, out=tmp_path, **SETTINGS)
    show(settings)
    said = capsys.readouterr()
    assert "minus random:resnet18-small, paired" in said.out and "coverage of objects" in said.out
    assert "3 steps, 0.1 % of the published 3,000" in said.err
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 18 and {row["model"] for row in rows} == set(specs)
    assert rows[0]["task"] == "inversion" and "command" in rows[0]["provenance"]
    names = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")}
    for stem in ("inversion-scores", "inversion-loss"):
        assert {f"{stem}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
        assert f"{stem}.parquet" in names
    assert {"inversion.png", "inversion.html"} <= names and "preview.png" not in names
    kept = inverted_pictures.read(tmp_path / "inversion.npz")
    assert kept.models == specs and kept.made.shape == (2, 2, 32, 32, 3) and kept.captions[1][0].count("hue") == 1
    assert "3 steps, 0.1 % of the published 3,000" in (tmp_path / "inversion.html").read_text()
    with Image.open(tmp_path / "inversion.png") as picture:
        assert picture.width > 3 * 160
    assert len(diagnose_inversion(**dict(settings))) == 18  # again: finished ones are read, results replaced
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 18


def test_a_picture_of_20_pixels_is_enlarged_and_said(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "tiny.png")
    settings = {**SETTINGS, "images": str(folder), "backbone": "random:resnet18-small"}
    found = diagnose_inversion(out=tmp_path / "out", **settings)
    assert "pictures smaller than 32 px were enlarged: tiny" in capsys.readouterr().err
    assert found[0].n == 1 and found[0].low is None and found[0].provenance["enlarged"][0].endswith("(24 x 20 px)")
    with pytest.raises(InputError, match="inversion of 20 px is too small"):
        diagnose_inversion(out=tmp_path / "out", **{**settings, "size": 20})


def test_what_cannot_be_done_is_refused(tmp_path):
    settings = {**SETTINGS, "backbone": "random:resnet18-small", "out": tmp_path / "out"}
    with pytest.raises(InputError, match="unknown feature stage 'layer7'. Did you mean 'layer"):
        diagnose_inversion(**settings, stage="layer7")
    with pytest.raises(InputError, match="names one twice: a, a"):
        diagnose_inversion(**{**settings, "backbone": ("a", "a")})
    with pytest.raises(InputError, match="one or two files"):
        diagnose_inversion(**settings, lpips=("a", "b", "c"))
    with pytest.raises(InputError, match="budget: Input should be less than or equal to 1"):
        diagnose_inversion(**{**settings, "budget": 2})


def test_backbones_of_different_sizes_need_one(tmp_path, monkeypatch):
    monkeypatch.setattr("whytransfer.commands.transfer.sizes_of", lambda specs: [64, 224])
    settings = DiagnoseInversionSettings(backbone=("a", "b"), images="x", out=tmp_path)
    with pytest.raises(InputError, match=r"different sizes \(a at 64 px, b at 224 px\): give --size"):
        command.size_of(settings)
