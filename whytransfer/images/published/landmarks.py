"""Images with landmarks of one object each, and the plain table of them: one line of numbers per image.

The points of a whole set are one array, so that they are known without reading an image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from whytransfer.errors import InputError
from whytransfer.images.decode import upright_size
from whytransfer.images.index import SUFFIXES, Index, Names
from whytransfer.images.published.annotated import ALL, AnnotatedFiles, Known, read_bytes
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts, rows
from whytransfer.records import Sample

Eyes = tuple[tuple[int, ...], tuple[int, ...]]  # the points whose means are the two eyes
FIVE_POINTS: Eyes = (0,), (1,)
IBUG_68: Eyes = tuple(range(36, 42)), tuple(range(42, 48))
EYES_OF = {5: FIVE_POINTS, 68: IBUG_68}  # by the number of points, where a table does not say what they are
LAYOUT = Layout(
    "landmarks",
    "ROOT/train_keypoints.csv with a first line file,width,height,x0,y0,x1,y1,... (width and height may be left out), "
    "and its images in ROOT/train or ROOT/images; likewise test, val",
    ("train", "test", "val"),
)


@dataclass(frozen=True)
class Marked(Known):
    """What is known of one image, with the landmarks of its one object."""

    keypoints: NDArray[np.float32] | None = None  # (1, P, 2) xy pixels, NaN where one is missing


class Landmarks:
    """The landmarks of a set, (N, P, 2) xy pixels of its images; `eyes` says which points they are, if any.

    `sizes` (N, 2) are the (H, W) that the points are for, where the source tells them; else each image's header does.
    """

    labelled_with = ("keypoints",)
    box_classes: tuple[str, ...] = ()
    semantic_classes: tuple[str, ...] = ()

    def __init__(
        self,
        points: NDArray[np.float32],
        images: tuple[Path, Names],
        sources: Sequence[tuple[str, Path]],
        eyes: Eyes | None = None,
        sizes: NDArray[np.int32] | None = None,
    ) -> None:
        self.points, self.eyes, self.sizes = points, eyes, sizes
        self._folder, self._names = images
        self._sources = tuple(sources)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.points.nbytes + (0 if self.sizes is None else self.sizes.nbytes)

    def read(self, i: int, want: Collection[str] = ALL) -> Marked:
        """The landmarks of image i; they are in memory, so `want` saves nothing."""
        return Marked(self._size(i), keypoints=self.points[i][None])

    def files(self) -> Iterator[tuple[str, str]]:
        """The files that the points were read from."""
        return ((name, str(path)) for name, path in self._sources)

    def _size(self, i: int) -> tuple[int, int]:
        if self.sizes is not None:
            return int(self.sizes[i, 0]), int(self.sizes[i, 1])
        path = str(self._folder / self._names[i])
        return upright_size(read_bytes(path), path)


class LandmarkFiles(AnnotatedFiles):
    """Image files with landmarks; a sample's `keypoints` are (1, P, 2) xy pixels."""

    annotations: Landmarks

    def __getitem__(self, i: int) -> Sample:
        plain = super().__getitem__(i)
        canvas = (int(plain.image.shape[1]), int(plain.image.shape[2]))
        points = torch.from_numpy(self.annotations.points[i][None].copy())
        return dataclasses.replace(plain, keypoints=tv_tensors.KeyPoints(points, canvas_size=canvas))  # type: ignore[call-overload]


def landmark_files(
    folder: Path,
    names: Sequence[str],
    name: str,
    points: NDArray[np.float32],
    sources: Sequence[tuple[str, Path]],
    eyes: Eyes | None = None,
    sizes: NDArray[np.int32] | None = None,
) -> LandmarkFiles:
    """The set of these images below `folder`, one row of points each."""
    index: Index = unlabelled(Names(names))
    return LandmarkFiles(folder, index, name, Landmarks(points, (folder, index.names), sources, eyes, sizes))


def landmarks(rest: str) -> LandmarkFiles:
    """The set named "landmarks:ROOT[:train|test|val]", a CSV of points and a folder of images.

    With 5 points the first two are the eyes, 68 are iBUG's; with another number nothing is known of them. An empty
    coordinate is a missing point. Raises InputError naming the line that cannot be read.
    """
    root, parts = root_and_parts("landmarks", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    table = LAYOUT.find(root, [f"{split}_keypoints.csv", f"{split}.csv"])
    folder = LAYOUT.find(root, [split, "images"])
    names, sizes, points = _table(table)
    require_files(LAYOUT, folder, names, named_files(folder, SUFFIXES), f"images of {table.name}")
    eyes = EYES_OF.get(points.shape[1])
    return landmark_files(folder, names, f"landmarks/{split}", points, [(table.name, table)], eyes, sizes)


def _table(path: Path) -> tuple[list[str], NDArray[np.int32] | None, NDArray[np.float32]]:
    """Names, sizes (N, 2) where they are told, and points (N, P, 2) of a CSV."""
    lines = ((line, fields) for line, fields in rows(path, ",") if any(fields))
    _, header = next(lines, (0, []))
    sized = [column.strip().lower() for column in header[1:3]] == ["width", "height"]
    first = 3 if sized else 1
    expected = f"FILE{',WIDTH,HEIGHT' if sized else ''} and x,y of every point, as the first line announces"
    if len(header) < first + 2 or (len(header) - first) % 2:
        raise LAYOUT.damaged(path, 1, "file[,width,height],x0,y0,x1,y1,...", ",".join(header))
    names, sizes, points = [], [], []
    for line, fields in lines:
        try:
            numbers = [float(field) if field.strip() else math.nan for field in fields[1:]]
        except ValueError:
            numbers = []
        if len(fields) != len(header) or not numbers or any(map(math.isinf, numbers)):
            raise LAYOUT.damaged(path, line, expected, ",".join(fields))
        if sized and not all(n == n and n >= 1 for n in numbers[:2]):
            raise LAYOUT.damaged(path, line, "a width and a height of 1 or more", ",".join(fields))
        names.append(fields[0].strip())
        sizes.append(numbers[1::-1] if sized else (0.0, 0.0))
        points.append(numbers[first - 1 :])
    if not names:
        raise InputError(f"landmarks: {path} lists no image: one line per image is needed after the first.")
    table = np.array(points, dtype=np.float32).reshape(len(names), -1, 2)
    table[np.isnan(table).any(axis=2)] = np.nan
    return names, np.array(sizes, dtype=np.int32) if sized else None, table
