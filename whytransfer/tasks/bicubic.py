"""Views by Pillow's bicubic resize, as ssl-transfer makes them [Ericsson 2021, code]: antialiased, rounded to bytes.

Where crops lie is decided as everywhere (a function of seed, epoch and image index); only the resampling is Pillow's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from whytransfer.memory import usable_cores
from whytransfer.views.operations import CenterCrop, Flip, Pipeline, RandomResizedCrop, Resize, draw

Pixels = Sequence[NDArray[np.uint8]]
TEST: Pipeline = (Resize(), CenterCrop())
TRAIN: Pipeline = (RandomResizedCrop(scale=(0.08, 1.0)), Flip())  # torchvision's defaults, Pillow's resampling


def centre_views(pixels: Pixels, size_px: int) -> Tensor:
    """Pictures (H, W, 3) uint8 -> (B, 3, S, S) in [0, 1]: shorter side to S, then the centre."""
    windows = draw(TEST, _sizes(pixels), size_px, 0, 0, np.arange(len(pixels)), 0).windows
    return _cut(pixels, windows, size_px)


def crop_views(pixels: Pixels, index: NDArray[np.int64], epochs: NDArray[np.int64], size_px: int, seed: int) -> Tensor:
    """A random crop of each picture, flipped or not; index and epochs (B,) address the draws."""
    windows = draw(TRAIN, _sizes(pixels), size_px, seed, int(epochs[0]), index, 0).windows
    for epoch in np.unique(epochs[epochs != epochs[0]]):
        later = draw(TRAIN, _sizes(pixels), size_px, seed, int(epoch), index, 0).windows
        windows[epochs == epoch] = later[epochs == epoch]
    return _cut(pixels, windows, size_px)


def _sizes(pixels: Pixels) -> NDArray[np.int64]:
    return np.array([p.shape[:2] for p in pixels], dtype=np.int64).reshape(-1, 2)


def _cut(pixels: Pixels, windows: Iterable[np.void], size_px: int) -> Tensor:
    with ThreadPoolExecutor(usable_cores()) as pool:
        views = list(pool.map(lambda pair: _view(pair[0], pair[1], size_px), zip(pixels, windows, strict=True)))
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255


def _view(picture: NDArray[np.uint8], window: np.void, size_px: int) -> NDArray[np.uint8]:
    top, left, height, width, grid_height, grid_width, grid_top, grid_left, flip = (int(v) for v in window.tolist())
    region = Image.fromarray(np.ascontiguousarray(picture[top : top + height, left : left + width]))
    resized = np.asarray(region.resize((grid_width, grid_height), Image.Resampling.BICUBIC))
    view = resized[grid_top : grid_top + size_px, grid_left : grid_left + size_px]
    return view[:, ::-1] if flip else view
