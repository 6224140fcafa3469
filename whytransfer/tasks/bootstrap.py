"""How sure a number is: percentile bootstrap over the test images [Efron & Tibshirani 1993, chapter 13].

Every metric here is a function of sums over images, so a resample is a row of counts and all resamples are one matrix
product. The interval covers the choice of test images only: not the training set, not the seed of the pretraining.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # sums (..., S) -> metric (...)

_CELLS = 1 << 22  # counts held at a time


def interval(
    per_image: Array, statistic: Statistic, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """(low, high) of statistic(sums of per_image (N, S) over images drawn with replacement).

    Equal seeds draw equal images, so intervals of two models on one test set are paired.
    """
    low, high = percentiles(resampled(len(per_image), lambda counts: statistic(counts @ per_image), draws, seed), level)
    return float(low), float(high)


def resampled(n: int, of_counts: Statistic, draws: int = 2000, seed: int = 0) -> Array:
    """(draws, ...) values of a metric of how often each of n images is drawn, counts (B, N) -> (B, ...).

    For metrics that are no function of sums (average precision), and for many metrics of the same draws at once.
    """
    return np.concatenate([of_counts(counts) for counts in resamples(n, draws, seed)])


def percentiles(values: Array, level: float = 0.95) -> Array:
    """(2, ...) the ends of the interval, of values (draws, ...)."""
    return np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)


def around(measured: Array | float, drawn: Array, level: float = 0.95) -> Array:
    """(2, ...) the ends of the interval of `measured` (...), of its values in draws (draws, ...) less their bias.

    For what is higher or lower in resamples than in the images themselves. Average precision is: an image drawn twice
    counts as two that were found together, the more so the rarer a class is, so percentiles may lie beside the value.
    So is the best of several groups less the worst. Ends are nan where no draw is a number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what is no number in any draw
        return percentiles(drawn, level) - (np.nanmean(drawn, axis=0) - measured)


def paired_difference(
    one: Array, other: Array, statistic: Statistic, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """(difference, low, high) of statistic(one) - statistic(other), both (N, S) on the same N test images."""
    if one.shape != other.shape:
        raise ValueError(f"a paired difference needs the same test images and sums: {one.shape} and {other.shape}")
    width = one.shape[1]
    both = lambda sums: statistic(sums[..., :width]) - statistic(sums[..., width:])  # noqa: E731
    table = np.concatenate([one, other], axis=1)
    return (float(both(table.sum(0))), *interval(table, both, draws, seed, level))


def resamples(n: int, draws: int, seed: int) -> Iterator[Array]:
    """Blocks (b, N) of how often each image is drawn; `draws` rows in all."""
    chance = np.random.default_rng(seed)
    rows = max(1, _CELLS // n)
    for start in range(0, draws, rows):
        b = min(rows, draws - start)
        picks = chance.integers(0, n, (b, n)) + n * np.arange(b)[:, None]
        yield np.bincount(picks.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


def top1(correct: NDArray[np.bool_]) -> tuple[Array, Statistic]:
    """Sums and statistic of the share of images that are right, in %."""
    return np.stack([correct, np.ones_like(correct)], axis=1).astype(np.float64), lambda s: 100 * s[..., 0] / s[..., 1]


def mean_per_class(correct: NDArray[np.bool_], labels: NDArray[np.int64]) -> tuple[Array, Statistic]:
    """Sums and statistic of the mean over classes of the share that is right, in %; absent classes do not count."""
    members = labels[:, None] == np.unique(labels)  # (N, K)
    k = members.shape[1]

    def statistic(sums: Array) -> Array:
        right, all_ = sums[..., :k], sums[..., k:]
        return 100 * np.divide(right, all_, out=np.zeros_like(right), where=all_ > 0).sum(-1) / (all_ > 0).sum(-1)

    return np.concatenate([members & correct[:, None], members], axis=1).astype(np.float64), statistic


def r2(truth: Array, predicted: Array) -> tuple[Array, Statistic]:
    """Sums and statistic of R2 = 1 - residual / variance, averaged over T targets; both arguments (N,) or (N, T)."""
    table, each = r2_each(truth, predicted)
    return table, lambda sums: each(sums).mean(-1)


def r2_each(truth: Array, predicted: Array) -> tuple[Array, Statistic]:
    """Sums and statistic of the R2 of every target, (..., T); both arguments (N,) or (N, T)."""
    truth, predicted = truth.reshape(len(truth), -1), predicted.reshape(len(truth), -1)
    t = truth.shape[1]
    truth, predicted = truth - truth.mean(0), predicted - truth.mean(0)  # sums of squares lose no digits
    table = np.concatenate([(truth - predicted) ** 2, truth, truth**2, np.ones((len(truth), 1))], axis=1)

    def statistic(sums: Array) -> Array:
        n = sums[..., -1:]
        spread = sums[..., 2 * t : 3 * t] - sums[..., t : 2 * t] ** 2 / n
        return 1 - np.divide(sums[..., :t], spread, out=np.full_like(spread, np.nan), where=spread > 0)

    return table, statistic
