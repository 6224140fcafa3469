"""Which of several backbones are better on the same test pictures, all comparisons right at once, and which are tied.

Every candidate has a score for each picture, and the score of a candidate is their mean. Differences of two candidates
are means over pictures too, with standard errors from the differences picture by picture: what is hard for all of them
cancels. The intervals of all pairs hold together with 95 %: their half width is q standard errors, q the 95 % point of
the largest |difference - its mean| / error over all pairs in bootstrap draws of the pictures (for independent normal
scores that is Tukey's studentised range over sqrt 2). So choosing the best of many is paid for.

Letters: N pictures, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from whytransfer.tasks import bootstrap

Array = NDArray[np.float64]
DRAWS = 2000
POWER = 0.8


@dataclass(frozen=True)
class Pair:
    """One candidate over another: the difference, where it lies, and what N pictures can show."""

    difference: float
    low: float
    high: float
    error: float  # standard error
    q: float  # half width of the interval in standard errors
    n: int

    @property
    def tied(self) -> bool:
        """Whether the interval covers 0."""
        return self.low <= 0 <= self.high

    @property
    def detectable(self) -> float:
        """The true difference that N pictures would have shown in 80 of 100 cases."""
        return float((self.q + stats.norm.ppf(POWER)) * self.error)

    def pictures_for(self, difference: float) -> int:
        """Test pictures, these included, that would show such a difference in 80 of 100 cases."""
        return int(np.ceil(self.n * (self.detectable / abs(difference)) ** 2))


@dataclass(frozen=True)
class Comparison:
    """Scores (N, C), the same pictures in each column; higher is better.

    `widen` multiplies all standard errors: for what the pictures do not show (out_of_fold.py).
    """

    scores: Array
    seed: int = 0
    draws: int = DRAWS
    widen: float = 1.0

    @cached_property
    def _drawn(self) -> Array:
        """(draws, C) means over drawn pictures."""
        n = len(self.scores)
        return bootstrap.resampled(n, lambda counts: counts @ self.scores / n, self.draws, self.seed)

    @cached_property
    def means(self) -> Array:
        """(C,)."""
        return self.scores.mean(0)

    @cached_property
    def _errors(self) -> Array:
        """(C, C) standard errors of the differences, over pictures alone."""
        covariance = np.cov(self.scores, rowvar=False).reshape(self.scores.shape[1], -1)
        spread = covariance.diagonal()
        variance = np.maximum(spread[:, None] + spread - 2 * covariance, 0)
        variance[variance < 1e-12 * (spread[:, None] + spread)] = 0  # equal scores, but for rounding
        return np.sqrt(variance / len(self.scores))

    @cached_property
    def q(self) -> float:
        """Half width of all intervals together, in standard errors; that of a single pair is never undercut."""
        alone = float(stats.t.ppf(0.975, len(self.scores) - 1))
        above = np.triu(self._errors > 0, 1).nonzero()
        if not len(above[0]):
            return alone
        off = self._drawn - self.means
        largest = np.zeros(self.draws)
        for a, b in zip(*above, strict=True):
            np.maximum(largest, np.abs(off[:, a] - off[:, b]) / self._errors[a, b], out=largest)
        return max(alone, float(np.quantile(largest, 0.95)))

    @property
    def leader(self) -> int:
        """The candidate of the highest mean, of equal ones the first."""
        return int(self.means.argmax())

    def pair(self, one: int, other: int) -> Pair:
        """One candidate over the other."""
        difference, error = float(self.means[one] - self.means[other]), float(self.widen * self._errors[one, other])
        half = self.q * error
        return Pair(difference, difference - half, difference + half, error, self.q, len(self.scores))

    def tied_with_leader(self) -> list[int]:
        """The others whose interval with the leader covers 0, best first."""
        others = [c for c in np.argsort(-self.means, kind="stable").tolist() if c != self.leader]
        return [c for c in others if self.pair(self.leader, c).tied]

    def interval(self, candidate: int) -> tuple[float, float]:
        """(low, high) of the mean of one candidate, 95 % by itself."""
        mean = self.means[candidate]
        low, high = mean + self.widen * (bootstrap.percentiles(self._drawn[:, candidate]) - mean)
        return float(low), float(high)

    def best_in(self, candidate: int) -> float:
        """Per cent of the draws in which this candidate is ahead of all others; equal means share."""
        drawn = self.means + self.widen * (self._drawn - self.means)
        first = drawn >= drawn.max(1, keepdims=True) - 1e-9
        return float(100 * (first[:, candidate] / first.sum(1)).mean())


def picture_scores(correct: NDArray[np.bool_], labels: NDArray[np.int64], per_class: bool) -> Array:
    """(N, ...) scores whose mean is the accuracy in %, or the mean over classes of their accuracies."""
    weights = np.full(len(labels), 100.0)
    if per_class:
        sizes = np.bincount(labels)
        weights = 100.0 * len(labels) / (np.count_nonzero(sizes) * sizes[labels])
    return correct * weights.reshape(-1, *[1] * (correct.ndim - 1))
