"""`whytransfer export`: from a run folder to a folder that loads, with what it is said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

import whytransfer
from whytransfer.backbones import load_backbone
from whytransfer.backbones.recorded import record
from whytransfer.cli import main
from whytransfer.commands.transfer import sizes_of
from whytransfer.errors import InputError


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    backbone = load_backbone("random:resnet18:9")
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(backbone.state_dict(), folder / "backbone.safetensors")
    card = {"arch": "resnet18", "size": 48, "finished": True, "config": {}, "recorded": record(backbone)}
    card |= {"method": "moco-v2-small", "seed": 3, "data": {"spec": "scenes:500", "images": 500}}
    (folder / "card.json").write_text(
        json.dumps({**card, "mean": backbone.mean.tolist(), "std": backbone.std.tolist()})
    )
    return folder


def test_a_run_is_exported_and_keeps_its_size(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["export", "--backbone", str(run_folder), "--format", "safetensors", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "loaded back and shown 16 fixed images" in printed and "largest difference" in printed
    assert f'load it: whytransfer.load_backbone("{tmp_path / "out"}")' in printed
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["size"] == 48 and card["source"] == str(run_folder) and card["command"] and card["versions"]["torch"]
    assert sizes_of([str(tmp_path / "out")]) == [48], "transfer shows it images of its own size"
    assert load_backbone(tmp_path / "out").note == ""
    made = {"method": "moco-v2-small", "seed": 3, "data": {"spec": "scenes:500", "images": 500}, "config": {}}
    assert card["run"] == made, "what the weights were trained on goes with them"
    whytransfer.export(backbone=str(tmp_path / "out"), format="detectron2", out=tmp_path / "again")
    assert json.loads((tmp_path / "again" / "card.json").read_text())["run"] == made


def test_as_json_and_as_a_function(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["export", "--backbone", str(run_folder), "--format", "torchvision", "--out", str(tmp_path / "tv"), "--json"])
    row = json.loads(capsys.readouterr().out)
    assert (
        row["format"] == "torchvision"
        and 0 <= row["vector_difference"] < 1e-4
        and row["folder"] == str(tmp_path / "tv")
    )
    done = whytransfer.export(backbone="random:resnet18", format="detectron2", out=tmp_path / "d2", size=64)
    assert json.loads((done.folder / "card.json").read_text())["size"] == 64
    assert whytransfer.export(backbone="random:resnet18", format="safetensors", out=tmp_path / "st").folder.is_dir()
    assert json.loads((tmp_path / "st" / "card.json").read_text())["size"] == 64  # as transfer shows untrained weights


def test_refusals(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--backbone", str(run_folder), "--format", "tim", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2 and "unknown format 'tim'. Did you mean 'timm'" in capsys.readouterr().err
    (run_folder / "card.json").write_text("[]")
    with pytest.raises(InputError, match="card.json is damaged"):
        whytransfer.export(backbone=str(run_folder), format="safetensors", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
