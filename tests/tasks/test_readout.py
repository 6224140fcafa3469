"""The tasks as a user runs them: known features in, Results out; class names matched; every refusal said."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError, RunError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.nn.knn import knn_predict
from whytransfer.tasks import (
    TASKS,
    FactorReadout,
    bicubic,
    knn,
    logistic,
    multilabel,
    predictions,
    protocols,
    settings_of,
    sgd_readout,
)
from whytransfer.tasks.features import extract
from whytransfer.tasks.labels import shares_of
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
    readout = Readout(train, test, size_px=8, classifier="knn")
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
    with pytest.raises(InputError, match="unknown readout classifier 'logistics'. Did you mean 'logistic'"):
        Readout(train, train, size_px=8, classifier="logistics")
    with pytest.raises(InputError, match="unknown published protocol 'ssl-transfr'. Did you mean 'ssl-transfer'"):
        Readout(train, train, size_px=8, protocol="ssl-transfr")
    with pytest.raises(InputError, match="ssl-transfer published no such task on such data; protocols that did: none"):
        Readout(train, train, size_px=8, classifier="knn", protocol="ssl-transfer")
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


def test_a_command_line_means_published_protocols_only():
    assert "protocol" in settings_of("readout") and "classifier" in settings_of("readout")
    for task in ("knn", "sgd-readout"):
        assert not {"protocol", "classifier"} & settings_of(task) and "labels" in settings_of(task)


def test_predictions_are_kept_where_the_result_says(toy, plain, tmp_path):
    train, test = plain(LABELS, RGB, "train"), plain(np.array([0, 1, 2, 0]), ("blue", "red", "green"), "test", seed=1)
    results = list(Readout(train, test, size_px=8, folder=tmp_path).run(toy))
    kept = predictions.read(tmp_path, results[0].provenance["predictions"])
    assert kept["classes"].tolist() == list(RGB) and kept["truth"].tolist() == [2, 0, 1, 2]
    assert 100 * (kept["predicted"] == kept["truth"]).mean() == results[0].value
    other = next(Readout(train, test, size_px=8, folder=tmp_path, stage="layer1").run(toy))
    assert other.provenance["predictions"] != results[0].provenance["predictions"]
    assert next(Readout(train, test, size_px=8).run(toy)).provenance["predictions"] is None


@pytest.mark.parametrize("task", ["readout", "knn", "sgd-readout"])
def test_a_share_of_the_labels_is_the_task_on_those_images(toy, plain, task):
    train, test = plain(LABELS, RGB, "train", noise=90), plain(LABELS, RGB, "test", seed=1, noise=90)
    found = list(TASKS[task](train, test, size_px=8, labels=(20, 100)).run(toy, 2))
    assert [r.data for r in found[::2]] == ["train (20 % of the labels) -> test", "train -> test"]
    assert [r.provenance["labels_percent"] for r in found[::2]] == [20, 100]
    assert [r.provenance["labelled_images"] for r in found[::2]] == [12, 60]
    (share,) = shares_of(LABELS, (20,), 2)
    resize_px = TASKS[task](train, test, size_px=8).resize_px
    x, q = (extract(toy, images, 8, resize_px=resize_px).vectors for images in (train, test))
    by = {"readout": logistic_predict, "knn": knn.predict, "sgd-readout": sgd_readout.predict}[task]
    y = torch.from_numpy(LABELS[share.rows])
    predicted, _ = by(x[torch.from_numpy(share.rows)], y, q, 3, 2)
    assert found[0].value == pytest.approx(100 * (predicted.numpy() == LABELS).mean())
    assert found[2].value == next(TASKS[task](train, test, size_px=8).run(toy, 2)).value  # 100 % is all of them


def test_fewer_labelled_images_than_folds_make_as_many_folds(toy, plain):
    """1 % of a small set: the other shares must not be lost with it."""
    labels = np.repeat([0, 1], 10)
    train, test = plain(labels, RGB[:2], "train"), plain(labels, RGB[:2], "test", seed=1)
    found = list(Readout(train, test, size_px=8, labels=(1, 15, 100)).run(toy, 0))
    top1 = [r for r in found if r.metric == "top1"]
    assert [r.provenance["folds"] for r in top1] == [2, 4, 5]
    assert [r.provenance["labelled_images"] for r in top1] == [2, 4, 20] and top1[-1].value == 100


# ---------------------------------------------------------------- images of several classes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Training and test set of generated scenes as pixel caches."""
    folder = tmp_path_factory.mktemp("scenes")
    return [PixelCache.open(open_images(f"scenes:{n}:{s}:32"), folder=folder) for n, s in ((90, 0), (60, 1))]


