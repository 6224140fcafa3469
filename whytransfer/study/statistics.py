"""How sure a comparison is: the seed of the pretraining is the unit, because backbones are what is compared.

A bootstrap over test images (tasks/bootstrap.py) covers the choice of images alone; another seed gives another
backbone. With the three to five seeds that anyone can pay for, resampling them is far too narrow (three seeds have ten
resamples), so the share of the seeds is Student's t everywhere, and images are resampled where their tables are kept.

Letters: K seeds, N test images, S sums per image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import optimize, stats

from whytransfer.errors import InputError
from whytransfer.tasks.bootstrap import Array, Statistic, resampled

Verdict = Literal["holds", "contradicted", "undecided"]
Sign = Literal["+", "-", "0"]


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds and where it lies with 95 % confidence; from one seed the ends are infinite: not known."""

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether there are ends to show: two seeds or more."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def mean_interval(
    values: Iterable[float], level: float = 0.95, beside: float = 0.0, most: float = math.inf
) -> Interval:
    """Student's t interval of the mean over seeds [Student 1908]; InputError without values or with one not finite.

    `beside` is a standard error that the values share whatever their seed, as that of the models in `rank_error`; the
    interval is cut at +- `most`, the largest value there can be.
    """
    x = _finite(values)
    if len(x) == 1:
        return Interval(float(x[0]), -math.inf, math.inf, 1)
    of_seeds = float(stats.t.ppf((1 + level) / 2, len(x) - 1)) * _standard_error(x)
    half = math.hypot(of_seeds, float(stats.norm.ppf((1 + level) / 2)) * beside)
    mean = float(x.mean())
    return Interval(mean, max(mean - half, -most), min(mean + half, most), len(x))


