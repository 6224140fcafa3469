"""The landmarks of a whole image set in one table, in the pixels of the square view that a backbone sees.

Evaluation views are made from the shorter side and the centre (`views.eval_views`), so a point near the end of the
longer side can lie outside: it keeps its place there, below 0 or beyond the side, and is counted.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.cache import PixelCache
from whytransfer.images.decode import shrunk_size
from whytransfer.images.subsets import Labelled, labelled_with
from whytransfer.images.targets import origin
from whytransfer.memory import usable_cores

Eyes = tuple[tuple[int, ...], tuple[int, ...]]  # the points whose means are the two eyes
_CHUNK = 64  # images per task


@dataclass(frozen=True)
class KeypointTable:
    """P landmarks of each of N images, where the evaluation view of side `size_px` shows them.

    `points` (N, P, 2) float32 xy in pixels from the view's upper left edge, NaN where one is missing; `eyes` says which
    of them are the eyes, None where the set has none or does not tell.
    """

    points: NDArray[np.float32]
    size_px: int
    eyes: Eyes | None

    @property
    def missing(self) -> int:
        """Points that are not known."""
        return int(np.isnan(self.points[..., 0]).sum())

    @property
    def outside(self) -> int:
        """Points that the view does not show."""
        with np.errstate(invalid="ignore"):
            return int(((self.points < 0) | (self.points > self.size_px)).any(axis=2).sum())

    def note(self, name: str) -> str:
        """A sentence for the user on what is not as it should be; "" where all is."""
        count = self.points.shape[0] * self.points.shape[1]
        parts = [f"{self.missing:,} are missing"] if self.missing else []
        parts += [f"{self.outside:,} lie outside the square view and are kept"] if self.outside else []
        return f"{name}: of {count:,} landmarks {' and '.join(parts)}" if parts else ""

    def eye_distances(self) -> NDArray[np.float64]:
        """(N,) pixels between the two eyes, NaN where one of their points is missing.

        Raises InputError for a set without eyes.
        """
        if self.eyes is None:
            raise InputError("these landmarks have no eyes: an inter-ocular distance is for faces of 5 or 68 points")
        left, right = (self.points[:, list(eye)].astype(np.float64).mean(axis=1) for eye in self.eyes)
        return np.linalg.norm(left - right, axis=1)


def require_keypoints(images: Labelled, why: str) -> None:
    """Raise InputError unless the set has landmarks; `why` says who needs them."""
    if "keypoints" in labelled_with(images):
        return
    source, positions = origin(images)
    if len(positions) == 0 or source[int(positions[0])].keypoints is None:
        there = labelled_with(images)
        found = f"labelled with {' and '.join(there)}" if there else "not labelled"
        raise InputError(
            f"{why} needs landmarks, and {images.name} is {found}: choose a set that has them (landmarks:ROOT, "
            "celeba-landmarks:ROOT, mafl:ROOT, 300w:ROOT, lsp:ROOT, scenes:COUNT; docs/images.md shows each)."
        )


def keypoint_table(images: Labelled, size_px: int, resize_px: int | None = None) -> KeypointTable:
    """The landmarks of images (an ImageSet, a part of one, or a PixelCache), in their order.

    Of several objects (generated scenes) those of the first are taken, the main one. `resize_px` is the shorter side
    before the centre crop, `size_px` when None, as in `views.eval_views`. No image is decoded where the landmarks lie
    in files of their own. Raises InputError for a set without landmarks, or with another number of them from image to
    image.
    """
    require_keypoints(images, "a table of landmarks")
    source, positions = origin(images)
    chunks = [positions[k : k + _CHUNK] for k in range(0, len(positions), _CHUNK)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = [
            one for part in pool.map(lambda part: [_points_of(source, int(i)) for i in part], chunks) for one in part
        ]
    counts = {len(points) for _, points in found}
    if len(counts) != 1:
        raise InputError(f"{images.name}: images have {min(counts)} to {max(counts)} landmarks: all must have as many.")
    points = np.stack([points for _, points in found]).astype(np.float64)
    sizes = np.array([size for size, _ in found], dtype=np.int64)
    shown = in_view(points, sizes, _picture_sizes(images, sizes), size_px, resize_px)
    eyes = getattr(getattr(source, "annotations", None), "eyes", None)
    return KeypointTable(shown.astype(np.float32), size_px, eyes)


def in_view(
    points: NDArray[np.float64],
    sizes: NDArray[np.int64],
    pictures: NDArray[np.int64],
    size_px: int,
    resize_px: int | None = None,
) -> NDArray[np.float64]:
    """Points (N, P, 2) xy in images of (H, W) sizes (N, 2) -> in the views of their pictures of sizes (N, 2).

    A picture is the image or a shrunk copy of it; its shorter side becomes `resize_px`, the longer one in proportion
    and cut to whole pixels, then the middle is taken, as in `views.operations`.
    """
    short = size_px if resize_px is None else resize_px
    grid = short * pictures // pictures.min(axis=1, keepdims=True)  # (N, 2) height and width after the resize
    corner = np.rint((grid - size_px) / 2)
    return points * (grid / sizes)[:, None, ::-1] - corner[:, None, ::-1]


def _picture_sizes(images: Any, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 2) height and width of the pictures that views are made of."""
    if not isinstance(images, PixelCache):
        return sizes
    pictures = np.array([images.size(i) for i in range(len(images))], dtype=np.int64)
    for i, ((height, width), picture) in enumerate(zip(sizes.tolist(), pictures.tolist(), strict=True)):
        if shrunk_size((width, height), images.max_side_px) != (picture[1], picture[0]):
            raise InputError(
                f"{images.name}: the landmarks of image {int(images.positions[i])} are for {width} x {height} px, "
                f"which does not shrink to its {picture[1]} x {picture[0]} px: take both from the same source."
            )
    return pictures


def _points_of(images: Any, i: int) -> tuple[tuple[int, int], NDArray[np.float32]]:
    """(H, W) and points (P, 2) of image i."""
    if hasattr(images, "annotations"):
        known = images.annotations.read(i, ("keypoints",))
        return known.size, known.keypoints[0]
    sample = images[i]
    if sample.keypoints is None or not len(sample.keypoints):
        raise InputError(f"{images.name}: image {sample.name} has no landmarks.")
    size = int(sample.image.shape[1]), int(sample.image.shape[2])
    return size, sample.keypoints[0].numpy().astype(np.float32)
