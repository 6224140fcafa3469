"""The 18 synthetic transforms on whole batches, N pictures times M values at a time, on the pictures' device.

"corrected" (the default): every picture is resized to 8/7 of the view once and its middle square taken; transforms act
there, and the view is the middle of the result. All lengths are in proportion to the view, as the numbers of the
published code are meant for a picture of 256 and a view of 224 (its branch "translate after resize" is never taken).
Deformations are seeded.
"paper": the published order, transform the picture at its own size, then resize and crop, with the quirks that move
numbers: lengths in pixels of the file; translation and scale with a shear of 1 degree; resized_crop from the top left
256 pixels; hue in whole steps of 1/255; colours rounded to 8 bits in between.
Not reproduced: the unseeded draws of deformations, and PIL's HSV of 8 bits (differences of a few levels).

Arithmetic is that of torchvision and PIL on 8-bit pictures. Letters: N, M, S side of the view, C of the square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from whytransfer.diagnosis import warps
from whytransfer.diagnosis.grids import Mode, Values
from whytransfer.diagnosis.warps import Window
from whytransfer.errors import unknown_name
from whytransfer.views.engine import eval_views

UNIT = 1 / 255  # of a level of 8 bits
VIEW_PX, CANVAS_PX = 224, 256  # of the published code, for which its lengths are given


def canvas_px(size_px: int) -> int:
    """Side C of the square that a view of side S is the middle of: 256 for 224."""
    return round(size_px * CANVAS_PX / VIEW_PX)


def pictures_of(pixels: Sequence[NDArray[np.uint8]], size_px: int, mode: Mode, device: torch.device | str) -> Tensor:
    """What the transforms act on, (N, 3, C, C) uint8; in mode "paper" the pictures as they are, all of one size."""
    if mode == "paper":
        return torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2)
    side = canvas_px(size_px)
    return eval_views(pixels, side, side).mul_(255).round_().to(torch.uint8).to(device)


def clean(images: Tensor, size_px: int, mode: Mode) -> Tensor:
    """The untouched views (N, 3, S, S) float32 in [0, 1] of `pictures_of`."""
    return _resized(images, size_px) if mode == "paper" else _middle(images, size_px).of(images).float().mul_(UNIT)


def transformed(name: str, images: Tensor, values: Values, size_px: int, mode: Mode, seed: int = 0) -> Tensor:
    """Views (N, M, 3, S, S) float32 in [0, 1] of `pictures_of` after one transform at M values (M, columns)."""
    if name not in OPERATIONS:
        raise unknown_name("transform", name, OPERATIONS)
    window = _middle(images, size_px) if mode == "corrected" else Window(0, 0, *images.shape[2:])
    made = OPERATIONS[name](images, values, _How(size_px, mode, seed, window))
    if mode == "corrected":
        return made.float().mul_(UNIT) if made.dtype == torch.uint8 else made
    if name == "resized_crop":
        return made.round_().mul_(UNIT)
    return _resized(made.to(torch.uint8).flatten(0, 1), size_px).unflatten(0, made.shape[:2])


class _How:
    """How a transform is applied: the view's side, the mode, the seed of deformations, the window that is wanted."""

    def __init__(self, size_px: int, mode: Mode, seed: int, window: Window) -> None:
        self.size_px, self.seed, self.window, self.paper = size_px, seed, window, mode == "paper"
        self.scale = 1.0 if self.paper else size_px / VIEW_PX
        self.unit = 1.0 if self.paper else UNIT  # of what is no uint8: a picture still to be resized has 8 bits


def _middle(images: Tensor, size_px: int) -> Window:
    edge = (images.shape[-1] - size_px) // 2
    return Window(edge, edge, size_px, size_px)


def _resized(images: Tensor, size_px: int) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, S, S): shorter side to C, then the middle."""
    small = tv.resize(images.contiguous(memory_format=torch.channels_last), [canvas_px(size_px)], antialias=True)
    return tv.center_crop(small, [size_px, size_px]).float().mul_(UNIT)


# ---------------------------------------------------------------- spatial


def _rotation(images: Tensor, values: Values, how: _How) -> Tensor:
    return warps.moved(images, warps.rotations(values[:, 0]), np.zeros((len(values), 2)), how.window, how.unit)


def _stray(count: int, how: _How) -> NDArray[np.float64]:
    """The published code shears by 1 degree where it means not to."""
    return warps.shears(np.full(count, float(how.paper)), np.zeros(count))


def _translation(images: Tensor, values: Values, how: _How) -> Tensor:
    return warps.moved(images, _stray(len(values), how), values * how.scale, how.window, how.unit)


def _scale(images: Tensor, values: Values, how: _How) -> Tensor:
    inverse = _stray(len(values), how) / values[:, :, None]
    return warps.moved(images, inverse, np.zeros((len(values), 2)), how.window, how.unit)


def _shear(images: Tensor, values: Values, how: _How) -> Tensor:
    inverse = warps.shears(values[:, 0], values[:, 1])
    return warps.moved(images, inverse, np.zeros((len(values), 2)), how.window, how.unit)


def _resized_crop(images: Tensor, values: Values, how: _How) -> Tensor:
    return warps.cropped(images, values * how.scale, how.size_px, how.unit)


def _deform(images: Tensor, values: Values, how: _How) -> Tensor:
    return warps.deformed(images, values, how.scale, how.seed, how.window, how.unit)


# ---------------------------------------------------------------- appearance


def _column(values: Values, images: Tensor) -> Tensor:
    """(1, M, 1, 1, 1) float32."""
    return torch.from_numpy(values[:, 0].astype(np.float32)).to(images.device)[None, :, None, None, None]


def _blended(base: Tensor, images: Tensor, values: Values, how: _How) -> Tensor:
    """base + factor (image - base), cut to what 8 bits hold; base (N, 3 or 1, H, W) or (N, 1, 1, 1)."""
    base = base if base.shape[-1] == 1 else how.window.of(base)
    seen, base = how.window.of(images).float()[:, None] * how.unit, base[:, None] * how.unit
    return torch.lerp(base.expand_as(seen), seen, _column(values, images)).clamp_(0, 255 * how.unit)


def _luma(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W) in whole levels, ITU-R 601, as PIL rounds it."""
    r, g, b = images.float().unbind(1)
    return (19595 * r + 38470 * g + 7471 * b + 32768).div_(65536).floor_()[:, None]  # exact: below 2^24


