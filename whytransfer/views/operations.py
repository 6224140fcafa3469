"""The vocabulary of recipes: each operation with the law by which its parameters are drawn.

An operation turns uniform numbers u (B, draws) into parameters; what the parameters do to pixels is in `geometry`,
`photometry` and `fused`. `address` separates the operations' draws, so recipes that share an operation share its
parameters too: `spatial` crops exactly what `moco-v2` crops, and only the colours differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from whytransfer import chance
from whytransfer.views.parameters import STEP, Draw, Op, Resampling, steps, whole

Uniform = NDArray[np.float64]
Range = tuple[float, float]


def _between(u: Uniform, low_high: Range) -> Uniform:
    return low_high[0] + (low_high[1] - low_high[0]) * u


# ---------------------------------------------------------------- geometry: place() sets fields of the windows


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the picture, resized to the view: 10 tries, else the widest central crop [torchvision's law]."""

    scale: Range = (0.08, 1.0)  # share of the picture's area
    ratio: Range = (3 / 4, 4 / 3)  # width / height, log-uniform
    resampling: Resampling = "bilinear"
    tries: ClassVar[int] = 10
    address: ClassVar[int] = 0
    draws: ClassVar[int] = 2 * tries + 2

    def place(self, windows: NDArray[np.void], u: Uniform, size_px: int) -> None:
        """Take the first try that fits inside the picture."""
        high, wide = windows["height"].astype(np.int64), windows["width"].astype(np.int64)
        heights, widths = _crop_sides(u[:, : self.tries], u[:, self.tries : -2], high, wide, self.scale, self.ratio)
        fits = (heights > 0) & (widths > 0) & (heights <= high[:, None]) & (widths <= wide[:, None])
        found, first, rows = fits.any(axis=1), fits.argmax(axis=1), np.arange(len(u))
        h = np.where(found, heights[rows, first], np.minimum(high, np.rint(wide / self.ratio[0])))
        w = np.where(found, widths[rows, first], np.minimum(wide, np.rint(high * self.ratio[1])))
        top = np.where(found, np.floor(u[:, -2] * (high - h + 1)), (high - h) // 2)
        left = np.where(found, np.floor(u[:, -1] * (wide - w + 1)), (wide - w) // 2)
        _set_crop(windows, top, left, h, w, size_px)


@dataclass(frozen=True)
class SingleTryCrop:
    """A random part of the picture, sides cut to the picture, not drawn again [loaders of BYOL and DetCon]."""

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    resampling: Resampling = "bicubic"
    address: ClassVar[int] = 0
    draws: ClassVar[int] = 4

    def place(self, windows: NDArray[np.void], u: Uniform, size_px: int) -> None:
        """Draw area, aspect and offset once."""
        high, wide = windows["height"].astype(np.int64), windows["width"].astype(np.int64)
        h, w = (side[:, 0] for side in _crop_sides(u[:, :1], u[:, 1:2], high, wide, self.scale, self.ratio))
        h, w = np.clip(h, 1, high), np.clip(w, 1, wide)
        _set_crop(windows, np.floor(u[:, 2] * (high - h + 1)), np.floor(u[:, 3] * (wide - w + 1)), h, w, size_px)


def _crop_sides(
    u_area: Uniform, u_ratio: Uniform, high: NDArray, wide: NDArray, scale: Range, ratio: Range
) -> tuple[Uniform, Uniform]:
    """Heights and widths (B, tries) of crops of uniform area and log-uniform aspect."""
    area = (high * wide)[:, None] * _between(u_area, scale)
    aspect = np.exp(_between(u_ratio, (log(ratio[0]), log(ratio[1]))))
    return np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))


def _set_crop(
    windows: NDArray[np.void], top: NDArray, left: NDArray, height: NDArray, width: NDArray, size_px: int
) -> None:
    for field, value in (("top", top), ("left", left), ("height", height), ("width", width)):
        windows[field] = value
    windows["grid_height"] = windows["grid_width"] = size_px


@dataclass(frozen=True)
class Resize:
    """The shorter side becomes `times` the view's side, the aspect stays."""

    times: float = 1.0
    resampling: Resampling = "bilinear"
    address: ClassVar[int] = 1
    draws: ClassVar[int] = 0

    def place(self, windows: NDArray[np.void], u: Uniform, size_px: int) -> None:
        """Set the grid; the longer side is cut to whole pixels, as torchvision does."""
        short_px = round(self.times * size_px)
        high, wide = windows["height"].astype(np.int64), windows["width"].astype(np.int64)
        shorter = np.minimum(high, wide)
        windows["grid_height"], windows["grid_width"] = short_px * high // shorter, short_px * wide // shorter


