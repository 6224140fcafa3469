"""What is in a scene: the shapes, the latent factors and their ranges, and the layout that a draw of them gives.

Every number is a function of (seed, index) through chance.uniform, so factors, labels and keypoints need no rendering.
The first ten factors are those of Causal3DIdent [von Kügelgen et al. 2021, "Self-supervised learning with data
augmentations provably isolates content from style"]. No factor wraps around, so that a linear R2 means something:
angles stay within 60 degrees, and a hue of 0 to 1 runs along an arc of the colour circle, from red over orange, yellow,
green, cyan and blue to violet, in steps that look even (HSV would make half of all objects green).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from whytransfer.chance import uniform
from whytransfer.images import scene_render as r
from whytransfer.images.scene_render import BOX, ELLIPSOID, FRUSTUM, PRISM, TORUS

Array = NDArray[np.float64]
X, Y, Z = range(3)
OBJECTS = 4  # the main one and one to three smaller ones
STREAM = 0x5CE7E  # the epoch word of chance.uniform: no augmentation with the same seed draws the same numbers
WHEEL = np.array([0, 32, 55, 115, 180, 222, 280]) / 360  # HSV hue in turns at even steps of our hue, red to violet


class Layout(NamedTuple):
    """B scenes as the renderer reads them: rows of numbers, in the columns that scene_render names."""

    objects: Array  # (B, K, OBJECT_COLUMNS), the main object first
    rooms: Array  # (B, ROOM_COLUMNS)


class Shape(NamedTuple):
    """One class, upright within the unit sphere, its front towards the camera (-z)."""

    parts: tuple[tuple[float, ...], ...]  # primitive, axis, offset xyz, three sizes
    keypoints: tuple[tuple[float, float, float], ...]  # on the surface: white spot, top, bottom, left, right
    spot: float  # radius of the white spot, which shows where the front is
    shadow: float  # radius of the soft shadow
    hollow: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # a dark spot: xyz, radius


SHAPES: dict[str, Shape] = {
    "ellipsoid": Shape(
        ((ELLIPSOID, X, 0, 0, 0, 1.0, 0.62, 0.62),),
        ((-0.45, -0.1, -0.545), (0, 0.62, 0), (0, -0.62, 0), (-1.0, 0, 0), (1.0, 0, 0)), 0.2, 0.72,
    ),
    "box": Shape(
        ((BOX, X, 0, 0, 0, 0.75, 0.52, 0.39),),
        ((-0.3, -0.1, -0.39), (0, 0.52, 0), (0, -0.52, 0), (-0.75, 0, 0), (0.75, 0, 0)), 0.2, 0.75,
    ),
    "cylinder": Shape(
        ((FRUSTUM, Y, 0, 0, 0, 0.5, 0.5, 0.82),),
        ((0, -0.1, -0.5), (0, 0.82, 0), (0, -0.82, 0), (-0.5, 0, 0), (0.5, 0, 0)), 0.2, 0.65,
    ),
    "cone": Shape(
        ((FRUSTUM, Y, 0, -0.05, 0, 0.66, 0.0, 0.68),),
        ((0, -0.3, -0.449), (0, 0.63, 0), (0, -0.73, 0), (-0.66, -0.73, 0), (0.66, -0.73, 0)), 0.19, 0.6,
    ),
    "torus": Shape(
        ((TORUS, Z, 0, 0, 0, 0.7, 0.28, 0),),
        ((-0.495, -0.495, -0.28), (0, 0.98, 0), (0, -0.98, 0), (-0.98, 0, 0), (0.98, 0, 0)), 0.19, 0.75,
    ),
    "prism": Shape(
        ((PRISM, Z, 0, 0, 0, 0.9, 0.42, 0),),
        ((0, -0.05, -0.42), (0, 0.9, 0), (0, -0.45, 0), (-0.779, -0.45, 0), (0.779, -0.45, 0)), 0.18, 0.65,
    ),
    "cross": Shape(
        ((BOX, X, 0, 0, 0, 0.24, 0.92, 0.24), (BOX, X, 0, 0.22, 0, 0.78, 0.24, 0.24)),
        ((0.0, 0.22, -0.24), (0, 0.92, 0), (0, -0.92, 0), (-0.78, 0.22, 0), (0.78, 0.22, 0)), 0.17, 0.62,
    ),
    "corner": Shape(
        ((BOX, X, -0.28, 0.05, 0, 0.24, 0.75, 0.27), (BOX, X, 0.17, -0.46, 0, 0.49, 0.24, 0.27)),
        ((-0.28, -0.1, -0.27), (-0.28, 0.8, 0), (0, -0.7, 0), (-0.52, 0, 0), (0.66, -0.46, 0)), 0.17, 0.62,
    ),
    "mug": Shape(
        ((FRUSTUM, Y, -0.2, 0, 0, 0.5, 0.54, 0.62), (TORUS, Z, 0.42, 0.02, 0, 0.34, 0.1, 0)),
        ((-0.2, -0.1, -0.517), (-0.2, 0.62, 0), (-0.2, -0.62, 0), (-0.72, 0, 0), (0.86, 0.02, 0)), 0.2, 0.68,
        hollow=(-0.2, 0.62, 0.0, 0.45),
    ),
    "dumbbell": Shape(
        ((ELLIPSOID, X, -0.56, 0, 0, 0.43, 0.43, 0.43), (ELLIPSOID, X, 0.68, 0, 0, 0.3, 0.3, 0.3),
         (FRUSTUM, X, 0.1, 0, 0, 0.15, 0.15, 0.5)),
        ((-0.56, 0.0, -0.43), (-0.56, 0.43, 0), (-0.56, -0.43, 0), (-0.99, 0, 0), (0.98, 0, 0)), 0.18, 0.6,
    ),
}  # fmt: skip
CLASSES = tuple(SHAPES)
KEYPOINTS = np.array([shape.keypoints for shape in SHAPES.values()], dtype=np.float64)  # (C, 5, 3)

# name: (low, high); positions in units of the main object's radius, angles in degrees, hues along WHEEL
RANGES: dict[str, tuple[float, float]] = {
    "object_x": (-0.6, 0.6),
    "object_y": (1.35, 2.2),  # above the floor
    "object_z": (4.8, 6.6),  # depth in front of the camera
    "rotation_1": (-60.0, 60.0),  # azimuth: about the object's own upright axis, first
    "rotation_2": (-35.0, 35.0),  # elevation: about the horizontal axis, second
    "rotation_3": (-45.0, 45.0),  # roll: about the axis of view, last
    "light_angle": (-60.0, 60.0),  # azimuth of the light: from the left to from the right
    "object_hue": (0.0, 1.0),
    "light_hue": (0.0, 1.0),
    "background_hue": (0.0, 1.0),
    "light_height": (25.0, 60.0),
    "background_lightness": (0.3, 0.9),
}
FACTORS = tuple(RANGES)


def classes_of(seed: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B,) the main object's class, uniform over the shapes."""
    return (uniform(seed, STREAM, index, 0, 0, 1)[:, 0] * len(CLASSES)).astype(np.int64)


