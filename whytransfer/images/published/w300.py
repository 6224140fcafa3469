"""300-W [Sagonas 2013]: faces in and out of doors with the 68 points of iBUG, each image cut to a square at its face.

Two crops. "300w" is ours: pixels counted as everywhere here, a centred square with a margin, whole pixels. In
"300w-published" it is that of the published scripts of [Ericsson 2022]: it begins at the smallest coordinates of the
points and has no margin, so the face is not in the middle and the outermost points lie on the edge; the points keep the
count from 1 of their files, and the image is cut at rounded places while the points are not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images.content import Stamp, digest
from whytransfer.images.decode import decode
from whytransfer.images.index import Index, Names
from whytransfer.images.published.annotated import read_bytes
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.landmarks import IBUG_68, LandmarkFiles, Landmarks
from whytransfer.images.published.layout import Layout, named_files, root_and_parts

FOLDERS = ("01_Indoor", "02_Outdoor")
POINTS = 68
MARGIN = 0.1  # of the larger side of the box around the points, added on every side
LAYOUT = Layout(
    "300w",
    "ROOT/01_Indoor/indoor_001.png with ROOT/01_Indoor/indoor_001.pts, and ROOT/02_Outdoor likewise (all may lie in "
    "ROOT/300W)",
    ("train", "valid", "test", "all"),
)
_FAR_PX = 1e5  # no face lies there; a crop from here to there would fill the memory
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image
Crop = Callable[[NDArray[np.float64]], tuple[Box, NDArray[np.float64]]]  # points (P, 2) of a file -> box, points in it


def centred(points: NDArray[np.float64]) -> tuple[Box, NDArray[np.float64]]:
    """A square around the middle of the points, 1.2 times as large as their box; what is outside the image is black.

    The files count pixels from 1 at their centres, so half a pixel is taken off to count from 0 at their edges.
    """
    points = points - 0.5
    low, high = points.min(0), points.max(0)
    side = math.ceil((high - low).max() * (1 + 2 * MARGIN))
    left, top = np.floor((low + high - side) / 2)
    return (left, top, left + side, top + side), points - [left, top]


def published(points: NDArray[np.float64]) -> tuple[Box, NDArray[np.float64]]:
    """The square of [Ericsson 2022]: from the smallest coordinates, as large as the larger side of the points' box."""
    low, high = points.min(0), points.max(0)
    side = np.ceil(high - low).max()
    return (low[0], low[1], low[0] + side, low[1] + side), points - low


def w300(rest: str) -> LandmarkFiles:
    """The set named "300w:ROOT[:train|valid|test|all]": 30, 30 and 40 % of the images, as in [Ericsson 2022]."""
    return _opened(rest, "300w", centred)


def w300_published(rest: str) -> LandmarkFiles:
    """The set named "300w-published:ROOT[:SPLIT]", with the crop of the published scripts."""
    return _opened(rest, "300w-published", published)


class CroppedFiles(LandmarkFiles):
    """Images cut to a box each; `encoded(i)` is the cut image as a BMP, so that everything sees only that."""

    def __init__(self, root: Path, index: Index, name: str, annotations: Landmarks, boxes: list[Box]) -> None:
        super().__init__(root, index, name, annotations)
        self.boxes = boxes

    def encoded(self, i: int) -> bytes:
        """The bytes of a BMP of image i within its box; raises Unreadable where the file is no image."""
        whole = decode(super().encoded(i), self.names[i])
        file = io.BytesIO()
        Image.fromarray(whole).crop(self.boxes[i]).save(file, "BMP")  # type: ignore[arg-type]  # PIL rounds the box
        return file.getvalue()

    def stamp(self) -> Stamp:
        """The state of the files, and how they are cut."""
        state, cut = super().stamp(), repr(self.boxes).encode()
        files, sizes = (digest(text.encode() + cut).hex() for text in (state.files, state.sizes))
        return Stamp(files, sizes, state.newest_ns)


def _opened(rest: str, kind: str, crop: Crop) -> CroppedFiles:
    root, parts = root_and_parts(kind, rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    root = root / "300W" if (root / "300W").is_dir() else root
    stems = [f"{folder}/{stem}" for folder in FOLDERS for stem in _pairs(LAYOUT.find(root, [folder]))]
    stems = [stems[i] for i in _of_split(len(stems), split)]
    boxes, tables = [], []
    for stem in stems:
        box, points = crop(read_points(root / f"{stem}.pts"))
        boxes.append(box)
        tables.append(points)
    index = unlabelled(Names(f"{stem}.png" for stem in stems))
    sources = [(f"{stem}.pts", root / f"{stem}.pts") for stem in stems]
    marks = Landmarks(np.array(tables, np.float32), (root, index.names), sources, IBUG_68, _sizes(boxes))
    return CroppedFiles(root, index, f"{kind}/{split}", marks, boxes)


def _pairs(folder: Path) -> list[str]:
    """The names, without suffix, of the images of a folder; each has its points."""
    stems = sorted(name[: -len(".png")] for name in named_files(folder, (".png",)))
    if not stems:
        raise LAYOUT.refusal(folder, "any image (*.png)")
    there = named_files(folder, (".pts",))
    if missing := [stem for stem in stems if f"{stem}.pts" not in there]:
        raise InputError(
            f"300w: {folder} lacks {missing[0]}.pts ({len(missing)} of {len(stems)} images have no points)"
        )
    return stems


def _of_split(count: int, split: str) -> list[int]:
    """Positions in the sorted list, shuffled by NumPy's generator of seed 0: 30, 30 and 40 %."""
    order = np.arange(count)
    if split == "all":
        return order.tolist()
    np.random.RandomState(0).shuffle(order)
    first, second = int(0.3 * count), int(0.6 * count)
    ranges = {"train": order[:first], "valid": order[first:second], "test": order[second:]}
    if not len(ranges[split]):
        raise InputError(f"300w: {count} images are too few for the splits of 30, 30 and 40 %: copy the set again.")
    return ranges[split].tolist()


def read_points(path: Path) -> NDArray[np.float64]:
    """(68, 2) of a .pts file, as they are there; raises InputError naming it otherwise."""
    text = read_bytes(str(path)).decode(errors="replace")
    inner = text.partition("{")[2].partition("}")[0].split()
    try:
        points = np.array([float(word) for word in inner]).reshape(-1, 2)
    except ValueError:
        points = np.empty((0, 2))
    sound = len(points) == POINTS and bool((np.abs(points) < _FAR_PX).all())  # false for what is no number, too
    if not sound or (np.ptp(points, axis=0) == 0).any():
        raise InputError(f"300w: {path} should hold {POINTS} different points, one x y per line between braces.")
    return points


def _sizes(boxes: list[Box]) -> NDArray[np.int32]:
    """(N, 2) height and width of boxes, rounded as PIL does."""
    edges = np.rint(np.array(boxes))  # half to even, as Python's round
    return (edges[:, [3, 2]] - edges[:, [1, 0]]).astype(np.int32)
