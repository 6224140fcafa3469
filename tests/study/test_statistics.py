"""Statistics over seeds: against scipy, worked examples, and how often intervals cover what they should."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from whytransfer.errors import InputError
from whytransfer.study.statistics import (
    Interval,
    by_pairs,
    hierarchical_bootstrap,
    hierarchical_difference,
    holm,
    mean_interval,
    p_value,
    paired_difference,
    rank_correlation,
    rank_error,
    rank_ranges,
    ranks,
    smallest_detectable,
    verdict,
)
from whytransfer.tasks.bootstrap import interval, top1

THREE = [61.0, 63.5, 60.1]


def test_the_interval_is_scipys_t_interval():
    found = mean_interval(THREE)
    low, high = stats.t.interval(0.95, 2, np.mean(THREE), stats.sem(THREE))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(THREE), low, high))
    assert found.n == 3 and found.known


def test_the_interval_and_p_of_a_paired_difference_are_scipys():
    one, other = {0: 61.0, 1: 63.5, 2: 60.1}, {2: 58.0, 0: 60.5, 1: 59.9}  # pairs by seed, not by order
    test = stats.ttest_rel([61.0, 63.5, 60.1], [60.5, 59.9, 58.0])
    found = paired_difference(one, other)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval()))
    assert p_value(by_pairs(one, other).values()) == pytest.approx(test.pvalue)


def test_seeds_that_only_one_has_do_not_count():
    assert by_pairs({0: 3.0, 1: 5.0}, {1: 4.0, 7: 0.0}) == {1: 1.0}
    with pytest.raises(InputError, match=r"one has seeds \[0\], the other \[1\]"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_one_seed_gives_a_value_and_no_interval():
    found = mean_interval([2.0])
    assert (found.value, found.low, found.high, found.n) == (2.0, -math.inf, math.inf, 1)
    assert not found.known and math.isnan(p_value([2.0])) and smallest_detectable([2.0]) == math.inf
    assert verdict(found, "+") == verdict(found, "-") == verdict(found, "0", 1.0) == "undecided"


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval([0.1] * 3) == Interval(pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1), 3)
    assert p_value([0.1] * 3) == 0.0 and p_value([0.0] * 3) == 1.0 and smallest_detectable([0.1] * 3) == 0.0


@pytest.mark.parametrize("values, message", [([], "got none"), ([1.0, math.nan], "finite values, got")])
def test_values_that_have_no_mean_are_refused(values: list[float], message: str):
    for statistic in (mean_interval, p_value, smallest_detectable):
        with pytest.raises(InputError, match=message):
            statistic(values)


# Holm: p = .01 .02 .03 .04 of four tests become 4 x .01, 3 x .02, then never under the one before
@pytest.mark.parametrize(
    "p, adjusted",
    [
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.04, 0.01, 0.03, 0.005], [0.06, 0.03, 0.06, 0.02]),  # order is kept: .005 x 4, .01 x 3, .03 x 2, .06
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.01, math.nan], [0.01, math.nan]),  # a test that could not be made does not count
        ([], []),
    ],
)
def test_holm_of_worked_examples(p: list[float], adjusted: list[float]):
    assert holm(p) == pytest.approx(adjusted, nan_ok=True)


def test_holm_keeps_the_share_of_tables_with_a_false_finding():
    chance = np.random.default_rng(0)
    tables = chance.random((4000, 10))  # ten tests each, no effect anywhere
    found = np.mean([holm(table).min() < 0.05 for table in tables])
    assert found == pytest.approx(0.05, abs=0.01)
    assert np.mean(tables.min(1) < 0.05) > 0.35  # what it is for


def test_p_values_outside_their_range_are_refused():
    with pytest.raises(InputError, match=r"between 0 and 1, got \[1.2\]"):
        holm([0.1, 1.2])


def percentile(values: np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap over seeds, by all of its resamples of three."""
    draws = values[np.stack(np.meshgrid(*[range(3)] * 3), axis=-1).reshape(-1, 3)].mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def test_three_seeds_t_covers_where_resampling_them_does_not():
    studies = np.random.default_rng(1).normal(5.0, 2.0, (4000, 3))
    by_t = [mean_interval(seeds) for seeds in studies]
    resampled = [percentile(seeds) for seeds in studies]
    assert np.mean([i.low < 5.0 < i.high for i in by_t]) == pytest.approx(0.95, abs=0.012)
    assert np.mean([low < 5.0 < high for low, high in resampled]) < 0.80