def factors_of(seed: int, index: NDArray[np.int64]) -> Array:
    """(B, F) the latent factors in the order of FACTORS, independent and uniform in their ranges."""
    low, high = np.array(list(RANGES.values())).T
    return low + (high - low) * uniform(seed, STREAM, index, 0, 1, len(FACTORS))


def rotations(degrees: Array) -> Array:
    """(..., 3) azimuth, elevation, roll -> (..., 3, 3) object to world: roll @ elevation @ azimuth."""
    (sa, se, sr), (ca, ce, cr) = (np.moveaxis(f(np.radians(degrees)), -1, 0) for f in (np.sin, np.cos))
    o, i = np.zeros_like(sa), np.ones_like(sa)

    def matrix(*entries: Array) -> Array:
        return np.stack(entries, axis=-1).reshape(*sa.shape, 3, 3)

    azimuth = matrix(ca, o, sa, o, i, o, -sa, o, ca)
    elevation = matrix(i, o, o, o, ce, -se, o, se, ce)
    roll = matrix(cr, -sr, o, sr, cr, o, o, o, i)
    return roll @ elevation @ azimuth


def project(points: Array, side_px: float = 1.0) -> Array:
    """(..., 3) world points -> (..., 2) image x, y in pixels; pixel centres are at half-integers."""
    x, y, z = np.moveaxis(points, -1, 0)
    return side_px * np.stack([0.5 + r.FOCAL * x / z, r.HORIZON + r.FOCAL * (r.CAMERA_HEIGHT - y) / z], axis=-1)


