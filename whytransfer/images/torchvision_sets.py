"""CIFAR-10/100, STL-10, Caltech-101 and Flowers-102 from the folders that torchvision uses; nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.folder import Files, sample, scan
from whytransfer.images.index import Index, Names, build_index, first_of, missing_path
from whytransfer.images.matlab import read_matlab
from whytransfer.records import ImageSet, Sample

SPLITS = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "stl10": ("train", "test", "unlabeled"),
    "caltech101": ("all",),
    "flowers102": ("train", "val", "test"),
}
_STL10_BYTES = 3 * 96 * 96
_FLOWERS_SETS = {"train": "trnid", "val": "valid", "test": "tstid"}  # keys of setid.mat


class Arrays:
    """Images that are one array (N, H, W, 3) uint8 already, in memory or mapped from a file."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, data: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]) -> None:
        self.name, self.data, self.labels, self.classes = name, data, labels, tuple(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Sample:
        return sample(self.data[i], str(i), int(self.labels[i]))

    def fingerprint(self) -> str:
        """Of all pixels, labels and classes."""
        total = hashlib.blake2b(repr(self.classes).encode() + self.labels.tobytes(), digest_size=16)
        for begin in range(0, len(self), 1024):
            total.update(np.ascontiguousarray(self.data[begin : begin + 1024]).data)
        return total.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of state beside the pixels."""
        return self.labels.nbytes


def open_torchvision(kind: str, rest: str) -> ImageSet:
    """The set named "KIND:ROOT[:SPLIT]", rest being "ROOT[:SPLIT]"; the first split is meant when none is given.

    Raises InputError that names the folder or file that is missing below ROOT.
    """
    root, split = _root_and_split(kind, rest)
    if not root.exists():
        raise missing_path(root)
    if kind == "stl10":
        return stl10(root, split)
    if kind == "caltech101":
        return caltech101(root)
    if kind == "flowers102":
        return flowers102(root, split)
    return cifar(kind, root, split)


def cifar(kind: str, root: Path, split: str) -> Arrays:
    """CIFAR-10 or CIFAR-100 [Krizhevsky 2009], 32 px; the files' checksums are torchvision's."""
    from torchvision import datasets

    source = datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100
    files = [name for name, _ in source.train_list + source.test_list] + [source.meta["filename"]]
    _require(kind, root / source.base_folder, files)
    try:
        loaded = source(str(root), train=split == "train", download=False)
    except RuntimeError as error:
        raise InputError(
            f"{kind}: a file in {root / source.base_folder} has another checksum: copy it again."
        ) from error
    return Arrays(f"{kind}/{split}", loaded.data, np.asarray(loaded.targets, dtype=np.int64), loaded.classes)


def stl10(root: Path, split: str) -> Arrays:
    """STL-10 [Coates 2011], 96 px; the pixels stay on disk, also the 2.8 GB of the unlabelled part."""
    folder = root / "stl10_binary"
    labelled = split != "unlabeled"
    _require("stl10", folder, [f"{split}_X.bin", *([f"{split}_y.bin", "class_names.txt"] if labelled else [])])
    size = (folder / f"{split}_X.bin").stat().st_size
    if size == 0 or size % _STL10_BYTES:
        raise InputError(f"stl10: {split}_X.bin in {folder} has {size:,} bytes, no multiple of 3 x 96 x 96.")
    stored = np.memmap(folder / f"{split}_X.bin", dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96)  # column by column
    data = np.asarray(stored).transpose(0, 3, 2, 1)
    if not labelled:
        return Arrays("stl10/unlabeled", data, np.full(len(data), -1, dtype=np.int64), ())
    labels = np.fromfile(folder / f"{split}_y.bin", dtype=np.uint8).astype(np.int64) - 1
    classes = (folder / "class_names.txt").read_text().splitlines()
    if len(labels) != len(data) or not (labels.min() >= 0 and labels.max() < len(classes)):
        raise InputError(f"stl10: {split}_y.bin does not label the {len(data):,} images of {split}_X.bin in {folder}.")
    return Arrays(f"stl10/{split}", data, labels, classes)


def caltech101(root: Path) -> Files:
    """Caltech-101 [Fei-Fei 2004] without its background class; it has no splits of its own (see images.holdout)."""
    folder = root / "caltech101" / "101_ObjectCategories"
    _require("caltech101", root / "caltech101", ["101_ObjectCategories"])
    others: Counter[str] = Counter()
    found = {
        below: names for below, names in scan(folder, others).items() if below.split("/")[0] != "BACKGROUND_Google"
    }
    return Files(folder, build_index(found, others, str(folder)), "caltech101")


def flowers102(root: Path, split: str) -> Files:
    """Oxford 102 Flowers [Nilsback 2008] with its published splits."""
    from torchvision.datasets import Flowers102

    folder = root / "flowers-102"
    _require("flowers102", folder, ["jpg", "imagelabels.mat", "setid.mat"])
    try:
        numbers = read_matlab(folder / "setid.mat")[_FLOWERS_SETS[split]].reshape(-1).astype(np.int64)
        labels = read_matlab(folder / "imagelabels.mat")["labels"].reshape(-1).astype(np.int64)
        labels = labels[numbers - 1] - 1
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise InputError(f"flowers102: setid.mat or imagelabels.mat in {folder} is damaged: {error}") from None
    names = Names(f"image_{number:05d}.jpg" for number in numbers.tolist())
    return Files(folder / "jpg", Index(names, labels, tuple(Flowers102.classes)), f"flowers102/{split}")


def _root_and_split(kind: str, rest: str) -> tuple[Path, str]:
    root, colon, split = rest.rpartition(":")
    if not colon or "/" in split:  # no split named
        return Path(rest).expanduser(), SPLITS[kind][0]
    if split not in SPLITS[kind]:
        raise unknown_name(f"{kind} split", split, SPLITS[kind])
    return Path(root).expanduser(), split


def _require(kind: str, folder: Path, files: Sequence[str]) -> None:
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{kind}: {first_of(missing)} missing in {folder}. Nothing is downloaded here: "
            f"put the files there (torchvision's layout), ROOT being {folder.parent}."
        )
