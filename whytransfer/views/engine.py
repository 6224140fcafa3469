"""Pixels in, views out: draws the parameters and runs them, one image per call, on all cores.

CPU: everything in the compiled kernels of `fused`. Another device: the kernels cut and resize the bytes, the device
changes the colours of the whole batch; colours that come before the resize stay on the CPU, where each picture keeps
its own size. On a GPU this happens in a stream of its own, so that views of the next batch, made in a thread, wait for
no step of this one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.memory import usable_cores
from whytransfer.records import Views
from whytransfer.views import fused, geometry, photometry
from whytransfer.views.operations import CenterCrop, Resize, draw
from whytransfer.views.parameters import STEP, Draw
from whytransfer.views.recipes import Recipe

Pixels = Sequence[NDArray[np.uint8]]


class Viewer:
    """Views of a recipe, a pure function of (seed, epoch, image index, view): not of batch, order or threads."""

    def __init__(
        self, recipe: Recipe, size_px: int, seed: int, threads: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """`size_px` is the side of the views; `threads` None takes every core that this process may use."""
        if size_px < 1:
            raise InputError(f"views of {size_px} px: the side must be at least 1 pixel")
        self.recipe, self.size_px, self.seed = recipe, size_px, seed
        self.device = torch.device(device)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.threads = usable_cores() if threads is None else threads

    def parameters(self, pixels: Pixels, index: NDArray[np.integer], epoch: int, view: int) -> Draw:
        """What is drawn for view number `view` of these images: replays it without making it."""
        sizes = np.array([p.shape[:2] for p in pixels], dtype=np.int64).reshape(-1, 2)
        return draw(self.recipe.views[view], sizes, self.size_px, self.seed, epoch, np.asarray(index), view)

    def __call__(
        self,
        pixels: Pixels,
        index: NDArray[np.integer],
        labels: NDArray[np.integer] | Sequence[int],
        epoch: int,
        regions: Sequence[Tensor] | None = None,
        boxes: Sequence[Tensor] | None = None,
    ) -> Views:
        """B pictures (H, W, 3) uint8 of any sizes -> Views, finished when this returns.

        `regions`, one label map (H, W) or one stack of masks (R, H, W) per picture, and `boxes`, one (R, 5) float32
        xyxy in pixels and class per picture, follow the same windows; boxes are left out as `boxes_in_view` says.
        """
        pixels = checked(pixels)
        if regions is not None:
            _check_regions(pixels, regions)
        if boxes is not None:
            _check_boxes(pixels, boxes)
        if self._stream is None:
            return self._made(pixels, index, labels, epoch, regions, boxes)
        with torch.cuda.stream(self._stream):
            views = self._made(pixels, index, labels, epoch, regions, boxes)
        self._stream.synchronize()  # the views are finished when they are handed over: any stream may read them
        for tensor in (*views.images, *views.regions, *views.boxes, views.index, views.labels):
            tensor.record_stream(torch.cuda.default_stream(self.device))  # and their memory waits for its readers
        return views

    def _made(
        self,
        pixels: Pixels,
        index: NDArray[np.integer],
        labels: NDArray[np.integer] | Sequence[int],
        epoch: int,
        regions: Sequence[Tensor] | None,
        boxes: Sequence[Tensor] | None,
    ) -> Views:
        images, followed, boxed = [], [], []
        for view in range(len(self.recipe.views)):
            drawn = self.parameters(pixels, index, epoch, view)
            images.append(render(pixels, drawn, self.size_px, self.threads, self.device))
            if regions is not None:
                pairs = zip(regions, drawn.windows, strict=True)
                followed.append(_stack([geometry.nearest(region, w, self.size_px) for region, w in pairs]))
            if boxes is not None:
                pairs = zip(boxes, drawn.windows, strict=True)
                boxed.append(_padded([geometry.boxes_in_view(b, w, self.size_px) for b, w in pairs]))
        addresses, classes = (torch.from_numpy(np.array(numbers, dtype=np.int64)) for numbers in (index, labels))
        return Views(tuple(images), addresses, classes, tuple(followed), tuple(boxed)).to(self.device)


def render(pixels: Pixels, drawn: Draw, size_px: int, threads: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """Pictures and their parameters -> (B, 3, S, S) float32 in [0, 1] on `device`; pictures must be `checked`."""
    device = torch.device(device)
    on_cpu = device.type == "cpu"
    views = torch.empty((len(pixels), 3, size_px, size_px), pin_memory=device.type == "cuda")
    out = views.numpy()
    after = drawn.after if on_cpu else np.zeros((len(pixels), 0), STEP)
    cubic = drawn.resampling == "bicubic"

    def work(part: range) -> None:
        for i in part:
            fused.render(pixels[i], drawn.windows, drawn.before, after, i, cubic, out)

    if threads <= 1 or len(pixels) < 2:
        work(range(len(pixels)))
    else:
        parts = [range(k, min(k + 8, len(pixels))) for k in range(0, len(pixels), 8)]
        list(_pool(threads).map(work, parts))
    return views if on_cpu else photometry.apply_steps(views.to(device, non_blocking=True), drawn.after)


def eval_views(pixels: Pixels, size_px: int, resize_px: int | None = None, threads: int | None = None) -> Tensor:
    """The usual test geometry: shorter side to `resize_px` (default: the view's side), then the centre.

    Returns (B, 3, S, S) float32 in [0, 1].
    """
    resize_px = size_px if resize_px is None else resize_px
    if resize_px < size_px:
        raise InputError(f"cannot crop {size_px} px from pictures resized to {resize_px} px: give resize_px >= size_px")
    pixels = checked(pixels)
    sizes = np.array([p.shape[:2] for p in pixels], dtype=np.int64).reshape(-1, 2)
    pipeline = (Resize(resize_px / size_px), CenterCrop())
    drawn = draw(pipeline, sizes, size_px, seed=0, epoch=0, index=np.arange(len(pixels)), view=0)
    return render(pixels, drawn, size_px, usable_cores() if threads is None else threads)


def checked(pixels: Pixels) -> list[NDArray[np.uint8]]:
    """The pictures as read-only contiguous arrays, one type for the compiled kernels; refuses what is no picture."""
    seen = []
    for position, picture in enumerate(pixels):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
            raise InputError(
                f"picture {position} of the batch is {picture.shape} {picture.dtype}; "
                "views need (height, width, 3) uint8 RGB, not empty"
            )
        picture = np.ascontiguousarray(picture).view(np.ndarray)
        if picture.flags.writeable:
            picture = picture.view()
            picture.flags.writeable = False
        seen.append(picture)
    return seen


def _check_regions(pixels: Pixels, regions: Sequence[Tensor]) -> None:
    if len(regions) != len(pixels):
        raise InputError(f"{len(regions)} region maps for {len(pixels)} pictures: give one per picture")
    for position, (picture, region) in enumerate(zip(pixels, regions, strict=True)):
        if region.shape[-2:] != picture.shape[:2]:
            raise InputError(
                f"regions of picture {position} are {tuple(region.shape[-2:])} and the picture is {picture.shape[:2]} "
                "(height, width): make the regions again at the picture's size"
            )


def _check_boxes(pixels: Pixels, boxes: Sequence[Tensor]) -> None:
    if len(boxes) != len(pixels):
        raise InputError(f"boxes of {len(boxes)} pictures for {len(pixels)} pictures: give one table per picture")
    for position, table in enumerate(boxes):
        if table.ndim != 2 or table.shape[1] != 5 or table.dtype != torch.float32:
            raise InputError(
                f"boxes of picture {position} are {tuple(table.shape)} {table.dtype}: give (R, 5) float32, xyxy in "
                "pixels of the picture and the class"
            )


def _padded(tables: list[Tensor]) -> Tensor:
    """(B, R, 5) with rows of class -1 up to the largest R, which may be 0."""
    padded = torch.zeros((len(tables), max(map(len, tables), default=0), 5))
    padded[..., 4] = -1
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    return padded


def _stack(maps: list[Tensor]) -> Tensor:
    """(B, S, S), or (B, R, S, S) with empty regions up to the largest R."""
    if maps and maps[0].ndim == 3:
        most = max(len(m) for m in maps)
        maps = [torch.cat([m, m.new_zeros((most - len(m), *m.shape[1:]))]) for m in maps]
    return torch.stack(maps)


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """One pool of each size per process (threads do not survive a fork)."""
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="views")
    return _pools[key]
