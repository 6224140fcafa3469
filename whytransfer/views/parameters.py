"""What was drawn for one view of a batch: enough to make the view again, to follow it with a mask, or to caption it.

Both implementations read these records and nothing else, so a test can write one by hand.
Shape letters: B batch, P steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Resampling = Literal["bilinear", "bicubic"]

_REGION = ("top", "left", "height", "width")  # of the picture, in pixels
_GRID = ("grid_height", "grid_width")  # what the region is resized to
_VIEW = ("grid_top", "grid_left", "flip")  # the view's corner in the grid; its side is given with the call
WINDOW = np.dtype([(name, np.int32) for name in (*_REGION, *_GRID, *_VIEW)])
STEP = np.dtype([("op", np.int32), ("value", np.float32), ("radius_px", np.int32)])


class Op(IntEnum):
    """One photometric step; `value` is what its comment says, `radius_px` is for the blurs. Results are cut to [0, 1].

    The numbers are compiled into `fused`, whose cache does not look here: add at the end, never renumber.
    """

    SKIP = 0
    BRIGHTNESS = 1  # factor: f x
    CONTRAST = 2  # factor: f x + (1 - f) mean(gray), one mean per image
    SATURATION = 3  # factor: f x + (1 - f) gray
    HUE = 4  # shift of the HSV circle, in turns
    GRAYSCALE = 5  # no value: ITU-R 601 luma in all channels
    BLUR = 6  # sigma in pixels, borders mirrored
    SOLARISE = 7  # threshold: 1 - x from there on
    ADD_BRIGHTNESS = 8  # delta: x + d
    CHANNEL_CONTRAST = 9  # factor: f x + (1 - f) mean(channel), one mean per channel
    HSV_SATURATION = 10  # factor on S of HSV, S at most 1
    ZERO_BLUR = 11  # sigma in pixels, zeros beyond the border


@dataclass(frozen=True)
class Draw:
    """The parameters of one view of B images: colours at full resolution, then the window, then colours of the view."""

    windows: NDArray[np.void]  # (B,) WINDOW
    before: NDArray[np.void]  # (B, P) STEP, on the whole picture; P may be 0
    after: NDArray[np.void]  # (B, P) STEP, on the view
    resampling: Resampling = "bilinear"


def whole(sizes: NDArray[np.integer]) -> NDArray[np.void]:
    """(B,) windows that leave pictures of sizes (B, 2) height, width as they are."""
    windows = np.zeros(len(sizes), WINDOW)
    for field, side in (("height", 0), ("width", 1), ("grid_height", 0), ("grid_width", 1)):
        windows[field] = sizes[:, side]
    return windows


def steps(
    op: Op, value: NDArray[np.floating] | float, on: NDArray[np.bool_], radius_px: NDArray[np.integer] | int = 0
) -> NDArray[np.void]:
    """(B, 1) steps of one kind, skipped where `on` (B,) is False."""
    made = np.zeros((len(on), 1), STEP)
    made["op"][:, 0] = np.where(on, op, Op.SKIP)
    made["value"][:, 0] = value
    made["radius_px"][:, 0] = radius_px
    return made
