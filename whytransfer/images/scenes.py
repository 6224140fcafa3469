"""Generated scenes, the data set that needs no download: a few objects in a room, and everything known about them.

The label is the shape of the main object, the one near the middle. Class, pose, colour, light and background are drawn
independently, so none gives another away. Every object wears the same paint over its own colour and texture (a white
top, a dark right half, a white spot in front), so that its pose shows whatever its shape. A training set and a test set
are Scenes of different seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from whytransfer.errors import InputError
from whytransfer.images import scene_layout
from whytransfer.images.scene_render import SHAPE, nearest, render
from whytransfer.memory import usable_cores
from whytransfer.records import Sample

RENDERER = "scenes-1"  # part of the fingerprint: change it whenever a pixel or an annotation changes
SMALLEST_PX, LARGEST_PX = 16, 512
_CHUNK = 32  # scenes per task of a thread
Indices = Sequence[int] | NDArray[np.integer]


class Scenes:
    """`count` generated images of side `size_px`: an ImageSet whose samples carry every annotation.

    Image i is a function of (seed, i): the same in any batch, with any number of threads, in a larger set.
    Raises InputError for a count below 1 or a size outside 16..512.
    """

    def __init__(self, count: int, seed: int = 0, size_px: int = 64) -> None:
        if count < 1:
            raise InputError(f"scenes: the number of images must be at least 1, got {count}")
        if not SMALLEST_PX <= size_px <= LARGEST_PX:
            raise InputError(f"scenes: the size must be {SMALLEST_PX} to {LARGEST_PX} pixels, got {size_px}")
        if not 0 <= seed < 2**32:  # beyond it seeds repeat
            raise InputError(f"scenes: the seed must be 0 to 2^32 - 1, got {seed}")
        self.count, self.seed, self.size_px = count, seed, size_px
        self.name = f"scenes:{count}:{seed}:{size_px}"  # the spec that opens this set again
        self.classes = self.box_classes = scene_layout.CLASSES
        self.labelled_with = ("class", "boxes", "masks")
        self.factor_names = scene_layout.FACTORS
        self.labels = scene_layout.classes_of(seed, np.arange(count))  # (N,) int64, not rendered

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """A hash of all that determines the pixels; nothing is rendered."""
        content = json.dumps([RENDERER, self.seed, self.count, self.size_px])
        return hashlib.sha256(content.encode()).hexdigest()

    def factor_table(self) -> NDArray[np.float64]:
        """(N, F) latent factors in the order of `factor_names`; nothing is rendered."""
        return scene_layout.factors_of(self.seed, np.arange(self.count))

    def render_many(self, indices: Indices, threads: int | None = None) -> NDArray[np.uint8]:
        """(B, H, W, 3) uint8 images of some indices, on all cores unless told otherwise."""
        index = self._checked(indices)
        images = np.empty((len(index), self.size_px, self.size_px, 3), dtype=np.uint8)

        def task(start: int) -> None:
            part = slice(start, start + _CHUNK)
            scene = scene_layout.layout(self.seed, index[part])
            one = (1, self.size_px, self.size_px)  # objects and depth are not kept
            render(scene.objects, scene.rooms, images[part], np.empty(one, np.int8), np.empty(one, np.float32))

        with ThreadPoolExecutor(threads or usable_cores()) as pool:
            list(pool.map(task, range(0, len(index), _CHUNK)))
        return images

    def __getitem__(self, i: int) -> Sample:
        """One image with every annotation; the R objects are those with a visible pixel, the main one first.

        masks: visible pixels, where the ray through the pixel's centre meets the object first. boxes: exactly around
        the masks, in pixel edges (x1 and y1 are exclusive). depth: z along the optical axis in units of the main
        object's radius, finite everywhere. keypoints: (R, 5, 2) the white spot, top, bottom, left and right of the
        upright shape, pixel centres at half-integers; given whether hidden or not, see `keypoints_visible`. factors:
        the main object's pose and hue, light and background, see scene_layout.RANGES.
        """
        image, objects, depth = self._rendered(i)
        scene = scene_layout.layout(self.seed, np.array([i]))
        seen = np.unique(objects[objects >= 0]).astype(np.int64)
        masks = objects == seen[:, None, None]
        points = scene_layout.project(scene_layout.keypoints(scene)[0, seen], self.size_px)
        factors = scene_layout.factors_of(self.seed, np.array([i]))[0].tolist()
        canvas: dict[str, Any] = {"canvas_size": (self.size_px, self.size_px)}
        return Sample(
            image=torch.from_numpy(image).permute(2, 0, 1).contiguous(),
            name=f"{i:07d}",
            label=int(self.labels[i]),
            boxes=tv_tensors.BoundingBoxes(torch.from_numpy(_bounds(masks)), format="XYXY", **canvas),
            box_labels=torch.from_numpy(scene.objects[0, seen, SHAPE].astype(np.int64)),
            masks=tv_tensors.Mask(torch.from_numpy(masks)),
            depth=torch.from_numpy(depth),
            keypoints=tv_tensors.KeyPoints(torch.from_numpy(points.astype(np.float32)), **canvas),
            factors=dict(zip(self.factor_names, factors, strict=True)),
        )

    def keypoints_visible(self, i: int) -> NDArray[np.bool_]:
        """(R, 5) whether each keypoint of sample i lies in the image with nothing in front of it."""
        _, objects, _ = self._rendered(i)
        scene = scene_layout.layout(self.seed, np.array([i]))
        points = scene_layout.keypoints(scene)[0, np.unique(objects[objects >= 0])]  # (R, 5, 3)
        places = scene_layout.project(points)
        front = [nearest(scene.objects[0], u, v)[2] for u, v in places.reshape(-1, 2)]
        inside = ((places >= 0) & (places < 1)).all(axis=-1)
        return inside & (np.reshape(front, points.shape[:-1]) > points[..., 2] - 0.03)

    def _checked(self, indices: Indices) -> NDArray[np.int64]:
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(index) and not 0 <= index.min() <= index.max() < self.count:
            raise IndexError(f"scenes: index {index.min()}..{index.max()} is outside 0..{self.count - 1}")
        return index

    def _rendered(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.float32]]:
        """Image (H, W, 3), object (-1: none) and depth (H, W) of one scene."""
        scene = scene_layout.layout(self.seed, self._checked([i]))
        images = np.empty((1, self.size_px, self.size_px, 3), dtype=np.uint8)
        objects, depth = np.empty(images.shape[:3], dtype=np.int8), np.empty(images.shape[:3], dtype=np.float32)
        render(scene.objects, scene.rooms, images, objects, depth)
        return images[0], objects[0], depth[0]


def _bounds(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(R, H, W) masks with a pixel each -> (R, 4) the boxes around them, in pixel edges."""
    rows, columns = np.any(masks, axis=2), np.any(masks, axis=1)
    side = masks.shape[1]
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right, bottom = (side - np.flip(x, axis=1).argmax(axis=1) for x in (columns, rows))
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)