def by_pairs(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """{seed: one - other} of the seeds that both have; InputError where there is none.

    Equal seeds share their images and draws, which the difference cancels.
    """
    seeds = [seed for seed in one if seed in other]
    if not seeds:
        raise InputError(
            f"no seed to compare by: one has seeds {sorted(one) or 'none'}, the other {sorted(other) or 'none'}. "
            "Run the missing ones."
        )
    return {seed: one[seed] - other[seed] for seed in seeds}


def paired_difference(one: Mapping[int, float], other: Mapping[int, float], level: float = 0.95) -> Interval:
    """Interval of the mean of one - other, {seed: value} both, over the seeds that both have."""
    return mean_interval(by_pairs(one, other).values(), level)


def p_value(values: Iterable[float]) -> float:
    """Two-sided p of Student's t test that the mean over seeds is 0; NaN from one seed, which cannot tell."""
    x = _finite(values)
    if len(x) == 1:
        return math.nan
    error = _standard_error(x)
    if error == 0:
        return 1.0 if x[0] == 0 else 0.0
    return float(2 * stats.t.sf(abs(float(x.mean())) / error, len(x) - 1))


def holm(p_values: Iterable[float]) -> Array:
    """(T,) p values adjusted for all T tests of a table [Holm 1979]: those under 0.05 are all true with 95 %.

    A NaN was no test: it stays and is not counted.
    """
    p = np.array(list(p_values), dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise InputError(f"p values lie between 0 and 1, got {p[(p < 0) | (p > 1)].tolist()}")
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)  # T, T - 1, ..., 1
    adjusted = p.copy()
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted


def ranks(values: Mapping[str, float], direction: Literal["higher", "lower"]) -> dict[str, float]:
    """{name: rank}, 1 is best; equal values share the mean of their ranks."""
    signed = np.array(list(values.values())) * (-1 if direction == "higher" else 1)
    return dict(zip(values, (float(rank) for rank in stats.rankdata(signed)), strict=True))


def rank_ranges(
    values: Mapping[str, Mapping[int, float]], direction: Literal["higher", "lower"], level: float = 0.95
) -> dict[str, tuple[int, int]]:
    """{name: (best, worst)} ranks that the seeds leave open, all of them right at once with 95 %; ties overlap.

    Best is 1 and one more for each that is surely better, by paired t tests with Holm's correction over all pairs
    [Mogstad et al. 2024, section 3, with Student's t for their bootstrap].
    """
    names = list(values)
    pairs = [(a, b, list(by_pairs(values[a], values[b]).values())) for a, b in combinations(names, 2)]
    adjusted = holm(p_value(differences) for _, _, differences in pairs)
    better, worse = dict.fromkeys(names, 0), dict.fromkeys(names, 0)  # how many are surely better, worse
    for (a, b, differences), p in zip(pairs, adjusted, strict=True):
        if p < 1 - level:
            winner, loser = (a, b) if (np.mean(differences) > 0) == (direction == "higher") else (b, a)
            better[loser] += 1
            worse[winner] += 1
    return {name: (1 + better[name], len(names) - worse[name]) for name in names}


def hierarchical_bootstrap(
    tables: Mapping[int, Array], statistic: Statistic, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interval of the mean over K seeds of statistic(sums over images), for other seeds and other test images.

    tables are {seed: (N, S)} on the same N images: a draw of images counts for all seeds. To each draw the share of
    the seeds is added, as wide as Student's t has it: without images' noise the answer is `mean_interval`.
    InputError where the tables differ in shape; with test images of their own for every seed, `mean_interval` of the
    scores has both shares in it already.
    """
    shapes = {table.shape for table in tables.values()}
    if len(shapes) != 1:
        raise InputError(f"seeds are to be scored on the same test images; their tables are {sorted(shapes) or 'none'}")
    n, width = shapes.pop()
    k = len(tables)
    side_by_side = np.concatenate(list(tables.values()), axis=1)  # (N, K S)

    def mean_over_seeds(counts: Array) -> Array:  # (B, N) -> (B,)
        return statistic((counts @ side_by_side).reshape(len(counts), k, width)).mean(axis=-1)

    each = np.array([statistic(table.sum(0)) for table in tables.values()], dtype=np.float64)  # (K,)
    if k == 1:
        return mean_interval(each)
    chance = np.random.default_rng((seed, 1))  # the images have the stream of `seed` alone
    of_seeds = chance.standard_t(k - 1, draws) * _standard_error(each)
    ends = np.nanquantile(resampled(n, mean_over_seeds, draws, seed) + of_seeds, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(each.mean()), float(ends[0]), float(ends[1]), k)


def hierarchical_difference(
    one: Mapping[int, Array], other: Mapping[int, Array], statistic: Statistic, draws: int = 2000, seed: int = 0,
    level: float = 0.95,
) -> Interval:  # fmt: skip
    """The same of statistic(one) - statistic(other), paired by seed and by test image."""
    seeds = [s for s in one if s in other]
    if not seeds:
        raise InputError(f"no seed to compare by: {sorted(one)} and {sorted(other)}")
    width = next(iter(one.values())).shape[1]
    both = {s: np.concatenate([one[s], other[s]], axis=1) for s in seeds}
    return hierarchical_bootstrap(
        both, lambda sums: statistic(sums[..., :width]) - statistic(sums[..., width:]), draws, seed, level
    )


def smallest_detectable(values: Iterable[float], power: float = 0.8, level: float = 0.95, beside: float = 0.0) -> float:
    """The true effect that so many seeds, scattered as these are, would have shown in 80 of 100 studies.

    Of the two-sided t test [Cohen 1988, chapter 2]. Infinite from one seed. What an undecided comparison
    has to say: effects under this size stay open.
    """
    x = _finite(values)
    if len(x) == 1:
        return math.inf
    error, df = _standard_error(x), len(x) - 1
    of_beside = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)) * beside
    if error == 0:
        return of_beside
    limit = stats.t.ppf((1 + level) / 2, df)
    # the spread that a study would see, by 2,000 equal shares of chance (scipy's noncentral t has NaN for 2 seeds)
    spread = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df) / df)

    def missing(shift: float) -> float:  # power still wanting where the true mean is `shift` standard errors
        found = stats.norm.sf(limit * spread - shift) + stats.norm.cdf(-limit * spread - shift)
        return power - float(found.mean())

    return math.hypot(float(optimize.brentq(missing, 0.0, 4 * limit + 10)) * error, of_beside)


def rank_error(models: int) -> float:
    """Standard error that the choice of models adds to Spearman's rho over so many of them; seeds do not show it.

    1 / sqrt(M - 1), exact where the two are not related [Kendall 1948], which is what a verdict asks about; too wide
    where they are.
    """
    if models < 2:
        raise InputError(f"a rank correlation needs two models at least, got {models}")
    return 1 / math.sqrt(models - 1)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rho of two measurements of the same models; InputError under three models or where one is constant."""
    if len(x) != len(y) or len(x) < 3:
        raise InputError(f"a rank correlation needs three models or more on both sides, got {len(x)} and {len(y)}")
    if len(set(x)) == 1 or len(set(y)) == 1:
        raise InputError("a rank correlation of equal values is not defined: all models have the same value")
    return float(stats.spearmanr(x, y).statistic)


def verdict(interval: Interval, sign: Sign, margin: float | None = None) -> Verdict:
    """What an effect's interval says of the sign that a finding gives it.

    "+" and "-" hold where the interval lies on that side of 0. "0" (no difference that matters) needs `margin`, the
    difference that would matter: it holds where the interval lies within +- margin, because an interval that merely
    covers 0 may be wide for want of seeds [Schuirmann 1987].
    """
    if sign == "0":
        if margin is None or margin <= 0:
            raise InputError(f'an effect of sign "0" needs the margin within which it counts as none, got {margin}')
        if -margin < interval.low and interval.high < margin:
            return "holds"
        return "contradicted" if interval.low > margin or interval.high < -margin else "undecided"
    low, high = (interval.low, interval.high) if sign == "+" else (-interval.high, -interval.low)
    return "holds" if low > 0 else "contradicted" if high < 0 else "undecided"


def _finite(values: Iterable[float]) -> Array:
    x = np.array(list(values), dtype=np.float64)
    if not len(x):
        raise InputError("an interval needs the value of one seed at least, got none")
    if not np.isfinite(x).all():
        raise InputError(f"an interval needs finite values, got {x.tolist()}")
    return x


def _standard_error(x: Array) -> float:
    """Of the mean of x (K,); exactly 0 for equal values, whose mean may be off by a rounding."""
    return 0.0 if (x == x[0]).all() else float(x.std(ddof=1) / math.sqrt(len(x)))
