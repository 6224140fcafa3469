"""What is found below a folder: runs, exports and weight files; not what lies inside a run."""

import pytest

from whytransfer.backbones.at_hand import DEPTH, backbones_below
from whytransfer.errors import InputError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_runs_exports_and_files_are_found_in_order(tmp_path):
    touch(
        tmp_path, "b/run/card.json", "b/run/backbone.safetensors", "b/run/checkpoint.pt", "b/run/deep/other.pth",
        "a/half/card.json", "a/half/checkpoint.pt", "new/card.json", "moco.pth.tar", "notes.txt", ".git/x.pt", "._y.pt",
        "/".join("123456") + "/far.pt",
    )  # fmt: skip
    found = [str(tmp_path / name) for name in ("a/half", "b/run", "moco.pth.tar")]
    assert DEPTH == 5 and backbones_below(tmp_path) == found


def test_a_run_folder_itself_is_one(tmp_path):
    touch(tmp_path, "card.json", "backbone.safetensors")
    assert backbones_below(tmp_path) == [str(tmp_path)]


def test_what_is_no_folder_is_refused(tmp_path):
    touch(tmp_path, "weights.pt")
    with pytest.raises(InputError, match="--backbone takes a file of weights"):
        backbones_below(tmp_path / "weights.pt")
    with pytest.raises(InputError, match="no such file or folder"):
        backbones_below(tmp_path / "wieghts")
