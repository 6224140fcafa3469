"""Logistic regression on frozen features over a whole path of regularisation, chosen by cross-validation.

The protocol of [Ericsson 2021, "How well do self-supervised models transfer?"]: 45 strengths wd = 10^-6 ... 10^5 in
quarter decades, C = 1 / wd as scikit-learn means it (C * summed loss + |W|^2 / 2), the best mean validation
accuracy, a last fit on everything. Where their published scripts differ, ours are corrected: folds are seeded,
stratified and the same for every C, and features are standardised. The mean and scale come from all training images
and are shared by the folds (labels have no part in them); test images are never looked at.

Letters: N samples, D features, R rank of the features, K classes, P problems (folds).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.tasks.matmul import matmul
from whytransfer.tasks.ridge import squared
from whytransfer.tasks.softmax import Problems, Solver

WEIGHT_DECAYS = tuple(float(w) for w in np.logspace(-6, 5, 45))
CS = tuple(1 / w for w in reversed(WEIGHT_DECAYS))  # strong to weak regularisation
FINAL_ITERATIONS = 500  # of the fit on everything, which starts near its end
_RANK = 1e-12  # directions with less of the largest variance are float32 noise
_ROWS = 8192


@dataclass(frozen=True)
class Fit:
    """A softmax classifier on raw features, and how it was chosen."""

    weights: Tensor  # (D, K)
    bias: Tensor  # (K,)
    c: float
    cs: tuple[float, ...]
    scores: NDArray[np.float64]  # (len(cs), folds) validation accuracy
    done: NDArray[np.bool_]  # (len(cs),) all folds within tolerance
    final_done: bool  # the fit on everything, whose weights these are, is within tolerance
    iterations: int
    evaluations: int
    seconds: float

    def logits(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return features @ self.weights + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,) int64."""
        return self.logits(features).argmax(1)

    @property
    def at_edge(self) -> bool:
        """Whether the best C is the smallest or largest tried: the grid may be too short."""
        return len(self.cs) > 1 and self.c in (self.cs[0], self.cs[-1])


def fit_path(
    features: Tensor,
    labels: Tensor,
    classes: int,
    cs: tuple[float, ...] = CS,
    folds: int = 5,
    seed: int = 0,
    standardise: bool = True,
    tolerance: float = 1e-4,
    max_iterations: int = 40,
) -> Fit:
    """Choose C by cross-validation over the whole path and fit on everything with it; of equal Cs the smallest.

    features (N, D) float, labels (N,) int64 in range(classes), any device. `tolerance` is relative to the objective,
    or to 0.01 nats where that is more. Where classes can be separated, accuracy at C of 10^4 and more can differ by a
    point from scikit-learn's (700 digits: 93.6 against 94.6 % at 10^5), which stops earlier: its objective is higher.
    Raises InputError for fewer than two classes, non-finite features or fewer samples than folds.
    """
    started = time.perf_counter()
    _check(features, labels, classes)
    basis = Basis.of(features, standardise)
    x, cs = basis.project(features), tuple(sorted(cs))
    fold = torch.from_numpy(stratified_folds(labels.cpu().numpy(), folds, seed)).to(x.device)
    order = fold.argsort()  # fold by fold: see Problems.runs
    x, labels, fold = x[order], labels[order], fold[order]
    member = (fold[:, None] != torch.arange(folds, device=x.device)).to(x.dtype)  # (N, P)
    solver = Solver(Problems(x, labels, member, classes), tolerance, max_iterations)
    scores, done = np.zeros((len(cs), folds)), np.zeros(len(cs), dtype=bool)
    start = x.new_zeros(x.shape[1], 1, classes)
    for i, c in enumerate(cs):
        weights, finished = solver.solve(1 / (c * solver.problems.total))
        scores[i], done[i] = _validate(x, labels, fold, weights), bool(finished.all())
        if i == scores[: i + 1].mean(1).argmax():
            start = weights.mean(1, keepdim=True)
    c = cs[int(scores.mean(1).argmax())]
    final, final_done = _solve_one(x, labels, classes, c, start, tolerance)
    weights, bias = basis.raw(final[:, 0])
    cost = (solver.iterations, solver.evaluations, time.perf_counter() - started)
    return Fit(weights, bias, c, cs, scores, done, bool(final_done.all()), *cost)


