"""Ridge regression over a whole path of alphas in closed form: one eigendecomposition per fold serves them all.

Fewer samples than features are first turned into the axes of their own span, so a fold costs min(N, D)^3.

Objective, scikit-learn's: |Y - X W - b|^2 + alpha |W|^2 with a free intercept b; the grid is that of the logistic
readout, alpha = 10^-6 ... 10^5 in quarter decades. Each target chooses its own alpha (`joint` makes them share one).

Letters: N samples, D features, T targets, A alphas.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from whytransfer.errors import InputError

ALPHAS = tuple(float(a) for a in np.logspace(-6, 5, 45))
_ROWS = 8192
_NEAR, _NOISE = 1e-5, 1e-12  # eigenvalues this near each other, or to 0, are taken as a pair


@dataclass(frozen=True)
class RidgeFit:
    """Linear maps from raw features to T targets, and how their alphas were chosen."""

    weights: Tensor  # (D, T) float64
    bias: Tensor  # (T,)
    alphas: NDArray[np.float64]  # (T,) the chosen ones
    scores: NDArray[np.float64]  # (A, T) mean validation R2

    def predict(self, features: Tensor) -> NDArray[np.float64]:
        """(B, D) -> (B, T)."""
        return torch.cat([rows.double() @ self.weights + self.bias for rows in features.split(_ROWS)]).cpu().numpy()


@dataclass(frozen=True)
class _Moments:
    """Sums over some samples, from which a ridge fit follows: they add and subtract, so folds cost one pass."""

    n: int
    x: Tensor  # (D,)
    y: Tensor  # (T,)
    xx: Tensor  # (D, D)
    xy: Tensor  # (D, T)

    @staticmethod
    def of(x: Tensor, y: Tensor) -> _Moments:
        return _Moments(len(x), x.sum(0), y.sum(0), squared(x), _product(x, y))

    def __sub__(self, part: _Moments) -> _Moments:
        return _Moments(self.n - part.n, self.x - part.x, self.y - part.y, self.xx - part.xx, self.xy - part.xy)

    def __add__(self, part: _Moments) -> _Moments:
        return _Moments(self.n + part.n, self.x + part.x, self.y + part.y, self.xx + part.xx, self.xy + part.xy)

    def over(self, scale: Tensor) -> _Moments:
        """The sums of features divided by scale (D,)."""
        by = 1 / scale
        return _Moments(self.n, self.x * by, self.y, self.xx * torch.outer(by, by), self.xy * by[:, None])

    def about(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of products of the deviations from x (D,) and y (T,): (D, D) and (D, T)."""
        apart = self.x - self.n * x
        xx = self.xx.addr(apart, x, alpha=-1).addr_(x, self.x, alpha=-1)
        return xx, self.xy.addr(x, self.y, alpha=-1).addr_(apart, y, alpha=-1)


