"""A folder of pictures as an ImageSet: class folders, or everything in one place and unlabelled."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from whytransfer.errors import InputError
from whytransfer.images.content import Stamp, fingerprint_of, stamp_of
from whytransfer.images.decode import Unreadable, decode
from whytransfer.images.index import SUFFIXES, Index, build_index, is_image, missing_path, short_name, suffix_of
from whytransfer.records import Sample


class Files:
    """Image files below a root, by an index made elsewhere; nothing is opened until it is asked for."""

    def __init__(self, root: Path, index: Index, name: str, labelled_with: tuple[str, ...] | None = None) -> None:
        self.root, self.index, self.name = root / index.inside, index, name
        self.labelled_with = (("class",) if index.classes else ()) if labelled_with is None else labelled_with
        self.names, self.labels, self.classes, self.notes = index.names, index.labels, index.classes, index.notes
        self._prefix = os.path.join(self.root, "")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Sample:
        return sample(decode(self.encoded(i), self.names[i]), self.names[i], int(self.labels[i]))

    def encoded(self, i: int) -> bytes:
        """The bytes of file i; raises Unreadable with the path when it cannot be opened."""
        try:
            with open(self._prefix + self.names[i], "rb") as file:
                return file.read()
        except PermissionError:
            raise Unreadable(self._prefix + self.names[i], "permission denied; allow it with chmod +r") from None
        except OSError as error:
            raise Unreadable(self._prefix + self.names[i], error.strerror or str(error)) from None

    def stamp(self) -> Stamp:
        """The state of the files by their size and time of change."""
        return stamp_of(os.path.realpath(self.root), self._stats())

    def fingerprint(self) -> str:
        """What the files contain, wherever they lie; reads them all (a PixelCache knows it without)."""
        return fingerprint_of(self)

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.index.nbytes

    def _stats(self) -> Iterator[tuple[str, int, int]]:
        for name in self.names:
            try:
                stat = os.stat(self._prefix + name)
            except OSError:  # reported by name when it is read
                yield name, -1, 0
            else:
                yield name, stat.st_size, stat.st_mtime_ns


class Folder(Files):
    """All images below a folder; the first level of folders are the classes, unless images lie loose beside them.

    One folder that holds all the others is passed through, and a note says so.

    Raises InputError for a missing, unreadable or empty folder and for a folder of splits (train, val).
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        path = Path(root).expanduser()
        if not path.exists():
            raise missing_path(path)
        if not path.is_dir():
            raise InputError(f"{path} is a file: a folder of images ({', '.join(SUFFIXES)}) or a zip of one is needed.")
        others: Counter[str] = Counter()
        super().__init__(path, build_index(scan(path, others), others, str(path)), short_name(path.absolute()))


def sample(pixels: np.ndarray, name: str, label: int) -> Sample:
    """Pixels (H, W, 3) as a Sample; label -1 is none."""
    return Sample(torch.from_numpy(pixels.transpose(2, 0, 1).copy()), name, None if label < 0 else label)


def scan(root: Path, others: Counter[str]) -> dict[str, list[str]]:
    """Image names by folder below root ("" is the root itself); hidden folders are passed over, links are followed.

    `others` counts what is no image, by suffix. Files are listed, not asked one by one: a million take seconds.
    """
    found: dict[str, list[str]] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]  # (folder, real paths above it)
    while waiting:
        folder, above = waiting.pop()
        found[folder] = []
        for entry in _entries(os.path.join(root, folder)):
            name = entry.name
            if entry.is_dir():
                if is_image(name):
                    raise InputError(f"{entry.path} is a folder, though its name is that of an image: rename it.")
                if not name.startswith("."):
                    waiting.append((f"{folder}/{name}" if folder else name, (*above, _real(entry, above))))
            elif is_image(name):
                found[folder].append(name)
            else:
                others[suffix_of(name)] += 1
    return found


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except PermissionError:
        raise InputError(f"no permission to list {folder}: allow it with chmod +rx.") from None


def _real(entry: os.DirEntry[str], above: tuple[str, ...]) -> str:
    if not entry.is_symlink():
        return os.path.join(above[-1], entry.name)
    real = os.path.realpath(entry.path)
    if real in above:
        raise InputError(f"{entry.path} is a link back to {real}, which holds it: remove the link.")
    return real