def fit(
    features: Tensor, labels: Tensor, classes: int, c: float, standardise: bool = True, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Weights (D, K) and bias (K,) at one C, without cross-validation."""
    _check(features, labels, classes)
    basis = Basis.of(features, standardise)
    x = basis.project(features)
    final, _ = _solve_one(x, labels, classes, c, x.new_zeros(x.shape[1], 1, classes), tolerance)
    return basis.raw(final[:, 0])


def _solve_one(
    x: Tensor, labels: Tensor, classes: int, c: float, start: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Weights (R + 1, 1, K) of the fit on all samples, from a start, and whether it is done (1,)."""
    solver = Solver(Problems(x, labels, x.new_ones(len(x), 1), classes), tolerance, FINAL_ITERATIONS)
    solver.begin(start)
    return solver.solve(1 / (c * solver.problems.total))


def stratified_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each sample (N,): fold sizes, and each class's share of them, differ by at most one.

    A class with fewer samples than folds is missing from the validation of some folds, and a class of one sample from
    the training of one: they are spread as far as they go.
    """
    if not 2 <= folds <= len(labels):
        raise InputError(f"cannot make {folds} folds of {len(labels)} samples: use 2 to {len(labels)} folds")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold


def _check(features: Tensor, labels: Tensor, classes: int) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InputError(f"need features (N, D) and labels (N,), got {tuple(features.shape)} and {tuple(labels.shape)}")
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        found = f"{int(labels.min())}..{int(labels.max())}" if len(labels) else "none"
        raise InputError(f"labels must lie in 0..{classes - 1}, found {found}: a readout needs every image labelled")
    if len(labels.unique()) < 2:
        raise InputError("a classifier needs at least two classes with images, found one: add images of another class")
    if not bool(torch.isfinite(features).all()):
        rows = int((~torch.isfinite(features).all(1)).sum())
        raise InputError(f"{rows} of {len(features)} feature vectors are not finite: the backbone is broken")


def _validate(x: Tensor, labels: Tensor, fold: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """Accuracy of each fold's classifier on the samples that it has not seen, (P,); samples come fold by fold."""
    sizes = fold.bincount(minlength=weights.shape[1]).tolist()
    parts = zip(x.split(sizes), labels.split(sizes), weights.unbind(1), strict=True)
    return np.array([float((matmul(held, w).argmax(1) == own).double().mean()) for held, own, w in parts])


@dataclass(frozen=True)
class Basis:
    """The coordinates in which the path is solved: centred, scaled, rotated to the features' principal axes.

    A rotation changes neither the penalty nor the optimum; axes without variance are dropped, so fewer samples than
    features cost less, not more. Centring is undone by the free intercept.
    """

    mean: Tensor  # (D,) float64
    scale: Tensor  # (D,) float64; 1 where a feature is constant
    axes: Tensor  # (D, R) float64

    @staticmethod
    def of(features: Tensor, standardise: bool) -> Basis:
        """Statistics of (N, D) features in float64, some rows at a time."""
        total = sum(rows.double().sum(0) for rows in features.split(_ROWS))
        mean = total / len(features)
        gram = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
        for rows in features.split(_ROWS):
            gram += squared(rows.double() - mean)
        spread = (gram.diagonal() / len(features)).sqrt()
        varies = spread > 1e-6 * mean.abs()
        ones = torch.ones_like(spread)
        scale = torch.where(varies, spread, ones) if standardise else ones
        values, axes = torch.linalg.eigh(gram / scale / scale[:, None] * varies * varies[:, None])
        return Basis(mean, scale, axes[:, values > _RANK * values.max().clamp_min(1e-300)])

    def project(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, R + 1), the last column 1, in the features' own precision (at least float32)."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        axes, mean = (self.axes / self.scale[:, None]).to(dtype), self.mean.to(dtype)
        out = torch.ones(len(features), axes.shape[1] + 1, dtype=dtype, device=features.device)
        for rows, target in zip(features.split(_ROWS), out.split(_ROWS), strict=True):
            target[:, :-1] = matmul(rows.to(dtype) - mean, axes)
        return out

    def raw(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(R + 1, K) -> weights (D, K) and bias (K,) for raw features."""
        raw = (self.axes @ weights[:-1].double()) / self.scale[:, None]
        return raw.to(weights.dtype), (weights[-1].double() - self.mean @ raw).to(weights.dtype)
