"""The continuous targets of an image set: the latent factors of how its images were made, or its landmarks.

Factors come from a set with a factor_table() (generated scenes), in groups: "pose" (position and rotation of the
object) and "colour" (the hues), because spatial views cost the first and appearance views the other [Ericsson 2022].
Landmarks come from the keypoints of its samples, in pixels of the view that the backbone sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.keypoints import keypoint_table
from whytransfer.images.targets import origin

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

    They may lie outside the view. InputError for a set without landmarks, and for an image that lacks one.
    """
    points = keypoint_table(images, size_px, resize_px).points.astype(np.float64)  # (N, P, 2)
    lacking = np.argwhere(np.isnan(points).any(axis=2))
    if len(lacking):
        image, landmark = lacking[0].tolist()
        raise InputError(
            f"{images.name}: image {image} lacks landmark {landmark}, one of {len(lacking)} that are missing: leave "
            "such images out, or train the landmarks task, which passes over missing ones"
        )
    names = tuple(f"{axis}{k}" for k in range(points.shape[1]) for axis in "xy")
    return Targets("landmarks", names, points.reshape(len(points), -1), {})
