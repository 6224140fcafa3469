"""InfoNCE against cross-entropy, closed forms, and the facts about its mask."""

import math

import pytest
import torch
import torch.nn.functional as F

from whytransfer.nn import info_nce
from whytransfer.nn.losses import unit


def rows(*shape, seed=0, dtype=torch.float64):
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_equals_cross_entropy_over_one_positive_and_k_negatives(temperature):
    q, k, bank = rows(6, 8, seed=1).requires_grad_(), rows(6, 8, seed=2), rows(40, 8, seed=3)
    ours = info_nce(q, k, bank, temperature)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ bank.T], dim=1) / temperature  # (B, K+1)
    theirs = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, q)[0] for loss in (ours, theirs)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 64, 4096])
def test_identical_bank_gives_log_of_k_plus_one(size):
    q = rows(1, 16).expand(5, 16)
    assert float(info_nce(q, q, q[:1].expand(size, 16), 0.2)) == pytest.approx(math.log(size + 1), rel=1e-12)


def test_opposite_bank_has_its_closed_form():
    q = rows(4, 16)[:1]
    expected = math.log1p(10 * math.exp(-2 / 0.5))
    assert float(info_nce(q, q, (-q).expand(10, 16), 0.5)) == pytest.approx(expected, rel=1e-12)


def test_dropped_negatives_might_as_well_not_be_there():
    q, k, bank = rows(3, 8, seed=1), rows(3, 8, seed=2), rows(20, 8, seed=3)
    keep = torch.rand(3, 20, generator=torch.Generator().manual_seed(4)) > 0.4
    apart = torch.stack([info_nce(q[i : i + 1], k[i : i + 1], bank[keep[i]], 0.1) for i in range(3)]).mean()
    torch.testing.assert_close(info_nce(q, k, bank, 0.1, keep), apart)
    everything = info_nce(q, k, bank, 0.1, torch.ones(3, 20, dtype=torch.bool))
    torch.testing.assert_close(everything, info_nce(q, k, bank, 0.1), rtol=0, atol=0)


def test_a_query_without_negatives_has_no_loss_and_a_finite_gradient():
    q, k, bank = rows(2, 8, seed=1).requires_grad_(), rows(2, 8, seed=2), rows(5, 8, seed=3)
    keep = torch.tensor([[False] * 5, [True] * 5])
    loss = info_nce(q, k, bank, 0.1, keep)
    torch.testing.assert_close(loss, info_nce(q[1:], k[1:], bank, 0.1) / 2)
    gradient = torch.autograd.grad(loss, q)[0]
    assert torch.equal(gradient[0], torch.zeros(8, dtype=torch.float64)) and gradient[1].isfinite().all()


def test_autocast_does_not_touch_the_logits():
    q, k, bank = (rows(*s, seed=i, dtype=torch.float32) for i, s in enumerate([(8, 32), (8, 32), (64, 32)]))
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(q, k, bank, 0.07)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, info_nce(q, k, bank, 0.07), rtol=0, atol=0)


def test_unit_rows_leave_half_precision_behind():
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.bfloat16)
    torch.testing.assert_close(unit(z), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
