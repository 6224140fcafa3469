"""Generated scenes of which one thing changes and nothing else: turned, lit from elsewhere, lit in another colour.

The changes happen in the world, before the picture is taken: hidden faces appear, shading and shadows move. No
transform of pixels does that, which is what makes them a test of whether invariance to transforms carries over. The
published sets of such photographs (COIL, ALOI, ALOT) are not generated; `diagnosis.view_groups` reads those.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name
from whytransfer.images import scene_layout
from whytransfer.images.scene_render import render
from whytransfer.images.scenes import LARGEST_PX, RENDERER, SMALLEST_PX
from whytransfer.records import Sample

VIEWS = 8  # of each thing, at even steps of the factor over all of its range
CHANGES = {"viewpoint": "rotation_1", "light-direction": "light_angle", "light-colour": "light_hue"}


class SceneViews:
    """`count` scenes of side `size_px`, VIEWS pictures of each: an ImageSet, row VIEWS i + v is view v of scene i.

    `change` is a name of CHANGES. Raises InputError for another one, a count below 1 or a size outside 16..512.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, change: str, count: int, seed: int = 0, size_px: int = 64) -> None:
        if change not in CHANGES:
            raise unknown_name("change of scenes", change, CHANGES)
        if count < 1:
            raise InputError(f"scenes:{change}: the number of things must be at least 1, got {count}")
        if not SMALLEST_PX <= size_px <= LARGEST_PX:
            raise InputError(f"scenes:{change}: the size must be {SMALLEST_PX} to {LARGEST_PX} pixels, got {size_px}")
        self.change, self.count, self.seed, self.size_px = change, count, seed, size_px
        self.changes = change.replace("-", " ")
        self.name = f"scenes:{change}:{count}:{seed}:{size_px}"
        self.labels: NDArray[np.int64] = np.full(count * VIEWS, -1, np.int64)

    def __len__(self) -> int:
        return self.count * VIEWS

    def fingerprint(self) -> str:
        """A hash of all that determines the pixels; nothing is rendered."""
        content = json.dumps([RENDERER, "views", self.change, VIEWS, self.seed, self.count, self.size_px])
        return hashlib.sha256(content.encode()).hexdigest()

    def factors(self, i: int) -> NDArray[np.float64]:
        """(1, F) what picture i was rendered from, in the order of scene_layout.FACTORS."""
        factor = CHANGES[self.change]
        table = scene_layout.factors_of(self.seed, np.array([i // VIEWS]))
        low, high = scene_layout.RANGES[factor]
        table[:, scene_layout.FACTORS.index(factor)] = low + (high - low) * (i % VIEWS) / (VIEWS - 1)
        return table

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.name}: index {i} is outside 0..{len(self) - 1}")
        scene = scene_layout.layout(self.seed, np.array([i // VIEWS]), self.factors(i))
        images = np.empty((1, self.size_px, self.size_px, 3), dtype=np.uint8)
        unused = (1, self.size_px, self.size_px)  # objects and depth are not kept
        render(scene.objects, scene.rooms, images, np.empty(unused, np.int8), np.empty(unused, np.float32))
        image = torch.from_numpy(images[0]).permute(2, 0, 1).contiguous()
        factors = dict(zip(scene_layout.FACTORS, self.factors(i)[0].tolist(), strict=True))
        return Sample(image, f"{i // VIEWS:06d}-{i % VIEWS}", factors=factors)


def open_scene_views(spec: str) -> SceneViews:
    """The set that scenes:CHANGE:COUNT[:SEED[:SIZE]] names; InputError for another form."""
    _, _, rest = spec.partition(":")
    change, *numbers = rest.split(":")
    if not 1 <= len(numbers) <= 3 or not all(n.isdecimal() for n in numbers):
        raise InputError(
            f"{spec!r}: rendered groups are scenes:CHANGE:COUNT[:SEED[:SIZE]], such as scenes:viewpoint:100:5:48; "
            f"CHANGE is one of {', '.join(CHANGES)}"
        )
    return SceneViews(change, *map(int, numbers))