def test_objects_are_read_out_one_class_against_the_rest(toy, scenes, tmp_path):
    results = list(Readout(*scenes, size_px=16, of="objects", draws=200, folder=tmp_path).run(toy))
    assert [r.metric for r in results] == ["mean_ap_area", "mean_ap_11_point"]
    kept = predictions.read(tmp_path, results[0].provenance["predictions"])
    truth = multilabel.label_matrix(scenes[1])
    assert (kept["truth"] == truth).all() and kept["classes"].tolist() == list(scenes[0].images.box_classes)
    for r, value in zip(results, multilabel.mean_ap(truth, kept["scores"].astype(float))[0], strict=False):
        assert r.value == pytest.approx(value, abs=0.1) and r.low <= r.value <= r.high and r.unit == "%" and r.n == 60
    assert len(results[0].provenance["cv_mean_ap_area"]) == 45 and results[0].provenance["classes_scored"] > 1


def test_a_set_without_classes_is_read_by_its_objects(scenes, monkeypatch):
    for images in scenes:
        monkeypatch.setattr(images, "classes", ())
    assert Readout(*scenes, size_px=16).test_labels.shape == (60, len(scenes[0].images.box_classes))
    with pytest.raises(InputError, match="knn needs one class per image.*--task readout reads each class"):
        TASKS["knn"](*scenes, size_px=16)
    with pytest.raises(InputError, match="ssl-invariances published no such task.*protocols that did: ssl-transfer"):
        Readout(*scenes, size_px=16, protocol="ssl-invariances")


# ---------------------------------------------------------------- published protocols


@pytest.fixture
def few_strengths(monkeypatch):
    """Five strengths instead of 45, which test_protocols counts."""
    monkeypatch.setattr(protocols, "weight_decays", lambda backbone, name: np.logspace(-4, 4, 5))


@pytest.mark.parametrize("name", ["ssl-transfer", "ssl-invariances"])
def test_a_published_protocol_is_its_scripts_on_its_views(toy, plain, name, few_strengths, capsys):
    train, test = plain(LABELS, RGB, "caltech101", noise=90), plain(LABELS, RGB, "test", seed=1, noise=90)
    results = list(Readout(train, test, size_px=8, protocol=name).run(toy, 0))
    assert [r.metric for r in results] == ["mean_per_class", "top1"]  # the paper's metric of that set comes first
    views = bicubic.centre_views if name == "ssl-transfer" else None
    x, q = (extract(toy, images, 8, make_views=views).vectors.numpy() for images in (train, test))
    decays = protocols.weight_decays(toy, name)
    model, chosen = protocols.choose_and_fit(name, x, LABELS, decays, "mean_per_class", 0)
    assert results[1].value == pytest.approx(100 * (model.predict(q) == LABELS).mean())
    told = results[0].provenance
    assert told["c"] == chosen["c"] and told["protocol"] == name and "raw-features" in told["quirks_reproduced"]
    assert told["papers_size"] is False and "shows images at 224 px, here they have 8" in capsys.readouterr().err


def test_objects_under_ssl_transfer_are_scored_at_eleven_points_from_one(toy, scenes, few_strengths):
    results = list(Readout(*scenes, size_px=16, of="objects", protocol="ssl-transfer", draws=50).run(toy))
    assert [r.metric for r in results] == ["mean_ap_11_point_from_one", "mean_ap_11_point", "mean_ap_area"]
    assert results[0].value >= results[1].value and results[0].provenance["validation_metric"] == results[0].metric