def rgb_of(hue: Array, saturation: Array | float, value: Array | float) -> Array:
    """Painter's hue, saturation, value in [0, 1] -> (..., 3) linear RGB: squared, as the renderer's gamma is two."""
    turn = np.interp(hue, np.linspace(0, 1, len(WHEEL)), WHEEL)[..., None]
    ramp = np.clip(np.abs((turn * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (np.asarray(value)[..., None] * (1 - np.asarray(saturation)[..., None] * (1 - ramp))) ** 2


def layout(seed: int, index: NDArray[np.int64], table: Array | None = None) -> Layout:
    """The scenes of some indices, ready for the renderer; with `table` (B, F) in the place of their own factors."""
    table = factors_of(seed, index) if table is None else table
    factors = dict(zip(FACTORS, table.T, strict=True))
    draws = np.stack([uniform(seed, STREAM, index, 0, 2 + k, 16) for k in range(OBJECTS)], axis=1)  # (B, K, 16)
    room = uniform(seed, STREAM, index, 0, 2 + OBJECTS, 8)
    shape = (draws[..., 0] * len(CLASSES)).astype(np.int64)
    shape[:, 0] = classes_of(seed, index)
    shape[:, 1:][np.arange(1, OBJECTS) > 1 + (room[:, :1] * (OBJECTS - 1)).astype(int)] = -1
    position, scale = _places(factors, draws)
    angles = np.array([120.0, 70.0, 90.0]) * (draws[..., 1:4] - 0.5)
    angles[:, 0] = np.stack([factors[f"rotation_{i}"] for i in (1, 2, 3)], axis=-1)
    hue = draws[..., 4].copy()
    hue[:, 0] = factors["object_hue"]
    pattern = np.concatenate([1.3 + 0.9 * draws[..., 7:8], draws[..., 8:11]], axis=-1)
    texture = (draws[..., 11:12] * 5).astype(int)
    columns = (
        shape[..., None], position, scale[..., None], rotations(angles).reshape(*shape.shape, 9),
        _tones(hue, draws[..., 5:7], draws[..., 12]), texture, pattern, extent(position, scale), TABLE[shape],
    )  # fmt: skip
    rooms = np.concatenate([_light(factors), _background(factors, room)], axis=-1)
    return Layout(np.concatenate(columns, axis=-1), rooms)


def keypoints(scene: Layout) -> Array:
    """(B, K, 5, 3) the keypoints of every object in the world; those of absent objects mean nothing."""
    things = scene.objects
    turn = things[..., r.TURN : r.TURN + 9].reshape(*things.shape[:2], 3, 3)
    upright = KEYPOINTS[things[..., r.SHAPE].astype(int)] * things[..., r.SCALE, None, None]
    return things[..., None, r.AT : r.AT + 3] + upright @ turn.swapaxes(-1, -2)


def _places(factors: dict[str, Array], draws: Array) -> tuple[Array, Array]:
    """Positions (B, K, 3) and radii (B, K): the main object where the factors say, the others around the middle.

    The others stand wholly in front of or behind the main one's bounding sphere: objects may hide, never cut it.
    """
    main = np.stack([factors[f"object_{axis}"] for axis in "xyz"], axis=-1)
    turn = draws[:, :1, 13] + (np.arange(OBJECTS - 1) + 0.5 * (draws[:, 1:, 13] - 0.5)) / (OBJECTS - 1)
    away = 0.33 + 0.07 * draws[:, 1:, 14]
    u, v = 0.5 + away * np.cos(r.TAU * turn), 0.5 + away * np.sin(r.TAU * turn)
    apparent = 0.075 + 0.045 * draws[:, 1:, 15]  # radius in image widths
    gap = 1.05 + 0.6 * draws[:, 1:, 12]
    behind, front = ((main[:, None, 2] + s * gap) / (1 - s * apparent / r.FOCAL) for s in (1, -1))
    drop = (v - r.HORIZON) / r.FOCAL
    fits = r.CAMERA_HEIGHT - behind * drop > behind * apparent / r.FOCAL  # above the floor
    z = np.where(fits & (draws[:, 1:, 14] * 7 % 1 < 0.7), behind, front)
    radius = z * apparent / r.FOCAL
    y = np.maximum(r.CAMERA_HEIGHT - z * drop, radius)
    others = np.stack([z * (u - 0.5) / r.FOCAL, y, z], axis=-1)
    return np.concatenate([main[:, None], others], axis=1), np.concatenate([np.ones((len(main), 1)), radius], axis=1)


def _tones(hue: Array, draws: Array, choice: Array) -> Array:
    """(B, K, 6) base tone, and a darker or paler tone of the same hue for the texture."""
    saturation, value = 0.72 + 0.28 * draws[..., 0], 0.8 + 0.2 * draws[..., 1]
    dark, pale = rgb_of(hue, saturation, 0.42 * value), rgb_of(hue, 0.35 * saturation, np.ones_like(value))
    return np.concatenate([rgb_of(hue, saturation, value), np.where(choice[..., None] < 0.5, dark, pale)], axis=-1)


def extent(position: Array, scale: Array) -> Array:
    """(B, K, 4) u0, u1, v0, v1: the tangents to each bounding sphere, in image widths."""
    z = position[..., 2]

    def tangents(side: Array) -> list[Array]:
        root = scale * np.sqrt(side**2 + z**2 - scale**2)
        return [(side * z + sign * root) / (z**2 - scale**2) for sign in (-1, 1)]

    across, down = tangents(position[..., 0]), tangents(r.CAMERA_HEIGHT - position[..., 1])
    return np.stack([0.5 + r.FOCAL * a for a in across] + [r.HORIZON + r.FOCAL * d for d in down], axis=-1)


def _light(factors: dict[str, Array]) -> Array:
    """(B, 6) direction towards the light (in front of the objects), and its tint of unit luminance."""
    turn, height = np.radians(factors["light_angle"]), np.radians(factors["light_height"])
    direction = np.stack([np.sin(turn) * np.cos(height), np.sin(height), -np.cos(turn) * np.cos(height)], axis=-1)
    tint = rgb_of(factors["light_hue"], 0.28, 1.0)
    return np.concatenate([direction, tint / (tint @ np.array([0.3, 0.55, 0.15]))[:, None]], axis=-1)


def _background(factors: dict[str, Array], draws: Array) -> Array:
    """(B, 14) colours of wall, pattern and floor, all of one hue; the style and its pattern."""
    hue, value = factors["background_hue"], factors["background_lightness"]
    saturation, slant = 0.4 + 0.25 * draws[:, 5], r.TAU * draws[:, 4]
    other = np.where(draws[:, 6] < 0.5, 0.68 * value, np.minimum(1.3 * value, 1.0))
    floor = value * (0.7 + 0.25 * draws[:, 7])
    style = [np.floor(draws[:, 1] * 5), 0.6 + draws[:, 2], draws[:, 3], np.cos(slant), np.sin(slant)]
    colours = [rgb_of(hue, saturation, v) for v in (value, other, floor)]
    return np.concatenate([*colours, np.stack(style, axis=-1)], axis=-1)


def _shape_table() -> Array:
    """(C, columns) white spot, shadow, dark spot and parts of each shape, as the renderer reads them."""
    table = np.full((len(SHAPES), r.OBJECT_COLUMNS - r.SPOT), -1.0)
    for row, shape in zip(table, SHAPES.values(), strict=True):
        numbers = (
            shape.keypoints[0],
            (shape.spot, 0.6 * shape.keypoints[1][1], shape.shadow),
            shape.hollow,
            *shape.parts,
        )
        row[: sum(map(len, numbers))] = np.concatenate(numbers)
    return table


TABLE = _shape_table()