def scored(
    chance: np.random.Generator, seeds: int, images: int, of_seed: float, of_image: float
) -> dict[int, np.ndarray]:
    """{seed: (N, 2)} scores and ones per image: mean 0, a share of the seed, and one of the image for all seeds."""
    image = of_image * chance.normal(size=images)
    return {
        s: np.stack([of_seed * chance.normal() + image + 0.2 * chance.normal(size=images), np.ones(images)], axis=1)
        for s in range(seeds)
    }


def mean_of(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def covered(of_seed: float, of_image: float) -> tuple[float, float]:
    """Share of 400 studies, 3 seeds on 60 images, whose interval covers 0: hierarchical, and of t over seeds alone."""
    chance = np.random.default_rng(2)
    hits = []
    for study in range(400):
        tables = scored(chance, 3, 60, of_seed, of_image)
        both = hierarchical_bootstrap(tables, mean_of, draws=400, seed=study)
        alone = mean_interval([float(mean_of(t.sum(0))) for t in tables.values()])
        hits.append([both.low < 0 < both.high, alone.low < 0 < alone.high])
    both_share, alone_share = np.mean(hits, axis=0)
    return float(both_share), float(alone_share)


def test_the_hierarchical_interval_covers_seeds_and_images():
    both, alone = covered(of_seed=0.05, of_image=1.0)  # few images matter most, and all seeds share them
    assert both > 0.93 and alone < 0.70
    both, alone = covered(of_seed=1.0, of_image=0.2)  # seeds matter most
    assert both > 0.93 and alone > 0.92


def test_without_noise_of_images_the_hierarchical_interval_is_that_of_t():
    tables = {s: np.stack([np.full(20, value), np.ones(20)], axis=1) for s, value in enumerate(THREE)}
    found, by_t = hierarchical_bootstrap(tables, mean_of, draws=200_000), mean_interval(THREE)
    assert found.value == pytest.approx(by_t.value) and found.n == 3
    assert (found.low, found.high) == pytest.approx((by_t.low, by_t.high), rel=0.005)


def test_without_differences_of_seeds_the_hierarchical_interval_is_that_of_images():
    table, statistic = top1(np.random.default_rng(3).random(80) < 0.7)
    found = hierarchical_bootstrap({0: table, 1: table, 2: table}, statistic, seed=5)
    assert (found.low, found.high) == pytest.approx(interval(table, statistic, seed=5))


def test_a_paired_hierarchical_difference_cancels_hard_images():
    chance = np.random.default_rng(4)
    one = scored(chance, 3, 40, 0.01, 5.0)
    other = {s: t - [0.3, 0.0] + [[0.05, 0.0]] * chance.normal(size=(40, 1)) for s, t in one.items()}
    paired = hierarchical_difference(one, {**other, 9: other[0]}, mean_of)
    assert paired.low > 0.2 and paired.high < 0.4 and paired.n == 3
    assert verdict(hierarchical_bootstrap(one, mean_of), "+") == "undecided"


def test_tables_that_do_not_belong_together_are_refused():
    ones = np.ones((4, 2))
    with pytest.raises(InputError, match=r"same test images; their tables are \[\(3, 2\), \(4, 2\)\]"):
        hierarchical_bootstrap({0: ones, 1: ones[:3]}, mean_of)
    with pytest.raises(InputError, match=r"no seed to compare by: \[0\] and \[1\]"):
        hierarchical_difference({0: ones}, {1: ones}, mean_of)
    assert not hierarchical_bootstrap({0: ones}, mean_of).known


def test_ranks_share_ties():
    assert ranks({"a": 3.0, "b": 5.0, "c": 3.0}, "higher") == {"a": 2.5, "b": 1.0, "c": 2.5}
    assert ranks({"a": 3.0, "b": 5.0, "c": 3.0}, "lower") == {"a": 1.5, "b": 3.0, "c": 1.5}


def test_rank_ranges_part_what_is_sure_and_tie_what_is_not():
    values = {
        "best": {0: 9.0, 1: 9.1, 2: 8.9, 3: 9.02},
        "middle": {0: 5.0, 1: 5.2, 2: 4.9, 3: 5.05},
        "tied": {0: 5.1, 1: 5.0, 2: 5.0, 3: 5.0},
        "worst": {0: 1.0, 1: 1.1, 2: 0.8, 3: 0.95},
    }
    assert rank_ranges(values, "higher") == {"best": (1, 1), "middle": (2, 3), "tied": (2, 3), "worst": (4, 4)}
    assert rank_ranges(values, "lower") == {"best": (4, 4), "middle": (2, 3), "tied": (2, 3), "worst": (1, 1)}
    once = {name: {0: by[0]} for name, by in values.items()}
    assert set(rank_ranges(once, "higher").values()) == {(1, 4)}  # one seed parts nothing


def test_rank_ranges_hold_the_true_ranks_of_models_that_are_alike():
    chance = np.random.default_rng(6)
    wrong = 0
    for _ in range(300):
        values = {name: dict(enumerate(chance.normal(size=3))) for name in "abcd"}
        wrong += set(rank_ranges(values, "higher").values()) != {(1, 4)}
    assert wrong / 300 < 0.08  # at most 0.05, of 300


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_smallest_detectable_effect_is_found_in_80_of_100_studies(n: int):
    pattern = np.linspace(-1, 1, n)
    pattern /= pattern.std(ddof=1)
    effect = smallest_detectable(4.0 + 2.0 * pattern)  # spread 2, whatever the mean
    studies = np.random.default_rng(n).normal(effect, 2.0, (4000, n))
    assert np.mean(stats.ttest_1samp(studies, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.025)


def test_a_rank_correlation_is_of_three_models_at_least():
    assert rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)  # 1 - 6 x 2 / (4 x 15)
    with pytest.raises(InputError, match="three models or more on both sides, got 2 and 2"):
        rank_correlation([1, 2], [1, 2])
    with pytest.raises(InputError, match="same value"):
        rank_correlation([1, 1, 1], [1, 2, 3])


@pytest.mark.parametrize("models", [4, 6])
def test_the_error_of_a_rank_correlation_is_that_of_all_orders(models: int):
    order = list(range(models))
    every = [rank_correlation(order, other) for other in itertools.permutations(order)]
    assert rank_error(models) == pytest.approx(np.std(every))
    with pytest.raises(InputError, match="two models at least"):
        rank_error(1)


def test_seeds_that_agree_on_four_models_do_not_decide_a_rank_correlation():
    assert mean_interval([0.2] * 3).low == pytest.approx(0.2)  # as if other models would give the same
    found = mean_interval([0.2] * 3, beside=rank_error(4), most=1.0)
    half = stats.norm.ppf(0.975) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.2 - half, 1.0))  # 0.2 + 1.13 is cut
    both = mean_interval(THREE, beside=2.0)
    of_seeds = mean_interval(THREE).high - mean_interval(THREE).value
    assert both.high - both.value == pytest.approx(math.hypot(of_seeds, 2 * stats.norm.ppf(0.975)))


