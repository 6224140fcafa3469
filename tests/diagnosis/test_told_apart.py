"""Comparisons on the same pictures: Tukey's range as oracle, false alarms and power counted, ties said as ties."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from whytransfer.diagnosis.told_apart import Comparison, picture_scores


def bernoulli(chance, n, accuracies):
    """Right or wrong of candidates on pictures that are hard or easy for all of them alike."""
    hardness = chance.normal(size=(n, 1))
    own = chance.normal(size=(n, len(accuracies)))
    return 100.0 * ((hardness + own) / np.sqrt(2) < stats.norm.ppf(accuracies))


@pytest.mark.parametrize("candidates", [2, 4, 7])
def test_for_independent_normal_scores_the_width_is_tukeys(candidates):
    scores = np.random.default_rng(1).normal(size=(3000, candidates))
    tukey = stats.studentized_range.ppf(0.95, candidates, 1e6) / np.sqrt(2)
    assert Comparison(scores, draws=4000).q == pytest.approx(tukey, rel=0.04)


def test_a_pair_alone_is_the_paired_t_interval():
    chance = np.random.default_rng(2)
    a = chance.normal(size=80)
    b = 0.7 * a + chance.normal(size=80)
    pair = Comparison(np.stack([a, b], 1)).pair(0, 1)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert pair.difference == pytest.approx(a.mean() - b.mean())
    assert pair.error == pytest.approx(stats.sem(a - b))
    assert (pair.low, pair.high) == pytest.approx((low, high), abs=0.1 * pair.error)


def test_equal_candidates_are_seldom_told_apart():
    chance = np.random.default_rng(3)
    alarms = 0
    for seed in range(200):
        made = Comparison(bernoulli(chance, 80, [0.7] * 4), seed, draws=300)
        alarms += any(not made.pair(a, b).tied for a in range(4) for b in range(a))
    assert alarms <= 20  # 5 % asked for; without the correction over six pairs it is about 20 %


def test_so_many_pictures_show_such_a_difference_in_four_of_five_cases():
    chance = np.random.default_rng(4)
    pilot = Comparison(chance.normal([1.0, 0.0, 0.0], 10.0, size=(4000, 3)), draws=1000)
    n = pilot.pair(0, 1).pictures_for(2.0)
    found = [
        not Comparison(chance.normal([2.0, 0.0, 0.0], 10.0, size=(n, 3)), seed, draws=400).pair(0, 1).tied
        for seed in range(150)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)
    assert pilot.pair(0, 1).pictures_for(pilot.pair(0, 1).detectable) == 4000


def test_wider_is_wider_about_the_same_values():
    scores = np.random.default_rng(8).normal(size=(50, 3))
    plain, wide = Comparison(scores), Comparison(scores, widen=1.5)
    for one, other in ((plain.pair(0, 1), wide.pair(0, 1)),):
        assert other.difference == one.difference and other.q == one.q
        assert other.high - other.low == pytest.approx(1.5 * (one.high - one.low))
        assert other.detectable == pytest.approx(1.5 * one.detectable)
    best = int(plain.means.argmax())
    assert 100 / 3 < wide.best_in(best) < plain.best_in(best)
    (low, high), (lower, higher) = plain.interval(0), wide.interval(0)
    assert (lower, higher) == pytest.approx(tuple(plain.means[0] + 1.5 * (end - plain.means[0]) for end in (low, high)))


def test_the_leader_and_who_is_tied_with_it():
    chance = np.random.default_rng(5)
    scores = chance.normal([50.0, 70.0, 69.5, 20.0], 5.0, size=(200, 4))
    made = Comparison(scores)
    assert made.leader == 1 and made.tied_with_leader() == [2]
    assert not made.pair(1, 0).tied and made.pair(0, 1).difference == -made.pair(1, 0).difference
    assert sum(made.best_in(c) for c in range(4)) == pytest.approx(100)
    assert made.best_in(3) == 0 and made.best_in(1) > made.best_in(2)


def test_the_same_answers_cannot_be_told_apart_by_any_number_of_pictures():
    scores = np.repeat(bernoulli(np.random.default_rng(6), 60, [0.6]), 2, axis=1)
    pair = Comparison(scores).pair(0, 1)
    assert pair.tied and pair.error == 0 and pair.detectable == 0
    assert Comparison(scores).best_in(0) == 50


def test_scores_by_class_have_the_mean_over_classes_for_their_mean():
    chance = np.random.default_rng(7)
    labels = chance.choice(4, 60, p=[0.6, 0.2, 0.15, 0.05])
    predicted = np.where(chance.random((60, 2)) < 0.6, labels[:, None], chance.integers(0, 4, (60, 2)))
    correct = predicted == labels[:, None]
    by_class = picture_scores(correct, labels, per_class=True).mean(0)
    assert by_class == pytest.approx([100 * balanced_accuracy_score(labels, p) for p in predicted.T])
    assert picture_scores(correct, labels, per_class=False).mean(0) == pytest.approx(100 * correct.mean(0))
