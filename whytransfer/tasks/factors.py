"""What frozen features know of how a scene was made: ridge regression onto its latent factors [Ericsson 2022].

Works on image sets with a factor_table() (generated scenes). R2 of each factor, and the means of the groups "pose"
(position and rotation of the object) and "colour" (the hues): spatial views cost the first, appearance views the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whytransfer.errors import InputError
from whytransfer.records import Result
from whytransfer.tasks import bootstrap, ridge
from whytransfer.tasks.features import Progress, extract
from whytransfer.tasks.readout import data_name, feature_settings, model_name

GROUPS: dict[str, tuple[str, ...]] = {
    "pose": ("object_x", "object_y", "object_z", "rotation_1", "rotation_2", "rotation_3"),
    "colour": ("object_hue", "light_hue", "background_hue"),
}


@dataclass(frozen=True)
class FactorReadout:
    """Latent factors from frozen features; run(backbone) yields R2 of pose, of colour and of every factor."""

    train: Any
    test: Any
    size_px: int
    seed: int = 0
    batch: int = 256
    stage: str = "vector"
    resize_px: int | None = None
    draws: int = 2000
    progress: Progress | None = None

    def __post_init__(self) -> None:
        names = [factor_names(images) for images in (self.train, self.test)]
        if names[0] != names[1]:
            differ = ", ".join(sorted(set(names[0]) ^ set(names[1]))) or "their order"
            raise InputError(f"train and test sets have different factors: {differ}")

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Extract, fit, score; the seed decides folds and bootstrap draws."""
        seed = self.seed if seed is None else seed
        take = lambda images: extract(  # noqa: E731
            backbone, images, self.size_px, self.batch, self.stage, self.resize_px, self.progress
        )
        train, test = take(self.train), take(self.test)
        names, started = factor_names(self.train), time.perf_counter()
        fit = ridge.fit_path(train.vectors, factor_table(self.train), seed=seed)
        truth, predicted = factor_table(self.test), fit.predict(test.vectors)
        shared = {
            **feature_settings(train, test, self.resize_px),
            "bootstrap_draws": self.draws,
            "standardised": "mean and std of all training features",
            "fit_seconds": round(time.perf_counter() - started, 3),
        }
        groups = {group: [f for f in members if f in names] for group, members in GROUPS.items()}
        for metric, members in {**{g: m for g, m in groups.items() if m}, **{name: [name] for name in names}}.items():
            columns = [names.index(name) for name in members]
            table, statistic = bootstrap.r2(truth[:, columns], predicted[:, columns])
            low, high = bootstrap.interval(table, statistic, self.draws, seed)
            alphas = {name: float(fit.alphas[names.index(name)]) for name in members}
            edge = sorted(name for name, a in alphas.items() if a in (ridge.ALPHAS[0], ridge.ALPHAS[-1]))
            yield Result(
                model_name(backbone), data_name(self.train, self.test), "factors", metric,
                float(statistic(table.sum(0))), "R2", "higher", len(truth), seed, low, high,
                {**shared, "factors": members, "alphas": alphas, "alphas_at_edge_of_grid": edge},
            )  # fmt: skip


def factor_names(images: Any) -> tuple[str, ...]:
    """The names of a set's latent factors; InputError when it has none."""
    source = getattr(images, "images", images)  # a PixelCache keeps its source there
    if not hasattr(source, "factor_table"):
        raise InputError(f"{images.name} has no latent factors: use generated scenes, scenes:COUNT:SEED")
    return tuple(source.factor_names)


def factor_table(images: Any) -> NDArray[np.float64]:
    """(N, F) latent factors of the images."""
    source = getattr(images, "images", images)
    if not np.array_equal(source.labels, images.labels):
        raise InputError(
            f"{images.name}: factors belong to the whole set of {len(source)} images, in order: use all of it"
        )
    return np.asarray(source.factor_table(), dtype=np.float64)
