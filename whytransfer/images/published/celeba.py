"""CelebA [Liu 2015]: aligned faces, labelled with who they are, or with five landmarks; MAFL [Zhang 2014] is a part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.folder import Files
from whytransfer.images.index import Index, Names, first_of
from whytransfer.images.published.landmarks import FIVE_POINTS, LandmarkFiles, landmark_files
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts, rows

SPLITS = ("train", "valid", "test", "all")
_PACKED = "(all may lie in ROOT/celeba; or Img/, Anno/ and Eval/ as the authors pack them)"
LAYOUT = Layout(
    "celeba",
    f"ROOT/img_align_celeba/000001.jpg, ROOT/identity_CelebA.txt and ROOT/list_eval_partition.txt {_PACKED}",
    SPLITS,
)
LANDMARKS = Layout(
    "celeba-landmarks",
    "ROOT/img_align_celeba/000001.jpg, ROOT/list_landmarks_align_celeba.txt and ROOT/list_eval_partition.txt "
    f"{_PACKED}",
    SPLITS,
)
MAFL = Layout(
    "mafl",
    "CelebA's ROOT/img_align_celeba/000001.jpg and ROOT/list_landmarks_align_celeba.txt, with MAFL's lists in "
    f"ROOT/MAFL/training.txt and ROOT/MAFL/testing.txt {_PACKED}",
    ("train", "test"),
)
_LISTS = {"train": "training.txt", "test": "testing.txt"}
_POINTS = 5


def celeba(rest: str) -> Files:
    """The set named "celeba:ROOT[:train|valid|test|all]"; classes are the identities of that split.

    Identities do not overlap between the official splits, so a split's classes are its own.
    """
    root, split = _root_and_split(LAYOUT, rest)
    folder = _pictures(LAYOUT, root)
    identities = _numbers(LAYOUT.find(root, ["identity_CelebA.txt", "Anno/identity_CelebA.txt"]))
    names = _of_split(LAYOUT, root, folder, split)
    if strangers := [name for name in names if name not in identities]:
        raise InputError(f"celeba: identity_CelebA.txt lacks {len(strangers):,} of them, first {strangers[0]}.")
    people, labels = np.unique([identities[name] for name in names], return_inverse=True)
    classes = tuple(str(person) for person in people.tolist())
    return Files(folder, Index(Names(names), labels.astype(np.int64), classes), f"celeba/{split}", ("identity",))


def celeba_landmarks(rest: str) -> LandmarkFiles:
    """The set named "celeba-landmarks:ROOT[:train|valid|test|all]": eyes, nose and corners of the mouth of each face.

    Points are as published, in pixels of the aligned 178 x 218 images; the first two are the eyes.
    """
    root, split = _root_and_split(LANDMARKS, rest)
    folder = _pictures(LANDMARKS, root)
    table = _landmark_file(LANDMARKS, root)
    return _marked(LANDMARKS, folder, _of_split(LANDMARKS, root, folder, split), table, split)


def mafl(rest: str) -> LandmarkFiles:
    """The set named "mafl:ROOT[:train|test]": 19,000 and 1,000 faces of CelebA, with its landmarks."""
    root, split = _root_and_split(MAFL, rest)
    folder = _pictures(MAFL, root)
    listing = MAFL.find(root, [f"MAFL/{_LISTS[split]}", _LISTS[split]])
    names = []
    for line, fields in rows(listing):
        if len(fields) != 1:
            raise MAFL.damaged(listing, line, "the name of an image", " ".join(fields))
        names.append(fields[0])
    if not names:
        raise InputError(f"mafl: {listing} is empty: copy it again.")
    require_files(MAFL, folder, names, named_files(folder, (".jpg",)), f"images of {listing.name}")
    return _marked(MAFL, folder, names, _landmark_file(MAFL, root), split)


def _root_and_split(layout: Layout, rest: str) -> tuple[Path, str]:
    root, parts = root_and_parts(layout.kind, rest, ("SPLIT",))
    return root / "celeba" if (root / "celeba").is_dir() else root, layout.split(parts)


def _pictures(layout: Layout, root: Path) -> Path:
    folder = layout.find(root, ["img_align_celeba", "Img/img_align_celeba"])
    return folder / "img_align_celeba" if (folder / "img_align_celeba").is_dir() else folder  # as Kaggle packs it


def _of_split(layout: Layout, root: Path, folder: Path, split: str) -> list[str]:
    """The images of an official split, all of which are there."""
    parts_file = layout.find(root, ["list_eval_partition.txt", "Eval/list_eval_partition.txt"])
    partition, wanted = _numbers(parts_file, layout), layout.splits.index(split)
    names = sorted(name for name, part in partition.items() if split == "all" or part == wanted)
    if not names:
        raise InputError(
            f"{layout.kind}: {parts_file} has no image of the {split} split (number {wanted}): copy it again."
        )
    require_files(layout, folder, names, named_files(folder, (".jpg",)), f"images of the {split} split")
    return names


def _numbers(path: Path, layout: Layout = LAYOUT) -> dict[str, int]:
    """Lines "000001.jpg 2880"."""
    found = {}
    for line, fields in rows(path):
        if len(fields) != 2 or not fields[1].isdecimal():
            raise layout.damaged(path, line, "FILE NUMBER", " ".join(fields))
        found[fields[0]] = int(fields[1])
    return found


def _landmark_file(layout: Layout, root: Path) -> Path:
    return layout.find(root, ["list_landmarks_align_celeba.txt", "Anno/list_landmarks_align_celeba.txt"])


def _marked(layout: Layout, folder: Path, names: Sequence[str], table: Path, split: str) -> LandmarkFiles:
    """These images with their rows of the table of landmarks."""
    row_of, points = _landmarks(layout, table)
    if strangers := [name for name in names if name not in row_of]:
        raise InputError(f"{layout.kind}: {table} lacks {len(strangers):,} of the images: {first_of(strangers)}.")
    chosen = points[[row_of[name] for name in names]]
    return landmark_files(folder, names, f"{layout.kind}/{split}", chosen, [(table.name, table)], FIVE_POINTS)


def _landmarks(layout: Layout, path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Row of each image, and points (N, 5, 2); before them the file counts its images and names its columns."""
    lines = rows(path)
    for expected, count in (("the number of images", 1), ("the names of 10 columns", 2 * _POINTS)):
        line, fields = next(lines, (0, []))
        if len(fields) != count:
            raise layout.damaged(path, line, expected, " ".join(fields))
    row_of: dict[str, int] = {}
    numbers: list[list[float]] = []
    for line, fields in lines:
        try:
            values = [float(field) for field in fields[1:]]
        except ValueError:
            values = []
        if len(values) != 2 * _POINTS or not np.isfinite(values).all():
            raise layout.damaged(path, line, "FILE and 10 numbers", " ".join(fields))
        row_of[fields[0]] = len(numbers)
        numbers.append(values)
    return row_of, np.array(numbers, dtype=np.float32).reshape(-1, _POINTS, 2)
