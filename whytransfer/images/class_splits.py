"""Classes divided into base, validation and novel ones, as few-shot learning needs them, over images of any source.

A set that is so divided has `class_splits`, {class: split}; a set with episodes fixed by its authors has `episodes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.content import Encoded, Stamp, digest
from whytransfer.images.index import first_of
from whytransfer.images.subsets import EncodedSubset, Subset
from whytransfer.records import ImageSet, Sample

VALIDATION = ("val", "valid", "validation")  # what lists call it; every other split of a training set is base
TURNS = ("train", "val", "test")  # what LIST "turns" deals the classes to, one after the other
Episode = tuple[NDArray[np.int64], NDArray[np.int64]]  # positions of the support and of the query images


class Relabelled(EncodedSubset):
    """Some files of a set under labels, classes and a name of its own."""

    def __init__(
        self,
        images: Encoded,
        indices: NDArray[np.int64],
        labels: NDArray[np.int64],
        classes: Sequence[str],
        name: str,
        class_splits: Mapping[str, str] | None = None,
        episodes: tuple[Episode, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(images, indices)
        self.labels, self.classes, self.name, self.labelled_with = labels, tuple(classes), name, ("class",)
        self.class_splits, self.episodes, self.notes = dict(class_splits or {}), episodes, notes

    def __getitem__(self, i: int) -> Sample:
        return dataclasses.replace(super().__getitem__(i), label=int(self.labels[i]))

    def stamp(self) -> Stamp:
        """The state of the files, and how they are labelled."""
        state, told = super().stamp(), repr(self.classes).encode() + self.labels.tobytes()
        files, sizes = (digest(text.encode() + told).hex() for text in (state.files, state.sizes))
        return Stamp(files, sizes, state.newest_ns)


class Chosen(Subset):
    """Some classes of a set that is not files, such as generated scenes."""

    def __init__(
        self, images: ImageSet, indices: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str],
        name: str, class_splits: Mapping[str, str], notes: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(images, indices)
        self.labels, self.classes, self.name, self.labelled_with = labels, tuple(classes), name, ("class",)
        self.class_splits, self.notes = dict(class_splits), notes

    def __getitem__(self, i: int) -> Sample:
        return dataclasses.replace(super().__getitem__(i), label=int(self.labels[i]))

    def fingerprint(self) -> str:
        """Of the whole set, which images are in, and their labels."""
        told = repr(self.classes).encode() + self.labels.tobytes()
        return digest(super().fingerprint().encode() + told).hex()


def classes_of_list(rest: str) -> Relabelled | Chosen:
    """The set named "classes:IMAGES:LIST:SPLIT": of IMAGES, the classes that LIST puts into SPLIT.

    IMAGES is a folder or zip of class folders, or another image set; LIST a table with a first line of column names,
    tabs or commas between them: a column wnid, class or label, and one called split or ending in _split; or the word
    turns, which deals the classes in their order to train, val and test. SPLIT may join several, train+val; classes
    that IMAGES lacks are noted. Raises InputError where none is left.
    """
    from whytransfer.images import open_images

    pieces = rest.rsplit(":", 2)
    if len(pieces) != 3 or not all(pieces):
        raise InputError(f"classes:{rest} is not classes:IMAGES:LIST:SPLIT, such as classes:photos.zip:classes.tsv:val")
    images = open_images(pieces[0])
    if not images.classes:
        raise InputError(f"classes: {pieces[0]} has no classes to choose from, such as class folders of images.")
    in_turn = pieces[1] == "turns" and not Path("turns").exists()
    split_of = _dealt(images.classes) if in_turn else read_list(Path(pieces[1]).expanduser())
    asked = pieces[2].split("+")
    for split in asked:
        if split not in split_of.values():
            raise unknown_name(f"split of {pieces[1]}", split, set(split_of.values()))
    wanted = {name: split for name, split in split_of.items() if split in asked}
    classes = tuple(name for name in images.classes if name in wanted)
    if not classes:
        raise InputError(
            f"classes: none of the {len(wanted)} classes of {pieces[2]} in {pieces[1]} ({first_of(sorted(wanted))}) is "
            f"among those of {images.name} ({first_of(images.classes)})."
        )
    position = {name: label for label, name in enumerate(classes)}
    new = np.array([position.get(name, -1) for name in images.classes] + [-1], dtype=np.int64)[images.labels]
    kept = np.flatnonzero(new >= 0)
    absent = sorted(set(wanted) - set(classes))
    notes = (f"{len(absent)} classes of {pieces[2]} have no images here: {first_of(absent)}",) if absent else ()
    splits = {name: wanted[name] for name in classes}
    made = Relabelled if isinstance(images, Encoded) else Chosen
    return made(images, kept, new[kept], classes, f"{images.name}/{pieces[2]}", splits, notes=notes)  # type: ignore[arg-type]


def _dealt(classes: Sequence[str]) -> dict[str, str]:
    return {name: TURNS[k % len(TURNS)] for k, name in enumerate(classes)}


def read_list(path: Path) -> dict[str, str]:
    """{class: split} of a table; InputError for a file without these columns."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"classes: cannot read the list {path}: {error}") from None
    separator = "\t" if lines and "\t" in lines[0] else ","
    header = [column.strip().lower() for column in lines[0].split(separator)] if lines else []
    of_class = next((k for k, column in enumerate(header) if column in ("wnid", "class", "label")), None)
    of_split = next((k for k, column in enumerate(header) if column == "split" or column.endswith("_split")), None)
    if of_class is None or of_split is None:
        raise InputError(
            f"classes: {path} needs a first line with a column wnid, class or label and a column split (or ending in "
            f"_split), found {', '.join(header) or 'nothing'}."
        )
    rows = [line.split(separator) for line in lines[1:] if line.strip()]
    if short := [row for row in rows if len(row) <= max(of_class, of_split)]:
        raise InputError(f"classes: {path} has a line without class or split: {separator.join(short[0])[:80]!r}.")
    return {row[of_class].strip(): row[of_split].strip() for row in rows}


def splits_of(images: Any) -> dict[str, str]:
    """{class: split} of a set, or of the set that a PixelCache or a subset is of; {} where classes are not divided."""
    return dict(getattr(_source(images, "class_splits"), "class_splits", {}))


def episodes_of(images: Any) -> tuple[Episode, ...]:
    """The episodes that the authors of a set have fixed; () where there are none.

    They are positions in the whole set: raises InputError for a part of it.
    """
    source = _source(images, "episodes")
    found = tuple(getattr(source, "episodes", ()))
    if found and not np.array_equal(source.labels, images.labels):
        raise InputError(f"{images.name}: its episodes are of all {len(source)} images, in order: use all of it")
    return found


def _source(images: Any, attribute: str) -> Any:
    """The set that tells: images itself, or what it is a cache or a part of."""
    while not hasattr(images, attribute) and hasattr(images, "images"):
        images = images.images
    return images
