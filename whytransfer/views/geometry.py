"""Crop, resize and flip of images, masks and boxes by the same windows, any device.

An image's window is two small matrices (view row <- picture row, view column <- picture column), so crop, antialiased
resize and flip are two matrix products; masks take the nearest pixel; boxes are mapped and cut.
`fused` is the fast CPU twin for images.
Shape letters: B batch, R regions, H height, W width, S side of the view.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.views.parameters import Resampling

SEEN = 0.25  # a box is in a view when at least so much of its area is

Segment = tuple[int, int, int, int]  # one side of a window: start, length, length of the grid, start of the view in it

_ROWS = ["top", "height", "grid_height", "grid_top"]
_COLUMNS = ["left", "width", "grid_width", "grid_left"]


def _segment(window: np.void, fields: list[str]) -> Segment:
    start, side, grid, grid_start = (int(window[field]) for field in fields)
    return start, side, grid, grid_start


def resample(images: Tensor, windows: NDArray[np.void], size_px: int, resampling: Resampling = "bilinear") -> Tensor:
    """images (B, 3, H, W) float in [0, 1] and windows (B,) -> (B, 3, S, S).

    "bilinear" is torchvision's with antialiasing; "bicubic" is TensorFlow's: Keys, a = -1/2, not antialiased, clamped.
    Pictures of other sizes than (H, W) may lie in the upper left corner: nothing outside their windows is read.
    """
    vertical = [weights(_segment(w, _ROWS), size_px, images.shape[2], resampling) for w in windows]
    horizontal = [weights(_segment(w, _COLUMNS), size_px, images.shape[3], resampling) for w in windows]
    horizontal = [m[::-1] if flip else m for m, flip in zip(horizontal, windows["flip"], strict=True)]
    rows, columns = (torch.from_numpy(np.stack(m).astype(np.float32)).to(images) for m in (vertical, horizontal))
    views = torch.einsum("bsh,bchw,btw->bcst", rows, images, columns)
    return views.clamp(0, 1) if resampling == "bicubic" else views


def weights(segment: Segment, size_px: int, picture_px: int, resampling: Resampling) -> NDArray[np.float64]:
    """(S, picture_px): how much each picture row (column) gives to each view row (column); rows sum to 1."""
    start, side, grid, grid_start = segment
    scale = np.float64(np.float32(side / grid))  # torch computes centres in single precision, so here too
    centre = ((np.arange(size_px) + grid_start + 0.5) * scale).astype(np.float32)  # (S,) in pixels of the region
    distance = np.abs(np.arange(side) + 0.5 - centre[:, None].astype(np.float64))
    if resampling == "bilinear":
        kernel = np.maximum(1 - distance / max(scale, 1.0), 0)
    else:
        near, far = (1.5 * distance - 2.5) * distance**2 + 1, ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        kernel = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    matrix = np.zeros((size_px, picture_px))
    matrix[:, start : start + side] = kernel / kernel.sum(axis=1, keepdims=True)
    return matrix


def nearest(regions: Tensor, window: np.void, size_px: int) -> Tensor:
    """A label map (H, W) or a stack (R, H, W) through one window -> (S, S) or (R, S, S), torchvision's "nearest"."""
    y, x = (_nearest_index(_segment(window, fields), size_px) for fields in (_ROWS, _COLUMNS))
    x = x[::-1].copy() if window["flip"] else x
    return regions[..., torch.from_numpy(y)[:, None].to(regions.device), torch.from_numpy(x).to(regions.device)]


def _nearest_index(segment: Segment, size_px: int) -> NDArray[np.int64]:
    """(S,) picture rows (columns); single precision because torch rounds so."""
    start, side, grid, grid_start = segment
    at = np.floor(np.arange(grid_start, grid_start + size_px, dtype=np.float32) * (np.float32(side) / np.float32(grid)))
    return start + np.minimum(at.astype(np.int64), side - 1)


def boxes_in_view(boxes: Tensor, window: np.void, size_px: int) -> Tensor:
    """Boxes with a fifth column (their class), (R, 5) in picture pixels -> those of them in the view, in their order.

    Cut at the view's edges; left out when less than a quarter of the area remains, and when there was none.
    """
    cut = follow_boxes(boxes[:, :4], window, size_px)
    scale = float(window["grid_width"] / window["width"]) * float(window["grid_height"] / window["height"])
    area, whole = _area(cut), _area(boxes) * scale
    seen = (area > 0) & (area >= SEEN * whole)
    return torch.cat([cut, boxes[:, 4:]], dim=1)[seen]


def _area(boxes_xyxy: Tensor) -> Tensor:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def follow_boxes(boxes_xyxy: Tensor, window: np.void, size_px: int) -> Tensor:
    """Boxes (R, 4) in picture pixels -> (R, 4) in view pixels, cut at the view; a box outside has no area."""
    scale_x, scale_y = float(window["grid_width"] / window["width"]), float(window["grid_height"] / window["height"])
    x = (boxes_xyxy[:, 0::2] - float(window["left"])) * scale_x - float(window["grid_left"])
    y = (boxes_xyxy[:, 1::2] - float(window["top"])) * scale_y - float(window["grid_top"])
    if window["flip"]:
        x = (size_px - x).flip(1)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1).clamp(0, size_px)
