"""What a dense task sees: crops of an image with its label map or depth map, and whole images at test.

Every draw is a function of (seed, epoch, image). An image is resized as torchvision does it (antialiased bilinear), a
map by its nearest values; only the window is computed.
Shape letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer import chance
from whytransfer.records import Sample
from whytransfer.views.geometry import weights
from whytransfer.views.parameters import Op, steps
from whytransfer.views.photometry import apply_steps

SCALE, PLACE, FLIP, COLOURS, PLACES = 0, 1, 2, 3, 4  # operations of chance
TRIES = 10  # places tried for a crop in which no class has more than its share
TEST_PIXELS = 1 << 20  # of the whole images that go through the network at once

Size = tuple[int, int]  # height, width
M = TypeVar("M", np.uint8, np.float32)


class Window(NamedTuple):
    """What a crop shows: the image is resized to `grid`, and `size` of it is taken from (top, left), then flipped."""

    grid: Size
    top: int
    left: int
    size: Size
    flip: bool = False


def draws(seed: int, epochs: NDArray[np.integer], index: NDArray[np.integer], operation: int, n: int) -> NDArray[Any]:
    """(B, n) numbers in [0, 1) for B images, each in an epoch of its own."""
    out = np.empty((len(index), n))
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        out[rows] = chance.uniform(seed, int(epoch), index[rows], 0, operation, n)
    return out


def random_window(size: Size, crop: Size, scales: tuple[float, float], seed: int, epoch: int, index: int) -> Window:
    """A crop from the image at a random scale, uniform in `scales`; the place uniform, flipped half the time."""
    one = np.array([index])
    scale = scales[0] + (scales[1] - scales[0]) * chance.uniform(seed, epoch, one, 0, SCALE, 1)[0, 0]
    grid = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    place = chance.uniform(seed, epoch, one, 0, PLACE, 2)[0]
    flip = bool(chance.uniform(seed, epoch, one, 0, FLIP, 1)[0, 0] < 0.5)
    return _placed(Window(grid, 0, 0, crop, flip), place)


def balanced_window(
    labels: NDArray[np.uint8], window: Window, most: float, void: int, seed: int, epoch: int, index: int
) -> Window:
    """The window, or one at another place of the same grid: the first of ten where no class has `most` of the crop.

    Pixels of no class do not count; a crop needs two classes. Where no place will do the last one is kept, as in
    mmsegmentation (cat_max_ratio).
    """
    others = chance.uniform(seed, epoch, np.array([index]), 0, PLACES, 2 * TRIES).reshape(TRIES, 2)
    for place in others:
        counts = np.bincount(map_through(labels, window, np.uint8(void)).ravel(), minlength=256)
        counts = np.delete(counts, void)
        if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < most:
            break
        window = _placed(window, place)
    return window


def _placed(window: Window, place: NDArray[np.float64]) -> Window:
    (height, width), (h, w) = window.grid, window.size
    top, left = (int(u * (max(room, 0) + 1)) for u, room in zip(place, (height - h, width - w), strict=True))
    return window._replace(top=top, left=left)


def centre_window(size: Size, crop: Size, cover: Size, flip: bool = False) -> Window:
    """The middle of the image, resized so that it just covers `cover` (of which the crop is a part)."""
    grid = covering(size, cover)
    return Window(grid, max(0, (grid[0] - crop[0]) // 2), max(0, (grid[1] - crop[1]) // 2), crop, flip)


def covering(size: Size, cover: Size) -> Size:
    """The smallest size of the image's shape that covers `cover`."""
    scale = max(cover[0] / size[0], cover[1] / size[1])
    return max(cover[0], round(size[0] * scale)), max(cover[1], round(size[1] * scale))


def whole(size: Size) -> Window:
    """The whole image, resized."""
    return Window(size, 0, 0, size)


def image_through(image: Tensor, window: Window, fill: Sequence[float]) -> Tensor:
    """(3, H, W) uint8 through a window -> (3, h, w) float32 in [0, 1], `fill` (3,) where it leaves the image."""
    h, w = _inside(window)
    part = image
    for axis, (side, start, length) in enumerate(((window.grid[0], window.top, h), (window.grid[1], window.left, w))):
        part = _along(part, axis + 1, side, start, length)
    part = part if part.is_floating_point() else part.float()
    out = torch.tensor(fill, dtype=torch.float32)[:, None, None].repeat(1, *window.size)
    out[:, :h, :w] = part / 255
    return out.flip(2) if window.flip else out


