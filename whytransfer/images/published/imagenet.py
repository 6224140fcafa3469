"""ImageNet (ILSVRC 2012) [Russakovsky 2015], a tenth of its images, and a hundred of its classes.

Which images and classes are in the parts follows from their names alone: every name has a fixed random number, and the
smallest are taken. So a part is the same on every machine, and stays the same when other files come or go.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.files import atomic_write
from whytransfer.images.folder import Files, scan
from whytransfer.images.index import Index, Names, build_index, first_of
from whytransfer.images.published.imagenet_val import CLASSES, val_wnids
from whytransfer.images.published.layout import Layout, root_and_parts, rows
from whytransfer.records import ImageSet

LAYOUT = Layout(
    "imagenet",
    "ROOT/train/<wnid>/*.JPEG and ROOT/val/<wnid>/*.JPEG, or a flat ROOT/val with ROOT/ILSVRC2012_devkit_t12, "
    "ROOT/LOC_val_solution.csv or ROOT/val.txt; the same below ROOT/ILSVRC/Data/CLS-LOC",
    ("train", "val"),
)
TENTH, HUNDRED = "imagenet-10pct", "imagenet-100"
_INSIDE = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # the last two: as Kaggle packs it
_WNID = re.compile(r"n\d{8}")


def imagenet(rest: str) -> Files:
    """The set named "imagenet:ROOT[:train|val]"."""
    root, parts = root_and_parts("imagenet", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    return _files(root, split, f"imagenet/{split}", None)


def tenth(rest: str) -> Files:
    """ "imagenet-10pct:ROOT[:SPLIT[:LIST]]": of every class a tenth of its training images, rounded; val stays whole.

    LIST is a file of image names, one per line (n01440764_10026.JPEG, as SimCLR published them [Chen 2020]), that
    are taken instead. Raises InputError for a listed image that is not there.
    """
    root, parts = root_and_parts(TENTH, rest, ("SPLIT", "LIST"))
    split = LAYOUT.split(parts)
    whole = _files(root, split, f"{TENTH}/{split}", None)
    if split != "train":
        return whole
    index = whole.index
    chosen = _listed_images(index, Path(parts[1]).expanduser()) if len(parts) > 1 else _tenth(index)
    names = Names(index.names[i] for i in chosen.tolist())
    return Files(whole.root, Index(names, index.labels[chosen], index.classes, index.notes), whole.name)


def hundred(rest: str) -> Files:
    """ "imagenet-100:ROOT[:SPLIT[:LIST]]": a hundred of the classes, with all their images.

    LIST is a file whose lines begin with a wnid, a hundred of them (such as that of [Tian 2020]), that are taken
    instead. Raises InputError for fewer classes than a hundred and for a listed class that is not there.
    """
    root, parts = root_and_parts(HUNDRED, rest, ("SPLIT", "LIST"))
    split = LAYOUT.split(parts)
    if _has_folder(root, "train"):
        all_wnids = _required_wnids(_split_folder(root, "train"))
    else:
        all_wnids = list(_files(root, split, HUNDRED, None).classes)
    if len(parts) > 1:
        wnids = _listed_classes(Path(parts[1]).expanduser(), all_wnids)
    else:
        wnids = sorted(sorted(all_wnids, key=lambda wnid: _number(f"{HUNDRED} {wnid}"))[:100])
    if len(wnids) < 100:
        raise InputError(f"{HUNDRED}: {len(wnids)} classes (folders like n01440764) in {root}, 100 are needed.")
    return _files(root, split, f"{HUNDRED}/{split}", wnids)


def write_list(images: ImageSet, path: str | os.PathLike[str]) -> None:
    """Write down what an ImageNet part consists of: a wnid per line for imagenet-100, else an image name per line.

    The file can be given as LIST, here or to others: open_images("imagenet-100:ROOT:train:FILE").
    """
    if not isinstance(images, Files):
        raise InputError(f"write_list: {images.name} is no set of files, so there are no names to list.")
    by_class = images.name.startswith(f"{HUNDRED}/")
    lines = images.classes if by_class else (name.rpartition("/")[2] for name in images.names)
    text = "".join(f"{line}\n" for line in lines)
    atomic_write(Path(path), lambda file: file.write(os.fsencode(text)))


def _files(root: Path, split: str, name: str, wnids: Sequence[str] | None) -> Files:
    """The images of some classes (all without `wnids`); the classes of a flat val come from its listing."""
    folder = _split_folder(root, split)
    if split == "val" and not _wnids(folder):
        return _flat_val(root, folder, name, wnids)
    there = _required_wnids(folder)
    others: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    for wnid in there if wnids is None else wnids:
        if (folder / wnid).is_dir():
            below = scan(folder / wnid, others)
            found |= {f"{wnid}/{inner}" if inner else wnid: names for inner, names in below.items()}
    index = build_index(found, others, str(folder))
    return Files(folder, _noted(index, wnids), name)


def _noted(index: Index, wnids: Sequence[str] | None) -> Index:
    if wnids is not None or len(index.classes) == CLASSES:
        return index
    note = f"{len(index.classes):,} of ImageNet's {CLASSES:,} classes are here"
    return Index(index.names, index.labels, index.classes, (*index.notes, note), index.inside)


def _flat_val(root: Path, folder: Path, name: str, wnids: Sequence[str] | None) -> Files:
    names = sorted(entry for entry in os.listdir(folder) if entry.lower().endswith((".jpeg", ".jpg")))
    if not names:
        raise LAYOUT.refusal(folder, "every class folder (like n01440764), and every image (*.JPEG),")
    train = _wnids(_split_folder(root, "train")) if _has_folder(root, "train") else []
    of_image = val_wnids(LAYOUT, root, names, train)
    classes = sorted(set(of_image.values())) if wnids is None else list(wnids)
    position = {wnid: label for label, wnid in enumerate(classes)}
    kept = [image for image in names if of_image[image] in position]
    labels = np.array([position[of_image[image]] for image in kept], dtype=np.int64)
    return Files(folder, _noted(Index(Names(kept), labels, tuple(classes)), wnids), name)


def _has_folder(root: Path, split: str) -> bool:
    return any((root / inside / split).is_dir() for inside in _INSIDE)


def _split_folder(root: Path, split: str) -> Path:
    return LAYOUT.find(root, [f"{inside}/{split}" if inside else split for inside in _INSIDE])


def _required_wnids(folder: Path) -> list[str]:
    if wnids := _wnids(folder):
        return wnids
    raise LAYOUT.refusal(folder, "every class folder (like n01440764)")


def _wnids(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if strangers := [name for name in folders if not _WNID.fullmatch(name)]:
        raise InputError(
            f"imagenet: {folder} holds folders that are no wnids (like n01440764): {first_of(strangers)}. "
            f"Give class folders of another kind as a plain path: {folder}"
        )
    return folders


def _tenth(index: Index) -> NDArray[np.int64]:
    """Positions of round(n / 10) images of every class of n, at least one."""
    numbers = np.fromiter((_number(f"{TENTH} {os.path.basename(name)}") for name in index.names), np.uint64)
    order = np.lexsort((numbers, index.labels))  # by class, then by number
    sizes = np.bincount(index.labels, minlength=len(index.classes))
    begins = np.cumsum(sizes) - sizes
    counts = np.maximum((sizes + 5) // 10, 1)
    return np.sort(np.concatenate([order[b : b + n] for b, n in zip(begins, counts, strict=True)]))


def _number(text: str) -> int:
    """64 bits that depend on the text alone."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest(), "big")


