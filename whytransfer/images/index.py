"""The index of image files: which, in which order, of which class. A few dozen bytes per image, no objects."""

from __future__ import annotations

import difflib
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")  # shards; the compressed ones are refused by name
CARD = "shards.json"  # in a folder of shards
_SPLIT = re.compile(r"(train|val|valid|test|dev)(ing|idation)?[-_]?\d{0,4}", re.IGNORECASE)


class Names:
    """An immutable list of strings in two blocks of memory: all bytes in a row, and where each string ends."""

    def __init__(self, names: Iterable[str]) -> None:
        blob, ends = bytearray(), array("q", [0])
        for name in names:
            blob += os.fsencode(name)
            ends.append(len(blob))
        self._blob, self._ends = bytes(blob), np.frombuffer(ends, dtype=np.int64)

    @classmethod
    def of_blocks(cls, blob: bytes, ends: NDArray[np.int64]) -> Names:
        """From the bytes of all names in a row, and (N + 1,) 0 and where each one ends."""
        names = cls(())
        names._blob, names._ends = blob, ends
        return names

    @property
    def blocks(self) -> tuple[bytes, NDArray[np.int64]]:
        """What `of_blocks` takes."""
        return self._blob, self._ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: int) -> str:
        if not -len(self) <= i < len(self):
            raise IndexError(f"name {i} of {len(self)}")
        i %= len(self)
        return os.fsdecode(self._blob[self._ends[i] : self._ends[i + 1]])

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self._blob) + self._ends.nbytes


@dataclass(frozen=True)
class Index:
    """N image files in a fixed order; notes are sentences that the user should read (files left out, no labels)."""

    names: Names  # paths below the root, "/" between the parts
    labels: NDArray[np.int64]  # (N,), -1 where there is none
    classes: tuple[str, ...]  # () when unlabelled
    notes: tuple[str, ...] = ()
    inside: str = ""  # the folder below the root that alone holds everything; names start there

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.names.nbytes + self.labels.nbytes


def is_image(name: str) -> bool:
    """Whether a file name ends like an image and is not hidden ("._x.jpg" is what macOS notes about x.jpg)."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def suffix_of(name: str) -> str:
    """How a file that is no image is called when they are counted: its suffix, or its name."""
    return PurePosixPath(name).suffix.lower() or name


def build_index(folders: Mapping[str, list[str]], others: Counter[str], where: str) -> Index:
    """Label and order the images found below `where`; `folders` maps relative folders ("" is the root) to image names.

    Class folders are the first level, sorted, and hold everything below them; within a class the order is that of
    torchvision's ImageFolder. Images that lie loose in the root make the whole set unlabelled. Where all lies in one
    folder of folders (zip -r photos.zip photos/), that one is taken for the root, and a note says so.
    Raises InputError when there is no image, or when the first level is made of splits (train, val ...).
    """
    filled = sorted((folder, sorted(names)) for folder, names in folders.items() if names)
    if not filled:
        found = _listed(others) or "no file at all"
        raise InputError(f"no image below {where}: looked for {', '.join(SUFFIXES)}, found {found}.")
    notes = [f"{sum(others.values()):,} other files left out ({_listed(others)})"] if others else []
    if inside := _wrapper([folder for folder, _ in filled]):
        filled = [(folder[len(inside) + 1 :], found) for folder, found in filled]
        notes.append(f"all images lie in the folder {inside}, so the classes are the folders in it")
        where = f"{where}/{inside}"
    tops = sorted({_top(folder) for folder, _ in filled})
    loose = tops[0] == ""
    if loose and len(tops) > 1:
        notes.append(
            f"{len(filled[0][1]):,} images lie beside {len(tops) - 1} image folders, so all are read as unlabelled; "
            "for labels put every image into a class folder"
        )
    if not loose and all(_SPLIT.fullmatch(top) for top in tops):
        splits = ", ".join(tops)
        raise InputError(f"{where} holds splits ({splits}), not classes: choose one, for example {where}/{tops[0]}")
    classes = () if loose else tuple(tops)
    filled.sort(key=lambda item: (_top(item[0]), item[0]))
    label_of = {name: label for label, name in enumerate(classes)}
    of_folders = np.array([label_of.get(_top(folder), -1) for folder, _ in filled], dtype=np.int64)
    labels = np.repeat(of_folders, [len(names) for _, names in filled])
    names = Names(f"{folder}/{name}" if folder else name for folder, found in filled for name in found)
    return Index(names, labels, classes, tuple(notes), inside)


def _wrapper(folders: Sequence[str]) -> str:
    """The folder that holds all these folders and no image of its own, as deep as that goes; "" without one.

    A single split (train) is none: it must be chosen, as one of several must.
    """
    inside, left = "", set(folders)
    while len(tops := {_top(folder) for folder in left}) == 1:
        top = tops.pop()
        if top in left or _SPLIT.fullmatch(top):
            break
        inside, left = f"{inside}/{top}" if inside else top, {folder[len(top) + 1 :] for folder in left}
    return inside


def missing_path(path: Path) -> InputError:
    """The error for a path that is not there, with the near names in the closest folder that is."""
    parent = path.absolute().parent
    missing = path.name
    while not parent.is_dir() and parent != parent.parent:
        parent, missing = parent.parent, parent.name
    names = sorted(entry for entry in os.listdir(parent) if not entry.startswith("."))
    near = difflib.get_close_matches(missing, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(str(parent / name) for name in near)}?" if near else _held(parent, names)
    return InputError(f"no such file or folder: {path}. {hint}")


def first_of(names: Sequence[str]) -> str:
    """The first five of many names, for a message."""
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def short_name(path: Path) -> str:
    """What a data set is called in tables: the last part of its path; "pets/train" when that names a split."""
    return f"{path.parent.name}/{path.name}" if _SPLIT.fullmatch(path.name) and path.parent.name else path.name


def _top(folder: str) -> str:
    return folder.split("/", 1)[0]


def _held(folder: Path, names: list[str]) -> str:
    return f"{folder} holds {first_of(names)}." if names else f"{folder} is empty."


def _listed(others: Counter[str]) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(5))
