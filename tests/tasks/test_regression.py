"""Ridge and kernel readouts of factors and landmarks as a user runs them; their published protocol; refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.tasks import TASKS, FactorReadout, kernel, predictions, protocols, regression, ridge, settings_of
from whytransfer.tasks.features import extract
from whytransfer.tasks.regression import RegressionReadout


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Training and test set of generated scenes as pixel caches."""
    folder = tmp_path_factory.mktemp("scenes")
    return [PixelCache.open(open_images(f"scenes:{n}:{s}:32"), folder=folder) for n, s in ((300, 0), (120, 1))]


def read(task, scenes, toy, **settings):
    return {r.metric: r for r in TASKS[task](*scenes, size_px=32, batch=64, draws=100, **settings).run(toy, 0)}


def features(scenes, toy):
    return [extract(toy, images, 32, 64).vectors for images in scenes]


def r2(truth, predicted):
    return 1 - ((truth - predicted) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)


def test_factors_of_scenes(scenes, toy):
    results = {r.metric: r for r in FactorReadout(*scenes, size_px=32, batch=64).run(toy, 0)}
    assert list(results)[:3] == ["pose", "colour", "mean"] and {"object_hue", "object_x"} <= set(results)
    assert results["background_lightness"].value > 0.3  # the mean colour tells it
    assert abs(results["rotation_1"].value) < 0.2  # and nothing about rotation
    group = results["pose"]
    assert group.value == pytest.approx(np.mean([results[f].value for f in group.provenance["factors"]]))
    assert group.low <= group.value <= group.high and (group.unit, group.task, group.n) == ("R2", "factors", 120)
    assert set(group.provenance["alphas"]) == set(group.provenance["factors"])


@pytest.mark.parametrize("task", ["ridge-readout", "kernel-readout"])
def test_each_target_is_read_by_its_own_fit(scenes, toy, task, tmp_path):
    results = read(task, scenes, toy, folder=tmp_path)
    x, q = features(scenes, toy)
    fit = (ridge.fit_path if task == "ridge-readout" else kernel.fit_grid)(x, scenes[0].images.factor_table(), seed=0)
    truth, names = scenes[1].images.factor_table(), list(scenes[0].images.factor_names)
    expected = r2(truth, fit.predict(q))
    for k, name in enumerate(names):
        assert results[name].value == pytest.approx(expected[k], abs=1e-9) and results[name].task == task
        assert results[name].provenance["alphas"] == {name: fit.alphas[k]}
        if task == "kernel-readout":
            assert results[name].provenance["gammas"] == {name: fit.gammas[k]}
    assert results["mean"].value == pytest.approx(expected.mean())
    kept = predictions.read(tmp_path, results["mean"].provenance["predictions"])
    assert kept["names"].tolist() == names and kept["predicted"].shape == kept["truth"].shape == truth.shape


@pytest.mark.parametrize("task", ["ridge-readout", "kernel-readout"])
def test_landmarks_are_read_out_too(scenes, toy, task):
    results = read(task, [images.subset(np.arange(60)) for images in scenes], toy, targets="landmarks")
    assert list(results) == ["mean", *(f"{axis}{k}" for k in range(5) for axis in "xy")]
    assert results["mean"].provenance["targets"] == "landmarks" and results["mean"].n == 60


def test_a_share_of_the_labels_is_the_fit_on_those_images(scenes, toy):
    found = list(TASKS["ridge-readout"](*scenes, size_px=32, labels=(10, 50), draws=20).run(toy, 0))
    names = sorted({r.data for r in found})
    assert names == [f"{scenes[0].name} ({p} % of the labels) -> {scenes[1].name}" for p in (10, 50)]
    by_share = {r.provenance["labels_percent"]: r.provenance["labelled_images"] for r in found}
    assert by_share == pytest.approx({10: 30, 50: 150}, abs=4)


def test_the_published_ridge_is_on_raw_features_with_one_alpha(scenes, toy, capsys):
    results = read("ridge-readout", scenes, toy, protocol="ssl-invariances")
    x, q = (f.double().numpy() for f in features(scenes, toy))
    decays = protocols.weight_decays(toy, "ssl-invariances")
    model, chosen = protocols.ridge(x, scenes[0].images.factor_table(), decays, 0)
    expected = r2(scenes[1].images.factor_table(), model.predict(q))
    assert results["mean"].value == pytest.approx(expected.mean())
    assert set(results["mean"].provenance["alphas"].values()) == {chosen["alpha"]}
    assert "alpha-is-1-over-wd" in results["mean"].provenance["quirks_reproduced"]
    assert "shows images at 224 px, here they have 32" in capsys.readouterr().err


