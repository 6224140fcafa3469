"""Readouts without a test set: no picture is predicted by a readout that has seen its label."""

import numpy as np
import pytest
import torch

from whytransfer.diagnosis import out_of_fold as module
from whytransfer.diagnosis.out_of_fold import INNER_FOLDS, folds_for, largest_class, out_of_fold
from whytransfer.errors import InputError
from whytransfer.tasks import logistic

CS = module.CS[::4]  # three strengths of regularisation


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "CS", CS)


def made(n=60, classes=3, width=6, apart=1.5, seed=0):
    chance = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = apart * np.eye(classes, width)[labels] + chance.normal(size=(n, width))
    return torch.from_numpy(features.astype(np.float32)), labels


def test_a_fold_is_predicted_by_the_readout_of_all_others():
    features, labels = made()
    fold = folds_for(labels, seed=0) % 2
    found = out_of_fold(features, labels, fold)
    rest, held = fold != 1, fold == 1
    fit = logistic.fit_path(features[rest], torch.from_numpy(labels[rest]), 3, CS, INNER_FOLDS, 0)
    assert (found.predicted[100][held] == fit.predict(features[held]).numpy()).all()
    assert (found.of_others(features, np.arange(60)) == found.correct()).all()


def test_labels_of_a_fold_have_no_part_in_its_predictions():
    features, labels = made()
    fold = folds_for(labels, seed=0) % 2
    other = np.where(fold == 1, (labels + 1) % 3, labels)
    one, two = (out_of_fold(features, y, fold, (50,)) for y in (labels, other))
    for share in (50, 100):
        assert (one.predicted[share][fold == 1] == two.predicted[share][fold == 1]).all()


def test_labels_of_chance_are_right_by_chance():
    labels = np.random.default_rng(1).integers(0, 2, 200)
    features = torch.randn(200, 30, generator=torch.Generator().manual_seed(1))
    correct = out_of_fold(features, labels, folds_for(labels, 0) % 2).correct()
    assert abs(correct.mean() - 0.5) < 0.12  # 200 fair coins: 3.4 standard deviations


def test_shares_are_of_the_other_folds_labels_and_all_labels_are_always_there():
    features, labels = made(100, 4)
    ticks: list[int] = []
    found = out_of_fold(features, labels, np.arange(100) // 50, (16, 48), tick=ticks.append)
    assert found.images == {16: 8, 48: 24, 100: 50} and set(found.predicted) == {16, 48, 100}
    assert sorted(ticks) == [8, 8, 24, 24, 50, 50] and len(found.readouts) == 2
    assert found.correct(100).mean() >= found.correct(16).mean()


def test_a_class_of_two_is_in_the_training_of_every_fold():
    labels = np.array([0] * 20 + [1] * 9 + [2] * 2 + [3] * 2)
    for seed in range(20):
        fold = folds_for(labels, seed)
        assert all(set(labels[fold != f]) == {0, 1, 2, 3} for f in range(5))
        assert np.ptp(np.bincount(fold)) <= 1


def test_the_largest_class_is_that_of_the_other_folds():
    labels = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1])
    assert largest_class(labels, np.arange(10) % 5).tolist() == (labels == 0).tolist()
    # each fold holds one class: what is largest elsewhere is always the other one
    assert not largest_class(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])).any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1] * 4, "8 pictures in classes of 4, 4: at least 10"),
        ([0] * 12, "12 pictures in classes of 12"),
        ([0] * 12 + [1], "in two classes of two are needed"),
    ],
)
def test_too_few_pictures_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        folds_for(np.array(labels), 0)


def test_an_impossible_share_is_refused():
    features, labels = made()
    with pytest.raises(InputError, match="over 0 and at most 100: got 120.0"):
        out_of_fold(features, labels, folds_for(labels, 0), (120,))