def test_what_seeds_share_makes_the_smallest_effect_larger():
    shared = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.5  # of a z test
    assert smallest_detectable([0.2] * 3, beside=0.5) == pytest.approx(shared)
    assert smallest_detectable(THREE, beside=0.5) == pytest.approx(math.hypot(smallest_detectable(THREE), shared))


@pytest.mark.parametrize(
    "low, high, plus, minus, none",
    [
        (0.1, 0.5, "holds", "contradicted", "undecided"),
        (-0.5, -0.1, "contradicted", "holds", "undecided"),
        (-0.1, 0.1, "undecided", "undecided", "holds"),
        (0.01, 0.1, "holds", "contradicted", "holds"),  # surely there, and too small to matter
        (0.4, 0.9, "holds", "contradicted", "contradicted"),
        (-2.0, 2.0, "undecided", "undecided", "undecided"),  # covers 0 for want of seeds
        (0.0, 0.2, "undecided", "undecided", "holds"),
    ],
)
def test_verdicts(low: float, high: float, plus: str, minus: str, none: str):
    found = Interval((low + high) / 2, low, high, 3)
    assert (verdict(found, "+"), verdict(found, "-"), verdict(found, "0", margin=0.3)) == (plus, minus, none)


def test_no_difference_needs_a_margin():
    with pytest.raises(InputError, match="needs the margin within which it counts as none, got None"):
        verdict(Interval(0.0, -1.0, 1.0, 3), "0")
