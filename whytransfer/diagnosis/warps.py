"""Where the pixels of a moved picture come from: affine maps, crops and deformations of whole batches, any device.

Coordinates are x to the right and y down; pixel i covers [i, i + 1], so its centre is i + 0.5.
Letters: N pictures, M values of the parameter, H and W of the picture, h and w of the window that is wanted of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_REACH = 8  # the published deformation smooths its noise in a window of 17 pixels
_JITTER_PX, _ELASTIC_PX = 50.0, 1.0


@dataclass(frozen=True)
class Window:
    """The part of a transformed picture that is wanted: h x w pixels from (top, left)."""

    top: int
    left: int
    height: int
    width: int

    def of(self, images: Tensor) -> Tensor:
        """(..., H, W) -> (..., h, w)."""
        return images[..., self.top : self.top + self.height, self.left : self.left + self.width]


def moved(
    images: Tensor, inverse: NDArray[np.float64], shift_px: NDArray[np.float64], window: Window, unit: float = 1.0
) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, M, 3, h, w) float32, levels times `unit`: nearest pixels, black outside the picture.

    `inverse` (M, 2, 2) maps offsets from the picture's centre back, after `shift_px` (M, 2) was undone:
    source = inverse (p - c - shift) + c, as torchvision's affine has it.
    """
    height, width = images.shape[2:]
    m, t = (torch.from_numpy(np.asarray(a, np.float32)).to(images.device) for a in (inverse, shift_px))
    across = torch.arange(window.width, device=images.device) + window.left + 0.5 - width / 2 - t[:, :1]  # (M, w)
    down = torch.arange(window.height, device=images.device) + window.top + 0.5 - height / 2 - t[:, 1:]  # (M, h)
    x = (m[:, 0, :1] * across)[:, None, :] + (m[:, 0, 1:] * down + width / 2)[:, :, None]  # (M, h, w)
    y = (m[:, 1, :1] * across)[:, None, :] + (m[:, 1, 1:] * down + height / 2)[:, :, None]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.int().mul_(width).add_(x.int())  # of what lies inside, cutting is the floor
    return _gathered(images, torch.where(inside, index, height * width), unit)


def _gathered(images: Tensor, index: Tensor, unit: float) -> Tensor:
    """Levels times `unit`, (N, M, 3, h, w), of the pixels at positions (M, h, w) of flattened pictures.

    The position after the last is black.
    """
    table = F.pad(images.flatten(2).float().mul_(unit), (0, 1))  # (N, 3, H W + 1)
    index, (m, height, width) = index.flatten(), index.shape
    made = torch.empty(len(images), 3, len(index), device=images.device)
    for source, target in zip(table.flatten(0, 1), made.flatten(0, 1), strict=True):
        torch.index_select(source, 0, index, out=target)
    return made.view(len(images), 3, m, height, width).transpose(1, 2)


