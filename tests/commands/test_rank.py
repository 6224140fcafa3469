"""`whytransfer masks rank`: a file that the engine takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whytransfer.commands.rank import RankMasksSettings, rank_masks, show
from whytransfer.errors import InputError
from whytransfer.images import open_images
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


def drawn(folder: Path, pictures: list[int], maps: list[int]) -> dict[str, str]:
    """Settings for pictures of generated scenes, of which some have a label map beside them."""
    for of in ("pictures", "maps"):
        (folder / of).mkdir(parents=True)
    scenes = open_images("scenes:4:0:48")
    for i in pictures:
        Image.fromarray(scenes[i].image.permute(1, 2, 0).numpy()).save(folder / "pictures" / f"{i}.png")
    for i in maps:
        labels = (np.asarray(scenes[i].masks) * np.arange(1, len(scenes[i].masks) + 1)[:, None, None]).max(axis=0)
        Image.fromarray(labels.astype(np.uint8)).save(folder / "maps" / f"{i}.png")
    return {"images": str(folder / "pictures"), "truth": f"annotated:{folder / 'maps'}"}


def test_images_that_the_truth_does_not_know_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    some, known = drawn(tmp_path / "some", [0, 1, 2], [0, 2]), drawn(tmp_path / "known", [0, 2], [0, 2])
    with_unknown = rank_masks(**some, out=tmp_path / "a.ranking")
    assert "1 of the 3 images left out: annotated:" in capsys.readouterr().err
    assert with_unknown.read_bytes() == rank_masks(**known, out=tmp_path / "b.ranking").read_bytes()


def test_a_truth_of_other_images_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"none of the 2 images of pictures has an object in annotated:.*--truth"):
        rank_masks(**drawn(tmp_path, [0, 1], [3]), out=tmp_path / "a.ranking")