def _listed_images(index: Index, path: Path) -> NDArray[np.int64]:
    wanted: Mapping[str, int] = {fields[0].rpartition("/")[2]: number for number, fields in _list(path)}
    base = (name.rpartition("/")[2] for name in index.names)
    chosen = {name: i for i, name in enumerate(base) if name in wanted}
    missing = [f"{name} (line {number:,})" for name, number in wanted.items() if name not in chosen]
    if missing:
        raise InputError(f"{TENTH}: {len(missing):,} images of {path} are not in train: {first_of(missing)}.")
    return np.sort(np.fromiter(chosen.values(), np.int64))


def _listed_classes(path: Path, known: Sequence[str]) -> list[str]:
    wnids = sorted({fields[0] for _, fields in _list(path)})
    if missing := sorted(set(wnids) - set(known)):
        raise InputError(f"{HUNDRED}: {len(missing)} classes of {path} are not there: {first_of(missing)}.")
    if len(wnids) != 100:
        raise InputError(f"{HUNDRED}: {path} names {len(wnids)} classes, 100 are needed.")
    return wnids


def _list(path: Path) -> list[tuple[int, list[str]]]:
    if not path.is_file():
        raise InputError(f"no such list: {path}. LIST is a text file, one name per line.")
    return list(rows(path))
