"""Features of every backbone taken once, however many fusions and fits ask for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whytransfer.backbones import fingerprint
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.standardised import Standardised
from whytransfer.tasks.features import FeatureTable, MakeViews, Progress, extract
from whytransfer.tasks.readout import model_name

Key = tuple[Any, ...]


class FeatureBank:
    """`extract` with a memory: a fusion's features are those of its members, a part's are rows of the whole set's.

    Called as `extract` is, on PixelCaches. What it holds lives as long as it does: N x D float32 for each backbone and
    set of images. `bar` (progress.bar) shows what is extracted where the caller shows nothing itself.
    """

    def __init__(self, bar: Callable[[str, int], AbstractContextManager[Callable[..., None]]] | None = None) -> None:
        self.bar = bar
        self.tables: dict[Key, tuple[FeatureTable, NDArray[np.int64]]] = {}  # and which image each row is of
        self.held: list[Any] = []  # what keys name by id() must not go away

    def __call__(
        self,
        backbone: nn.Module,
        images: Any,
        size_px: int,
        batch: int = 256,
        stage: str = "vector",
        resize_px: int | None = None,
        progress: Progress | None = None,
        make_views: MakeViews | None = None,
    ) -> FeatureTable:
        """Features (N, D) of all images; only what is not held yet is computed."""
        how = (size_px, batch, stage, resize_px, progress, make_views)
        if stage != "vector":  # maps of unequal sizes are enlarged before they are averaged
            return extract(backbone, images, *how)
        if isinstance(backbone, Standardised):
            table = self(backbone.fused, images, *how)
            with torch.inference_mode():
                vectors = backbone.scalings["vector"](table.vectors).clone()
            return replace(table, vectors=vectors, weights_sha256=fingerprint(backbone))
        if isinstance(backbone, Fused):
            parts = [self(member, images, *how) for member in backbone.members]
            vectors = torch.cat([part.vectors for part in parts], dim=1)
            seconds = sum(part.seconds for part in parts)
            return replace(parts[0], vectors=vectors, weights_sha256=fingerprint(backbone), seconds=seconds)
        return self._of_one(backbone, images, how)

    def _of_one(self, backbone: nn.Module, images: Any, how: tuple[Any, ...]) -> FeatureTable:
        size_px, _, _, resize_px, _, make_views = how
        key = (id(backbone), id(images.images), images.max_side_px, size_px, resize_px, make_views)
        asked = images.positions
        if key in self.tables:
            table, known = self.tables[key]
            order = np.argsort(known, kind="stable")
            rows = order[np.searchsorted(known, asked, sorter=order).clip(max=len(known) - 1)]
            if np.array_equal(known[rows], asked):
                of = torch.from_numpy(rows).to(table.vectors.device)
                return replace(table, vectors=table.vectors[of], labels=table.labels[of])
        table = self._extracted(backbone, images, how)
        self.held += [backbone, images.images]
        self.tables[key] = table, asked
        return table

    def _extracted(self, backbone: nn.Module, images: Any, how: tuple[Any, ...]) -> FeatureTable:
        size_px, batch, stage, resize_px, progress, make_views = how
        if progress is not None or self.bar is None:
            return extract(backbone, images, *how)
        with self.bar(f"features of {model_name(backbone)} at {size_px} px", len(images)) as update:
            tick = lambda done, total: update(done)  # noqa: E731
            return extract(backbone, images, size_px, batch, stage, resize_px, tick, make_views)
