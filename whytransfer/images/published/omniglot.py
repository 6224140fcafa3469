"""Omniglot [Lake 2015]: handwritten characters of many alphabets, and its twenty runs of one-shot classification."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.archive import Archive
from whytransfer.images.class_splits import Episode, Relabelled
from whytransfer.images.folder import Folder
from whytransfer.images.published.layout import Layout, root_and_parts

LAYOUT = Layout(
    "omniglot",
    "ROOT/images_background.zip or the folder ROOT/images_background/<alphabet>/<character>/*.png, likewise "
    "images_evaluation, images_background_small1, images_background_small2, and all_runs.zip or ROOT/all_runs/run01",
    ("background", "evaluation", "background-small1", "background-small2", "runs"),
)


def omniglot(rest: str) -> Relabelled:
    """The set named "omniglot:ROOT[:SPLIT]"; a class is a character of an alphabet.

    In "runs", the 20 times 20 characters of the published one-shot runs are classes, each with the image to learn from
    and the image to recognise; `episodes` are the runs.
    """
    root, parts = root_and_parts("omniglot", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    stem = "all_runs" if split == "runs" else "images_" + split.replace("-", "_")
    path = LAYOUT.find(root, [f"{stem}.zip", stem])
    images = Archive(path) if path.is_file() else Folder(path)
    if split == "runs":
        return _runs(path, images)
    characters = [name.rpartition("/")[0] for name in images.names]
    if not all("/" in character for character in characters):
        raise InputError(f"omniglot: images of {path} should lie in <alphabet>/<character>/, found {images.names[0]}.")
    classes, labels = np.unique(characters, return_inverse=True)
    every = np.arange(len(images))
    return Relabelled(images, every, labels.astype(np.int64), classes.tolist(), f"omniglot/{split}")


def _runs(path: Path, images: Archive | Folder) -> Relabelled:
    """Images as class_labels.txt pairs them."""
    position = {name: i for i, name in enumerate(images.names)}
    runs = sorted({name.partition("/")[0] for name in position})
    labels = np.full(len(images), -1, dtype=np.int64)
    classes: list[str] = []
    episodes: list[Episode] = []
    for run in runs:
        listing = f"{run}/class_labels.txt"
        pairs = [line.split() for line in _text(path, listing).splitlines() if line.strip()]
        if not pairs or not all(len(pair) == 2 and set(pair) <= position.keys() for pair in pairs):
            raise InputError(
                f"omniglot: {path}/{listing} should pair images of the run, one 'run01/test/item01.png "
                "run01/training/class08.png' per line: copy it again."
            )
        support = sorted({learnt for _, learnt in pairs})
        label_of = {learnt: len(classes) + k for k, learnt in enumerate(support)}
        classes += [learnt.rpartition(".")[0] for learnt in support]
        for asked, learnt in pairs:
            labels[[position[asked], position[learnt]]] = label_of[learnt]
        episodes.append((_positions(position, support), _positions(position, [asked for asked, _ in pairs])))
    kept = np.flatnonzero(labels >= 0)  # positions below count only these
    place = np.cumsum(labels >= 0) - 1
    fixed = tuple((place[support], place[query]) for support, query in episodes)
    return Relabelled(images, kept, labels[kept], classes, "omniglot/runs", episodes=fixed)


def _positions(position: dict[str, int], names: Sequence[str]) -> NDArray[np.int64]:
    return np.array([position[name] for name in names], dtype=np.int64)


def _text(path: Path, name: str) -> str:
    """A text file below a folder or in a zip."""
    try:
        if path.is_dir():
            return (path / name).read_text()
        with zipfile.ZipFile(path) as archive:
            return archive.read(name).decode()
    except (OSError, KeyError, UnicodeDecodeError):
        raise InputError(f"omniglot: {name} is missing or no text in {path}. Expected: {LAYOUT.tree}.") from None
