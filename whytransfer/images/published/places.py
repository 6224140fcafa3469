"""Places205 [Zhou 2014] and Places365-Standard [Zhou 2017]: scenes, by listing or in category folders."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.folder import Files, scan
from whytransfer.images.index import Index, Names, build_index
from whytransfer.images.published.layout import Layout, root_and_parts, rows

LAYOUT = Layout(
    "places",
    "Places205: ROOT/trainvalsplit_places205/train_places205.csv and ROOT/data/vision/torralba/deeplearning/images256; "
    "Places365-Standard: ROOT/train/<category> and ROOT/val/<category>, or ROOT/categories_places365.txt, "
    "ROOT/places365_train_standard.txt, ROOT/places365_val.txt, ROOT/data_256_standard and ROOT/val_256 (or _large)",
    ("train", "val"),
)
CATEGORIES = 365
_PICTURES_205 = ("data/vision/torralba/deeplearning/images256", "images256")
_PICTURES_365 = {
    "train": ("data_256_standard", "data_256", "data_large_standard", "data_large"),
    "val": ("val_256", "val_large"),
}
_LISTS_365 = {"train": "places365_train_standard.txt", "val": "places365_val.txt"}


def places(rest: str) -> Files:
    """The set named "places:ROOT[:train|val]"; which of the three layouts it is, is seen from the files.

    Listed images are not asked for one by one here: one that is not there is named when it is read.
    """
    root, parts = root_and_parts("places", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    listing = root / "trainvalsplit_places205" / f"{split}_places205.csv"
    if listing.exists():
        return _places205(root, split, listing)
    if (root / _LISTS_365[split]).exists():
        return _places365(root, split)
    return _folders(root, split)


def _places205(root: Path, split: str, listing: Path) -> Files:
    """Lines "a/abbey/NAME.jpg 0": the folder is the scene."""
    folder = LAYOUT.find(root, _PICTURES_205)
    scenes: dict[int, str] = {}
    labels = array("q")

    def names() -> Iterator[str]:
        for line, name, label in _listed(listing):
            scene = name.rpartition("/")[0]
            if not scene or scenes.setdefault(label, scene) != scene:
                raise LAYOUT.damaged(listing, line, f"an image of {scenes.get(label)}, as others of {label} are", name)
            labels.append(label)
            yield name

    found = Names(names())
    if sorted(scenes) != list(range(len(scenes))):
        raise InputError(f"places: {listing} does not count its scenes from 0 without a gap: copy it again.")
    classes = tuple(_scene(scenes[label]) for label in range(len(scenes)))
    return _files(folder, found, labels, classes, f"places205/{split}")


def _places365(root: Path, split: str) -> Files:
    """Lines "/a/airfield/00000001.jpg 0", for val "Places365_val_00000001.jpg 165"."""
    categories = LAYOUT.find(root, ["categories_places365.txt"])
    by_label = {label: name for _, name, label in _listed(categories)}
    classes = tuple(_scene(by_label[label]) for label in sorted(by_label))
    if sorted(by_label) != list(range(len(by_label))):
        raise InputError(f"places: {categories} does not count its categories from 0 without a gap: copy it again.")
    folder = LAYOUT.find(root, _PICTURES_365[split])
    listing = root / _LISTS_365[split]
    labels = array("q")

    def names() -> Iterator[str]:
        for line, name, label in _listed(listing):
            if label >= len(classes):
                raise LAYOUT.damaged(listing, line, f"an image and a category below {len(classes)}", f"{name} {label}")
            labels.append(label)
            yield name.lstrip("/")

    return _files(folder, Names(names()), labels, classes, f"places365/{split}")


def _folders(root: Path, split: str) -> Files:
    """The "easy" directory structure: one folder per category."""
    folder = LAYOUT.find(root, [split, f"places365_standard/{split}"])
    others: Counter[str] = Counter()
    index = build_index(scan(folder, others), others, str(folder))
    if len(index.classes) != CATEGORIES:
        raise LAYOUT.refusal(root, f"a folder for each of the {CATEGORIES} categories ({len(index.classes)} found)")
    return Files(folder, index, f"places365/{split}", ("scene",))


def _files(folder: Path, names: Names, labels: array, classes: tuple[str, ...], name: str) -> Files:
    if not len(names):
        raise InputError(f"places: the listing of {name} is empty: copy it again.")
    if not (folder / names[0]).exists():
        raise LAYOUT.refusal(folder, f"{names[0]}, the first image of the listing,")
    return Files(folder, Index(names, np.frombuffer(labels, dtype=np.int64).copy(), classes), name, ("scene",))


def _listed(listing: Path) -> Iterator[tuple[int, str, int]]:
    for line, fields in rows(listing):
        if len(fields) != 2 or not fields[1].isdecimal() or ".." in fields[0].split("/"):
            raise LAYOUT.damaged(listing, line, "NAME NUMBER", " ".join(fields))
        yield line, fields[0], int(fields[1])


def _scene(path: str) -> str:
    """ "/a/apartment_building/outdoor" -> "apartment_building-outdoor", as the category folders are called."""
    inner = path.strip("/")
    return (inner.partition("/")[2] or inner).replace("/", "-")
