"""The continuous targets of an image set: the latent factors of how its images were made, or its landmarks.

Factors come from a set with a factor_table() (generated scenes), in groups: "pose" (position and rotation of the
object) and "colour" (the hues), because spatial views cost the first and appearance views the other [Ericsson 2022].
Landmarks come from the keypoints of its samples, in pixels of the view that the backbone sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.cache import PixelCache
from whytransfer.images.index import first_of
from whytransfer.images.subsets import Subset
from whytransfer.memory import usable_cores
from whytransfer.views.operations import CenterCrop, Resize, draw

GROUPS: dict[str, tuple[str, ...]] = {
    "pose": ("object_x", "object_y", "object_z", "rotation_1", "rotation_2", "rotation_3"),
    "colour": ("object_hue", "light_hue", "background_hue"),
}
KINDS = ("factors", "landmarks")


@dataclass(frozen=True)
class Targets:
    """T numbers of each of N images, their names, and groups of names whose mean R2 is a result of its own."""

    kind: str
    names: tuple[str, ...]
    table: NDArray[np.float64]  # (N, T)
    groups: Mapping[str, tuple[str, ...]]


def targets_of(images: Any, size_px: int, resize_px: int | None = None, kind: str | None = None) -> Targets:
    """The targets of a PixelCache; factors where it has them and None is asked. InputError for a set without them."""
    kind = kind or ("factors" if hasattr(origin(images)[0], "factor_table") else "landmarks")
    return factor_targets(images) if kind == "factors" else landmark_targets(images, size_px, resize_px)


def factor_targets(images: Any) -> Targets:
    """Latent factors in the units of the set."""
    source, positions = origin(images)
    if not hasattr(source, "factor_table"):
        raise InputError(f"{images.name} has no latent factors: use generated scenes, scenes:COUNT:SEED")
    names = tuple(source.factor_names)
    groups = {group: tuple(n for n in members if n in names) for group, members in GROUPS.items()}
    table = np.asarray(source.factor_table(), dtype=np.float64)[positions]
    return Targets("factors", names, table, {group: members for group, members in groups.items() if members})


def landmark_targets(images: Any, size_px: int, resize_px: int | None = None) -> Targets:
    """x and y of every landmark of the first annotated object, in pixels of the evaluation view of side `size_px`.

    They may lie outside the view. InputError names an image without landmarks, with other ones, or with one missing.
    """
    source, positions = origin(images)
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(lambda i: _landmarks(source, int(i)), positions))
    counts = sorted({len(points) for _, points in found})
    if len(counts) > 1:
        several = first_of([str(count) for count in counts])
        raise InputError(f"{images.name}: its images have different numbers of landmarks: {several}")
    sizes = np.array([size for size, _ in found], dtype=np.int64)
    pipeline = (Resize((resize_px or size_px) / size_px), CenterCrop())
    window = draw(pipeline, sizes, size_px, 0, 0, positions, 0).windows
    points = np.stack([points for _, points in found])  # (N, P, 2)
    scale = np.stack([window["grid_width"], window["grid_height"]], 1) / sizes[:, ::-1]
    corner = np.stack([window["grid_left"], window["grid_top"]], 1)
    table = points * scale[:, None] - corner[:, None]
    names = tuple(f"{axis}{k}" for k in range(points.shape[1]) for axis in "xy")
    return Targets("landmarks", names, table.reshape(len(table), -1), {})


def _landmarks(source: Any, i: int) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """(H, W) of image i, and its landmarks (P, 2) xy in its pixels; undecoded where they lie in files of their own."""
    if hasattr(source, "annotations"):
        known = source.annotations.read(i, ("keypoints",))
        name, size, keypoints = source.names[i], known.size, getattr(known, "keypoints", None)
    else:
        sample = source[i]
        name, size, keypoints = sample.name, tuple(sample.image.shape[1:]), sample.keypoints
    if keypoints is None or not len(keypoints):
        raise InputError(
            f"{source.name}: image {name} has no landmarks; a ridge or kernel readout needs continuous targets: "
            "landmarks, or latent factors (scenes:COUNT:SEED)"
        )
    points = np.asarray(keypoints[0], dtype=np.float64)
    if not np.isfinite(points).all():
        missing = [str(k) for k in np.flatnonzero(~np.isfinite(points).all(1))]
        raise InputError(
            f"{source.name}: image {name} lacks landmarks {first_of(missing)}: leave it out, or train the landmarks "
            "task, which passes over missing ones"
        )
    return (int(size[0]), int(size[1])), points


def origin(images: Any) -> tuple[Any, NDArray[np.int64]]:
    """The set in which images are annotated, and the position there of each image."""
    positions = np.arange(len(images))
    while isinstance(images, PixelCache | Subset):
        positions = (images.positions if isinstance(images, PixelCache) else images.indices)[positions]
        images = images.images
    return images, positions
