"""Dead leaves: pictures of nothing but leaves fallen over one another, an image set that shows no thing at all.

The label is the form of the leaves. Sizes follow a power law, which gives such pictures the statistics of edges that
photographs have [Lee 2001, "Occlusion models for natural images"]; networks learn from them [Baradad 2021]. Beside
generated scenes they are the set of another world: what does it matter what pretraining images show?
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.chance import uniform
from whytransfer.errors import InputError
from whytransfer.records import Sample

RENDERER = "leaves-1"  # part of the fingerprint: change it whenever a pixel changes
SMALLEST_PX, LARGEST_PX = 16, 512
STREAM = 0x1EAF  # the epoch word of chance.uniform
LEAVES = 120  # of a picture, the last ones on top
RADII = (0.05, 0.4)  # of a leaf, in sides of the picture
Array = NDArray[np.float64]

# whether a point (u, v), in radii of the leaf and turned with it, lies in the leaf
FORMS: dict[str, Callable[[Array, Array], NDArray[np.bool_]]] = {
    "disc": lambda u, v: u * u + v * v <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.8,
    "triangle": lambda u, v: (v >= -0.5) & (v + 1.732 * abs(u) <= 1),
    "bar": lambda u, v: (abs(u) <= 1) & (abs(v) <= 0.25),
    "ring": lambda u, v: abs(u * u + v * v - 0.7) <= 0.3,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.25) & (np.maximum(abs(u), abs(v)) <= 1),
}


class Leaves:
    """`count` pictures of side `size_px`, an ImageSet; picture i is a function of (seed, i).

    Raises InputError for a count below 1, a size outside 16..512 or a seed that is no 32-bit number.
    """

    def __init__(self, count: int, seed: int = 0, size_px: int = 64) -> None:
        if count < 1:
            raise InputError(f"leaves: the number of images must be at least 1, got {count}")
        if not SMALLEST_PX <= size_px <= LARGEST_PX:
            raise InputError(f"leaves: the size must be {SMALLEST_PX} to {LARGEST_PX} pixels, got {size_px}")
        if not 0 <= seed < 2**32:
            raise InputError(f"leaves: the seed must be 0 to 2^32 - 1, got {seed}")
        self.count, self.seed, self.size_px = count, seed, size_px
        self.name, self.classes, self.labelled_with = f"leaves:{count}:{seed}:{size_px}", tuple(FORMS), ("class",)
        chosen = uniform(seed, STREAM, np.arange(count), 0, 0, 1)[:, 0]
        self.labels: NDArray[np.int64] = (chosen * len(FORMS)).astype(np.int64)

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """A hash of all that determines the pixels; nothing is rendered."""
        content = json.dumps([RENDERER, self.seed, self.count, self.size_px])
        return hashlib.sha256(content.encode()).hexdigest()

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"leaves: index {i} is outside 0..{self.count - 1}")
        label = int(self.labels[i])
        image = _painted(self.seed, i, self.size_px, FORMS[self.classes[label]])
        return Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), f"{i:07d}", label)


def _painted(seed: int, i: int, size_px: int, inside: Callable[[Array, Array], NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """(H, W, 3) leaf upon leaf; a grey ground shows where none fell."""
    draws = uniform(seed, STREAM, np.array([i]), 0, 1, 7 * LEAVES).reshape(LEAVES, 7)
    low, high = RADII
    radii = 1 / np.sqrt(1 / low**2 - draws[:, 2] * (1 / low**2 - 1 / high**2))  # density as r^-3
    angles = 2 * np.pi * draws[:, 3]
    colours = (256 * draws[:, 4:]).astype(np.uint8)
    places = (np.arange(size_px) + 0.5) / size_px
    image = np.full((size_px, size_px, 3), 128, dtype=np.uint8)
    for (x, y), radius, angle, colour in zip(draws[:, :2], radii, angles, colours, strict=True):
        dx, dy = (places - x)[None, :] / radius, (places - y)[:, None] / radius
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        image[inside(u, v)] = colour
    return image
