"""Cityscapes [Cordts 2016]: street scenes with the 19 training classes and the objects of eight of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.folder import Files
from whytransfer.images.index import Names, first_of
from whytransfer.images.published.annotated import ALL, VOID, AnnotatedFiles, Known, boxes_around
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, named_files, root_and_parts
from whytransfer.images.published.maps import classes_of, read_indices, table

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # labelIds of CLASSES
THINGS = 11  # CLASSES from here on come as single objects
LAYOUT = Layout(
    "cityscapes",
    "ROOT/leftImg8bit/train/<city>/*_leftImg8bit.png and ROOT/gtFine/train/<city>/*_gtFine_labelIds.png, "
    "*_gtFine_instanceIds.png",
    ("train", "val", "test", "train_extra"),
)
UNLABELLED = ("test", "train_extra")  # the released label maps of test are empty; train_extra has coarse ones only
_VALUES = table({number: label for label, number in enumerate(IDS)}, void=set(range(34)) - set(IDS))
_IMAGE = "_leftImg8bit.png"


def cityscapes(rest: str) -> Files:
    """The set named "cityscapes:ROOT[:train|val|test|train_extra]"; the last two come without annotations."""
    root, parts = root_and_parts("cityscapes", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    folder = LAYOUT.find(root, [f"leftImg8bit/{split}"])
    images = [f"{city}/{name}" for city in _cities(folder) for name in sorted(named_files(folder / city, (_IMAGE,)))]
    if not images:
        raise LAYOUT.refusal(folder, f"any image <city>/*{_IMAGE}")
    index = unlabelled(Names(images))
    if split in UNLABELLED:
        return Files(folder, index, f"cityscapes/{split}")
    truth = LAYOUT.find(root, [f"gtFine/{split}"])
    _require(truth, images)
    return AnnotatedFiles(folder, index, f"cityscapes/{split}", FineLabels(truth, index.names))


class FineLabels:
    """gtFine: labelIds become the 19 classes and void, instanceIds (1000 id + number) the masks and their boxes.

    Groups, which no one could part, have an id below 1000 and give no mask. 1024 x 2048 px: each mask takes 2 MB.
    """

    labelled_with = ("boxes", "masks", "semantic")
    box_classes, semantic_classes = CLASSES[THINGS:], CLASSES
    nbytes = 0  # beside the names, which the set holds

    def __init__(self, folder: Path, names: Names) -> None:
        self._folder, self._names = folder, names

    def read(self, i: int, want: Collection[str] = ALL) -> Known:
        """Label map of image i; masks of its objects in the order of their ids, and the boxes around them."""
        path = self._path(i, "labelIds")
        semantic = classes_of(read_indices(path), _VALUES, path)
        path = self._path(i, "instanceIds")
        ids = read_indices(path)
        if ids.shape != semantic.shape:
            raise InputError(f"{path} is {ids.shape}, its labelIds {semantic.shape}: copy both again.")
        present = np.unique(ids[ids >= 1000])
        labels = classes_of(present // 1000, _VALUES, path).astype(np.int64)
        single = (labels >= THINGS) & (labels != VOID)
        masks = ids == present[single, None, None]  # (R, H, W)
        return Known(
            semantic.shape,
            boxes_around(masks),
            labels[single] - THINGS,
            masks if "masks" in want else None,
            semantic if "semantic" in want else None,
        )

    def files(self) -> Iterator[tuple[str, str]]:
        """Both files of every image."""
        for i, name in enumerate(self._names):
            for kind in ("labelIds", "instanceIds"):
                yield _truth(name, kind), self._path(i, kind)

    def _path(self, i: int, kind: str) -> str:
        return os.path.join(self._folder, _truth(self._names[i], kind))


def _truth(image: str, kind: str) -> str:
    return f"{image.removesuffix(_IMAGE)}_gtFine_{kind}.png"


def _cities(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _require(truth: Path, images: list[str]) -> None:
    there = {f"{city}/{name}" for city in _cities(truth) for name in named_files(truth / city, (".png",))}
    wanted = [_truth(image, kind) for image in images for kind in ("labelIds", "instanceIds")]
    if missing := [name for name in wanted if name not in there]:
        raise LAYOUT.refusal(truth, f"{len(missing):,} of {len(wanted):,} label files, first {first_of(missing)},")
