"""The spatial heuristic: n x n equal cells on the whole image, whatever is on it [Henaff 2021, section 3]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whytransfer.errors import InputError
from whytransfer.masks.regions import Regions
from whytransfer.records import Sample

LARGEST = 15  # 16 x 16 cells are one more than a label map can tell apart


@dataclass(frozen=True)
class Grid:
    """n rows and n columns of cells, equal to within a pixel; ids run along the rows. 5 x 5 did best in the paper."""

    n: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.n <= LARGEST:
            raise InputError(f"grid:{self.n}: give 1 to {LARGEST} cells along a side; more would be over 255 regions")

    @classmethod
    def from_spec(cls, rest: str) -> Grid:
        """From the N of "grid:N"; "" is 5."""
        if rest and not rest.isdecimal():
            raise InputError(f"grid:{rest}: give a whole number of cells along a side, such as grid:5")
        return cls(int(rest)) if rest else cls()

    @property
    def recipe(self) -> str:
        """What the regions depend on."""
        return f"grid n={self.n}"

    def __call__(self, sample: Sample) -> Regions:
        """(H, W) label map; in an image of fewer than n pixels a side some ids do not occur."""
        height, width = sample.image.shape[-2:]
        rows, columns = np.arange(height) * self.n // height, np.arange(width) * self.n // width
        return Regions((rows[:, None] * self.n + columns).astype(np.uint8))
