"""Intervals: closed forms and brute force as oracles."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score

from whytransfer.tasks import bootstrap

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 400)
CORRECT = RNG.random(400) < 0.3 + 0.1 * LABELS
TRUTH = RNG.normal(size=(300, 3)) * [1, 10, 100] + 5
PREDICTED = TRUTH + RNG.normal(size=(300, 3)) * [0.5, 8, 20]


def value(table_and_statistic: tuple) -> float:
    table, statistic = table_and_statistic
    return float(statistic(table.sum(0)))


def test_metrics_from_sums_are_those_of_scikit_learn():
    predicted = np.where(CORRECT, LABELS, -1)
    assert value(bootstrap.top1(CORRECT)) == pytest.approx(100 * CORRECT.mean())
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        expected = 100 * balanced_accuracy_score(LABELS, predicted)
    assert value(bootstrap.mean_per_class(CORRECT, LABELS)) == pytest.approx(expected)
    assert value(bootstrap.r2(TRUTH, PREDICTED)) == pytest.approx(r2_score(TRUTH, PREDICTED))


def test_interval_of_a_share_is_the_binomial_one():
    n, share = 2000, 0.4
    correct = np.arange(n) < share * n
    low, high = bootstrap.interval(*bootstrap.top1(correct), draws=4000, seed=1)
    half = 100 * 1.96 * np.sqrt(share * (1 - share) / n)
    assert (low, high) == pytest.approx((40 - half, 40 + half), abs=0.2)


@pytest.mark.parametrize("metric", ["r2", "mean_per_class"])
def test_interval_equals_resampling_one_by_one(metric: str):
    chance = np.random.default_rng(7)
    draws = []
    for _ in range(500):
        pick = chance.integers(0, 300, 300)
        if metric == "r2":
            draws.append(r2_score(TRUTH[pick], PREDICTED[pick]))
        else:
            draws.append(100 * np.mean([CORRECT[pick][LABELS[pick] == k].mean() for k in np.unique(LABELS[pick])]))
    per_class = bootstrap.mean_per_class(CORRECT[:300], LABELS[:300])
    table = bootstrap.r2(TRUTH, PREDICTED) if metric == "r2" else per_class
    assert bootstrap.interval(*table, draws=500, seed=7) == pytest.approx(np.quantile(draws, [0.025, 0.975]), rel=1e-9)


def test_seeded_and_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch):
    whole = bootstrap.interval(*bootstrap.top1(CORRECT), draws=200, seed=3)
    assert whole == bootstrap.interval(*bootstrap.top1(CORRECT), draws=200, seed=3)
    assert whole != bootstrap.interval(*bootstrap.top1(CORRECT), draws=200, seed=4)
    monkeypatch.setattr(bootstrap, "_CELLS", 400 * 7)
    assert whole == bootstrap.interval(*bootstrap.top1(CORRECT), draws=200, seed=3)


def test_paired_difference_is_tighter_than_two_intervals():
    better = CORRECT | (np.arange(400) % 20 == 0)  # right wherever the other is
    (table, statistic), (other, _) = bootstrap.top1(better), bootstrap.top1(CORRECT)
    difference, low, high = bootstrap.paired_difference(table, other, statistic)
    assert difference == pytest.approx(100 * (better.mean() - CORRECT.mean())) and 0 < low < difference < high
    alone = bootstrap.interval(table, statistic)
    assert high - low < (alone[1] - alone[0]) / 2
    with pytest.raises(ValueError, match="same test images"):
        bootstrap.paired_difference(table[:-1], other, statistic)


def test_perfect_and_mean_predictions():
    assert value(bootstrap.r2(TRUTH, TRUTH)) == 1
    assert value(bootstrap.r2(TRUTH, np.broadcast_to(TRUTH.mean(0), TRUTH.shape))) == pytest.approx(0)
    assert bootstrap.interval(*bootstrap.top1(np.ones(50, dtype=bool))) == (100, 100)


def test_an_interval_lies_around_what_was_measured_however_far_resamples_are_off():
    drawn = np.random.default_rng(0).normal(size=(500, 3)) + [5.0, 0.0, np.nan]
    low, high = bootstrap.around(np.array([2.0, 2.0, np.nan]), drawn)
    assert low[0] == pytest.approx(np.quantile(drawn[:, 0], 0.025) - drawn[:, 0].mean() + 2)
    assert (high - low)[:2] == pytest.approx(np.diff(np.quantile(drawn[:, :2], [0.025, 0.975], axis=0), axis=0)[0])
    assert low[1] < 2 < high[1] and np.isnan([low[2], high[2]]).all()