@dataclass(frozen=True)
class _Path:
    """The fits of every alpha on some samples, in the axes in which the features' covariance is diagonal."""

    mean_x: Tensor  # (D,)
    mean_y: Tensor  # (T,)
    values: Tensor  # (D,)
    axes: Tensor  # (D, D)
    rotated: Tensor  # (D, T) products of features and targets

    @staticmethod
    def of(moments: _Moments) -> _Path:
        mean_x, mean_y = moments.x / moments.n, moments.y / moments.n
        xx, xy = moments.about(mean_x, mean_y)
        values, axes = torch.linalg.eigh(xx)
        return _Path(mean_x, mean_y, values.clamp_min(0), axes, axes.T @ xy)

    def chosen(self, alphas: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (D, T) and intercepts (T,) with one alpha for each target (T,)."""
        weights = self.axes @ (self.rotated / (self.values[:, None] + alphas))
        return weights, self.mean_y - self.mean_x @ weights

    def validate(self, held: _Moments, y: Tensor, alphas: Tensor) -> Tensor:
        """R2 (A, T) on other samples, given as their sums and their targets (n, T).

        The squared residuals of all A T fits follow from the sums, y'y - 2 w'b + w'Gw: no sample is visited.
        """
        spread = (y - y.mean(0)).square().sum(0)
        if bool((spread == 0).any()):
            constant = (spread == 0).nonzero().flatten().tolist()
            raise InputError(f"targets {constant} are constant in a validation fold: R2 has no meaning; leave them out")
        xx, xy = held.about(self.mean_x, self.mean_y)
        inverse = 1 / (self.values[:, None] + alphas)  # (D, A)
        linear = inverse.T @ (self.rotated * (self.axes.T @ xy))  # (A, T)
        far, near = self._split(self.axes.T @ xx @ self.axes)
        square = 2 * inverse.T @ (self.rotated * (far @ self.rotated))
        square += inverse.square().T @ (self.rotated * (near @ self.rotated))
        return 1 - ((y - self.mean_y).square().sum(0) - 2 * linear + square) / spread

    def _split(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """What makes w'Gw of all alphas two matrix products; G (D, D) in these axes, w_i = r_i / (l_i + alpha).

        By partial fractions 1 / ((l_i + alpha) (l_j + alpha)) = (1 / (l_i + alpha) - 1 / (l_j + alpha)) / (l_j - l_i),
        so alpha leaves the double sum: the first matrix is G_ij / (l_j - l_i). Pairs too near each other for that are
        in the second one, with the mean of their two squares, which is as exact as they are near.
        """
        gap = self.values - self.values[:, None]  # l_j - l_i
        larger = torch.maximum(self.values, self.values[:, None])
        close = gap.abs() <= _NEAR * larger + _NOISE * self.values.max()
        return torch.where(close, 0.0, matrix / torch.where(close, 1.0, gap)), torch.where(close, matrix, 0.0)


def fit_path(
    features: Tensor,
    targets: NDArray[np.float64],
    alphas: tuple[float, ...] = ALPHAS,
    folds: int = 5,
    seed: int = 0,
    standardise: bool = True,
    joint: bool = False,
) -> RidgeFit:
    """Choose alpha by the mean validation R2 over seeded folds and fit on everything with it.

    features (N, D), targets (N, T); standardised features use the mean and std of all training samples. A target that
    is constant in a fold's validation part has no R2: InputError names it.
    """
    x, y = features.double(), torch.from_numpy(np.asarray(targets, dtype=np.float64)).to(features.device)
    _check(x, y, folds)
    if len(x) < x.shape[1]:
        return _of_few(x, y, alphas, folds, seed, standardise, joint)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x))).to(x.device)
    mean, offset, grid = x.mean(0), y.mean(0), torch.tensor(alphas, dtype=torch.float64, device=x.device)
    held = order.tensor_split(folds)
    sums = [functools.partial(_sums_about, mean, offset, x, y, rows) for rows in held]
    parts = _beside_each_other(sums, x.device)
    whole = functools.reduce(operator.add, parts)
    if not bool(torch.isfinite(whole.xx.diagonal()).all()) or not bool(torch.isfinite(whole.y).all()):
        raise InputError("features or targets are not finite: the backbone or the targets are broken")
    scale = _scale((whole.xx.diagonal() / len(x)).sqrt(), mean, standardise)
    whole, parts = whole.over(scale), [part.over(scale) for part in parts]

    def scored(part: _Moments, rows: Tensor) -> Tensor:
        return _Path.of(whole - part).validate(part, _taken(y, rows, offset), grid)

    scores_of = [functools.partial(scored, part, rows) for part, rows in zip(parts, held, strict=True)]
    *found, last = _beside_each_other([*scores_of, functools.partial(_Path.of, whole)], x.device)
    scores = torch.stack(found).mean(0)
    best = scores.mean(1).argmax().expand(y.shape[1]) if joint else scores.argmax(0)
    weights, bias = last.chosen(grid[best])
    chosen = weights / scale[:, None]
    return RidgeFit(chosen, bias + offset - mean @ chosen, grid[best].cpu().numpy(), scores.cpu().numpy())


def _sums_about(mean: Tensor, offset: Tensor, x: Tensor, y: Tensor, rows: Tensor) -> _Moments:
    return _Moments.of(_taken(x, rows, mean), _taken(y, rows, offset))


def _taken(x: Tensor, rows: Tensor, mean: Tensor) -> Tensor:
    return x.index_select(0, rows).sub_(mean)


def _of_few(
    x: Tensor, y: Tensor, alphas: tuple[float, ...], folds: int, seed: int, standardise: bool, joint: bool
) -> RidgeFit:
    """The same of fewer samples than features, in as many directions as there are samples.

    All weights of ridge lie in the span of the samples, whose axes Q (D, N) leave its penalty as it is: |Q v| = |v|. So
    N x N matrices take the place of D x D ones.
    """
    mean = x.mean(0)
    z = x - mean
    scale = _scale(z.square().mean(0).sqrt(), mean, standardise)
    z /= scale
    axes = torch.linalg.qr(z.T).Q
    fit = fit_path(z @ axes, y.cpu().numpy(), alphas, folds, seed, standardise=False, joint=joint)
    weights = axes @ fit.weights / scale[:, None]
    return RidgeFit(weights, fit.bias - mean @ weights, fit.alphas, fit.scores)


def _scale(spread: Tensor, mean: Tensor, standardise: bool) -> Tensor:
    """What features (D,) are divided by; 1 where one is constant."""
    return torch.where(spread > 1e-6 * mean.abs(), spread, 1.0) if standardise else torch.ones_like(mean)


def _beside_each_other(works: Sequence[Callable[[], Any]], device: torch.device) -> list[Any]:
    """What they give, in their order, each on one core: a second one hardly helps an eigenbasis. A GPU takes turns."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [work() for work in works]
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda work: work(), works))
    finally:
        torch.set_num_threads(threads)


def squared(x: Tensor) -> Tensor:
    """(N, D) -> x'x (D, D)."""
    return _product(x, x)


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x'y; on a CPU by NumPy, which sees where this is x'x, symmetric, and computes half of it."""
    return torch.from_numpy(x.numpy().T @ y.numpy()) if x.device.type == "cpu" else x.T @ y


def _check(x: Tensor, y: Tensor, folds: int) -> None:
    if y.ndim != 2 or len(x) != len(y):
        raise InputError(f"ridge needs features (N, D) and targets (N, T), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not 2 <= folds <= len(x) // 2:
        raise InputError(f"cannot make {folds} folds of {len(x)} samples for R2: use 2 to {len(x) // 2} folds")
