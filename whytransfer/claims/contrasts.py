"""The arithmetic that effects share: a number per seed out of the table, and functions of such numbers seed by seed.

Everything is {seed: value}: each seed gives one value of an effect, and only then is there a mean and an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev

from whytransfer.claims.claim import Effect, Scale
from whytransfer.claims.models import named
from whytransfer.claims.suite import setup_of
from whytransfer.errors import InputError
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import Sign, by_pairs, rank_error

BySeed = Mapping[int, float]


def score(scores: Scores, scale: Scale, backbone: str, item: str, metric: str) -> dict[int, float]:
    """{seed: value} of a backbone by its name in `models`."""
    return scores.by_seed(named(setup_of(scale), backbone), item, metric)


def difference(scores: Scores, scale: Scale, one: str, other: str, item: str, metric: str) -> dict[int, float]:
    """{seed: one - other}, paired by seed."""
    return by_pairs(score(scores, scale, one, item, metric), score(scores, scale, other, item, metric))


def over_seeds(function: Callable[..., float], *columns: BySeed) -> dict[int, float]:
    """{seed: function(value of each column)} for the seeds that all columns have; InputError where there is none."""
    seeds = [seed for seed in columns[0] if all(seed in column for column in columns)]
    if not seeds:
        raise InputError("no seed has every value that is compared: run the missing ones")
    return {seed: function(*(column[seed] for column in columns)) for seed in seeds}


def mean_of(columns: Sequence[BySeed]) -> dict[int, float]:
    """{seed: mean over the columns}."""
    return over_seeds(lambda *values: fmean(values), *columns)


def spread_of(columns: Sequence[BySeed]) -> dict[int, float]:
    """{seed: standard deviation over the columns}, that of the columns themselves, not of a population behind them."""
    return over_seeds(lambda *values: pstdev(values), *columns)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line through points (x, y); InputError where all x are one."""
    middle = fmean(x)
    width = sum((a - middle) ** 2 for a in x)
    if not width:
        raise InputError(f"a slope needs two different places, got {list(x)}")
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / width


def of_ranks(name: str, sign: Sign, rho: BySeed, models: int, paper: str) -> Effect:
    """The effect of a rank correlation over so many models, which are as uncertain as its seeds."""
    return Effect(name, sign, rho, "rho", paper, beside=rank_error(models), most=1.0)


def speedup(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """log2 of how many times fewer epochs `one` needs for equal scores; {epochs: score}, higher is better.

    Asked at the longest run of `other`, and, where `one` never gets there, at the longest of `one`: at what length
    does each first reach the lower of the two final scores? Scores are joined by lines over log epochs, and the best so
    far counts. A score that the shortest run has already passed makes the answer a bound: it lies further from 0.
    """
    goal = min(max(one.values()), max(other.values()))
    return math.log2(_reached(other, goal) / _reached(one, goal))


def contrast(
    scores: Scores, scale: Scale, name: str, sign: Sign, pair: tuple[str, str], of: tuple[str, str], paper: str,
    unit: str = "points", margin: float | None = None,
) -> Effect:  # fmt: skip
    """The commonest effect: pair[0] - pair[1] of an (item, metric)."""
    return Effect(name, sign, difference(scores, scale, *pair, *of), unit, paper, margin)


def _reached(curve: Mapping[int, float], goal: float) -> float:
    """The epochs at which a curve first reaches a score, at least those of its shortest run."""
    before: tuple[float, float] | None = None
    for epochs, value in sorted(curve.items()):
        if value >= goal:
            if before is None:
                return float(epochs)
            share = (goal - before[1]) / (value - before[1])
            return 2 ** (math.log2(before[0]) + share * (math.log2(epochs) - math.log2(before[0])))
        before = float(epochs), max(value, before[1] if before else value)
    raise ValueError(f"the curve {dict(curve)} does not reach {goal}")
