"""Regions of one image: a label map, where each pixel has one region or none, or a stack of masks that may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.records import Sample

NO_REGION = 255  # in a label map: this pixel belongs to none
MOST = 255  # regions of one image


@dataclass(frozen=True)
class Regions:
    """What an engine finds in an image. Raises InputError for more than 255 regions, and for arrays of another kind."""

    maps: NDArray[np.uint8] | NDArray[np.bool_]  # label map (H, W) uint8, 255: no region; or stack (R, H, W) bool
    labels: NDArray[np.int64] | None = None  # (R,) class of each region; of a label map, of ids 0 ... R - 1
    left_out: int = 0  # regions that were found beyond 255, the smallest ones: they are not in the map

    def __post_init__(self) -> None:
        maps, shape = self.maps, self.maps.shape
        if self.overlapping and len(maps) > MOST:
            raise InputError(f"{len(maps):,} regions in one image: {MOST} at most. Leave some out, or merge them.")
        if (maps.ndim, maps.dtype) not in ((2, np.dtype(np.uint8)), (3, np.dtype(np.bool_))):
            raise InputError(
                f"regions are a label map (H, W) uint8 or a stack of masks (R, H, W) bool, got {shape} {maps.dtype}"
            )
        if 0 in shape[-2:]:
            raise InputError(f"regions of an empty image: {shape}")
        if self.labels is not None and (self.labels.ndim != 1 or len(self.labels) < self._ids()):
            raise InputError(f"{self._ids()} regions, labels of shape {self.labels.shape}: give one class per region")

    @property
    def overlapping(self) -> bool:
        """Whether this is a stack."""
        return self.maps.ndim == 3

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.maps.shape[-2]), int(self.maps.shape[-1])

    def __len__(self) -> int:
        """R; of a label map the ids up to the largest one that occurs, or as many as have a class."""
        return self._ids() if self.labels is None else len(self.labels)

    def areas(self) -> NDArray[np.int64]:
        """(R,) pixels of each region."""
        if self.overlapping:
            return np.count_nonzero(self.maps, axis=(1, 2)).astype(np.int64)
        return np.bincount(self.maps.reshape(-1), minlength=NO_REGION + 1)[: len(self)].astype(np.int64)

    def stack(self) -> NDArray[np.bool_]:
        """(R, H, W) bool, of a label map too."""
        if self.overlapping:
            return self.maps  # type: ignore[return-value]
        return self.maps == np.arange(len(self), dtype=np.uint8)[:, None, None]

    def _ids(self) -> int:
        if self.overlapping:
            return len(self.maps)
        present = self.maps[self.maps != NO_REGION]
        return int(present.max()) + 1 if present.size else 0


class Engine(Protocol):
    """Makes the regions of an image; equal recipes make equal regions of equal images."""

    @property
    def recipe(self) -> str: ...
    def __call__(self, sample: Sample) -> Regions: ...


def pixels_of(sample: Sample) -> NDArray[np.uint8]:
    """The image of a sample as (H, W, 3) uint8, contiguous."""
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())


def of_segments(segments: NDArray[np.integer]) -> Regions:
    """A segmentation (H, W) with ids 0 ... S - 1 as a label map.

    Of more than 255 segments the 255 largest stay, in the order of their ids; the pixels of the others have no region.
    """
    areas = np.bincount(segments.reshape(-1))
    if len(areas) <= MOST:
        return Regions(segments.astype(np.uint8))
    kept = largest(areas)
    ids = np.full(len(areas), NO_REGION, dtype=np.uint8)
    ids[kept] = np.arange(len(kept))
    return Regions(ids[segments], left_out=len(areas) - len(kept))


def largest(areas: NDArray[np.integer], most: int = MOST) -> NDArray[np.int64]:
    """Positions of the `most` largest areas, ascending; of equal areas the first."""
    return np.sort(np.argsort(-areas, kind="stable")[:most])
