"""Ridge regression over a whole path of alphas in closed form: one eigendecomposition per fold serves them all.

Objective, scikit-learn's: |Y - X W - b|^2 + alpha |W|^2 with a free intercept b; the grid is that of the logistic
readout, alpha = 10^-6 ... 10^5 in quarter decades. Each target chooses its own alpha (`joint` makes them share one).

Letters: N samples, D features, T targets, A alphas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.errors import InputError

ALPHAS = tuple(float(a) for a in np.logspace(-6, 5, 45))
_ROWS = 8192


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
        return _Moments(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)

    def __sub__(self, part: _Moments) -> _Moments:
        return _Moments(self.n - part.n, self.x - part.x, self.y - part.y, self.xx - part.xx, self.xy - part.xy)

    def path(self, alphas: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (D, A, T) and intercepts (A, T) of every alpha."""
        mean_x, mean_y = self.x / self.n, self.y / self.n
        values, axes = torch.linalg.eigh(self.xx - self.n * torch.outer(mean_x, mean_x))
        rotated = axes.T @ (self.xy - self.n * torch.outer(mean_x, mean_y))  # (D, T)
        shrunk = rotated[:, None] / (values.clamp_min(0)[:, None] + alphas)[:, :, None]  # (D, A, T)
        weights = (axes @ shrunk.flatten(1)).view(shrunk.shape)
        return weights, mean_y - torch.einsum("d,dat->at", mean_x, weights)


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
    mean, spread = x.mean(0), x.std(0, correction=0)
    scale = torch.where(spread > 1e-6 * mean.abs(), spread, 1.0) if standardise else torch.ones_like(spread)
    x, offset = (x - mean) / scale, y.mean(0)
    y, grid = y - offset, torch.tensor(alphas, dtype=torch.float64, device=x.device)
    parts = np.array_split(np.random.default_rng(seed).permutation(len(x)), folds)
    held = [torch.from_numpy(np.sort(part)).to(x.device) for part in parts]
    whole = _Moments.of(x, y)
    scores = torch.stack([_validate(whole, x[rows], y[rows], grid) for rows in held]).mean(0)  # (A, T)
    best = scores.mean(1).argmax().expand(y.shape[1]) if joint else scores.argmax(0)
    weights, bias = whole.path(grid)
    target = torch.arange(y.shape[1], device=x.device)
    chosen = weights[:, best, target] / scale[:, None]
    return RidgeFit(chosen, bias[best, target] + offset - mean @ chosen, grid[best].cpu().numpy(), scores.cpu().numpy())


def _check(x: Tensor, y: Tensor, folds: int) -> None:
    if y.ndim != 2 or len(x) != len(y):
        raise InputError(f"ridge needs features (N, D) and targets (N, T), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not 2 <= folds <= len(x) // 2:
        raise InputError(f"cannot make {folds} folds of {len(x)} samples for R2: use 2 to {len(x) // 2} folds")
    if not bool(torch.isfinite(x).all()) or not bool(torch.isfinite(y).all()):
        raise InputError("features or targets are not finite: the backbone or the targets are broken")


def _validate(whole: _Moments, x: Tensor, y: Tensor, alphas: Tensor) -> Tensor:
    """R2 (A, T) on held-out samples of the fits on all others."""
    weights, bias = (whole - _Moments.of(x, y)).path(alphas)
    predicted = (x @ weights.flatten(1)).view(len(x), *weights.shape[1:]) + bias
    spread = (y - y.mean(0)).square().sum(0)
    if bool((spread == 0).any()):
        constant = (spread == 0).nonzero().flatten().tolist()
        raise InputError(f"targets {constant} are constant in a validation fold: R2 has no meaning; leave them out")
    return 1 - (y[:, None] - predicted).square().sum(0) / spread
