"""What frozen features know of continuous targets (latent factors, landmarks): ridge or kernel ridge, R2 on test.

"factors" and "ridge-readout" are linear: a quarter-decade path of 45 strengths, closed form. "kernel-readout" asks for
what is there in any form: Gaussian kernels, alpha x gamma. Each target chooses its own strength by cross-validation.
The published protocol "ssl-invariances" does what its scripts do, see `protocols`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer import chance, progress
from whytransfer.errors import InputError, unknown_name
from whytransfer.records import Result
from whytransfer.tasks import bootstrap, kernel, predictions, protocols, ridge
from whytransfer.tasks.factors import KINDS, Targets, targets_of
from whytransfer.tasks.features import Progress, Take, extract
from whytransfer.tasks.labels import Share, folds_of, shares_of
from whytransfer.tasks.readout import data_name, feature_settings, model_name, predictions_folder

Chosen = dict[str, NDArray[np.float64]]  # for each target its alpha, and gamma
FOLDS = 5
Fitted = tuple[NDArray[np.float64], Chosen, dict[str, Any]]  # predictions (M, T), chosen, for the provenance


@dataclass(frozen=True)
class RegressionReadout:
    """Continuous targets from frozen features; run(backbone) yields R2: of groups, the mean, every target.

    train and test are PixelCaches of sets with latent factors or landmarks (`targets` decides where they have both).
    `protocol` "ssl-invariances" is the published one, `labels` per cent of the training targets, `folder` where
    predictions are kept, `taken_by` what takes the features (a FeatureBank remembers them). InputError for a set
    without targets, and where train and test have different ones.
    """

    train: Any
    test: Any
    size_px: int
    task: str = "ridge-readout"
    method: Literal["ridge", "kernel"] = "ridge"
    targets: Literal["factors", "landmarks"] | None = None
    seed: int = 0
    batch: int = 256
    stage: str = "vector"
    resize_px: int | None = None
    draws: int = 2000
    progress: Progress | None = None
    protocol: str | None = None
    labels: tuple[float, ...] | None = None
    folder: Path | None = None
    taken_by: Take = extract
    known: tuple[Targets, Targets] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("regression method", self.method, METHODS)
        if self.targets is not None and self.targets not in KINDS:
            raise unknown_name("kind of targets", self.targets, KINDS)
        if self.protocol is not None:
            protocols.published(self.protocol, ("ssl-invariances",))
        known = [targets_of(images, self.size_px, self.resize_px, self.targets) for images in (self.train, self.test)]
        if known[0].names != known[1].names:
            differ = ", ".join(sorted(set(known[0].names) ^ set(known[1].names))) or "their order"
            raise InputError(f"train and test sets have different {known[0].kind}: {differ}")
        if (constant := np.flatnonzero(np.ptp(known[1].table, axis=0) == 0)).size:
            names = [known[1].names[k] for k in constant]
            raise InputError(f"{', '.join(names)} is the same in all test images: R2 has no meaning")
        object.__setattr__(self, "known", tuple(known))

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Extract once; fit and score for every share of labels; the seed decides folds, shares and draws."""
        seed = self.seed if seed is None else seed
        strata = self.train.labels if self.train.classes else np.zeros(len(self.train), dtype=np.int64)
        shares = shares_of(strata, self.labels, seed)
        for share in shares:
            folds_of(len(share.rows), FOLDS, each=2)  # refused before the work
        take = lambda images: self.taken_by(  # noqa: E731
            backbone, images, self.size_px, self.batch, self.stage, self.resize_px, self.progress
        )
        train, test = take(self.train), take(self.test)
        settings = dict(feature_settings(train, test, self.resize_px))
        if self.protocol is not None:
            settings |= protocols.settings(self.protocol, self.size_px)
        for share in shares:
            started = time.perf_counter()
            y = self._targets(0)[share.rows]
            if self.protocol is None:
                answer, chosen, how = METHODS[self.method](share.of(train.vectors), y, test.vectors, seed)
            else:
                fit = PUBLISHED[self.method]
                decays = protocols.weight_decays(backbone, self.protocol)
                answer, chosen, how = fit(share.of(train.vectors), y, test.vectors, decays, seed)
            how["fit_seconds"] = round(time.perf_counter() - started, 3)
            yield from self._results(backbone, answer, chosen, share, seed, {**settings, **how})

    def _targets(self, side: int) -> NDArray[np.float64]:
        """Of the training (0) or the test images (1); ssl-invariances cuts CelebA's landmarks to whole pixels."""
        known, images = self.known[side], (self.train, self.test)[side]
        cut = self.protocol and known.kind == "landmarks" and "celeba" in images.name.lower()
        return np.trunc(known.table) if cut else known.table

    def _results(
        self,
        backbone: nn.Module,
        answer: NDArray[np.float64],
        chosen: Chosen,
        share: Share,
        seed: int,
        provenance: dict[str, Any],
    ) -> Iterator[Result]:
        names, truth = self.known[1].names, self._targets(1)
        provenance |= {**share.provenance(), "targets": self.known[1].kind, "bootstrap_draws": self.draws}
        keep = predictions_folder(self, self.task, backbone, seed, {**provenance, "percent": share.percent})
        kept = {"predicted": answer.astype(np.float32), "truth": truth.astype(np.float32), "names": np.array(names)}
        provenance["predictions"] = predictions.keep(keep, **kept)
        table, statistic = bootstrap.r2_each(truth, answer)
        values = statistic(table.sum(0))  # (T,)
        drawn = bootstrap.resampled(len(truth), lambda counts: statistic(counts @ table), self.draws, seed)
        groups = {**self.known[1].groups, "mean": names}
        for metric, members in {**groups, **{name: (name,) for name in names}}.items():
            columns = [names.index(name) for name in members]
            low, high = bootstrap.percentiles(drawn[:, columns].mean(1))
            own = {f"{what}s": _told(each[columns], members) for what, each in chosen.items()}
            edge = [name for name, c in zip(members, columns, strict=True) if self._at_edge(chosen, c)]
            yield Result(
                model_name(backbone), data_name(self.train, self.test, share), self.task, metric,
                float(values[columns].mean()), "R2", "higher", len(truth), seed, float(low), float(high),
                {**provenance, self.known[1].kind: list(members), **own, "alphas_at_edge_of_grid": edge},
            )  # fmt: skip

    def _at_edge(self, chosen: Chosen, target: int) -> bool:
        alphas = kernel.ALPHAS if self.method == "kernel" else ridge.ALPHAS
        return self.protocol is None and float(chosen["alpha"][target]) in (alphas[0], alphas[-1])


