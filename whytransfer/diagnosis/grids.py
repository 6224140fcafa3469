"""The 18 synthetic transforms of the invariance diagnosis and the values at which each is tried [Ericsson 2022, code].

Spatial: rotation, translation, scale, shear, resized_crop, h_flip, v_flip, deform. Appearance: grayscale, brightness,
contrast, saturation, hue, blur, sharpness, posterize, invert, equalize. The grids are those of the published code:
256 values each, 7 of posterize, off and on of those that have nothing to set.

Lengths are pixels of a picture of 256 whose middle 224 the backbone sees. Columns of a grid: COLUMNS.
Two modes:
"corrected" (the default)  without the values that leave the picture exactly as it is, so that "off" does not count.
"paper"                    all values of the published code.
"""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name

Mode = Literal["corrected", "paper"]
Values = NDArray[np.float64]  # (K, columns)

GROUPS: dict[str, tuple[str, ...]] = {
    "spatial": ("rotation", "translation", "scale", "shear", "resized_crop", "h_flip", "v_flip", "deform"),
    "appearance": (
        "grayscale", "brightness", "contrast", "saturation", "hue", "blur", "sharpness", "posterize", "invert",
        "equalize",
    ),
}  # fmt: skip
NAMES = tuple(itertools.chain(*GROUPS.values()))
SWITCHED = ("h_flip", "v_flip", "grayscale", "invert", "equalize")  # off or on
COLUMNS: dict[str, tuple[str, ...]] = {
    "rotation": ("angle, degrees",),
    "translation": ("x, px of 256", "y, px of 256"),
    "scale": ("factor",),
    "shear": ("x, degrees", "y, degrees"),
    "resized_crop": ("top, px of 256", "left, px of 256", "height, px of 256", "width, px of 256"),
    "deform": ("smoothness, px of 256", "number of the warp"),
    **{name: ("factor",) for name in ("brightness", "contrast", "saturation", "sharpness")},
    "hue": ("turns of the colour circle",),
    "blur": ("sigma, px of 224",),
    "posterize": ("bits",),
    **{name: ("on",) for name in SWITCHED},
}
NO_CHANGE = {  # the values that leave every picture exactly as it is
    "rotation": (0,), "translation": (0, 0), "scale": (1,), "shear": (0, 0), "brightness": (1,), "contrast": (1,),
    "saturation": (1,), "hue": (0,), "blur": (1e-5,), "sharpness": (1,), **{name: (0,) for name in SWITCHED},
}  # fmt: skip
_SMOOTH = (10, 15, 21, 27, 32, 38, 44, 50)
_CORNER, _SIDE = np.linspace(0, 64, 4), np.linspace(192, 64, 4)
_STEPS = np.arange(16.0)


def axes_of(name: str) -> tuple[Values, ...]:
    """What is tried along each column; their product, the last running fastest, is the grid (of deform, its rows)."""
    if name not in NAMES:
        raise unknown_name("transform", name, NAMES)
    if name in SWITCHED:
        return (np.array([0.0, 1.0]),)
    return {
        "rotation": (np.linspace(0, 360, 257)[:256],),
        "translation": (2 * _STEPS - 16, 2 * _STEPS - 16),
        "scale": (np.linspace(0.25, 2, 256),),
        "shear": (20 * _STEPS - 160, 20 * _STEPS - 160),
        "resized_crop": (_CORNER, _CORNER, _SIDE, _SIDE),
        "deform": (np.arange(256.0),),
        "brightness": (np.linspace(0.25, 5, 256),),
        "contrast": (np.linspace(0.25, 5, 256),),
        "saturation": (np.linspace(0.25, 5, 256),),
        "hue": (np.linspace(-0.5, 0.5, 256),),
        "blur": (np.linspace(1e-5, 20, 256),),
        "sharpness": (np.linspace(1, 30, 256),),
        "posterize": (np.arange(1.0, 8.0),),
    }[name]


def grid(name: str, mode: Mode = "corrected", most: int | None = None) -> Values:
    """The (K, columns) values of a transform; `most` thins the grid evenly along every column to about so many.

    Of several columns each keeps the largest n of values, 2 or more, whose product is at most `most`: 4 x 4 for 16.
    InputError for an unknown transform or mode and for `most` below 2.
    """
    if mode not in ("corrected", "paper"):
        raise unknown_name("mode", mode, ("corrected", "paper"))
    if most is not None and most < 2:
        raise InputError(f"a curve needs two values of its parameter at least, got {most}")
    axes = axes_of(name)
    if len(axes) == 1:
        rows = axes[0][:, None]
        rows = rows if mode == "paper" else rows[~_no_change(name, rows)]
        rows = _thinned(rows, most)
    else:
        each = None if most is None else max(2, int(most ** (1 / len(axes)) + 1e-9))
        rows = np.array(list(itertools.product(*(_thinned(axis, each) for axis in axes))))
        rows = rows if mode == "paper" else rows[~_no_change(name, rows)]
    if name == "deform":  # its number decides the smoothness: the published code cycles through eight
        rows = np.hstack([np.array(_SMOOTH, dtype=np.float64)[rows.astype(int) % len(_SMOOTH)], rows])
    return rows


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Transforms by their names or those of their groups ("spatial", "appearance", "all"), in the order of NAMES."""
    wanted: set[str] = set()
    for name in names:
        if name not in ("all", *GROUPS, *NAMES):
            raise unknown_name("transform", name, ("all", *GROUPS, *NAMES))
        wanted |= set(NAMES if name == "all" else GROUPS.get(name, (name,)))
    return tuple(name for name in NAMES if name in wanted)


def _thinned(values: Values, most: int | None) -> Values:
    """At most so many of the rows, evenly spread from the first to the last."""
    if most is None or most >= len(values):
        return values
    return values[np.rint(np.linspace(0, len(values) - 1, most)).astype(int)]


def _no_change(name: str, rows: Values) -> NDArray[np.bool_]:
    if name not in NO_CHANGE:
        return np.zeros(len(rows), dtype=bool)
    return (rows == np.array(NO_CHANGE[name])).all(axis=1)
