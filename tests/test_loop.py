"""What the loop hands to views, optimiser and method at every step, and what it says of its speed."""

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from whytransfer.loading import batch_indices
from whytransfer.nn.schedules import Training, lr_at
from whytransfer.pretraining import Plan, Pretraining
from whytransfer.records import Views
from whytransfer.runs import RunFolder

IMAGES, BATCH, PARTS, EPOCHS, SEED = 26, 8, 2, 3, 5  # 3 steps to an epoch, in two parts each; two images are left out
WARM = Training("sgd", lr_per_256=0.5, schedule="cosine", warmup_epochs=1.0)  # 3 of the 9 steps
DROPS = Training("sgd", lr_per_256=0.5, schedule="step", changes_every="epoch", milestones=(0.3, 0.6))


class Pixels:
    """Pictures that know their number: every pixel of picture i is i."""

    labels = np.arange(IMAGES) % 3

    def __len__(self):
        return IMAGES

    def pixels(self, i):
        return np.full((8, 8, 3), i, dtype=np.uint8)


class Spy(nn.Module):
    """Viewer and method in one: keeps what it is called with, in order."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.backbone.width = 4
        self.viewed, self.lost, self.after = [], [], []

    def view(self, pixels, indices, labels, epoch, regions, boxes):
        assert [int(p[0, 0, 0]) for p in pixels] == indices.tolist() and labels.tolist() == (indices % 3).tolist()
        self.viewed.append((indices.tolist(), epoch))
        images = torch.from_numpy(np.stack(pixels)).movedim(3, 1).float() / IMAGES
        return Views((images,), torch.from_numpy(indices), torch.from_numpy(labels))

    def loss(self, views):
        modes = {m.training for m in self.modules()}
        self.lost.append((views.index.tolist(), modes, torch.is_grad_enabled()))
        return {"loss": self.backbone(views.images[0]).square().mean(), "seen": views.index}

    def after_step(self, out, progress):
        self.after.append((out["seen"].tolist(), progress))


def fitted(folder, training=WARM, **plan):
    """The spy after a run, and the learning rates of its optimiser's groups at every step."""
    spy, rates, step = Spy().eval(), [], torch.optim.SGD.step

    def seen(optimizer, *args, **kwargs):
        rates.append({group["lr"] for group in optimizer.param_groups})
        return step(optimizer, *args, **kwargs)

    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    amount = {"epochs": EPOCHS, "batch": BATCH, "seed": SEED, "accumulate": PARTS} | plan
    run = RunFolder.open(folder, {"config": {}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", seen)
        Pretraining(spy, Pixels(), spy.view, Plan(training, **amount), run, fabric, None).fit()
    return spy, rates


@pytest.fixture(scope="module")
def spied(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("loop") / "run")


def parts_of(epoch):
    """What the parts of an epoch's batches must hold, one by one."""
    return batch_indices(SEED, epoch, IMAGES, BATCH).reshape(-1, BATCH // PARTS).tolist()


def test_every_epoch_has_views_and_an_order_of_its_own(spied):
    spy, _ = spied
    assert spy.viewed == [(part, epoch) for epoch in range(EPOCHS) for part in parts_of(epoch)]
    orders = {str(parts_of(epoch)) for epoch in range(EPOCHS)}
    assert len(orders) == EPOCHS and len(spy.viewed) == EPOCHS * 6
    for epoch in range(EPOCHS):  # no picture twice in an epoch
        assert len({i for part, e in spy.viewed if e == epoch for i in part}) == 24


def test_the_losses_are_those_of_the_views_in_training_mode(spied):
    spy, _ = spied
    assert spy.lost == [(part, {True}, True) for part, _ in spy.viewed]
    assert int(spy.backbone[1].num_batches_tracked) == len(spy.lost)


def test_after_step_comes_once_per_step_with_all_of_its_parts(spied):
    spy, _ = spied
    steps = [batch for epoch in range(EPOCHS) for batch in batch_indices(SEED, epoch, IMAGES, BATCH).tolist()]
    assert spy.after == [(batch, pytest.approx((i + 1) / 9)) for i, batch in enumerate(steps)]


def test_the_optimiser_has_the_learning_rate_of_every_step(spied):
    _, rates = spied
    assert rates == [{lr_at(WARM, step, 3, EPOCHS, BATCH)} for step in range(9)]
    peak = 0.5 * BATCH / 256
    cosine = [peak * (1 + np.cos(np.pi * k / 6)) / 2 for k in range(6)]
    assert [rate for (rate,) in rates] == pytest.approx([peak / 3, 2 * peak / 3, peak, *cosine])


def test_the_learning_rate_falls_where_the_schedule_says(tmp_path):
    _, rates = fitted(tmp_path / "run", DROPS)
    peak = 0.5 * BATCH / 256
    assert [rate for (rate,) in rates] == pytest.approx([peak] * 3 + [peak / 10] * 3 + [peak / 100] * 3)


def test_a_run_of_iterations_has_the_cosine_of_its_own_length(tmp_path, capsys):
    spy, rates = fitted(tmp_path / "run", iterations=7)
    said = [line.partition("  ")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "iteration 3/7",
        "iteration 6/7",
        "iteration 7/7",
    ]  # in the unit that was asked for, at an epoch's end
    assert rates == [{lr_at(WARM, step, 3, 7 / 3, BATCH)} for step in range(7)]
    assert len(spy.viewed) == 14 and [epoch for _, epoch in spy.viewed[-2:]] == [2, 2]
    assert spy.after[-1][1] == 1.0


class Clock:
    """Stands for the module `time`: moves only when told."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


def row_of(folder, monkeypatch, seconds, waits):
    """The row of one epoch whose steps took so long, of which the views took so much."""
    clock = Clock()
    monkeypatch.setattr("whytransfer.pretraining.time", clock)

    class Slow(Spy):
        def view(self, *args):
            clock.now += waits[len(self.viewed)]
            return super().view(*args)

        def loss(self, views):
            clock.now += seconds[len(self.lost)] - waits[len(self.lost)]
            return super().loss(views)

    class Few(Pixels):
        def __len__(self):
            return 2 * len(seconds)

    spy = Slow()
    plan = Plan(WARM, epochs=1, batch=2, seed=SEED)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    run = RunFolder.open(folder, {"config": {}})
    result = Pretraining(spy, Few(), spy.view, plan, run, fabric, None).fit()
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert all(result[k] == row[k] for k in ("images_per_second", "waiting_for_data", "seconds"))
    return row


def test_the_speed_is_the_median_after_ten_steps_of_warm_up(tmp_path, monkeypatch):
    seconds = [8.0] * 10 + [0.5, 0.25, 2.0]  # slow while kernels are compiled; then 4, 8 and 1 images/s
    row = row_of(tmp_path / "run", monkeypatch, seconds, waits=[0.5] * 12 + [1.0])
    assert row["images_per_second"] == pytest.approx(4.0)
    assert row["seconds"] == pytest.approx(sum(seconds))
    assert row["waiting_for_data"] == pytest.approx(7.0 / sum(seconds))


def test_a_run_of_few_steps_tells_the_speed_of_those(tmp_path, monkeypatch):
    row = row_of(tmp_path / "run", monkeypatch, seconds=[4.0, 1.0, 0.5], waits=[1.0, 0.0, 0.0])
    assert row["images_per_second"] == pytest.approx(2.0) and row["waiting_for_data"] == pytest.approx(1 / 5.5)
