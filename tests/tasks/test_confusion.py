"""Metrics of pixels: scikit-learn's on all pixels at once, absent classes and void by hand, intervals that cover."""

import numpy as np
import pytest
from sklearn import metrics

from whytransfer.tasks.confusion import accuracy, confusion_of, mean_accuracy, mean_iou, scores

CLASSES = ("sky", "road", "car", "tree")


def problem(n=6, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (n, 9, 11)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    return truth, predicted


def test_every_metric_is_scikit_learns_over_all_pixels():
    truth, predicted = problem()
    confusion = np.stack([confusion_of(t, p, 4) for t, p in zip(truth, predicted, strict=True)])
    known = truth != 255
    t, p = truth[known], predicted[known]
    assert np.array_equal(confusion.sum(0), metrics.confusion_matrix(t, p, labels=range(4)))
    found = {name: value for name, value, _, _ in scores(confusion, CLASSES, 50, 0)}
    expected = {f"iou of {c}": v for c, v in zip(CLASSES, metrics.jaccard_score(t, p, average=None), strict=True)}
    expected["mean_iou"] = metrics.jaccard_score(t, p, average="macro")
    expected["mean_accuracy"] = metrics.balanced_accuracy_score(t, p)
    expected["overall_accuracy"] = metrics.accuracy_score(t, p)
    assert found == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert list(found)[:3] == ["mean_iou", "mean_accuracy", "overall_accuracy"]


def test_classes_that_do_not_occur():
    one = np.zeros((1, 3, 3), np.int32)
    one[0, 0, 0], one[0, 0, 1] = 6, 2  # class 1 is predicted where there is none, class 2 never occurs
    found = {name: value for name, value, _, _ in scores(one, ("a", "b", "c"), 10, 0)}
    assert found == {
        "mean_iou": pytest.approx(100 * (6 / 8 + 0) / 2),
        "mean_accuracy": pytest.approx(75),
        "overall_accuracy": pytest.approx(75),
        "iou of a": pytest.approx(75),
        "iou of b": 0,
    }
    none = np.zeros(9)
    assert all(np.isnan(metric(none)) for metric in (mean_iou, mean_accuracy, accuracy))


def test_intervals_are_of_images_drawn_again_and_scores_of_rows_are_scores_of_each():
    truth, predicted = problem(40, 3)
    confusion = np.stack([confusion_of(t, p, 4) for t, p in zip(truth, predicted, strict=True)])
    again = list(scores(confusion, CLASSES, 400, 1))
    assert again == list(scores(confusion, CLASSES, 400, 1)) and all(low < v < high for _, v, low, high in again)
    # by hand: the same draws, one resample at a time
    rng = np.random.default_rng(1)
    picks = rng.integers(0, 40, (400, 40))
    values = []
    for rows in picks:
        c = confusion[rows].sum(0)
        values.append(100 * np.mean(np.diag(c) / (c.sum(0) + c.sum(1) - np.diag(c))))
    assert again[0][2:] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
