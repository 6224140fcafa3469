"""The loss of depth and its metrics, which are sums over pixels: of the whole test set, not means over images.

Shape letters: B batch, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Direction = Literal["higher", "lower"]
LEAST = 1e-3  # a prediction under it counts as it: ratios and logarithms need positive numbers
BOUND = 1.25


def berhu(predicted: Tensor, truth: Tensor) -> Tensor:
    """The reverse Huber loss of depth maps (B, H, W), mean over pixels whose truth is a number; 0 where none is.

    |x| up to c, (x^2 + c^2) / (2 c) beyond, with c a fifth of the batch's largest |x| [Laina 2016, eq. 1 and 2]; no
    gradient runs through c.
    """
    known = ~truth.isnan()
    error = torch.where(known, predicted - torch.where(known, truth, 0), 0).abs()
    c = (0.2 * error.detach().max()).clamp(min=torch.finfo(error.dtype).tiny)
    return torch.where(error <= c, error, (error.square() + c * c) / (2 * c)).sum() / known.sum().clamp(min=1)


def sums_of(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> Array:
    """(7,) sums over pixels whose truth is a number, which are METRICS before they are means.

    How many there are; how many within a factor of 1.25, its square, its cube; squared, relative and log10 errors.
    """
    known = ~np.isnan(truth)
    d, t = np.maximum(predicted[known].astype(np.float64), LEAST), truth[known].astype(np.float64)
    ratio = np.maximum(d / t, t / d)
    within = [np.count_nonzero(ratio < BOUND**k) for k in (1, 2, 3)]
    errors = (np.square(d - t), np.abs(d - t) / t, np.abs(np.log10(d) - np.log10(t)))
    return np.array([len(t), *within, *(error.sum() for error in errors)], dtype=np.float64)


def _mean(column: int, sums: Array) -> Array:
    count = sums[..., 0]
    return np.divide(sums[..., column], count, out=np.full_like(count, np.nan), where=count > 0)


def _percent(column: int, sums: Array) -> Array:
    return 100 * _mean(column, sums)


def _root(sums: Array) -> Array:
    return np.sqrt(_mean(4, sums))


METRICS: dict[str, tuple[Callable[[Array], Array], str | None, Direction]] = {
    # statistic of sums (..., 7); unit, None for that of the set's depth; direction
    "delta<1.25": (partial(_percent, 1), "%", "higher"),
    "delta<1.25^2": (partial(_percent, 2), "%", "higher"),
    "delta<1.25^3": (partial(_percent, 3), "%", "higher"),
    "rmse": (_root, None, "lower"),
    "abs_rel": (partial(_mean, 5), "", "lower"),
    "log10": (partial(_mean, 6), "", "lower"),
}
