"""The exponential moving average in closed form; buffers stay the target's own."""

import pytest
import torch
from torch import nn

from whytransfer.nn.ema import frozen_copy, redrawn, rising, update_ema


def test_after_n_steps_towards_a_fixed_network_the_distance_is_m_to_the_n():
    target, online = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    start = [p.detach().clone() for p in target.parameters()]
    for _ in range(7):
        update_ema(target, online, 0.9)
    for now, then, goal in zip(target.parameters(), start, online.parameters(), strict=True):
        torch.testing.assert_close(now, goal + 0.9**7 * (then - goal), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.9), (1 / 3, 0.925), (0.5, 0.95), (2 / 3, 0.975), (1, 1.0)])
def test_a_momentum_rises_along_half_a_cosine(progress, expected):
    assert rising(0.9, 1.0, progress) == pytest.approx(expected, rel=1e-12)


def test_momentum_zero_copies_and_one_keeps():
    target, online = nn.Linear(3, 2), nn.Linear(3, 2)
    kept = target.weight.clone()
    update_ema(target, online, 1.0)
    assert torch.equal(target.weight, kept)
    update_ema(target, online, 0.0)
    assert torch.equal(target.weight, online.weight)


def test_statistics_of_batch_norm_are_not_averaged():
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = frozen_copy(online)
    online(torch.randn(8, 3))
    update_ema(target, online, 0.5)
    assert torch.equal(target[1].running_mean, torch.zeros(4)) and not torch.equal(
        online[1].running_mean, torch.zeros(4)
    )


def test_a_frozen_copy_is_equal_apart_and_without_gradient():
    online = nn.Linear(3, 2)
    target = frozen_copy(online)
    assert torch.equal(target.weight, online.weight) and target.weight.data_ptr() != online.weight.data_ptr()
    assert not any(p.requires_grad for p in target.parameters()) and all(p.requires_grad for p in online.parameters())


def test_a_redrawn_copy_has_other_weights_of_the_same_law():
    online = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(memory_format=torch.channels_last)
    target, again, other = redrawn(online, 1), redrawn(online, 1), redrawn(online, 2)
    for p, t in zip(online.parameters(), target.parameters(), strict=True):
        assert torch.equal(p.flatten().sort().values, t.flatten().sort().values) and not t.requires_grad
    assert (target[0].weight == online[0].weight).float().mean() < 0.1
    assert torch.equal(target[1].weight, torch.ones(8)) and torch.equal(target[1].bias, torch.zeros(8))
    assert torch.equal(target[0].weight, again[0].weight) and not torch.equal(target[0].weight, other[0].weight)
