"""How fast each part could go alone: reading pixels, making views, stepping on tensors that are ready."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from whytransfer.loading import pictures
from whytransfer.nn.schedules import Training, build_optimizer
from whytransfer.records import Views


def rate(work: Callable[[], object], images: int, seconds: float = 3.0, warmup: int = 2) -> float:
    """Images per second of `work`, which handles `images` of them: the median of all calls that fit, at least three."""
    for _ in range(warmup):
        work()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return images / statistics.median(times)


def reading_rate(pixels: Any, batch: int, seconds: float = 2.0) -> float:
    """Images per second of reading every byte of random cached pictures."""
    order = np.random.Generator(np.random.Philox(key=[0, 1])).integers(0, len(pixels), (64, min(batch, len(pixels))))
    turns = iter(range(10**9))

    def read() -> None:
        for picture in pictures(pixels, order[next(turns) % len(order)]):
            picture.max()

    return rate(read, order.shape[1], seconds)


def view_rate(pixels: Any, viewer: Any, batch: int, seconds: float = 3.0) -> float:
    """Images per second of making all views of a batch, reading included."""
    order = np.random.Generator(np.random.Philox(key=[0, 2])).integers(0, len(pixels), (64, batch))
    turns = iter(range(10**9))

    def make() -> None:
        views = make_views(pixels, viewer, order[next(turns) % len(order)])
        _finish(views.index.device)

    return rate(make, batch, seconds)


def _finish(device: torch.device) -> None:
    """Wait for a GPU, which works on after its host has gone on; only then has the time passed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_views(pixels: Any, viewer: Any, indices: np.ndarray) -> Views:
    """The views of some images in epoch 0."""
    return viewer(pictures(pixels, indices), indices, pixels.labels[indices], 0)


def step_rate(
    method: Any, views: Views, training: Training, device: torch.device, amp: bool, seconds: float = 6.0
) -> float:
    """Images per second of optimiser steps on views that are ready: the ceiling of a run. Trains `method`."""
    method = method.to(device, memory_format=torch.channels_last).train()
    optimizer = build_optimizer(training, method)
    views = views.to(device)
    ready = [x.contiguous(memory_format=torch.channels_last) for x in views.images]
    views = dataclasses.replace(views, images=tuple(ready))

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            out = method.loss(views)
        out["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step({k: v.detach() for k, v in out.items()}, 0.0)
        _finish(device)

    return rate(step, len(views.index), seconds)
