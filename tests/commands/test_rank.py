"""`whytransfer masks rank`: a file that the engine takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from whytransfer.commands.rank import RankMasksSettings, rank_masks, show
from whytransfer.errors import InputError
from whytransfer.masks import open_engine
from whytransfer.masks.ranking import Ranking


def test_a_ranking_is_learnt_from_the_masks_of_the_image_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = rank_masks(images="scenes:6:0:48", count=4, out=tmp_path / "new" / "a.ranking")
    show(RankMasksSettings(images="scenes:6:0:48", count=4, out=tmp_path / "b.ranking"))
    assert f"use it as --engine mcg:{tmp_path / 'b.ranking'}" in capsys.readouterr().out.replace("\n", "")
    assert first.read_bytes() == (tmp_path / "b.ranking").read_bytes()
    assert Ranking.load(first).digest() in open_engine(f"mcg:{first}").recipe
    rank_masks(images="scenes:6:0:48", count=6, out=first)
    assert first.read_bytes() != (tmp_path / "b.ranking").read_bytes()


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(InputError, match="is a folder: give the name of a file"):
        rank_masks(images="scenes:2:0:48", out=tmp_path)
