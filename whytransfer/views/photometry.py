"""Colours of a whole batch, any device, every image with its own parameters in its own order.

Arithmetic of torchvision v2 on float images, and of TensorFlow and dm_pix where papers used those.
`fused` is the fast CPU twin.
Shape letters: B batch, P steps, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.views.parameters import Op


def apply_steps(images: Tensor, steps: NDArray[np.void]) -> Tensor:
    """images (B, 3, H, W) in [0, 1] after their steps (B, P) STEP; a new tensor."""
    images = images.clone()
    for op, rows, value, radius_px, reach_px in _groups(steps, images.device):
        images[rows] = _apply(op, images[rows], value, radius_px, reach_px).clamp(0, 1)
    return images


def _groups(steps: NDArray[np.void], device: torch.device) -> Iterator[tuple[Op, Tensor, Tensor, Tensor, int]]:
    """Steps (B, P) in groups of one kind and place in the order: kind, rows (n,), value and radius (n, 1, 1, 1), reach.

    All numbers go to the device in one copy that nobody waits for. Single precision holds rows up to 2^24.
    """
    kinds, parts = [], [np.zeros((3, 0), np.float32)]
    for column in steps.T:
        for op in np.unique(column["op"][column["op"] != Op.SKIP]):
            rows = np.flatnonzero(column["op"] == op)
            chosen = column[rows]
            kinds.append((Op(op), len(rows), int(chosen["radius_px"].max())))
            parts.append(np.stack([rows, chosen["value"], chosen["radius_px"]]).astype(np.float32))
    numbers = to_device(torch.from_numpy(np.concatenate(parts, axis=1)), device)
    for (kind, _, reach_px), group in zip(kinds, numbers.split([n for _, n, _ in kinds], dim=1), strict=True):
        rows, value, radius_px = group
        yield kind, rows.long(), value[:, None, None, None], radius_px[:, None, None, None], reach_px


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy from pinned memory, for which a GPU's host does not wait; `tensor` itself where it is there already."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _apply(op: Op, x: Tensor, value: Tensor, radius_px: Tensor, reach_px: int) -> Tensor:
    """One kind of step on images (B, 3, H, W) with values and radii (B, 1, 1, 1), not yet clamped."""
    if op is Op.BRIGHTNESS:
        return value * x
    if op is Op.ADD_BRIGHTNESS:
        return x + value
    if op is Op.CONTRAST:
        return value * x + (1 - value) * luma(x).mean(dim=(2, 3), keepdim=True)
    if op is Op.CHANNEL_CONTRAST:
        return value * x + (1 - value) * x.mean(dim=(2, 3), keepdim=True)
    if op is Op.SATURATION:
        return value * x + (1 - value) * luma(x)
    if op is Op.GRAYSCALE:
        return luma(x).expand_as(x)
    if op is Op.HSV_SATURATION:
        return hsv_saturation(x, value)
    if op is Op.HUE:
        return shift_hue(x, value)
    if op is Op.SOLARISE:
        return torch.where(x >= value, 1 - x, x)
    return blur(x, value[:, 0, 0], radius_px[:, 0, 0], reach_px, mirrored=op is Op.BLUR)


def luma(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), ITU-R 601."""
    return 0.2989 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]


def hsv_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """S -> min(f S, 1) at fixed H and V: distances to the largest channel grow by f, until the smallest is 0."""
    top = x.amax(dim=1, keepdim=True)
    chroma = top - x.amin(dim=1, keepdim=True)
    return top - (top - x) * torch.minimum(factor * chroma, top) / chroma.where(chroma > 0, 1)


def shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the HSV circle, to within 5e-7: an absolute error, so small values may be off by 1e-5 of themselves.

    The hue h is kept in [-3, 3] sixths of a turn from red, because small numbers round little. Back to RGB without
    cases: V - C clamp(drop, 0, 1), where red drops by |h| - 1, green by 2 - |h + 1|, blue by 2 - |h - 1|.
    """
    red, green, blue = x.unbind(dim=1)
    top = x.amax(dim=1)
    chroma = top - x.amin(dim=1)
    divisor = chroma.where(chroma > 0, 1)
    h = torch.where(top == green, (blue - red) / divisor + 2, (red - green) / divisor - 2)
    h = torch.where(top == red, (green - blue) / divisor, h) + 6 * (turns - turns.round())[:, 0]
    h = h - 6 * (h / 6).round()
    drop = torch.stack([h.abs() - 1, 2 - (h + 1).abs(), 2 - (h - 1).abs()], dim=1)  # (B, 3, H, W)
    return top[:, None] - chroma[:, None] * drop.clamp(0, 1)


def blur(x: Tensor, sigma_px: Tensor, radius_px: Tensor, reach: int, mirrored: bool) -> Tensor:
    """Separable Gaussians of 2 radius + 1 taps, one per image; beyond the border the image is mirrored, or zero.

    sigma_px, radius_px (B, 1); `reach` is the largest radius.
    """
    taps = torch.arange(-reach, reach + 1, device=x.device)
    weights = torch.exp(-0.5 * (taps / sigma_px.clamp(min=1e-6)) ** 2)  # (B, T)
    weights = weights * (taps.abs() <= radius_px)
    weights = weights / weights.sum(dim=1, keepdim=True)
    for dim in (2, 3):
        n = x.shape[dim]
        at = torch.arange(-reach, n + reach, device=x.device)
        padded = x.index_select(dim, _mirror(at, n))
        if not mirrored:
            shape = [-1 if d == dim else 1 for d in range(4)]
            padded = padded * ((at >= 0) & (at < n)).view(shape)
        x = sum(weights[:, t, None, None, None] * padded.narrow(dim, t, n) for t in range(2 * reach + 1))  # type: ignore[assignment]
    return x


def _mirror(at: Tensor, n: int) -> Tensor:
    """Indices 0 ... n-1 that stand for any integers: ... 2 1 0 1 2 ..., again and again if need be."""
    period = max(2 * n - 2, 1)
    at = at.abs() % period
    return torch.minimum(at, period - at) if n > 1 else torch.zeros_like(at)
