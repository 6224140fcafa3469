"""Generated scenes, the data set that needs no download: a few objects in a room, and everything known about them.

The label is the shape of the main object, the one near the middle. Class, pose, colour, light and background are drawn
independently, so none gives another away. A training set and a test set are Scenes of different seeds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from whytransfer.errors import InputError
from whytransfer.images import scene_layout
from whytransfer.images.scene_render import Layout, nearest, render
from whytransfer.records import Sample

RENDERER = "scenes-1"  # part of the fingerprint: change it whenever a pixel or an annotation changes
SMALLEST_PX, LARGEST_PX = 16, 512
_CHUNK = 32  # scenes per task of a thread


@dataclass(frozen=True)
class Scenes:
    """`count` generated images of side `size_px`: an ImageSet whose samples carry every annotation.

    Image i is a function of (seed, i): the same in any batch, with any number of threads, in a larger set.
    Raises InputError for a count below 1 or a size outside 16..512.
    """

    count: int
    seed: int = 0
    size_px: int = 64
    classes: tuple[str, ...] = scene_layout.CLASSES
    factor_names: tuple[str, ...] = scene_layout.FACTORS
    labels: NDArray[np.int64] = field(init=False, repr=False, compare=False)  # (N,), not rendered

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"scenes: the number of images must be at least 1, got {self.count}")
        if not SMALLEST_PX <= self.size_px <= LARGEST_PX:
            raise InputError(f"scenes: the size must be {SMALLEST_PX} to {LARGEST_PX} pixels, got {self.size_px}")
        object.__setattr__(self, "labels", scene_layout.classes_of(self.seed, np.arange(self.count)))

    @property
    def name(self) -> str:
        """The spec that opens this set again."""
        return f"scenes:{self.count}:{self.seed}:{self.size_px}"

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """A hash of all that determines the pixels; nothing is rendered."""
        content = json.dumps([RENDERER, self.seed, self.count, self.size_px])
        return hashlib.sha256(content.encode()).hexdigest()

    def factor_table(self) -> NDArray[np.float64]:
        """(N, F) latent factors in the order of `factor_names`; nothing is rendered."""
        return scene_layout.factors_of(self.seed, np.arange(self.count))

    def render_many(self, indices: Sequence[int] | NDArray[np.integer], threads: int | None = None) -> NDArray[np.uint8]:
        """(B, H, W, 3) uint8 images of some indices, on all cores unless told otherwise."""
        index = self._checked(indices)
        images = np.empty((len(index), self.size_px, self.size_px, 3), dtype=np.uint8)

        def task(start: int) -> None:
            part = slice(start, start + _CHUNK)
            self._render(scene_layout.layout(self.seed, index[part]), images[part], 1)

        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            list(pool.map(task, range(0, len(index), _CHUNK)))
        return images

    def _checked(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(index) and not 0 <= index.min() <= index.max() < self.count:
            raise IndexError(f"scenes: index {index.min()}..{index.max()} is outside 0..{self.count - 1}")
        return index

    def _render(self, scene: Layout, images: NDArray[np.uint8], kept: int) -> tuple[np.ndarray, np.ndarray]:
        """Fill images; returns object (-1: none) and depth maps (kept, H, W) of the last `kept` scenes."""
        objects = np.empty((kept, self.size_px, self.size_px), dtype=np.int8)
        depth = np.empty(objects.shape, dtype=np.float32)
        render(scene.objects, scene.rooms, images, objects, depth)
        return objects, depth
