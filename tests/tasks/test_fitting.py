"""The fit of a task's network: schedules by their formulas, a killed fit equals an unbroken one bit for bit."""

import dataclasses
import math
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer.errors import InputError, RunError
from whytransfer.tasks.fitting import Schedule, batch_of, fit, in_batches, sgd, trainable

VOC07 = Schedule(9000, 16, 0.02, "step", drops=(6000 / 9000, 8000 / 9000), warmup=100, weight_decay=1e-4)


def test_the_rates_of_each_shape():
    assert [VOC07.lr_at(t) for t in (100, 5999)] == [0.02, 0.02]
    assert [round(VOC07.lr_at(t), 9) for t in (6000, 7999, 8000, 8999)] == [0.002, 0.002, 0.0002, 0.0002]
    assert VOC07.lr_at(0) == pytest.approx(0.02 / 1000) and VOC07.lr_at(50) == pytest.approx(0.02 * (0.001 + 0.999 / 2))
    poly = Schedule(40_000, 8, 0.01, "poly")
    assert poly.lr_at(10_000) == pytest.approx(0.01 * 0.75**0.9) and poly.lr_at(39_999) > 0
    cosine = Schedule(5000, 64, 0.1, "cosine")
    assert cosine.lr_at(1250) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)))
    assert {Schedule(10, 4, 0.3).lr_at(t) for t in range(10)} == {0.3}


def test_a_budget_scales_images_and_a_batch_scales_the_rate():
    small = VOC07.scaled(0.1, batch=4)
    assert (small.iterations, small.batch, small.lr, small.warmup) == (3600, 4, 0.005, 40)
    assert small.iterations * small.batch == 0.1 * VOC07.iterations * VOC07.batch
    assert VOC07.scaled() == VOC07 and VOC07.told(VOC07) == ""
    assert small.told(VOC07) == (
        "3,600 iterations of 4 images, 10 % of the images of the full schedule (9,000 of 16); "
        "learning rate 0.005 (0.02 in full)"
    )
    assert VOC07.scaled(1e-9).iterations == 1
    for wrong in (0, -1, 1.5):
        with pytest.raises(InputError, match="over 0 and at most 1"):
            VOC07.scaled(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"shape": "exp"}, "unknown shape 'exp'"), ({"lr": 0}, "lr > 0"), ({"iterations": 0}, "iterations >= 1")],
)
def test_a_wrong_schedule_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(VOC07, **change)


def test_batches_visit_every_image_once_an_epoch_and_know_their_epoch():
    drawn = [batch_of(3, t, 10, 4) for t in range(5)]
    order, epochs = (np.concatenate(part) for part in zip(*drawn, strict=True))
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10)) and list(order[:10]) != list(order[10:])
    assert list(epochs) == [0] * 10 + [1] * 10
    assert list(batch_of(3, 2, 10, 4)[0]) == list(order[8:12]) and list(batch_of(4, 0, 10, 4)[0]) != list(order[:4])
    assert list(batch_of(0, 0, 2, 5)[1]) == [0, 0, 1, 1, 2]


SCHEDULE = Schedule(12, 4, 0.05, "cosine", momentum=0.9, weight_decay=0.01, nesterov=True)


def problem(seed: int = 0):
    """A linear regression with batch norm (its buffers must resume too), and its data."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(9))
    y = x.sum(1, keepdim=True)

    def batch_at(t):
        index = torch.from_numpy(batch_of(0, t, 40, 4)[0])
        return x[index], y[index]

    return model, batch_at, lambda batch: (model(batch[0]) - batch[1]).square().mean()


def test_the_loop_is_torchs_sgd_written_out():
    model, batch_at, loss_of = problem()
    summary = fit(model, batch_at, loss_of, SCHEDULE)
    by_hand, _, _ = problem()
    matrices = [p for p in by_hand.parameters() if p.ndim > 1]
    rest = [p for p in by_hand.parameters() if p.ndim < 2]
    optimizer = torch.optim.SGD(matrices + rest, 1.0, 0.9, weight_decay=0.01, nesterov=True)
    for t in range(12):
        optimizer.param_groups[0]["lr"] = 0.025 * (1 + math.cos(math.pi * t / 12))
        x, y = batch_at(t)
        optimizer.zero_grad()
        (by_hand(x) - y).square().mean().backward()
        optimizer.step()
    for mine, theirs in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert summary["schedule"] == dataclasses.asdict(SCHEDULE) and len(summary["losses_along_the_way"]) == 12
    assert summary["loss_first"] > summary["loss_last"] > 0 and summary["fit_seconds"] > 0


def test_norms_and_biases_can_be_spared_the_decay():
    groups = sgd(nn.Linear(2, 2), dataclasses.replace(SCHEDULE, decay_biases_and_norms=False)).param_groups
    assert [(g["params"][0].ndim, g["weight_decay"]) for g in groups] == [(2, 0.01), (1, 0.0)]
    with pytest.raises(InputError, match="every parameter is frozen"):
        sgd(nn.Linear(2, 2).requires_grad_(False), SCHEDULE)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("killed_at", [1, 5, 11])
def test_a_killed_fit_ends_as_an_unbroken_one(tmp_path, killed_at):
    whole, batch_at, loss_of = problem()
    full = fit(whole, batch_at, loss_of, SCHEDULE)
    broken, batch_at, loss_of = problem()

    def dying(t):
        if t == killed_at:
            raise RuntimeError("killed")
        return batch_at(t)

    with pytest.raises(RuntimeError, match="killed"):
        fit(broken, dying, loss_of, SCHEDULE, folder=tmp_path / "fit", save_every_s=0)
    again, batch_at, loss_of = problem(seed=7)  # other weights: all must come from the checkpoint
    summary = fit(again, batch_at, loss_of, SCHEDULE, folder=tmp_path / "fit")
    assert same(again, whole) and summary["losses_along_the_way"] == full["losses_along_the_way"]


def test_a_finished_fit_is_not_fitted_again(tmp_path):
    model, batch_at, loss_of = problem()
    fit(model, batch_at, loss_of, SCHEDULE, folder=tmp_path)
    again, _, _ = problem(seed=3)
    summary = fit(again, lambda t: 1 / 0, loss_of, SCHEDULE, folder=tmp_path)
    assert same(model, again) and summary["loss_first"] > 0


def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path):
    whole, batch_at, loss_of = problem()
    fit(whole, batch_at, loss_of, SCHEDULE)
    model, batch_at, loss_of = problem()

    def pressing(t):
        if t == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return batch_at(t)

    with pytest.raises(KeyboardInterrupt):
        fit(model, pressing, loss_of, SCHEDULE, folder=tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 7
    again, batch_at, loss_of = problem(seed=5)
    fit(again, batch_at, loss_of, SCHEDULE, folder=tmp_path)
    assert same(again, whole)


def test_a_loss_that_is_no_number_stops_the_fit_and_saves_nothing_of_it(tmp_path):
    model, batch_at, loss_of = problem()
    with pytest.raises(RunError, match="loss became nan at iteration 0.*lower --lr"):
        fit(model, batch_at, lambda batch: loss_of(batch) * math.nan, SCHEDULE, folder=tmp_path, save_every_s=0)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    model, batch_at, loss_of = problem()
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="checkpoint.pt cannot be read.*Delete it"):
        fit(model, batch_at, loss_of, SCHEDULE, folder=tmp_path)


def test_small_helpers():
    assert list(in_batches(7, 3)) == [range(0, 3), range(3, 6), range(6, 7)]
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).requires_grad_(False)
    trainable(module, ["1."])
    assert [p.requires_grad for p in module.parameters()] == [False, False, True, True]
