"""NYU Depth v2 [Silberman 2012]: 1,449 rooms with depth, 795 to train on and 654 to test; two layouts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.index import Names
from whytransfer.images.matlab import read_matlab
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.depth_maps import DepthMaps, metres
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, root_and_parts
from whytransfer.records import Sample

MAT = "nyu_depth_v2_labeled.mat"
LAYOUT = Layout(
    "nyu",
    f"ROOT/{MAT} and ROOT/splits.mat, or ROOT/train/<scene>/rgb_00001.jpg and sync_depth_00001.png (16 bits, "
    "millimetres), likewise test, also in ROOT/official_splits",
    ("train", "test"),
)
_LISTS = {"train": "trainNdxs", "test": "testNdxs"}
_COLOUR, _DEPTH = "rgb_", "sync_depth_"


def nyu(rest: str) -> AnnotatedFiles | NYUDepth:
    """The set named "nyu:ROOT[:train|test]": the authors' MATLAB files (extra `depth`), or folders of pictures."""
    root, parts = root_and_parts("nyu", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    if (root / MAT).exists():
        return NYUDepth(root / MAT, LAYOUT.find(root, ["splits.mat"]), split)
    folder = LAYOUT.find(root, [MAT, f"official_splits/{split}", split])
    pairs = sorted(_pairs(folder))
    if not pairs:
        raise LAYOUT.refusal(folder, f"any picture <scene>/{_COLOUR}*.jpg")
    index, depth = unlabelled(Names(p for p, _ in pairs)), Names(d for _, d in pairs)
    decode = partial(metres, per_metre=1000.0, invalid=(0,))
    return AnnotatedFiles(folder, index, f"nyu/{split}", DepthMaps(folder, depth, decode))


def _pairs(folder: Path) -> Iterator[tuple[str, str]]:
    for scene in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        there = set(os.listdir(folder / scene))
        for name in there:
            stem, suffix = os.path.splitext(name)
            if name.startswith(_COLOUR) and suffix.lower() in (".jpg", ".png"):
                depth = f"{_DEPTH}{stem.removeprefix(_COLOUR)}.png"
                if depth not in there:
                    raise LAYOUT.refusal(folder / scene, f"{depth}, the depth map of {name},")
                yield f"{scene}/{name}", f"{scene}/{depth}"


class NYUDepth:
    """Images and filled-in depth of the labelled part, read out of its HDF5 file one at a time.

    depth (480, 640) float32 metres, NaN where it is 0. The file (2.8 GB) is read once for the fingerprint.
    Raises InputError without h5py, for a file that is not this one, and for a split that does not fit it.
    """

    classes: tuple[str, ...] = ()
    labelled_with = ("depth",)

    def __init__(self, path: Path, splits: Path, split: str) -> None:
        self.path, self.name = path, f"nyu/{split}"
        self._file = _hdf5(path)
        found = {key: self._file[key].shape for key in ("images", "depths") if key in self._file}
        count = found.get("images", (0,))[0]
        if found != {"images": (count, 3, 640, 480), "depths": (count, 640, 480)}:
            raise InputError(
                f"nyu: {path} holds {found or 'no images and no depths'}, not the labelled set: images of (N, 3, 640, "
                "480) and depths of (N, 640, 480). Copy it again."
            )
        self._rows = _split_rows(splits, split, count)
        self.labels = np.full(len(self._rows), -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Sample:
        row = int(self._rows[i])
        image = np.asarray(self._file["images"][row]).transpose(0, 2, 1).copy()  # MATLAB's columns come first
        depth = np.asarray(self._file["depths"][row], dtype=np.float32).T.copy()
        depth[depth <= 0] = np.nan
        return Sample(torch.from_numpy(image), f"{row + 1:05d}", depth=torch.from_numpy(depth))

    @cached_property
    def _digest(self) -> bytes:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()

    def fingerprint(self) -> str:
        """Of the whole file and of which images are in."""
        return hashlib.blake2b(self._digest + self._rows.tobytes(), digest_size=16).hexdigest()


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path} is an HDF5 file and needs h5py: pip install 'whytransfer[depth]'") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"nyu: {path} cannot be read as a MATLAB 7.3 (HDF5) file: {error}. Copy it again.") from None


def _split_rows(path: Path, split: str, count: int) -> NDArray[np.int64]:
    """Rows of a split, from 0; the file counts from 1."""
    try:
        numbers = np.asarray(read_matlab(path)[_LISTS[split]], dtype=np.int64).reshape(-1)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"nyu: {path} is not the file of the official split ({error}): copy it again.") from None
    if not len(numbers) or numbers.min() < 1 or numbers.max() > count:
        raise InputError(f"nyu: the {split} split in {path} is not of the {count:,} images there: copy both again.")
    return numbers - 1
