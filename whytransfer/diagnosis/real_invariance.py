"""How alike the views of one thing are to a backbone: real changes of viewpoint, light, exposure, blur.

No view is the original: within each group of n views all pairs are compared in the whitened space. Similarity is the
mean cosine over pairs of different views; "with self-pairs" is the published number, the mean of the whole n x n matrix
[Ericsson 2022, code], which lies nearer to 1 by (1 - similarity) / n and so cannot be compared between sets of other n.
Distance is the mean Mahalanobis distance over pairs. A set's number is the mean over groups, intervals are over groups.
Letters: n views, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.backbones import fingerprint
from whytransfer.diagnosis.grids import Mode
from whytransfer.diagnosis.invariance import MEASURES, clean_features, mean_interval
from whytransfer.diagnosis.transforms import canvas_px
from whytransfer.diagnosis.whitening import Whitening
from whytransfer.errors import InputError, RunError
from whytransfer.records import Result
from whytransfer.tasks.features import Progress
from whytransfer.tasks.readout import model_name

TASK = "real invariance"
WITH_SELF = "similarity with self-pairs"


def within(z: Tensor) -> tuple[float, float, float]:
    """(similarity, the same with self-pairs, distance) of a group's whitened features (n, D), n at least 2.

    With self-pairs: (1 + (n - 1) similarity) / n.
    """
    n = len(z)
    if n < 2:
        raise InputError(f"a group of {n} view(s) has no pair to compare")
    unit = z / z.norm(dim=1, keepdim=True)
    similarity = float((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1)))
    return similarity, (1 + (n - 1) * similarity) / n, float(torch.pdist(z).mean())


@dataclass(frozen=True)
class RealInvariance:
    """Groups of real views; run(backbone, whitenings) yields similarity and distance of each stage.

    `images` is the PixelCache of the files of groups, `groups` their rows by name. Views are made as those of the
    statistics are; in mode "paper" from pictures resized to the view, not to 8/7 of it, as published.
    """

    images: Any
    groups: Mapping[str, NDArray[np.int64]]
    factor: str
    size_px: int
    mode: Mode = "corrected"
    seed: int = 0
    batch: int = 256
    draws: int = 2000
    progress: Progress = lambda done, total: None

    def __post_init__(self) -> None:
        alone = [name for name, rows in self.groups.items() if len(rows) < 2]
        if alone or not self.groups:
            raise InputError(f"{self.images.name}: groups of two views at least are needed, got {alone[:5] or 'none'}")

    def run(self, backbone: nn.Module, made: Mapping[str, Whitening], seed: int | None = None) -> Iterator[Result]:
        """`made` are the whitenings of the stages wanted, of this backbone."""
        seed, before, was_training = self.seed if seed is None else seed, fingerprint(backbone), backbone.training
        backbone.eval()
        resize_px = self.size_px if self.mode == "paper" else canvas_px(self.size_px)
        found = clean_features(
            backbone, self.images, self.size_px, resize_px, tuple(made), self.batch, self.progress
        )  # stage -> (N, D)
        backbone.train(was_training)
        if fingerprint(backbone) != before:
            raise RunError("the frozen backbone changed while it was diagnosed")
        for stage, features in found.items():
            z = made[stage](features)
            rows = [torch.from_numpy(rows).to(z.device) for rows in self.groups.values()]
            table = np.array([within(z[r]) for r in rows])  # (groups, 3)
            views = [len(r) for r in rows]
            how = {
                "stage": stage, "factor": self.factor, "views_per_group": [min(views), max(views)], "mode": self.mode,
                "size_px": self.size_px, "resize_px": resize_px, "weights_sha256": before, "frozen": True,
                "covariance_images": made[stage].images, "shrinkage": made[stage].shrinkage,
                "directions": made[stage].dimensions, "bootstrap_draws": self.draws, "interval_over": "groups",
            }  # fmt: skip
            yield from self._results(model_name(backbone), table, stage, seed, how)

    def _results(
        self, model: str, table: NDArray[np.float64], stage: str, seed: int, how: dict[str, Any]
    ) -> Iterator[Result]:
        at = "" if stage == "vector" else f" at {stage}"
        for k, measure in enumerate(("similarity", WITH_SELF, "distance")):
            values = table[:, k]
            low, high = mean_interval(values, self.draws, seed)
            unit, direction = MEASURES["distance" if k == 2 else "similarity"]
            undefined = int((~np.isfinite(values)).sum())
            yield Result(
                model, self.images.name, TASK, f"{self.factor} {measure}{at}", float(np.nanmean(values)), unit,
                direction, len(values), seed, low, high, {**how, "measure": measure, "undefined": undefined},
            )  # fmt: skip
