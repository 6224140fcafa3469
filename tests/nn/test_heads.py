"""Projectors: the papers' layouts, drawn from their own seed."""

import torch
from torch import nn

from whytransfer.nn import heads


def test_layouts():
    v1, v2, normed = heads.linear(32, 8), heads.mlp(32, 32, 8), heads.mlp(32, 16, 8, nn.BatchNorm1d)
    assert isinstance(v1, nn.Linear) and v1.weight.shape == (8, 32) and v1.bias is not None
    assert [type(m) for m in v2] == [nn.Linear, nn.ReLU, nn.Linear] and v2[0].weight.shape == (32, 32)
    assert [type(m) for m in normed] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear] and normed[0].bias is None
    assert normed(torch.randn(4, 32)).shape == (4, 8)
    byol = heads.byol_mlp(64, 400, 8)
    assert [type(m) for m in byol] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert (byol[0].bias == 0).all() and byol[3].bias is None and byol(torch.randn(4, 64)).shape == (4, 8)
    assert byol[0].weight.abs().max() <= 2 / 64**0.5 and 0.8 < float(byol[0].weight.std()) * 64**0.5 < 0.95


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    a = heads.mlp(8, 8, 4, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(100)
    b, c = heads.mlp(8, 8, 4, seed=1), heads.mlp(8, 8, 4, seed=2)
    assert torch.equal(a[0].weight, b[0].weight) and not torch.equal(a[0].weight, c[0].weight)
    assert not torch.equal(a[0].weight, a[2].weight.new_zeros(8, 8))