def _brightness(images: Tensor, values: Values, how: _How) -> Tensor:
    return _blended(images.new_zeros((len(images), 1, 1, 1), dtype=torch.float32), images, values, how)


def _contrast(images: Tensor, values: Values, how: _How) -> Tensor:
    return _blended((_luma(images).mean((2, 3), keepdim=True) + 0.5).floor_(), images, values, how)


def _saturation(images: Tensor, values: Values, how: _How) -> Tensor:
    return _blended(_luma(images), images, values, how)


def _sharpness(images: Tensor, values: Values, how: _How) -> Tensor:
    """Away from the mean over 3 x 3 pixels with 5/13 in the middle; the border has no such mean and stays."""
    x = images.float()
    kernel = torch.ones(3, 1, 3, 3, device=x.device)
    kernel[:, :, 1, 1] = 5
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = (F.conv2d(x, kernel / 13, groups=3) + 0.5).floor_()
    return _blended(smooth, images, values, how)


def _hue(images: Tensor, values: Values, how: _How) -> Tensor:
    """Turn the HSV circle: channel = V - C clamp(2 - |t - 2|, 0, 1), t = sixths of the circle from the channel."""
    turns = np.trunc(values * 255) / 255 if how.paper else values
    x = how.window.of(images).float() * how.unit
    top, place = x.max(1, keepdim=True)
    chroma = top - x.amin(1, keepdim=True)
    left, right = x.roll(-1, 1).gather(1, place), x.roll(-2, 1).gather(1, place)  # the next channel, and the one after
    sixths = 2 * place + (left - right) / chroma.where(chroma > 0, 1)
    channels = torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]
    t = (sixths + channels)[:, None] + 6 * _column(turns, images)  # (N, M, 3, h, w)
    t = t.remainder_(6).sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(top[:, None], t, chroma[:, None], value=-1)


def _blur(images: Tensor, values: Values, how: _How) -> Tensor:
    """A Gaussian in a window of a tenth of the view (23 pixels at 224), borders mirrored."""
    reach = how.size_px // 20
    kernels = warps.gaussians(torch.from_numpy(values[:, 0] * how.scale), 2 * reach + 1).to(images.device)
    if how.paper:  # pictures of any size, for which a matrix over all their rows may be too large
        x = images.float().flatten(0, 1)[:, None].expand(-1, len(values), -1, -1)
        return warps.smoothed(x, kernels).unflatten(0, (-1, 3)).transpose(1, 2)
    return torch.stack([warps.blurred(image.float() * how.unit, kernels, how.window) for image in images])


def _posterize(images: Tensor, values: Values, how: _How) -> Tensor:
    masks = torch.from_numpy((256 - 2 ** (8 - values[:, 0])).astype(np.uint8)).to(images.device)
    return how.window.of(images)[:, None] & masks[None, :, None, None, None]


def _switched(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Values, _How], Tensor]:
    """Off is the picture, on what `change` makes of it (N, 3, H, W) uint8."""

    def apply(images: Tensor, values: Values, how: _How) -> Tensor:
        both = [how.window.of(images), how.window.of(change(images))]
        return torch.stack([both[int(on)] for on in values[:, 0]], dim=1)

    return apply


OPERATIONS: dict[str, Callable[[Tensor, Values, _How], Tensor]] = {
    "rotation": _rotation,
    "translation": _translation,
    "scale": _scale,
    "shear": _shear,
    "resized_crop": _resized_crop,
    "h_flip": _switched(lambda x: x.flip(3)),
    "v_flip": _switched(lambda x: x.flip(2)),
    "deform": _deform,
    "grayscale": _switched(lambda x: _luma(x).to(torch.uint8).expand_as(x)),
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
    "blur": _blur,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "invert": _switched(lambda x: 255 - x),
    "equalize": _switched(tv.equalize),
}
