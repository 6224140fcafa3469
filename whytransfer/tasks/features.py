"""Features of a whole image set, once, from a backbone that is proven to have stayed as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.loading import ahead, pictures
from whytransfer.records import Features
from whytransfer.views.engine import eval_views

Progress = Callable[[int, int], object]  # called with (images done, images in all)
MakeViews = Callable[[list[NDArray[np.uint8]], int], Tensor]  # (pictures, size in pixels) -> (B, 3, S, S) in [0, 1]
Take = Callable[..., "FeatureTable"]  # `extract`, or what has its arguments and remembers


@dataclass(frozen=True)
class FeatureTable:
    """Pooled features (N, D) float32 of every image, on the backbone's device, and the labels (N,) beside them."""

    vectors: Tensor
    labels: Tensor
    stage: str
    size_px: int
    weights_sha256: str  # of parameters and buffers, equal before and after
    seconds: float


def extract(
    backbone: nn.Module,
    images: Any,
    size_px: int,
    batch: int = 256,
    stage: str = "vector",
    resize_px: int | None = None,
    progress: Progress | None = None,
    make_views: MakeViews | None = None,
) -> FeatureTable:
    """Features of images (a PixelCache: .pixels(i), .labels, len) in evaluation views, in float32 and eval mode.

    `make_views` makes other views than the usual ones (a published protocol's), which `resize_px` then has no part in.
    `stage` is "vector" or a stage of the backbone ("layer3"), averaged over its positions; "layer3:map" has them all,
    flattened (memory grows with them). Frozen means frozen: the
    fingerprint of the weights is taken before and after, and RunError is raised where it differs.
    """
    if len(images) == 0 or batch < 1:
        raise InputError(f"features need at least one image and a batch of 1 or more, got {len(images)} and {batch}")
    started, before, was_training = time.perf_counter(), fingerprint(backbone), backbone.training
    device = next(backbone.parameters()).device
    batches = [range(start, min(start + batch, len(images))) for start in range(0, len(images), batch)]
    make_views = make_views or (lambda pixels, size_px: eval_views(pixels, size_px, resize_px))
    make = lambda index: make_views(pictures(images, index), size_px)  # noqa: E731
    parts: list[Tensor] = []
    backbone.eval()
    with torch.inference_mode():
        for index, views in zip(batches, ahead(make, batches, 2 if device.type == "cuda" else 0), strict=True):
            views = views.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            parts.append(pooled(backbone(views), stage).float())
            if progress is not None:
                progress(index.stop, len(images))
    backbone.train(was_training)
    if (after := fingerprint(backbone)) != before:
        raise RunError(f"the frozen backbone changed while its features were taken: {before[:12]} became {after[:12]}")
    vectors = torch.cat(parts).clone()  # out of inference mode
    labels = torch.from_numpy(np.asarray(images.labels, dtype=np.int64).copy()).to(device)
    return FeatureTable(vectors, labels, stage, size_px, after, time.perf_counter() - started)


def pooled(features: Features, stage: str) -> Tensor:
    """(B, D): the vector, or the mean over the positions of a stage (B, D, h, w); "layer3:map" is all of them."""
    if stage == "vector":
        return features.vector
    name, colon, form = stage.partition(":")
    if name not in features.stages or (colon and form != "map"):
        raise unknown_name("feature stage", stage, ["vector", *features.stages, *(f"{s}:map" for s in features.stages)])
    maps = features.stages[name]
    return maps.flatten(1) if colon else maps.mean((2, 3))
