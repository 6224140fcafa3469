"""LARS against the update written out, one layer at a time."""

import copy

import pytest
import torch
from torch import nn

from whytransfer.nn.lars import LARS


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).double()


def by_hand(params, velocity, lr, momentum, decay, coefficient, inside):
    for p in params:
        g, trust = p.grad.clone(), 1.0
        if p.ndim > 1:
            g += decay * p
            w_norm, g_norm = p.square().sum().sqrt(), g.square().sum().sqrt()
            trust = float(coefficient * w_norm / g_norm) if w_norm > 0 and g_norm > 0 else 1.0
        velocity[p] = momentum * velocity.get(p, 0.0) + (lr * trust * g if inside else trust * g)
        p -= velocity[p] if inside else lr * velocity[p]


@pytest.mark.parametrize("inside", [False, True])  # of BYOL and DetCon; of SimCLR
def test_equals_the_written_out_update_while_the_rate_changes(inside):
    ours, theirs = network(), network()
    optimizer, velocity = LARS(ours.parameters(), lr=1.0, weight_decay=1e-2, lr_inside=inside), {}
    for step in range(6):
        lr = 1.0 / (step + 1)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        with torch.no_grad():
            by_hand(list(theirs.parameters()), velocity, lr, 0.9, 1e-2, 0.001, inside)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_two_forms_are_one_while_the_rate_stays():
    nets = [network(), network()]
    optimizers = [LARS(n.parameters(), lr=0.3, lr_inside=i) for n, i in zip(nets, (False, True), strict=True)]
    for step in range(4):
        torch.manual_seed(step)
        gradients = [torch.randn_like(p) for p in nets[0].parameters()]
        for net, optimizer in zip(nets, optimizers, strict=True):
            for p, g in zip(net.parameters(), gradients, strict=True):
                p.grad = g.clone()
            optimizer.step()
    for a, b in zip(*(n.parameters() for n in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_layer_moves_by_a_thousandth_of_its_length_whatever_its_gradient():
    for scale in (1e-6, 1.0, 1e6):
        p = nn.Parameter(torch.randn(7, 3, dtype=torch.float64))
        length = p.detach().norm()
        p.grad = scale * torch.randn(7, 3, dtype=torch.float64)
        before = p.detach().clone()
        LARS([p], lr=1.0).step()
        torch.testing.assert_close((p - before).norm(), 0.001 * length)


def test_zero_weights_and_missing_gradients_are_no_trouble():
    zero, idle = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad = torch.ones(2, 2)
    LARS([zero, idle], lr=0.5).step()
    assert torch.equal(zero, torch.full((2, 2), -0.5)) and torch.equal(idle, torch.ones(2, 2))


def test_velocity_resumes_from_a_checkpoint():
    a, b = network(), network()
    first, second = (LARS(n.parameters(), lr=0.5, weight_decay=1e-3) for n in (a, b))
    for p in a.parameters():
        p.grad = torch.ones_like(p)
    first.step()
    b.load_state_dict(a.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # torch would share the tensors
    for net, optimizer in ((a, first), (b, second)):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert all(torch.equal(p, r) for p, r in zip(a.parameters(), b.parameters(), strict=True))
