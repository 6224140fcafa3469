"""The tasks as a user runs them: known features in, Results out; class names matched; every refusal said."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError, RunError
from whytransfer.nn.knn import knn_predict
from whytransfer.tasks import TASKS, knn, logistic, sgd_readout
from whytransfer.tasks.factors import FactorReadout
from whytransfer.tasks.features import extract
from whytransfer.tasks.readout import Readout, logistic_predict

RGB = ("red", "green", "blue")
LABELS = np.arange(60) % 3


@pytest.mark.parametrize("task", ["readout", "knn", "sgd-readout"])
def test_colours_are_read_from_mean_colours(toy, plain, task: str):
    train, test = plain(LABELS, RGB, "train"), plain(LABELS[:45], RGB, "test", seed=1)
    results = list(TASKS[task](train, test, size_px=8, seed=0, batch=16).run(toy, 3))
    assert [r.metric for r in results] == ["top1", "mean_per_class"]
    for r in results:
        assert (r.model, r.data, r.task, r.unit, r.n, r.seed) == ("toy:mean-colour", "train -> test", task, "%", 45, 3)
        assert r.low <= r.value <= r.high and r.value > 95
        assert r.provenance["frozen"] and len(r.provenance["weights_sha256"]) == 64
        assert json.loads(r.to_json())["provenance"]["size_px"] == 8
    assert list(TASKS[task](train, test, size_px=8).run(toy, 3))[0].value == results[0].value


def test_logistic_provenance_tells_how_c_was_chosen(toy, plain):
    sets = plain(LABELS, RGB, noise=90), plain(LABELS, RGB, seed=1, noise=90)
    chosen = next(Readout(*sets, size_px=8).run(toy)).provenance
    assert len(chosen["cs"]) == len(chosen["cv_accuracy"]) == len(chosen["cv_std"]) == 45
    assert chosen["c"] == chosen["cs"][int(np.argmax(chosen["cv_accuracy"]))]
    assert chosen["c_at_edge_of_grid"] in (True, False) and chosen["cs_out_of_iterations"] == []
    assert chosen["classes_with_fewer_images_than_folds"] == 0


def test_the_logistic_readout_is_the_standardised_path_over_five_folds_of_its_seed(toy, plain):
    train, test = plain(LABELS, RGB, noise=90), plain(LABELS, RGB, seed=1, noise=90)
    toy.scale.data = torch.tensor([1.0, 0.1, 0.01])  # features of unequal size: standardised or not is another fit
    x, q = (extract(toy, images, 8).vectors for images in (train, test))
    found = {}
    for seed in (1, 2):
        fit = logistic.fit_path(x, torch.from_numpy(LABELS), 3, folds=5, seed=seed, standardise=True)
        first, *_ = Readout(train, test, size_px=8).run(toy, seed)
        chosen = found[seed] = first.provenance
        assert first.value == pytest.approx(100 * (fit.predict(q).numpy() == LABELS).mean())
        assert chosen["c"] == fit.c and chosen["cs"] == pytest.approx(sorted(1 / w for w in np.logspace(-6, 5, 45)))
        assert chosen["cv_accuracy"] == pytest.approx(fit.scores.mean(1).tolist(), abs=1e-6)
        assert chosen["cv_std"] == pytest.approx(fit.scores.std(1).tolist(), abs=1e-6)
        assert chosen["folds"] == 5 and chosen["standardised"] == "mean and std of all training features"
    assert found[1]["cv_accuracy"] != found[2]["cv_accuracy"]  # other folds


@pytest.mark.parametrize("seed", [0, 7])
def test_what_the_readout_predicts_is_what_the_path_predicts(seed):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.randn(90, 6, generator=generator) + torch.nn.functional.one_hot(y, 6)
    x = x * 10.0 ** torch.arange(-3, 3)
    q = torch.randn(200, 6, generator=generator) * 10.0 ** torch.arange(-3, 3)
    predicted, chosen = logistic_predict(x, y, q, 3, seed)
    fit = logistic.fit_path(x, y, 3, folds=5, seed=seed, standardise=True)
    assert torch.equal(predicted, fit.predict(q)) and chosen["c"] == fit.c
    assert chosen["cv_accuracy"] == [round(float(a), 6) for a in fit.scores.mean(1)]
    raw = logistic.fit_path(x, y, 3, folds=5, seed=seed, standardise=False)
    assert not torch.equal(predicted, raw.predict(q))  # such features tell the two apart
    other = logistic_predict(x, y, q, 3, seed + 1)[1]
    assert other["cv_accuracy"] != chosen["cv_accuracy"]


def test_the_seed_of_a_run_reaches_the_folds_and_the_tasks_own_is_taken_without_one(toy, plain, monkeypatch):
    seeds, original = [], logistic.stratified_folds

    def seen(labels, folds, seed):
        seeds.append((folds, seed))
        return original(labels, folds, seed)

    monkeypatch.setattr(logistic, "stratified_folds", seen)
    readout = Readout(plain(LABELS, RGB), plain(LABELS, RGB, seed=1), size_px=8, seed=4)
    assert [next(readout.run(toy, seed)).seed for seed in (None, 0, 9)] == [4, 0, 9]
    assert seeds == [(5, 4), (5, 0), (5, 9)]


def test_a_last_fit_out_of_iterations_is_told(toy, plain, monkeypatch):
    sets = plain(LABELS, RGB, noise=90), plain(LABELS, RGB, seed=1, noise=90)
    assert next(Readout(*sets, size_px=8).run(toy)).provenance["final_fit_converged"] is True
    monkeypatch.setattr(logistic, "FINAL_ITERATIONS", 1)
    monkeypatch.setattr(logistic, "fit_path", partial(logistic.fit_path, tolerance=1e-9))
    assert next(Readout(*sets, size_px=8).run(toy)).provenance["final_fit_converged"] is False


def test_classes_are_matched_by_name_whatever_their_order(toy, plain):
    train = plain(LABELS, RGB)
    test = plain(np.array([0, 1, 2, 0]), ("blue", "red", "green"), seed=1)
    readout = Readout(train, test, size_px=8, protocol="knn")
    assert readout.test_labels.tolist() == [2, 0, 1, 2]
    assert next(readout.run(toy)).value == 100


def test_refusals(plain):
    train = plain(LABELS, RGB, "train")
    two = plain(np.array([0, 1]), ("red", "green"), "two")
    with pytest.raises(InputError, match="train has 1 classes that the training set lacks: blue"):
        Readout(two, train, size_px=8)
    assert Readout(train, two, size_px=8).test_labels.tolist() == [0, 1]  # a test set may lack a class
    with pytest.raises(InputError, match="a readout needs labels, and 1 of the 3 images of test have none"):
        Readout(train, plain(np.array([0, -1, 1]), RGB, "test"), size_px=8)
    with pytest.raises(InputError, match="a readout needs labels, and 3 of the 3 images of test have none"):
        Readout(train, plain(np.array([0, 0, 0]), (), "test"), size_px=8)
    with pytest.raises(InputError, match="a readout needs at least two classes, and all 4 images of train are of"):
        Readout(plain(np.zeros(4, dtype=int), RGB, "train"), train, size_px=8)
    with pytest.raises(InputError, match="unknown readout protocol 'logistics'. Did you mean 'logistic'"):
        Readout(train, train, size_px=8, protocol="logistics")
    with pytest.raises(InputError, match="train has no latent factors: use generated scenes"):
        FactorReadout(train, train, size_px=8)


def test_knn_is_the_shared_arithmetic_with_twenty_neighbours():
    x, y, q = torch.randn(200, 8), torch.arange(200) % 4, torch.randn(30, 8)
    predicted, chosen = knn.predict(x, y, q, 4, seed=0)
    assert torch.equal(predicted, knn_predict(q, x, y, k=20, temperature=0.1)) and chosen["k"] == 20


def test_sgd_protocol_is_the_papers():
    p = sgd_readout.SgdProtocol()
    assert [p.lr_at(e) for e in (0, 59, 60, 79, 80, 99)] == pytest.approx([30, 30, 3, 3, 0.3, 0.3])
    assert (p.momentum, p.batch, p.epochs, p.init_std) == (0.9, 256, 100, 0.01)


def test_sgd_sees_the_papers_crop_and_the_others_the_whole_side(toy, plain):
    """He et al. test on the centre 224 px of images whose shorter side is 256."""
    sets = plain(LABELS, RGB), plain(LABELS, RGB, seed=1)
    built = {task: TASKS[task](*sets, size_px=224) for task in ("sgd-readout", "knn", "readout")}
    assert {task: readout.resize_px for task, readout in built.items()} == {
        "sgd-readout": 256, "knn": None, "readout": None,
    }  # fmt: skip
    assert TASKS["sgd-readout"](*sets, size_px=64).resize_px == 73
    assert TASKS["sgd-readout"](*sets, size_px=64, resize_px=64).resize_px == 64
    assert next(TASKS["sgd-readout"](*sets, size_px=14).run(toy)).provenance["resize_px"] == 16


def test_sgd_steps_are_those_written_out():
    x, y = torch.randn(10, 4), torch.arange(10) % 3
    protocol = sgd_readout.SgdProtocol(lr=0.5, batch=10, epochs=3, milestones=(2,))
    weight, bias, _ = sgd_readout.train_linear(x, y, 3, 0, protocol)
    w = 0.01 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    b, vw, vb = torch.zeros(3), torch.zeros(3, 4), torch.zeros(3)
    for lr in (0.5, 0.5, 0.05):
        residual = (torch.softmax(x @ w.T + b, 1) - torch.nn.functional.one_hot(y, 3)) / 10
        vw, vb = 0.9 * vw + residual.T @ x, 0.9 * vb + residual.sum(0)
        w, b = w - lr * vw, b - lr * vb
    torch.testing.assert_close(weight, w)
    torch.testing.assert_close(bias, b)


def test_sgd_divergence_is_said():
    with pytest.raises(
        RunError, match="diverged in epoch 1: lr 30 is too high for these features .*Use the logistic readout"
    ):
        x = torch.full((20, 3), 1e38)
        sgd_readout.predict(x, torch.arange(20) % 2, x, 2, 0)


def test_factors_of_scenes(tmp_path, toy):
    from whytransfer.images import open_images
    from whytransfer.images.cache import PixelCache

    train, test = (PixelCache.open(open_images(f"scenes:{n}:{s}:32"), folder=tmp_path) for n, s in ((300, 0), (120, 1)))
    results = {r.metric: r for r in FactorReadout(train, test, size_px=32, batch=64).run(toy, 0)}
    assert {"pose", "colour", "object_hue", "background_hue", "object_x"} <= set(results)
    assert results["background_lightness"].value > 0.3  # the mean colour tells it
    assert abs(results["rotation_1"].value) < 0.2  # and nothing about rotation
    group = results["pose"]
    assert group.value == pytest.approx(np.mean([results[f].value for f in group.provenance["factors"]]))
    assert group.low <= group.value <= group.high and group.unit == "R2"
    with pytest.raises(InputError, match="factors belong to the whole set of 300 images"):
        list(FactorReadout(train.subset(np.arange(50)), test, size_px=32).run(toy))
