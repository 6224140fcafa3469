"""Overlap of errors and gains against scikit-learn and closed forms; mean ranks."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, jaccard_score

from whytransfer.diagnosis.answers import Answers
from whytransfer.diagnosis.consistency import mean_ranks
from whytransfer.diagnosis.overlap import gain, measures
from whytransfer.errors import InputError
from whytransfer.tasks import bootstrap


def answers(wrong, metric="top1", direction="higher"):
    wrong = np.asarray(wrong, dtype=bool)
    table, statistic = bootstrap.top1(~wrong)
    return Answers(metric, "%", direction, lambda counts: statistic(counts @ table), wrong.astype(float), wrong)


def continuous(errors):
    errors = np.asarray(errors, dtype=float)
    return Answers("rmse", "m", "lower", lambda counts: (counts @ errors) / counts.sum(1), errors)


def test_kappa_and_jaccard_are_scikit_learns():
    rng = np.random.default_rng(0)
    a = rng.random(300) < 0.4
    b = np.where(rng.random(300) < 0.5, a, rng.random(300) < 0.3)
    found = {m.name: m for m in measures(answers(a), answers(b))}
    assert found["kappa of errors"].value == pytest.approx(cohen_kappa_score(a, b))
    assert found["Jaccard of errors"].value == pytest.approx(jaccard_score(a, b))
    assert found["both wrong"].value == pytest.approx((a & b).mean())
    p, q = a.mean(), b.mean()
    assert found["Jaccard of errors"].told["by_chance"] == pytest.approx(p * q / (p + q - p * q))
    assert found["kappa of errors"].low < found["kappa of errors"].value < found["kappa of errors"].high


def test_closed_forms():
    a = np.array([1, 1, 0, 0] * 25, dtype=bool)
    same = {m.name: m.value for m in measures(answers(a), answers(a))}
    assert same == {"kappa of errors": 1, "Jaccard of errors": 1, "both wrong": 0.5}
    apart = {m.name: m.value for m in measures(answers(a), answers(~a))}
    assert apart == {"kappa of errors": -1, "Jaccard of errors": 0, "both wrong": 0}
    chance = {m.name: m for m in measures(answers(a), answers(np.array([1, 0, 1, 0] * 25)))}
    assert chance["kappa of errors"].value == 0
    assert chance["Jaccard of errors"].value == pytest.approx(chance["Jaccard of errors"].told["by_chance"])
    never = [m.name for m in measures(answers(np.zeros(9)), answers(np.zeros(9)))]
    assert never == ["both wrong"]  # kappa and Jaccard have no meaning where nobody fails


def test_errors_on_a_scale_are_compared_by_rank():
    rng = np.random.default_rng(0)
    a = rng.random(80)
    [found] = measures(continuous(a), continuous(np.exp(5 * a)))
    assert found.name == "rank correlation of errors" and found.value == pytest.approx(1)
    assert list(measures(continuous(a), continuous(np.ones(80)))) == []


def test_a_gain_is_paired_and_positive_where_it_is_better():
    rng = np.random.default_rng(0)
    base = rng.random(400) < 0.5
    better = base.copy()
    better[np.flatnonzero(base)[:20]] = False
    value, low, high = gain(answers(better), answers(base))
    assert value == pytest.approx(5) and 0 < low < 5 < high < 8  # unpaired, 95 % would be -2 to 12
    table, statistic = bootstrap.top1(~better)
    other = bootstrap.top1(~base)[0]
    assert (value, low, high) == pytest.approx(bootstrap.paired_difference(table, other, statistic))
    worse = continuous(base + 1.0), continuous(base + 0.5)
    assert gain(*worse)[0] == pytest.approx(-0.5) and gain(*worse)[2] < 0  # less is better there
    assert gain(answers(base), answers(base)) == (0, 0, 0)


def test_the_bias_of_a_metric_is_taken_out():
    """A metric that is 1 more in every resample than in the images has an interval around the value all the same."""
    biased = Answers("ap", "%", "higher", lambda c: (c > 1).any(1) + c[:, 0] * 0.0, np.zeros(20), biased=True)
    none = Answers("ap", "%", "higher", lambda c: np.zeros(len(c)), np.zeros(20), biased=True)
    value, low, high = gain(biased, none)
    assert value == 0 and low == pytest.approx(0, abs=1e-6) and high == pytest.approx(0, abs=1e-6)


def test_answers_on_other_images_are_refused():
    with pytest.raises(InputError, match="the same images by the same metric, got top1 of 4 and top1 of 5"):
        gain(answers(np.zeros(4)), answers(np.zeros(5)))


def test_mean_ranks():
    rng = np.random.default_rng(0)
    order = rng.random(200)
    good, middle, bad = (order < share for share in (0.1, 0.5, 0.9))
    first = {"a": answers(good), "b": answers(middle), "c": answers(bad), "twin": answers(bad)}
    second = {
        "a": continuous(order),
        "b": continuous(order + 1),
        "c": continuous(order + 3),
        "twin": continuous(order + 2),
    }
    found = mean_ranks({"one": first, "two": second}, draws=200)
    assert [found[m].value for m in "abc"] == [1, 2, 3.75] and found["twin"].value == 3.25
    assert found["c"].ranks == {"one": 3.5, "two": 4}  # ties share their mean rank
    assert (found["a"].low, found["a"].high) == (1, 1)  # beyond doubt
    alike = {"a": answers(rng.random(100) < 0.5), "b": answers(rng.random(100) < 0.5)}
    doubt = mean_ranks({"one": alike}, draws=500)["a"]
    assert doubt.low == 1 and doubt.high == 2
    with pytest.raises(InputError, match="ranks need every model on every task; two differs in c, twin"):
        mean_ranks({"one": first, "two": {m: second[m] for m in "ab"}})
