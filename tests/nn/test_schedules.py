"""Learning rates in closed form, the papers' values, and the optimisers they drive."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from whytransfer.errors import InputError
from whytransfer.methods import METHODS
from whytransfer.nn.lars import LARS
from whytransfer.nn.schedules import Training, build_optimizer, lr_at


def test_moco_v2_follows_its_half_cosine_once_per_epoch():
    training = METHODS["moco-v2"].defaults
    for epoch in (0, 1, 57, 100, 199):
        expected = 0.03 * 0.5 * (1 + math.cos(math.pi * epoch / 200))
        for step in (0, 3, 9):
            assert lr_at(training, epoch * 10 + step, 10, 200, 256) == pytest.approx(expected, rel=1e-12)


def test_moco_v1_drops_at_120_and_160_of_200():
    training = METHODS["moco-v1"].defaults
    rates = [lr_at(training, epoch * 7, 7, 200, 256) for epoch in range(200)]
    assert rates == pytest.approx([0.03] * 120 + [0.003] * 40 + [0.0003] * 40, rel=1e-12)


def test_milestones_are_shares_of_any_number_of_epochs():
    training = METHODS["moco-v1"].defaults
    assert [round(lr_at(training, e, 1, 5, 256), 6) for e in range(5)] == [0.03, 0.03, 0.03, 0.003, 0.0003]


def test_rate_is_proportional_to_the_batch():
    training = Training("sgd", lr_per_256=0.03)
    assert lr_at(training, 5, 10, 4, 128) == pytest.approx(lr_at(training, 5, 10, 4, 256) / 2)


def test_warm_up_is_linear_and_meets_the_cosine():
    training = Training("sgd", lr_per_256=1.0, warmup_epochs=2)
    rates = [lr_at(training, step, 5, 12, 256) for step in range(60)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert rates[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * s / 50)) for s in range(50)])
    assert rates[9] == rates[10] == max(rates) and min(rates) > 0


def test_a_run_shorter_than_its_warm_up_only_warms_up():
    training = Training("sgd", lr_per_256=1.0, warmup_epochs=10)
    assert [lr_at(training, s, 4, 1, 256) for s in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_run_may_end_inside_an_epoch():
    cosine, steps = Training("sgd", lr_per_256=1.0, warmup_epochs=1), Training("sgd", 1.0, schedule="step")
    rates = [lr_at(cosine, s, 4, 2.5, 256) for s in range(10)]  # 10 steps in epochs of 4
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * s / 6)) for s in range(6)])
    dropped = [1.0] * 6 + [0.1] * 2 + [0.01] * 2
    assert [lr_at(steps, s, 4, 2.5, 256) for s in range(10)] == pytest.approx(dropped)


@pytest.mark.parametrize(
    ("name", "lr", "weight_decay", "schedule"),
    [
        ("moco-v1", 0.03, 1e-4, "step"),
        ("moco-v2", 0.03, 1e-4, "cosine"),
        ("supervised", 0.1, 1e-4, "cosine"),
        ("instdisc", 0.03, 1e-4, "step"),
        ("instdisc-softmax", 0.03, 1e-4, "step"),
        ("exemplar-v1", 0.03, 1e-4, "step"),
        ("exemplar-v2", 0.03, 1e-4, "cosine"),
        ("supcon-queue", 0.03, 1e-4, "cosine"),
    ],
)
def test_papers_training(name, lr, weight_decay, schedule):
    t = METHODS[name].defaults
    found = (t.optimizer, t.lr_per_256, t.momentum, t.weight_decay, t.schedule, t.epochs, t.batch, t.warmup_epochs)
    assert found == ("sgd", lr, 0.9, weight_decay, schedule, 200, 256, 0.0) and t.decay_biases_and_norms


@pytest.mark.parametrize(
    ("name", "optimizer", "peak", "weight_decay", "epochs", "batch"),
    [
        ("simclr", "lars-simclr", 4.8, 1e-6, 100, 4096),
        ("supcon", "lars-simclr", 7.2, 1e-6, 350, 6144),
        ("byol", "lars", 3.2, 1.5e-6, 1000, 4096),
    ],
)
def test_papers_training_with_lars(name, optimizer, peak, weight_decay, epochs, batch):
    t = METHODS[name].defaults
    assert (t.optimizer, t.weight_decay, t.epochs, t.batch, t.warmup_epochs) == (
        optimizer, weight_decay, epochs, batch, 10.0,
    )  # fmt: skip
    assert t.momentum == 0.9 and t.schedule == "cosine" and t.changes_every == "step"
    assert max(lr_at(t, s, 20, t.epochs, batch) for s in range(0, 400)) == pytest.approx(peak)


def test_sgd_is_torchs_with_decay_on_everything_or_on_weights_only():
    training = Training("sgd", lr_per_256=0.1, weight_decay=0.5)
    for decay_all in (True, False):
        torch.manual_seed(0)
        ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
        theirs.load_state_dict(ours.state_dict())
        optimizer = build_optimizer(dataclasses.replace(training, decay_biases_and_norms=decay_all), ours)
        bias = {"params": [theirs.bias], "weight_decay": 0.5 if decay_all else 0.0}
        reference = torch.optim.SGD([{"params": [theirs.weight]}, bias], 0.1, 0.9, weight_decay=0.5, foreach=False)
        for _ in range(3):
            x = torch.randn(5, 4)
            for net, step in ((ours, optimizer), (theirs, reference)):
                net.zero_grad()
                net(x).square().sum().backward()
                step.step()
        torch.testing.assert_close(ours.weight, theirs.weight)
        torch.testing.assert_close(ours.bias, theirs.bias)


def test_lars_by_name_and_frozen_parameters_left_out():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = build_optimizer(Training("lars", lr_per_256=0.3, weight_decay=1e-6), net)
    assert isinstance(optimizer, LARS) and optimizer.defaults["trust_coefficient"] == 0.001
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 2
    assert not optimizer.defaults["lr_inside"]
    assert build_optimizer(Training("lars-simclr", lr_per_256=0.3), net).defaults["lr_inside"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'. Known: lars, lars-simclr, sgd"),
        ({"schedule": "linear"}, "unknown schedule 'linear'. Known: cosine, step"),
        ({"changes_every": "batch"}, "not every 'batch'"),
        ({"lr_per_256": 0.0}, "lr_per_256 > 0"),
        ({"epochs": 0}, "epochs >= 1"),
    ],
)
def test_refuses_what_cannot_be_trained(change, text):
    with pytest.raises(InputError, match=text):
        Training(**({"optimizer": "sgd", "lr_per_256": 0.1} | change))
