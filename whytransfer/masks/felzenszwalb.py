"""Felzenszwalb regions: colour segments, at one scale as a label map, at several as a stack of all of them.

DetCon's masks of ImageNet are scikit-image's felzenszwalb(scale=1000, min_size=1000, sigma=0.8) on the whole picture.
`felzenszwalb` gives that result by a compiled implementation of ours, tested to be equal; `felzenszwalb-skimage` is
scikit-image itself, `felzenszwalb-opencv` OpenCV's implementation, whose segments differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.masks import graph_kernels
from whytransfer.masks.regions import MOST, Regions, largest, of_segments, pixels_of
from whytransfer.records import Sample

Segments = NDArray[np.integer]  # (H, W), ids from 0
Pair = tuple[float, int]  # scale, smallest area in pixels


@dataclass(frozen=True)
class Felzenszwalb:
    """One segmentation per scale, of smoothed colours; larger scales give larger segments.

    Of more than 255 segments (all scales together) the 255 largest are kept, and `Regions.left_out` says how many are
    not: at the paper's smallest area of 1000 px that takes an image of 255,000 pixels and more, and a busy one.
    """

    scales: tuple[float, ...] = (1000.0,)
    smallest_px: tuple[int, ...] = (1000,)  # area; one for all scales or one each
    sigma_px: float = 0.8
    by: str = "whytransfer"  # or scikit-image, opencv

    def __post_init__(self) -> None:
        if not self.scales or not all(math.isfinite(s) and s > 0 for s in self.scales):
            raise InputError(f"felzenszwalb: scales {self.scales}: give numbers above 0, such as 1000")
        if len(self.smallest_px) not in (1, len(self.scales)) or min(self.smallest_px) < 1:
            raise InputError(
                f"felzenszwalb: smallest areas {self.smallest_px} for scales {self.scales}: give one for all, or one "
                "per scale, of 1 px or more"
            )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Scale and smallest area of each segmentation."""
        areas = self.smallest_px * (len(self.scales) // len(self.smallest_px))
        return tuple(zip(self.scales, areas, strict=True))

    @property
    def recipe(self) -> str:
        """What the regions depend on."""
        scales, areas = (",".join(f"{number:g}" for number in column) for column in zip(*self.pairs, strict=True))
        return f"felzenszwalb scale={scales} min_size={areas} sigma={self.sigma_px:g} by={self.by}"

    def __call__(self, sample: Sample) -> Regions:
        """Label map (H, W), or for several scales the stack of the segments of all, in the order of the scales."""
        segmentations = _SEGMENTERS[self.by](pixels_of(sample), self.pairs, self.sigma_px)
        return of_segments(segmentations[0]) if len(segmentations) == 1 else _stacked(segmentations)


def from_spec(rest: str, by: str = "whytransfer") -> Felzenszwalb:
    """From what follows "felzenszwalb:", SCALE[,SCALE ...][:MIN_SIZE[,MIN_SIZE ...]]; "" is the paper's 1000:1000."""
    scales, _, areas = rest.partition(":")
    try:
        given: dict[str, Any] = {}
        if scales:
            given["scales"] = tuple(float(number) for number in scales.split(","))
        if areas:
            given["smallest_px"] = tuple(int(number) for number in areas.split(","))
    except ValueError:
        raise InputError(
            f"felzenszwalb:{rest}: give SCALE[:MIN_SIZE] in numbers, such as felzenszwalb:500:500, or several scales "
            "such as felzenszwalb:500,1000,1500"
        ) from None
    return Felzenszwalb(**given, by=by)


def segment(pixels: NDArray[np.uint8], pairs: Sequence[Pair], sigma_px: float = 0.8) -> list[Segments]:
    """(H, W, 3) uint8 -> one segmentation per (scale, smallest area); smoothing and sorting are done once for all."""
    height, width = pixels.shape[:2]
    image = graph_kernels.smoothed(pixels, gaussian(sigma_px))
    costs, ends = graph_kernels.ordered(*graph_kernels.edges(image))
    return [graph_kernels.segments(costs, ends, height, width, float(scale), smallest) for scale, smallest in pairs]


def gaussian(sigma_px: float) -> NDArray[np.float64]:
    """(r + 1,) weights from the centre to r = 4 sigma, rounded; the whole kernel sums to 1."""
    reach = int(4.0 * sigma_px + 0.5)
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 / (sigma_px * sigma_px) * places**2) if sigma_px > 0 else np.ones(1)
    return (weights / weights.sum())[reach:]


def _scikit_image(pixels: NDArray[np.uint8], pairs: Sequence[Pair], sigma_px: float) -> list[Segments]:
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError:
        raise InputError("felzenszwalb-skimage needs scikit-image: pip install 'whytransfer[masks]'") from None
    found = (felzenszwalb(pixels, scale=scale, sigma=sigma_px, min_size=smallest) for scale, smallest in pairs)
    return [np.asarray(ids, dtype=np.int64) for ids in found]


def _opencv(pixels: NDArray[np.uint8], pairs: Sequence[Pair], sigma_px: float) -> list[Segments]:
    try:
        from cv2.ximgproc.segmentation import createGraphSegmentation
    except ImportError:
        raise InputError(
            "felzenszwalb-opencv needs OpenCV with its contributed modules: pip install 'whytransfer[masks]', and no "
            "other OpenCV wheel beside it, which would hide them"
        ) from None
    found = (createGraphSegmentation(sigma_px, scale, smallest).processImage(pixels) for scale, smallest in pairs)
    return [np.asarray(ids, dtype=np.int64) for ids in found]


_SEGMENTERS = {"whytransfer": segment, "scikit-image": _scikit_image, "opencv": _opencv}


def _stacked(segmentations: Sequence[Segments]) -> Regions:
    """All segments of all segmentations as one stack (R, H, W); beyond 255 the smallest are left out."""
    areas = [np.bincount(ids.reshape(-1)) for ids in segmentations]
    begins = np.cumsum([0, *map(len, areas)])
    kept = largest(np.concatenate(areas), MOST)
    stack = np.empty((len(kept), *segmentations[0].shape), dtype=bool)
    for plane, number in zip(stack, kept, strict=True):
        which = int(np.searchsorted(begins, number, side="right")) - 1
        np.equal(segmentations[which], number - begins[which], out=plane)
    return Regions(stack, left_out=int(begins[-1]) - len(kept))
