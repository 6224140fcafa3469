"""Kernel ridge regression with Gaussian kernels over a grid of strengths and widths [Ericsson 2022, code].

(K + alpha I) c = y with K = exp(-gamma |x - x'|^2) on features standardised by the samples of the fit, alpha in 1 ...
10^-4 and gamma in 10^-5 ... 10^2. Each target takes the pair with the best mean validation R2 over seeded folds, and
is fitted again on everything. Targets are centred, because kernel ridge has no intercept (the published code does not:
`centre=False`).

The distances of a fold are taken once, its kernel once per gamma. The five alphas are five Cholesky factorisations:
measured, half the time of the one eigendecomposition that would serve them all, and half its memory.

Letters: N samples, D features, T targets, A alphas, G gammas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer import progress
from whytransfer.errors import InputError

ALPHAS = (1.0, 0.1, 0.01, 0.001, 0.0001)
GAMMAS = tuple(float(g) for g in np.logspace(-5, 2, 8))
MOST = 20_480  # samples: three N x N matrices of float64 are held at a time, 10 GB of them; the paper takes as many
_ROWS = 2048


@dataclass(frozen=True)
class KernelFit:
    """Functions of raw features for T targets, and how their alphas and gammas were chosen."""

    samples: Tensor  # (N, D) float64, standardised
    mean: Tensor  # (D,)
    scale: Tensor  # (D,)
    duals: Tensor  # (N, T)
    offset: Tensor  # (T,)
    alphas: NDArray[np.float64]  # (T,)
    gammas: NDArray[np.float64]  # (T,)
    scores: NDArray[np.float64]  # (G, A, T) mean validation R2

    def predict(self, features: Tensor) -> NDArray[np.float64]:
        """(B, D) -> (B, T)."""
        parts = [self._rows((part.double() - self.mean) / self.scale) for part in features.split(_ROWS)]
        return torch.cat(parts).cpu().numpy()

    def _rows(self, x: Tensor) -> Tensor:
        distances, out = squared_distances(x, self.samples), self.offset.repeat(len(x), 1)
        for gamma in np.unique(self.gammas):
            own = torch.from_numpy(self.gammas == gamma).to(x.device)
            out[:, own] += torch.exp(-gamma * distances) @ self.duals[:, own]
        return out


def fit_grid(
    features: Tensor,
    targets: NDArray[np.float64],
    alphas: tuple[float, ...] = ALPHAS,
    gammas: tuple[float, ...] = GAMMAS,
    folds: int = 5,
    seed: int = 0,
    centre: bool = True,
    most: int = MOST,
) -> KernelFit:
    """Choose alpha and gamma for each target by cross-validation and fit on everything; (N, D) and (N, T).

    Of equal scores the smaller gamma, then the larger alpha. InputError above `most` samples: memory grows with N^2.
    """
    x = features.double()
    y = torch.from_numpy(np.asarray(targets, dtype=np.float64)).to(x.device)
    _check(x, y, folds, most)
    parts = np.array_split(np.random.default_rng(seed).permutation(len(x)), folds)
    scores = torch.zeros(len(gammas), len(alphas), y.shape[1], dtype=torch.float64, device=x.device)
    with progress.bar("kernel ridge: folds and widths", folds * len(gammas)) as update:
        for f, held in enumerate(parts):
            part = _Fold(x, y, held, centre)
            for g, gamma in enumerate(gammas):
                scores[g] += part.scores(gamma, alphas) / folds
                update(f * len(gammas) + g + 1)
            del part  # its matrices, before those of the next
    best = scores.flatten(0, 1).argmax(0).cpu().numpy()  # (T,)
    chosen = np.array(gammas)[best // len(alphas)], np.array(alphas)[best % len(alphas)]
    return _refit(x, y, *chosen, scores.cpu().numpy(), centre)


class _Fold:
    """The samples of one fold: distances within the training part and from the held-out part, taken once."""

    def __init__(self, x: Tensor, y: Tensor, held: NDArray[np.int64], centre: bool) -> None:
        out = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        out[torch.from_numpy(held).to(x.device)] = True
        mean, scale = _scaling(x[~out])
        kept, seen = (x[~out] - mean) / scale, (x[out] - mean) / scale
        self.within, self.between = squared_distances(kept, kept), squared_distances(seen, kept)
        self.offset = y[~out].mean(0) * centre
        self.y, self.truth = y[~out] - self.offset, y[out]
        self.spread = (self.truth - self.truth.mean(0)).square().sum(0)
        if bool((self.spread == 0).any()):
            constant = (self.spread == 0).nonzero().flatten().tolist()
            raise InputError(f"targets {constant} are constant in a validation fold: R2 has no meaning; leave them out")

    def scores(self, gamma: float, alphas: tuple[float, ...]) -> Tensor:
        """R2 (A, T) on the held-out part."""
        kernel, across = torch.exp(-gamma * self.within), torch.exp(-gamma * self.between)
        found = []
        for alpha in alphas:
            predicted = across @ solved(kernel, alpha, self.y) + self.offset
            found.append(1 - (self.truth - predicted).square().sum(0) / self.spread)
        return torch.stack(found)


def _refit(
    x: Tensor,
    y: Tensor,
    gammas: NDArray[np.float64],
    alphas: NDArray[np.float64],
    scores: NDArray[np.float64],
    centre: bool,
) -> KernelFit:
    mean, scale = _scaling(x)
    samples, offset = (x - mean) / scale, y.mean(0) * centre
    distances, duals = squared_distances(samples, samples), torch.zeros_like(y)
    for gamma in np.unique(gammas):
        kernel = torch.exp(-gamma * distances)
        for alpha in np.unique(alphas[gammas == gamma]):
            own = torch.from_numpy((gammas == gamma) & (alphas == alpha)).to(x.device)
            duals[:, own] = solved(kernel, alpha, y[:, own] - offset[own])
    return KernelFit(samples, mean, scale, duals, offset, alphas, gammas, scores)


def solved(kernel: Tensor, alpha: float, y: Tensor) -> Tensor:
    """(N, T) with (kernel + alpha I) solved = y; InputError where it cannot be inverted."""
    diagonal = kernel.diagonal()
    diagonal += alpha
    try:
        factor = torch.linalg.cholesky(kernel)
    except torch.linalg.LinAlgError:
        raise InputError(
            f"the kernel of {len(kernel)} samples is singular at alpha {alpha:g}: features repeat, use a larger alpha"
        ) from None
    finally:
        diagonal -= alpha
    return torch.cholesky_solve(y, factor)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (M, D) -> (N, M), in one N x M matrix."""
    out = torch.addmm(b.square().sum(1).expand(len(a), -1), a, b.T, alpha=-2)
    return out.add_(a.square().sum(1)[:, None]).clamp_(min=0)


def _scaling(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,); 1 where a feature is constant."""
    mean, spread = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)


def _check(x: Tensor, y: Tensor, folds: int, most: int) -> None:
    if y.ndim != 2 or len(x) != len(y) or x.ndim != 2:
        raise InputError(
            f"kernel ridge needs features (N, D) and targets (N, T), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if len(x) > most:
        raise InputError(
            f"kernel ridge takes at most {most:,} training images: memory grows with their square ("
            f"{8 * 3 * len(x) ** 2 / 1e9:,.0f} GB for {len(x):,}). Take a share of them (--labels), or --task "
            "ridge-readout."
        )
    if not 2 <= folds <= len(x) // 2:
        raise InputError(f"cannot make {folds} folds of {len(x)} samples for R2: use 2 to {len(x) // 2} folds")
    if not bool(torch.isfinite(x).all()) or not bool(torch.isfinite(y).all()):
        raise InputError("features or targets are not finite: the backbone or the targets are broken")
