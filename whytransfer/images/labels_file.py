"""Labels from a table: `name,label` lines for pictures that do not lie in one folder per class."""

from __future__ import annotations

import csv
import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.content import Encoded, Stamp, digest
from whytransfer.images.index import first_of, missing_path
from whytransfer.images.subsets import EncodedSubset
from whytransfer.records import Sample

COLUMNS = ("name", "label")


class Relabelled(EncodedSubset):
    """Some files of a set, in the order given, with classes of their own."""

    def __init__(
        self, images: Encoded, indices: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...]
    ) -> None:
        super().__init__(images, indices)
        self.labels, self.classes, self.labelled_with = labels, classes, ("class",)

    def __getitem__(self, i: int) -> Sample:
        return dataclasses.replace(super().__getitem__(i), label=int(self.labels[i]))

    def stamp(self) -> Stamp:
        """The state of the files, and how they are labelled: another table is another set."""
        whole = super().stamp()
        told = repr(self.classes).encode(errors="surrogateescape") + self.labels.tobytes()
        files, sizes = (digest(text.encode() + told).hex() for text in (whole.files, whole.sizes))
        return Stamp(files, sizes, whole.newest_ns)


def labelled_by(images: Any, table: Path | str) -> tuple[Relabelled, tuple[str, ...]]:
    """The pictures that a CSV file gives a label, and sentences on those that it passes over.

    The file has columns `name` and `label`; a name is a picture's path below the folder, or its file name where only
    one has it. Classes are the labels in alphabetical order. InputError for a file that cannot be read so, a picture
    with two labels, a file name that several pictures have, and a table that names no picture of the set.
    """
    path = Path(table).expanduser()
    if not isinstance(images, Encoded):
        raise InputError(f"labels from a table need a folder or zip of pictures; {images.name} has no file names")
    label_of = _read(path)
    row_of = _rows(images, label_of, path)
    found = sorted((row_of[name], label) for name, label in label_of.items() if name in row_of)
    if not found:
        raise InputError(
            f"{path} names no picture of {images.name}: it has {first_of(list(label_of))}; the pictures are "
            f"{first_of(list(images.names))}"
        )
    twice = [images.names[a[0]] for a, b in zip(found, found[1:], strict=False) if a[0] == b[0] and a[1] != b[1]]
    if twice:
        raise InputError(f"{path}: {len(twice):,} pictures have two labels: {first_of(twice)}")
    label_of_row = dict(found)
    classes = tuple(sorted(set(label_of_row.values())))
    rows = np.array(sorted(label_of_row), np.int64)
    labels = np.array([classes.index(label_of_row[row]) for row in rows.tolist()], np.int64)
    return Relabelled(images, rows, labels, classes), _notes(images, path, label_of, row_of, rows)


def _read(path: Path) -> dict[str, str]:
    """{name: label} of the file, in its order."""
    if not path.is_file():
        raise missing_path(path) if not path.exists() else InputError(f"{path} is a folder; a CSV file is needed")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    columns = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not set(COLUMNS) <= set(columns):
        raise InputError(
            f"{path} needs a first line with the columns name and label (then photos/1.jpg,cat and so on); found "
            f"{','.join(rows[0]) if rows else 'an empty file'}"
        )
    at, label_of = [columns.index(column) for column in COLUMNS], dict[str, str]()
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        name, label = (row[i].strip() if i < len(row) else "" for i in at)
        if not name or not label:
            raise InputError(f"line {number} of {path} has no {'name' if not name else 'label'}: {','.join(row)!r}")
        name = str(PurePosixPath(name.replace("\\", "/")))
        if label_of.setdefault(name, label) != label:
            raise InputError(f"line {number} of {path}: {name} has the labels {label_of[name]!r} and {label!r}")
    return label_of


def _rows(images: Encoded, label_of: Mapping[str, str], path: Path) -> dict[str, int]:
    """{name in the table: row of the picture}, by its path, else by its file name."""
    by_path = {name: i for i, name in enumerate(images.names)}
    by_file: dict[str, list[int]] = defaultdict(list)
    for name, i in by_path.items():
        by_file[PurePosixPath(name).name].append(i)
    found = {}
    for name in label_of:
        places = [by_path[name]] if name in by_path else by_file.get(name, [])
        if len(places) > 1:
            several = first_of([images.names[i] for i in places])
            raise InputError(f"{path}: {name} is the name of {len(places)} pictures ({several}): write their paths")
        if places:
            found[name] = places[0]
    return found


def _notes(
    images: Encoded, path: Path, label_of: Mapping[str, str], row_of: Mapping[str, int], rows: NDArray[np.int64]
) -> tuple[str, ...]:
    notes = []
    if len(rows) < len(images):
        used = set(rows.tolist())
        without = [images.names[i] for i in range(len(images)) if i not in used][:6]
        left = f"{len(images) - len(rows):,} of {len(images):,} pictures"
        notes.append(f"{left} are not in {path.name} and are left out: {first_of(without)}")
    absent = [name for name in label_of if name not in row_of]
    if absent:
        notes.append(f"{len(absent):,} of {len(label_of):,} names in {path.name} are no picture: {first_of(absent)}")
    return tuple(notes)
