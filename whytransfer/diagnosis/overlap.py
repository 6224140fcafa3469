"""Two models on the same test images: do they fail together, and what lies between their scores?

Where an answer is right or wrong: Cohen's kappa of the two (0 is what chance gives models of these accuracies, 1 is the
same images), Jaccard's index of the images that are wrong with the value that chance would give beside it, and the
share of images that both have wrong, below which no choice between the two can get. Otherwise the rank correlation of
the images' errors. All intervals are 95 % over test images, drawn together for both models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whytransfer.diagnosis.answers import Answers
from whytransfer.diagnosis.transfer_map import spearman
from whytransfer.errors import InputError
from whytransfer.tasks import bootstrap
from whytransfer.tasks.bootstrap import Array

RANK_DRAWS = 500  # a rank correlation is computed anew for each draw


@dataclass(frozen=True)
class Measure:
    """A number on two models, its interval, and what else should be known of it."""

    name: str
    value: float
    low: float | None
    high: float | None
    told: Mapping[str, Any] = field(default_factory=dict)


def measures(one: Answers, other: Answers, draws: int = 2000, seed: int = 0) -> Iterator[Measure]:
    """How far two models fail on the same images; nothing where that has no meaning (neither is ever wrong)."""
    _same_images(one, other)
    if one.wrong is None or other.wrong is None:
        yield from _ranked(one.errors, other.errors, draws, seed)
        return
    a, b = one.wrong.astype(np.float64), other.wrong.astype(np.float64)
    table = np.stack([a * b, a, b, np.ones_like(a)], axis=1)  # both, one, other, images
    sums = table.sum(0)
    told = {"wrong": [int(sums[1]), int(sums[2])], "both_wrong": int(sums[0])}
    expected = float(_jaccard(np.array([sums[1] * sums[2] / sums[3], *sums[1:]])))
    for name, statistic, more in (
        ("kappa of errors", kappa, {}),
        ("Jaccard of errors", _jaccard, {"by_chance": expected}),
        ("both wrong", lambda s: s[..., 0] / s[..., 3], {"by_chance": sums[1] * sums[2] / sums[3] ** 2}),
    ):
        value = float(statistic(sums))
        if math.isfinite(value):
            yield Measure(name, value, *bootstrap.interval(table, statistic, draws, seed), {**told, **more})


def gain(one: Answers, other: Answers, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """(difference, low, high) of what `one` has over `other`, positive where it is better, over the same images.

    The interval is moved by the bootstrap's bias where the metric has one (average precision).
    """
    _same_images(one, other)
    value = one.sign * (one.value - other.value)
    drawn = one.sign * (one.drawn(draws, seed) - other.drawn(draws, seed))
    low, high = bootstrap.around(value, drawn) if one.biased else bootstrap.percentiles(drawn)
    return value, float(low), float(high)


def kappa(sums: Array) -> Array:
    """Cohen's kappa of sums (..., 4): both wrong, one wrong, other wrong, images; NaN where both are constant."""
    both, a, b, n = np.moveaxis(sums, -1, 0)
    agree = (n - a - b + 2 * both) / n
    chance = (a * b + (n - a) * (n - b)) / n**2
    return np.divide(agree - chance, 1 - chance, out=np.full_like(agree, np.nan), where=chance < 1)


def _jaccard(sums: Array) -> Array:
    both, a, b, _ = np.moveaxis(sums, -1, 0)
    either = a + b - both
    return np.divide(both, either, out=np.full_like(either, np.nan), where=either > 0)


def _ranked(a: Array, b: Array, draws: int, seed: int) -> Iterator[Measure]:
    value = spearman(a, b)
    if not math.isfinite(value):
        return
    picks = np.random.default_rng(seed).integers(0, len(a), (min(draws, RANK_DRAWS), len(a)))
    low, high = bootstrap.percentiles(np.array([spearman(a[rows], b[rows]) for rows in picks]))
    yield Measure("rank correlation of errors", value, float(low), float(high))


def _same_images(one: Answers, other: Answers) -> None:
    if len(one) != len(other) or one.metric != other.metric:
        raise InputError(
            f"models are compared on the same images by the same metric, got {one.metric} of {len(one):,} and "
            f"{other.metric} of {len(other):,}"
        )
