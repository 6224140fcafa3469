"""The network of dense tasks: frozen is frozen, a fit with dropout that was killed ends as an unbroken one."""

from functools import partial

import pytest
import torch
from dense_toys import Narrow
from torch import nn

from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, RunError
from whytransfer.tasks.dense_net import (
    DenseNet,
    Of,
    check_batch_norm,
    checked_mode,
    enlarged,
    fit_dense,
    mean_colour,
    own_copy,
)
from whytransfer.tasks.fitting import Schedule, fit

CPU = torch.device("cpu")
SCHEDULE = Schedule(6, 2, 0.05, "poly", weight_decay=1e-3)


def heads(features):
    main = nn.Sequential(nn.Conv2d(features.map.shape[1], 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))
    return Of("map", main), Of("layer3", nn.Conv2d(features.stages["layer3"].shape[1], 2, 1))


def problem(mode="finetune", seed=0):
    net = DenseNet(own_copy(Narrow()), heads, mode, seed, CPU)

    def batch_at(step):
        return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(step))

    def loss_of(images):
        out, auxiliary = net(images)
        return (enlarged(out, (8, 8)) - images.mean()).square().mean() + auxiliary.square().mean()

    return net, batch_at, loss_of


def test_heads_have_weights_of_their_seed_and_leave_the_random_numbers_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = problem()[0], problem()[0], problem(seed=1)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert fingerprint(one.backbone) == fingerprint(other.backbone)


def test_the_auxiliary_head_speaks_in_training_only_and_batches_equal_rows():
    net, batch_at, _ = problem()
    x = batch_at(0)
    out, auxiliary = net.train()(x)
    assert auxiliary.shape == (2, 2, 4, 4) and out.shape == (2, 2, 2, 2)
    out, auxiliary = net.eval()(x)
    assert auxiliary is None
    torch.testing.assert_close(out[1:], net(x[1:])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_a_killed_fit_ends_as_an_unbroken_one_and_frozen_is_frozen(mode, tmp_path):
    net, batch_at, loss_of = problem(mode)
    start = fingerprint(net.backbone)
    summary = fit_dense(net, batch_at, loss_of, SCHEDULE, 3, None, "whole")
    assert not net.training and (fingerprint(net.backbone) == start) == (mode == "frozen")

    again, batch_at, loss_of = problem(mode)

    def dying(step):
        if step == 4:
            raise RuntimeError("killed")
        return batch_at(step)

    for make in (dying, batch_at):
        torch.manual_seed(int(make is dying))  # the state of the caller's random numbers decides nothing
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("whytransfer.tasks.dense_net.fit", partial(fit, save_every_s=0))
                resumed = fit_dense(again, make, loss_of, SCHEDULE, 3, tmp_path, "broken")
        except RuntimeError as error:
            assert str(error) == "killed"
            again, batch_at, loss_of = problem(mode, seed=9)
    assert fingerprint(again) == fingerprint(net)
    assert resumed["losses_along_the_way"] == summary["losses_along_the_way"]
    different = fit_dense(*problem(mode), SCHEDULE, 4, None, "dropout of another seed")
    assert different["losses_along_the_way"] != summary["losses_along_the_way"]


def test_a_frozen_backbone_that_moves_is_an_error():
    net, batch_at, loss_of = problem("frozen")

    def moving(step):
        net.backbone.bn1.running_mean += 1
        return batch_at(step)

    with pytest.raises(RunError, match="frozen backbone changed while its head was fitted: .* became"):
        fit_dense(net, moving, loss_of, SCHEDULE, 0, None, "moving")


def test_modes_and_batches_of_one_are_checked():
    with pytest.raises(InputError, match="unknown mode 'freeze'. Known: finetune, frozen"):
        checked_mode("freeze")
    net = problem()[0]
    assert check_batch_norm(net, (64, 96), 1, pooled=False) == (2, 3)
    check_batch_norm(net, (32, 32), 2, pooled=True)
    with pytest.raises(InputError, match="its head sees maps of 1 x 1 places. Give --fit-batch 2 or more"):
        check_batch_norm(net, (32, 32), 1, pooled=False)
    with pytest.raises(InputError, match="its head pools each image to one place"):
        check_batch_norm(net, (64, 64), 1, pooled=True)
    assert mean_colour(net.backbone) == pytest.approx((0.485, 0.456, 0.406)) == mean_colour(nn.Linear(1, 1))