def _along(image: Tensor, dim: int, side: int, start: int, length: int) -> Tensor:
    """Pixels [start, start + length) of the image resized to `side` along one axis."""
    old = image.shape[dim]
    if side == old:
        return image.narrow(dim, start, length)
    matrix = weights((0, old, side, start), length, old, "bilinear")
    used = np.flatnonzero(matrix.any(axis=0))
    first, last = int(used[0]), int(used[-1]) + 1
    part = image.narrow(dim, first, last - first).float()
    rows = torch.from_numpy(matrix[:, first:last].astype(np.float32))
    return torch.einsum("sh,chw->csw", rows, part) if dim == 1 else torch.einsum("tw,chw->cht", rows, part)


def map_through(values: NDArray[M], window: Window, fill: M) -> NDArray[M]:
    """A map (H, W) through a window -> (h, w) by nearest values, `fill` where the window leaves the image."""
    h, w = _inside(window)
    rows = _nearest(values.shape[0], window.grid[0], window.top, h)
    columns = _nearest(values.shape[1], window.grid[1], window.left, w)
    out = np.full(window.size, fill, dtype=values.dtype)
    out[:h, :w] = values[rows[:, None], columns]
    return out[:, ::-1].copy() if window.flip else out


def _nearest(old: int, side: int, start: int, length: int) -> NDArray[np.int64]:
    """torchvision's "nearest", in single precision because torch rounds so."""
    at = np.floor(np.arange(start, start + length, dtype=np.float32) * (np.float32(old) / np.float32(side)))
    return np.minimum(at.astype(np.int64), old - 1)


def _inside(window: Window) -> Size:
    (height, width), (h, w) = window.grid, window.size
    return min(h, height - window.top), min(w, width - window.left)


def street_colours(images: Tensor, seed: int, epochs: NDArray[np.integer], index: NDArray[np.integer]) -> Tensor:
    """The photometric distortion of SSD [Liu 2016], as mmsegmentation has it, on images (B, 3, h, w) in [0, 1].

    Each with probability 1/2: brightness +- 32/255; contrast x 0.5 ... 1.5 (about black); saturation x 0.5 ... 1.5
    and hue +- 18/180 of the circle in HSV. Contrast comes before these two or after them.
    """
    u = draws(seed, epochs, index, COLOURS, 9)
    on, contrast_first = u[:, :4] < 0.5, u[:, 8] < 0.5
    contrast = 0.5 + u[:, 5]
    plan = [
        steps(Op.ADD_BRIGHTNESS, (2 * u[:, 4] - 1) * 32 / 255, on[:, 0]),
        steps(Op.BRIGHTNESS, contrast, on[:, 1] & contrast_first),
        steps(Op.HSV_SATURATION, 0.5 + u[:, 6], on[:, 2]),
        steps(Op.HUE, (2 * u[:, 7] - 1) * 0.1, on[:, 3]),
        steps(Op.BRIGHTNESS, contrast, on[:, 1] & ~contrast_first),
    ]
    return apply_steps(images, np.concatenate(plan, axis=1))


def room_colours(images: Tensor, seed: int, epochs: NDArray[np.integer], index: NDArray[np.integer]) -> Tensor:
    """Colours of the depth task [BYOL D.6]: grayscale with p 0.3, brightness +- 0.1255, saturation, hue +- 0.2 turns.

    TensorFlow's arithmetic: brightness is added, saturation x 0.5 ... 1.5 and hue act in HSV.
    """
    u = draws(seed, epochs, index, COLOURS, 4)
    always = np.ones(len(index), dtype=bool)
    plan = [
        steps(Op.GRAYSCALE, 0.0, u[:, 0] < 0.3),
        steps(Op.ADD_BRIGHTNESS, (2 * u[:, 1] - 1) * 0.1255, always),
        steps(Op.HSV_SATURATION, 0.5 + u[:, 2], always),
        steps(Op.HUE, (2 * u[:, 3] - 1) * 0.2, always),
    ]
    return apply_steps(images, np.concatenate(plan, axis=1))


def whole_images(images: Any, batch: int, pixels: int = TEST_PIXELS) -> Iterator[list[Sample]]:
    """All samples in order, in groups of one size: at most `batch`, and at most `pixels` but for a single image."""
    group: list[Sample] = []
    for i in range(len(images)):
        sample = images[i]
        height, width = sample.image.shape[1:]
        full = len(group) == batch or (len(group) + 1) * height * width > pixels
        if group and (full or group[0].image.shape != sample.image.shape):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group