def _told(values: NDArray[np.float64], names: tuple[str, ...]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def by_ridge(train: Tensor, y: NDArray[np.float64], test: Tensor, seed: int) -> Fitted:
    """The path in closed form; each target has its own alpha."""
    folds = folds_of(len(y), FOLDS, each=2)
    fit = ridge.fit_path(train, y, folds=folds, seed=seed)
    how = {"standardised": "mean and std of all training features", "folds": folds}
    return fit.predict(test), {"alpha": fit.alphas}, how


def by_kernel(train: Tensor, y: NDArray[np.float64], test: Tensor, seed: int) -> Fitted:
    """The grid of alpha and gamma; each target has its own pair."""
    folds = folds_of(len(y), FOLDS, each=2)
    fit = kernel.fit_grid(train, y, folds=folds, seed=seed)
    how = {"standardised": "by the samples of each fit", "folds": folds}
    return fit.predict(test), {"alpha": fit.alphas, "gamma": fit.gammas}, how


def published_ridge(
    train: Tensor, y: NDArray[np.float64], test: Tensor, decays: NDArray[np.float64], seed: int
) -> Fitted:
    """ssl-invariances' linear readout: raw features, one alpha = 1 / wd for all targets."""
    model, chosen = protocols.ridge(train.double().cpu().numpy(), y, decays, seed)
    answer = np.asarray(model.predict(test.double().cpu().numpy())).reshape(len(test), -1)
    return answer, {"alpha": np.full(y.shape[1], chosen["alpha"])}, chosen


def published_kernel(
    train: Tensor, y: NDArray[np.float64], test: Tensor, decays: NDArray[np.float64], seed: int
) -> Fitted:
    """ssl-invariances' kernel readout: at most 20,480 random training images, targets as they are."""
    rows = np.sort(chance.permutation(seed, 0, len(y))[: kernel.MOST])
    if len(rows) < len(y):
        progress.say(f"note: ssl-invariances fits on {len(rows):,} random images of {len(y):,}")
    part = Share(100 * len(rows) / len(y), rows, asked=True).of(train)
    fit = kernel.fit_grid(part, y[rows], seed=seed, centre=False)
    chosen = {"alpha": fit.alphas, "gamma": fit.gammas}
    return fit.predict(test), chosen, {"standardised": "by the samples of each fit", "fitted_images": len(rows)}


METHODS = {"ridge": by_ridge, "kernel": by_kernel}
PUBLISHED = {"ridge": published_ridge, "kernel": published_kernel}
