"""Projectors: what sits between a backbone and a contrastive loss, and is thrown away afterwards.

A head is drawn from its own seed, so that it does not depend on what was drawn before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Layers made inside draw their initial weights from `seed`; the global generator is put back afterwards."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def linear(width: int, dim: int, seed: int = 0) -> nn.Module:
    """One layer, (B, width) -> (B, dim): the projector of MoCo v1, and a classifier  [He 2020, §3.3]."""
    with seeded(seed):
        return nn.Linear(width, dim)


def mlp(width: int, hidden: int, dim: int, norm: Callable[[int], nn.Module] | None = None, seed: int = 0) -> nn.Module:
    """Linear, (norm,) ReLU, linear: (B, width) -> (B, hidden) -> (B, dim).

    Without norm and with hidden = width it is the projector of MoCo v2 [Chen 2020, "Improved baselines", §3];
    with norm=nn.BatchNorm1d the usual choice for small batches and few epochs.
    """
    with seeded(seed):
        first, last = nn.Linear(width, hidden, bias=norm is None), nn.Linear(hidden, dim)
    return nn.Sequential(first, *([norm(hidden)] if norm else []), nn.ReLU(inplace=True), last)


def byol_mlp(width: int, hidden: int, dim: int, seed: int = 0) -> nn.Module:
    """Linear, batch norm, ReLU, linear without bias: projector and predictor of BYOL and DetCon-B  [Grill 2020, §3.3].

    Weights start as in their published code: normal with deviation 1 / sqrt(inputs), cut at two deviations; biases 0.
    """
    with seeded(seed):
        first, last = nn.Linear(width, hidden), nn.Linear(hidden, dim, bias=False)
        for linear in (first, last):
            std = linear.in_features**-0.5
            nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), last)


def per_region(head: nn.Module, x: Tensor) -> Tensor:
    """A head over (B, M, ...) rows: batch norm sees the B M regions, repeated draws included."""
    return torch.unflatten(head(x.flatten(0, 1)), 0, x.shape[:2])