def test_the_published_kernel_fits_on_random_images_and_targets_as_they_are(scenes, toy, monkeypatch, capsys):
    monkeypatch.setattr(kernel, "MOST", 50)
    results = read("kernel-readout", scenes, toy, protocol="ssl-invariances")
    assert results["mean"].provenance["fitted_images"] == 50 and "50 random images of 300" in capsys.readouterr().err
    x, q = features(scenes, toy)
    rows = np.sort(np.random.Generator(np.random.Philox(key=[0, 0])).permutation(300)[:50])
    fit = kernel.fit_grid(x[torch.from_numpy(rows)], scenes[0].images.factor_table()[rows], seed=0, centre=False)
    expected = r2(scenes[1].images.factor_table(), fit.predict(q))
    assert results["mean"].value == pytest.approx(expected.mean())


def test_only_celebas_landmarks_are_cut_to_whole_pixels(scenes, monkeypatch):
    part = [images.subset(np.arange(30)) for images in scenes]
    cut = RegressionReadout(*part, size_px=32, targets="landmarks", protocol="ssl-invariances")
    assert (cut._targets(0) % 1 != 0).any() and (cut._targets(1) % 1 != 0).any()
    for images in part:
        monkeypatch.setattr(images, "name", "celeba-landmarks")
    assert (cut._targets(0) % 1 == 0).all() and (cut._targets(1) % 1 == 0).all()
    assert (RegressionReadout(*part, size_px=32, targets="landmarks")._targets(0) % 1 != 0).any()


def test_celebas_test_landmarks_are_whole_pixels_in_the_score_too(scenes, toy, monkeypatch, tmp_path):
    """The scripts cut them in the data set, so R2 is against whole pixels."""
    part = [images.subset(np.arange(30)) for images in scenes]
    for images in part:
        monkeypatch.setattr(images, "name", "celeba-landmarks")
    results = read("ridge-readout", part, toy, targets="landmarks", protocol="ssl-invariances", folder=tmp_path)
    kept = predictions.read(tmp_path, results["mean"].provenance["predictions"])
    assert (kept["truth"] % 1 == 0).all() and np.ptp(kept["truth"], axis=0).min() > 0


@pytest.mark.parametrize("task", ["ridge-readout", "kernel-readout"])
def test_a_small_share_is_fitted_with_fewer_folds_and_a_smaller_one_is_refused_first(scenes, toy, task, monkeypatch):
    part = [images.subset(np.arange(40)) for images in scenes]
    monkeypatch.setattr(part[0], "classes", ())
    found = {r.provenance["labels_percent"]: r for r in TASKS[task](*part, size_px=32, labels=(15, 100)).run(toy, 0)}
    assert [found[p].provenance["folds"] for p in (15, 100)] == [3, 5]
    monkeypatch.setattr(regression, "extract", None)
    with pytest.raises(InputError, match="2 training images are too few to choose .* 4 or more are needed"):
        list(TASKS[task](*part, size_px=32, labels=(5, 100)).run(toy, 0))


def test_settings_and_refusals(scenes, plain):
    assert {"labels", "protocol", "stage", "folder"} <= settings_of("kernel-readout")
    assert not {"method", "task"} & settings_of("factors")
    with pytest.raises(InputError, match="ssl-transfer published no such task.*did: ssl-invariances"):
        TASKS["factors"](*scenes, size_px=32, protocol="ssl-transfer")
    with pytest.raises(InputError, match="unknown kind of targets 'landmark'. Did you mean 'landmarks'"):
        RegressionReadout(*scenes, size_px=32, targets="landmark")
    with pytest.raises(InputError, match="unknown regression method 'ridg'"):
        RegressionReadout(*scenes, size_px=32, method="ridg")
    with pytest.raises(InputError, match="object_x, .* is the same in all test images: R2 has no meaning"):
        TASKS["factors"](scenes[0], scenes[1].subset(np.array([3, 3])), size_px=32)
    train = plain(np.arange(4) % 3, ("red", "green", "blue"), "train")
    with pytest.raises(InputError, match="train has no latent factors: use generated scenes"):
        FactorReadout(train, train, size_px=8)
