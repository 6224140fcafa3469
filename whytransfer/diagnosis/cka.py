"""Linear CKA: do two backbones lay images out alike?  [Kornblith 2019, "Similarity of neural network representations"]

CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the Gram matrices K, L of the features of the same images: 1 for the
same up to rotation, scale and shift, 0 for features that share nothing. With fewer images than features the plain
estimate is far above 0 even for noise; the unbiased one [Song 2012, eq. 5; Nguyen 2021] is not, and may be under 0.

Shape letters: N images, D and E features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer import chance
from whytransfer.errors import InputError

FEWEST = 4  # images: the unbiased estimate divides by N - 3
MOST = 2000  # images that are compared: Gram matrices grow with their square
GROUPS = 20  # of images that are left out in turn for the interval


@dataclass(frozen=True)
class Similarity:
    """Unbiased linear CKA with its 95 % interval, the plain (biased) estimate beside it, and over how many images."""

    value: float
    low: float | None
    high: float | None
    plain: float
    images: int


def linear_cka(f: Tensor, g: Tensor) -> float:
    """The plain estimate of features (N, D) and (N, E) of the same images; in [0, 1], float64 inside."""
    k, l = _gram(f, "the first"), _gram(g, "the second")  # noqa: E741
    return _ratio(k, l, _hsic)


def unbiased_cka(f: Tensor, g: Tensor) -> float:
    """The unbiased estimate of features (N, D) and (N, E) of the same images; 1 at most, 0 on average for noise."""
    k, l = _gram(f, "the first"), _gram(g, "the second")  # noqa: E741
    return _ratio(k, l, _unbiased_hsic)


def similarity(f: Tensor, g: Tensor, names: tuple[str, str] = ("the first", "the second"), seed: int = 0) -> Similarity:
    """Linear CKA of features (N, D) and (N, E) of the same images, at most 2,000 of them drawn by the seed.

    The interval is a jackknife that leaves out one of 20 groups of images at a time [Efron & Tibshirani 1993, chapter
    11]: a bootstrap would hold images twice, which look alike to every backbone. It covers the choice of images.
    Raises InputError for fewer than 4 images, features that are not finite, and features without any spread.
    """
    if len(f) != len(g):
        raise InputError(f"CKA compares features of the same images, got {len(f):,} and {len(g):,}")
    order = chance.permutation(seed, 0, len(f))[:MOST]
    rows = torch.from_numpy(order)
    k, l = (_gram(x[rows.to(x.device)], name) for x, name in zip((f, g), names, strict=True))  # noqa: E741
    value = _ratio(k, l, _unbiased_hsic)
    low, high = _jackknife(k, l, value)
    return Similarity(value, low, high, _ratio(k, l, _hsic), len(rows))


def _gram(features: Tensor, name: str) -> Tensor:
    """(N, N) float64 inner products of centred features; InputError naming whose features cannot be compared."""
    if features.ndim != 2 or len(features) < FEWEST:
        raise InputError(f"CKA needs features (N, D) of {FEWEST} images or more, got {tuple(features.shape)} of {name}")
    if not bool(torch.isfinite(features).all()):
        rows = int((~torch.isfinite(features).all(1)).sum())
        raise InputError(f"{name}: {rows:,} of {len(features):,} images have features that are not finite")
    x = features.double()
    mean = x.mean(0)
    x = x - mean
    if float(x.abs().max()) <= 1e-6 * float(mean.abs().max()):
        raise InputError(f"{name}: all features are the same in all {len(features):,} images: the backbone is broken")
    return x @ x.T


def _ratio(k: Tensor, l: Tensor, hsic) -> float:  # type: ignore[no-untyped-def]  # noqa: E741
    own = hsic(k, k) * hsic(l, l)
    return hsic(k, l) / math.sqrt(own) if own > 0 else math.nan


def _hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """tr(K H L H), up to a factor: of centred features tr(K L)."""
    return float((k * l).sum())


def _unbiased_hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """HSIC_1 of Song 2012, equation 5: without the diagonals, which compare an image with itself."""
    n = len(k)
    a, b = (x - torch.diag(x.diagonal()) for x in (k, l))
    rows = a.sum(1), b.sum(1)
    both = float((a * b).sum()) + float(rows[0].sum() * rows[1].sum()) / ((n - 1) * (n - 2))
    return (both - 2 * float(rows[0] @ rows[1]) / (n - 2)) / (n * (n - 3))


def _jackknife(k: Tensor, l: Tensor, value: float) -> tuple[float | None, float | None]:  # noqa: E741
    """Ends of the interval; None where groups would leave too few images. Rows are in a random order already."""
    n = len(k)
    if n < 2 * GROUPS:
        return None, None
    from scipy.stats import t

    found = np.empty(GROUPS)
    for group in range(GROUPS):
        kept = torch.from_numpy(_without(group, n)).to(k.device)
        found[group] = _ratio(k[kept][:, kept], l[kept][:, kept], _unbiased_hsic)
    error = math.sqrt((GROUPS - 1) / GROUPS * float(((found - found.mean()) ** 2).sum()))
    reach = float(t.ppf(0.975, GROUPS - 1)) * error
    return value - reach, min(value + reach, 1.0)


def _without(group: int, n: int) -> NDArray[np.int64]:
    return np.flatnonzero(np.arange(n) % GROUPS != group)
