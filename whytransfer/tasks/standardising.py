"""The statistics of a standardised fusion, taken from training images before a task sees the backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whytransfer import chance
from whytransfer.backbones.standardised import Standardised
from whytransfer.loading import pictures
from whytransfer.views.engine import eval_views

MOST = 1024  # images: enough for one mean per channel and one variance per member


def standardise(backbone: nn.Module, images: Any, size_px: int, batch: int = 256, seed: int = 0) -> dict[str, Any]:
    """Give a standardised fusion the statistics of some images; returns what a Result's provenance should say.

    At most 1,024 of them, drawn by the seed, in evaluation views of `size_px`. `images` is a PixelCache or an ImageSet.
    Of any other backbone nothing is changed and nothing is said.
    """
    if not isinstance(backbone, Standardised):
        return {}
    rows = np.sort(chance.permutation(seed, 0, len(images))[:MOST])
    device = next(backbone.parameters()).device

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(rows), batch):
            views = eval_views(_pixels(images, rows[start : start + batch].tolist()), size_px)
            yield views.to(device).contiguous(memory_format=torch.channels_last)

    backbone.measure(batches())
    return {"fusion": {"standardised_on": images.name, "images": len(rows), "size_px": size_px}}


def _pixels(images: Any, rows: list[int]) -> list[np.ndarray]:
    """(H, W, 3) uint8 of each image."""
    if hasattr(images, "pixels"):
        return pictures(images, rows)
    return [images[i].image.permute(1, 2, 0).contiguous().numpy() for i in rows]