def rotations(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse maps (M, 2, 2) of counter-clockwise rotations (M,)."""
    a = np.deg2rad(degrees)
    return np.stack([np.stack([np.cos(a), -np.sin(a)], -1), np.stack([np.sin(a), np.cos(a)], -1)], -2)


def shears(x_degrees: NDArray[np.float64], y_degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse maps (M, 2, 2) of shears: y first, then x, as torchvision's affine has it."""
    x, y = np.tan(np.deg2rad(x_degrees)), np.tan(np.deg2rad(y_degrees))
    return np.stack([np.stack([1 + x * y, x], -1), np.stack([y, np.ones_like(y)], -1)], -2)


def cropped(images: Tensor, boxes_px: NDArray[np.float64], size_px: int, unit: float = 1.0) -> Tensor:
    """(N, 3, H, W) -> (N, M, 3, S, S) float32, levels times `unit`: boxes (M, 4) resized: top, left, height, width.

    Corners are rounded as PIL's crop does, pixels outside the picture are black, shrinking is antialiased.
    """
    views = []
    for top, left, height, width in boxes_px.tolist():
        edges = [round(edge) for edge in (left, left + width, top, top + height)]
        part = _cut(images, *edges).float().mul_(unit)
        shrinks = max(part.shape[2:]) > size_px  # enlarging, both ways are one, and the plain one is faster
        views.append(F.interpolate(part, (size_px, size_px), mode="bilinear", antialias=shrinks, align_corners=False))
    return torch.stack(views, dim=1).clamp_(0, 255 * unit)


def _cut(images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    height, width = images.shape[2:]
    over = [max(0, right - width), max(0, bottom - height)]
    padded = F.pad(images, (0, over[0], 0, over[1])) if any(over) else images
    return padded[..., top:bottom, left:right]


def blurred(x: Tensor, kernels: Tensor, window: Window) -> Tensor:
    """(C, H, W) float32 -> (M, C, h, w), each of M by its own symmetric row of weights (M, taps); borders mirrored.

    Across, pixels at equal distances are added once for all M and one matrix product weighs them; down, each has a
    matrix of its own.
    """
    reach, height = kernels.shape[1] // 2, x.shape[1]
    wide = F.pad(x[None], (reach, reach, 0, 0), mode="reflect")[0]
    shifted = [wide[..., window.left + k : window.left + k + window.width] for k in range(2 * reach + 1)]
    pairs = [shifted[reach], *(shifted[reach - d] + shifted[reach + d] for d in range(1, reach + 1))]
    across = kernels[:, reach:] @ torch.stack(pairs).flatten(1)
    rows = torch.arange(window.height, device=x.device)[:, None] + window.top
    taken = rows + torch.arange(-reach, reach + 1, device=x.device)  # (h, taps)
    taken = taken.abs()
    taken = torch.where(taken >= height, 2 * (height - 1) - taken, taken)
    weights = torch.zeros(len(kernels), window.height, height, device=x.device)
    weights.scatter_add_(2, taken.expand(len(kernels), -1, -1), kernels[:, None].expand(-1, window.height, -1))
    return weights[:, None] @ across.view(len(kernels), len(x), height, window.width)


def smoothed(x: Tensor, kernels: Tensor) -> Tensor:
    """(B, M, H, W) float32, each of M by its own odd row of weights (M, taps) in both directions; borders mirrored."""
    m, taps = kernels.shape
    x = F.pad(x, [taps // 2] * 4, mode="reflect")
    x = F.conv2d(x, kernels[:, None, None, :], groups=m)
    return F.conv2d(x, kernels[:, None, :, None], groups=m)


def gaussians(sigmas_px: Tensor, taps: int) -> Tensor:
    """(M,) -> (M, taps) weights that add up to 1, an odd number of them."""
    at = torch.arange(taps, dtype=torch.float64) - taps // 2
    weights = torch.exp(-0.5 * (at / sigmas_px.double()[:, None]) ** 2)
    return (weights / weights.sum(1, keepdim=True)).float()


def deformed(
    images: Tensor, values: NDArray[np.float64], scale: float, seed: int, window: Window, unit: float = 1.0
) -> Tensor:
    """(N, 3, H, W) -> (N, M, 3, h, w) float32, levels times `unit`: a random affine map and smooth noise.

    Borders are mirrored. The law of albumentations' ElasticTransform with alpha 1, alpha_affine 50 and the
    approximation of the noise by a window of 17 pixels; lengths times `scale`. `values` (M, 2) are the noise's
    smoothness and the number of the warp: a warp is a function of (seed, number), so every picture and every backbone
    meets the same ones.
    paper: warps of an unseeded generator, of every picture its own, in two interpolations; here in one.
    """
    height, width = images.shape[2:]
    number = [np.random.default_rng([seed, int(n)]) for n in values[:, 1]]
    affine = np.stack([_jittered(rng, height, width, scale) for rng in number])  # (M, 2, 3)
    noise = np.stack([rng.random((2, height, width), dtype=np.float32) for rng in number], axis=1) * 2 - 1
    kernels = gaussians(torch.from_numpy(values[:, 0] * scale), 2 * _REACH + 1)
    kernels, elastic = kernels.to(images.device), torch.from_numpy(noise).to(images.device)
    elastic = window.of(smoothed(elastic, kernels)) * (_ELASTIC_PX * scale)  # (2, M, h, w)
    x = torch.arange(window.width, device=images.device) + window.left + elastic[0]
    y = (torch.arange(window.height, device=images.device) + window.top)[:, None] + elastic[1]
    a = torch.from_numpy(affine.astype(np.float32)).to(images.device)[..., None, None]  # (M, 2, 3, 1, 1)
    source_x = a[:, 0, 0] * x + a[:, 0, 1] * y + a[:, 0, 2]
    source_y = a[:, 1, 0] * x + a[:, 1, 1] * y + a[:, 1, 2]
    at = torch.stack([source_x * (2 / (width - 1)) - 1, source_y * (2 / (height - 1)) - 1], dim=-1)  # (M, h, w, 2)
    sources = ((image.float() * unit).expand(len(values), -1, -1, -1) for image in images)
    return torch.stack([F.grid_sample(x, at, padding_mode="reflection", align_corners=True) for x in sources])


def _jittered(rng: np.random.Generator, height: int, width: int, scale: float) -> NDArray[np.float64]:
    """The map (2, 3) from pixels of the warped picture to the picture, three points of which move up to 50 pixels."""
    middle, arm = np.array([height // 2, width // 2], dtype=np.float64), min(height, width) // 3
    points = np.array([middle + arm, [middle[0] + arm, middle[1] - arm], middle - arm])
    there = points + rng.uniform(-_JITTER_PX * scale, _JITTER_PX * scale, points.shape)
    return np.linalg.solve(np.hstack([there, np.ones((3, 1))]), points).T
