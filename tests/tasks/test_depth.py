"""Depth: metrics and loss by plain loops, the published recipe by its numbers, a toy set that is learned."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from dense_toys import Blocks, Narrow, Shades
from torch import nn

from whytransfer.backbones import fingerprint
from whytransfer.backbones.fused import Fused
from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.records import Sample
from whytransfer.tasks import TASKS, predictions, reads_annotations, settings_of
from whytransfer.tasks.dense_net import DenseNet, Of
from whytransfer.tasks.depth import SCHEDULES, Depth, unit_of
from whytransfer.tasks.depth_metrics import METRICS, berhu, sums_of
from whytransfer.tasks.fitting import fit

STEPS = 150
SMALL = {"budget": STEPS * 4 / 7500 / 256, "fit_batch": 4, "lr": 0.02, "draws": 50}


def problem(n=5, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 8, (n, 6, 7)).astype(np.float32)
    predicted = (truth * rng.uniform(0.6, 1.6, truth.shape) + rng.normal(0, 0.1, truth.shape)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.2] = np.nan
    predicted[0, 0, :3] = (-1, 0, 1e-9)
    truth[0, 0, :3] = 1
    return predicted, truth


def test_metrics_by_a_loop_over_pixels():
    predicted, truth = problem()
    within, square, relative, logs, n = [0, 0, 0], 0.0, 0.0, 0.0, 0
    for d, t in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if math.isnan(t):
            continue
        d, n = max(d, 1e-3), n + 1
        for k in range(3):
            within[k] += max(d / t, t / d) < 1.25 ** (k + 1)
        square, relative, logs = square + (d - t) ** 2, relative + abs(d - t) / t, logs + abs(math.log10(d / t))
    table = np.stack([sums_of(p, t) for p, t in zip(predicted, truth, strict=True)])
    assert table.shape == (5, 7) and table[:, 0].sum() == n
    found = {name: float(statistic(table.sum(0))) for name, (statistic, _, _) in METRICS.items()}
    expected = [100 * w / n for w in within] + [math.sqrt(square / n), relative / n, logs / n]
    assert list(found) == ["delta<1.25", "delta<1.25^2", "delta<1.25^3", "rmse", "abs_rel", "log10"]
    assert list(found.values()) == pytest.approx(expected, rel=1e-6)


def test_metrics_of_perfect_and_of_constant_predictions():
    truth = np.array([[1.0, 2.0], [np.nan, 4.0]], np.float32)
    perfect = [float(f(sums_of(truth, truth))) for f, _, _ in METRICS.values()]
    assert perfect == [100, 100, 100, 0, 0, 0]
    twice = [float(f(sums_of(2 * truth, truth))) for f, _, _ in METRICS.values()]
    assert twice == pytest.approx([0, 0, 0, math.sqrt((1 + 4 + 16) / 3), 1, math.log10(2)])  # 1.25^3 = 1.953 < 2
    assert all(np.isnan(f(np.zeros(7))) for f, _, _ in METRICS.values())


def test_the_reverse_huber_loss_by_a_loop_over_pixels():
    predicted, truth = (torch.from_numpy(part) for part in problem(2, 3))
    errors = [abs(p - t) for p, t in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True) if t == t]
    c = 0.2 * max(errors)
    expected = np.mean([e if e <= c else (e * e + c * c) / (2 * c) for e in errors])
    assert min(errors) < c < max(errors) and float(berhu(predicted, truth)) == pytest.approx(expected, rel=1e-5)
    predicted.requires_grad_()
    berhu(predicted, truth).backward()
    sign = torch.sign(predicted - truth).detach()
    slope = torch.where((predicted - truth).abs() <= c, sign, (predicted - truth).detach() / c) / len(errors)
    torch.testing.assert_close(predicted.grad, torch.where(truth.isnan(), 0, slope), rtol=1e-4, atol=1e-7)


def test_the_loss_of_nothing_is_zero_and_has_a_gradient():
    for truth in (torch.full((1, 2, 2), math.nan), torch.ones(1, 2, 2)):
        predicted = torch.ones(1, 2, 2, requires_grad=True)
        loss = berhu(predicted, truth)
        loss.backward()
        assert float(loss.detach()) == 0 and torch.isfinite(predicted.grad).all()


class Room(Blocks):
    def __init__(self, size):
        super().__init__(3, size=size)


def test_the_published_recipe():
    byol = SCHEDULES["byol"]
    assert (byol.iterations, byol.batch, byol.lr, byol.weight_decay, byol.momentum) == (7500, 256, 0.16, 5e-4, 0.9)
    nyu = Depth(Room((480, 640)), Room((480, 640)), size_px=228)
    assert nyu.sizes() == ((240, 320), (228, 304)) and nyu._told() == ""
    assert Depth(Room((240, 320)), Room((240, 320)), 512).sizes() == ((240, 320), (228, 304))
    small = Depth(Room((480, 640)), Room((480, 640)), 64, budget=0.01, fit_batch=8)
    assert small.sizes() == ((67, 89), (64, 85)) and small._told() == (
        "2,400 iterations of 8 images, 1 % of the images of the full schedule (7,500 of 256); learning rate 0.005 "
        "(0.16 in full); crops of 64 x 85 px (228 x 304 in full)"
    )
    assert Depth(Room((64, 64)), Room((64, 64)), 64).sizes() == ((67, 67), (64, 64))


def test_a_training_view_shows_image_and_depth_alike():
    """At the scale where nothing is resized: the middle of the image, or its mirror image, and its depth."""
    images = Room((67, 89))
    task = Depth(images, images, 64)
    plain = [task._crop(images[i], False, (0, 0, 0)) for i in range(3)]
    for i, (image, depth) in enumerate(plain):
        sample = images[i]
        torch.testing.assert_close(image, sample.image[:, 1:65, 2:87] / 255)
        np.testing.assert_array_equal(depth, sample.depth[1:65, 2:87])
        mirrored = task._crop(sample, True, (0, 0, 0))
        torch.testing.assert_close(mirrored[0], image.flip(2))
        np.testing.assert_array_equal(mirrored[1], depth[:, ::-1])
    shown, depth = task._batch(_net(), 8, 0, _Here(), 3)
    again = task._batch(_net(), 8, 0, _Here(), 3)
    assert shown.shape == (8, 3, 64, 85) and torch.equal(shown, again[0]) and not torch.equal(shown[0], shown[3])
    np.testing.assert_array_equal(depth, again[1])


def _net() -> DenseNet:
    return DenseNet(Narrow(), lambda f: (Of("map", nn.Identity()), None), "finetune", 0, torch.device("cpu"))


class _Here:
    map = staticmethod(map)


def toy_task(**options):
    return Depth(Shades(40, 0), Shades(7, 1, sizes_differ=True), **{"size_px": 48, **SMALL, **options})


@pytest.fixture
def narrow_decoder(monkeypatch):
    """The decoder with 4 to 16 channels where the paper has 64 to 512."""
    from whytransfer.tasks import depth
    from whytransfer.tasks.up_projection import decoder

    monkeypatch.setattr(depth, "decoder", partial(decoder, widths=(16, 8, 8, 4)))


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_a_toy_set_is_learned_and_the_callers_backbone_stays(mode, tmp_path, narrow_decoder):
    backbone, told = Narrow(), []
    before = fingerprint(backbone)
    task = toy_task(mode=mode, folder=tmp_path, progress=lambda done, n: told.append((done, n)), maps=2)
    results = list(task.run(backbone, seed=0))
    assert fingerprint(backbone) == before and not any(p.requires_grad for p in backbone.parameters())
    by_metric = {r.metric: r for r in results}
    assert list(by_metric) == list(METRICS) and told[-1] == (7, 7)
    constant = np.concatenate([task.test[i].depth.numpy().ravel() for i in range(7)])
    assert by_metric["rmse"].value < 0.8 * np.nanstd(constant)  # what the mean depth would reach
    assert by_metric["rmse"].low < by_metric["rmse"].value < by_metric["rmse"].high
    assert (by_metric["rmse"].unit, by_metric["rmse"].direction, by_metric["rmse"].n) == ("m", "lower", 7)
    said = results[0].provenance
    assert said["frozen"] == (mode == "frozen") and said["weights_sha256"] == before
    assert said["crop_px"] == [48, 65] and said["schedule"]["iterations"] == STEPS
    kept = predictions.read(tmp_path, said["predictions"])
    assert kept["sums"][:, 0].tolist() == [int((~task.test[i].depth.isnan()).sum()) for i in range(7)]
    assert set(kept) == {"sums", "metrics", "depth_000", "depth_006"}
    np.testing.assert_allclose(sums_of(kept["depth_006"], task.test[6].depth.numpy()), kept["sums"][6])
    again = {r.metric: r.value for r in task.run(backbone, seed=0)}  # from the finished fit
    assert again == {m: r.value for m, r in by_metric.items()}


def test_a_killed_run_equals_an_unbroken_one(tmp_path, monkeypatch, narrow_decoder):
    options = {"budget": 3 * 4 / 7500 / 256}
    whole = {r.metric: r.value for r in toy_task(**options).run(Narrow())}
    monkeypatch.setattr("whytransfer.tasks.dense_net.fit", partial(fit, save_every_s=0))
    broken, crop, calls = toy_task(**options, folder=tmp_path), Depth._crop, []

    def dying(self, *rest):
        calls.append(rest)
        if len(calls) == 9:
            raise RuntimeError("killed")
        return crop(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Depth, "_crop", dying)
        with pytest.raises(RuntimeError, match="killed"):
            list(broken.run(Narrow()))
    assert len(list(tmp_path.glob("depth-*/checkpoint.pt"))) == 1
    assert {r.metric: r.value for r in broken.run(Narrow())} == whole


def test_scenes_and_fusions(narrow_decoder):
    train, test = open_images("scenes:4:0:48"), open_images("scenes:3:1:48")
    task = Depth(train, subset(test, [0, 2]), 48, **{**SMALL, "budget": 4 / 7500 / 256})
    results = {r.metric: r for r in task.run(Fused([Narrow(0), Narrow(1)]))}
    assert results["rmse"].unit == "radii" == unit_of(subset(test, [1])) and results["abs_rel"].unit == ""
    assert results["rmse"].n == 2 and results["rmse"].value > 0 and unit_of(Blocks()) == "m"


class Wrong(Blocks):
    def __getitem__(self, i: int) -> Sample:
        sample = super().__getitem__(i)
        return dataclasses.replace(sample, depth=sample.depth[:5])


def test_refusals(monkeypatch):
    images = Blocks()
    with pytest.raises(InputError, match="unknown depth schedule 'byoll'. Did you mean 'byol'"):
        Depth(images, images, 64, schedule="byoll")
    with pytest.raises(InputError, match="unknown mode 'both'"):
        Depth(images, images, 64, mode="both")
    with pytest.raises(InputError, match=r"depth map of 0.. must have the size of its image \(48, 64\), found \(5,"):
        list(Depth(Wrong(), images, 64, **SMALL).run(Narrow()))
    with pytest.raises(InputError, match="batch norm needs two values per channel"):
        list(toy_task(size_px=24, fit_batch=1).run(Narrow()))
    monkeypatch.setattr("whytransfer.tasks.depth.fit_dense", None)  # the test set is looked at before that
    with pytest.raises(InputError, match=r"depth map of 0.. must have the size of its image \(48, 64\), found \(5,"):
        list(Depth(images, Wrong(), 64, **SMALL).run(Narrow()))


def test_a_set_without_depth_is_refused(photos):
    with pytest.raises(InputError, match="needs depth maps, and photos is labelled with class: choose .*sunrgbd:ROOT"):
        Depth(open_images(str(photos)), Blocks(), 64)


def test_the_command_finds_it():
    assert TASKS["depth"] is Depth and reads_annotations("depth")
    assert {"mode", "schedule", "budget", "fit_batch", "lr", "folder"} <= settings_of("depth")


def test_rooms_are_cut_and_read(real_data):
    train = open_images(f"rgbd:{real_data / 'rgbd_depth/7scenes/train'}")
    task = Depth(train, train, 64)
    images, depth = task._batch(_net(), 4, 0, _Here(), 0)
    assert images.shape == (4, 3, 64, 85) and depth.shape == (4, 64, 85)
    assert 0.5 < torch.isfinite(depth).float().mean() < 1 and 0.3 < np.nanmedian(depth) < 5