@dataclass(frozen=True)
class CenterCrop:
    """The middle of what was resized; follows a Resize."""

    address: ClassVar[int] = 2
    draws: ClassVar[int] = 0

    def place(self, windows: NDArray[np.void], u: Uniform, size_px: int) -> None:
        """Set the corner of the view in the grid."""
        windows["grid_top"] = np.rint((windows["grid_height"] - size_px) / 2)
        windows["grid_left"] = np.rint((windows["grid_width"] - size_px) / 2)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right."""

    p: float = 0.5
    address: ClassVar[int] = 3
    draws: ClassVar[int] = 1

    def place(self, windows: NDArray[np.void], u: Uniform, size_px: int) -> None:
        """Toss the coin."""
        windows["flip"] = u[:, 0] < self.p


# ---------------------------------------------------------------- photometry: steps() gives (B, P) STEP


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue in an order drawn per image, with torchvision's arithmetic."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 1.0
    address: ClassVar[int] = 8
    draws: ClassVar[int] = 9
    ops: ClassVar[tuple[Op, ...]] = (Op.BRIGHTNESS, Op.CONTRAST, Op.SATURATION, Op.HUE)

    def steps(self, u: Uniform, size_px: int) -> NDArray[np.void]:
        """(B, 4): a coin, four strengths, and four numbers whose ranks are the order."""
        made = np.zeros((len(u), 4), STEP)
        made["op"] = np.where(u[:, :1] < self.p, self.ops, Op.SKIP)
        for k, (op, strength) in enumerate(zip(self.ops, self._strengths(), strict=True)):
            middle = 0.0 if op in (Op.HUE, Op.ADD_BRIGHTNESS) else 1.0
            low = middle - strength if middle == 0.0 else max(0.0, middle - strength)
            made["value"][:, k] = _between(u[:, 1 + k], (low, middle + strength))
            if strength == 0:
                made["op"][:, k] = Op.SKIP
        return np.take_along_axis(made, np.argsort(u[:, 5:], axis=1), axis=1)

    def _strengths(self) -> tuple[float, ...]:
        return (self.brightness, self.contrast, self.saturation, self.hue)


@dataclass(frozen=True)
class SimCLRJitter(ColorJitter):
    """The same, with TensorFlow's arithmetic: contrast about each channel's mean, saturation in HSV [SimCLR's code]."""

    ops: ClassVar[tuple[Op, ...]] = (Op.BRIGHTNESS, Op.CHANNEL_CONTRAST, Op.HSV_SATURATION, Op.HUE)


@dataclass(frozen=True)
class BYOLJitter(ColorJitter):
    """The same, with dm_pix's arithmetic: as SimCLR's, but brightness is added [BYOL's and DetCon's code]."""

    ops: ClassVar[tuple[Op, ...]] = (Op.ADD_BRIGHTNESS, Op.CHANNEL_CONTRAST, Op.HSV_SATURATION, Op.HUE)


@dataclass(frozen=True)
class Grayscale:
    """Luma in all three channels."""

    p: float
    address: ClassVar[int] = 9
    draws: ClassVar[int] = 1

    def steps(self, u: Uniform, size_px: int) -> NDArray[np.void]:
        """(B, 1)."""
        return steps(Op.GRAYSCALE, 0.0, u[:, 0] < self.p)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian cut at three sigma (0.3 % of its weight), borders mirrored.

    paper: PIL's blur, which approximates a Gaussian of any extent by repeated box means; here the Gaussian itself.
    """

    p: float
    sigma_px: Range = (0.1, 2.0)
    address: ClassVar[int] = 10
    draws: ClassVar[int] = 2

    def steps(self, u: Uniform, size_px: int) -> NDArray[np.void]:
        """(B, 1)."""
        sigma = _between(u[:, 1], self.sigma_px)
        return steps(Op.BLUR, sigma, u[:, 0] < self.p, np.ceil(3 * sigma).astype(np.int32))


@dataclass(frozen=True)
class TenthBlur(GaussianBlur):
    """A Gaussian in a window of a tenth of the view (23 px at 224), zeros beyond the border [SimCLR's, BYOL's code]."""

    def steps(self, u: Uniform, size_px: int) -> NDArray[np.void]:
        """(B, 1); the same coin and sigma as GaussianBlur."""
        return steps(Op.ZERO_BLUR, _between(u[:, 1], self.sigma_px), u[:, 0] < self.p, size_px // 20)


@dataclass(frozen=True)
class Solarise:
    """Invert what is at least as bright as the threshold."""

    p: float
    threshold: float = 0.5
    address: ClassVar[int] = 11
    draws: ClassVar[int] = 1

    def steps(self, u: Uniform, size_px: int) -> NDArray[np.void]:
        """(B, 1)."""
        return steps(Op.SOLARISE, self.threshold, u[:, 0] < self.p)


Geometric = RandomResizedCrop | SingleTryCrop | Resize | CenterCrop | Flip
Photometric = ColorJitter | Grayscale | GaussianBlur | Solarise
Pipeline = tuple[Geometric | Photometric, ...]


def draw(
    pipeline: Pipeline,
    sizes: NDArray[np.integer],
    size_px: int,
    seed: int,
    epoch: int,
    index: NDArray[np.integer],
    view: int,
) -> Draw:
    """The parameters of one view of the images `index` (B,) of sizes (B, 2) height, width.

    A flip commutes with everything else here, so only crops and resizes divide colours into before and after.
    """
    windows = whole(np.asarray(sizes))
    before: list[NDArray[np.void]] = []
    after: list[NDArray[np.void]] = []
    resized, resampling = False, "bilinear"
    for operation in pipeline:
        u = chance.uniform(seed, epoch, index, view, operation.address, operation.draws)
        if isinstance(operation, Geometric):
            operation.place(windows, u, size_px)
            resized = resized or not isinstance(operation, Flip)
            resampling = getattr(operation, "resampling", resampling)
        else:
            (after if resized else before).append(operation.steps(u, size_px))
    none = np.zeros((len(windows), 0), STEP)
    return Draw(windows, np.hstack([none, *before]), np.hstack([none, *after]), resampling)  # type: ignore[arg-type]
