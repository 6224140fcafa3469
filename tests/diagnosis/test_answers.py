"""Kept predictions say what the task said: each kind against scikit-learn or the metric written out."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score

from whytransfer.diagnosis.answers import answers_of
from whytransfer.errors import InputError
from whytransfer.records import Result
from whytransfer.tasks import multilabel
from whytransfer.tasks.depth_metrics import sums_of

RNG = np.random.default_rng(0)


def result(metric, unit="%", direction="higher", **provenance):
    return Result("m", "d", "t", metric, 0.0, unit, direction, 1, 0, None, None, provenance)


def drawn_twice(n):
    """Counts of a draw that holds the first half of the images twice and the others not at all."""
    counts = np.zeros((1, n))
    counts[0, : n // 2] = 2
    return counts


@pytest.mark.parametrize(("metric", "oracle"), [("top1", accuracy_score), ("mean_per_class", balanced_accuracy_score)])
def test_classes(metric, oracle):
    truth = RNG.integers(0, 4, 60)
    predicted = np.where(RNG.random(60) < 0.6, truth, RNG.integers(0, 4, 60))
    arrays = {"predicted": predicted, "truth": truth, "classes": np.array(list("abcd"))}
    found = answers_of([result(metric)], arrays)[metric]
    assert found.value == pytest.approx(100 * oracle(truth, predicted))
    half = found.of_counts(drawn_twice(60))[0]
    assert half == pytest.approx(100 * oracle(truth[:30], predicted[:30]))
    assert np.array_equal(found.wrong, truth != predicted) and len(found) == 60 and found.sign == 1


def test_objects():
    truth = RNG.random((50, 3)) < 0.3
    scores = (truth + RNG.normal(size=(50, 3))).astype(np.float32)
    arrays = {"scores": scores, "truth": truth, "classes": np.array(list("abc"))}
    found = answers_of([result("mean_ap_area")], arrays)["mean_ap_area"]
    assert found.value == pytest.approx(multilabel.mean_ap(truth, scores)[0, 0]) and found.biased
    sure = np.where(truth, 9.0, -9.0)
    better = answers_of([result("mean_ap_area")], {**arrays, "scores": sure})["mean_ap_area"]
    assert better.value == pytest.approx(100) and (better.errors < found.errors).all() and found.wrong is None


def test_targets_with_their_groups():
    truth = RNG.normal(size=(40, 3))
    predicted = truth + RNG.normal(size=(40, 3)) * [0.1, 0.5, 1.0]
    arrays = {"predicted": predicted, "truth": truth, "names": np.array(["x", "y", "hue"])}
    names = {"pose": ["x", "y"], "mean": ["x", "y", "hue"], "x": ["x"]}
    rows = [result(metric, "R2", targets="factors", factors=members) for metric, members in names.items()]
    found = answers_of(rows, arrays)
    assert list(found) == ["pose", "mean"]  # single targets are too many
    assert found["pose"].value == pytest.approx(r2_score(truth[:, :2], predicted[:, :2]))
    assert found["mean"].value == pytest.approx(r2_score(truth, predicted))
    residuals = (predicted - truth) ** 2 / truth.var(0)
    assert found["mean"].errors == pytest.approx(residuals.mean(1))
    alone = answers_of([result("mean", "R2", targets="factors", factors=["x"])], arrays)["mean"]
    assert alone.value == pytest.approx(r2_score(truth[:, 0], predicted[:, 0]))


def test_landmarks_without_an_error_do_not_count():
    errors = np.array([1.0, np.nan, 4.0, 7.0])
    arrays = {"predicted": np.zeros((4, 2, 2)), "truth": np.zeros((4, 2, 2)), "errors": errors}
    found = answers_of([result("error_inter_ocular", direction="lower")], arrays)["error_inter_ocular"]
    assert found.value == pytest.approx(4) and found.sign == -1
    assert found.of_counts(np.array([[2, 5, 1, 0]]))[0] == pytest.approx(2)


def test_pixels():
    confusion = np.array([[[8, 2], [0, 10]], [[5, 5], [5, 5]]])
    found = answers_of([result("mean_iou")], {"confusion": confusion, "classes": np.array(list("ab"))})["mean_iou"]
    assert found.value == pytest.approx(100 * np.mean([13 / 25, 15 / 27]))  # of the sums 13 7; 5 15
    assert found.errors == pytest.approx([0.1, 0.5])


def test_depth():
    truth = RNG.uniform(1, 3, (5, 4, 4)).astype(np.float32)
    predicted = (truth * RNG.uniform(0.7, 1.4, (5, 4, 4))).astype(np.float32)
    truth[0, 0, 0] = np.nan
    sums = np.stack([sums_of(p, t) for p, t in zip(predicted, truth, strict=True)])
    found = answers_of([result("delta<1.25")], {"sums": sums, "metrics": np.array(["delta<1.25"])})["delta<1.25"]
    ratio = np.maximum(predicted / truth, truth / predicted)
    known = ~np.isnan(truth)
    assert found.value == pytest.approx(100 * (ratio[known] < 1.25).mean())
    relative = np.abs(predicted - truth) / truth
    assert found.errors == pytest.approx(np.nanmean(relative, axis=(1, 2)), rel=1e-5)


def test_episodes_are_refused():
    arrays = {"support": np.zeros(1), "query": np.zeros(1), "truth": np.zeros(1), "prototypes": np.zeros(1)}
    with pytest.raises(InputError, match="^t keeps no answer for each test image"):
        answers_of([result("top1")], arrays)
