"""The slow copy of a network: its weights trail those of the trained one."""

from __future__ import annotations

import copy

import torch
from torch import nn


def frozen_copy(online: nn.Module) -> nn.Module:
    """A deep copy that starts with equal weights and buffers and takes no gradient: a target at step 0."""
    return copy.deepcopy(online).requires_grad_(False)


def redrawn(online: nn.Module, seed: int) -> nn.Module:
    """A frozen copy that starts with other weights of the same law, as the targets of BYOL's and DetCon's code do.

    Each tensor's entries, which a fresh network draws independently and alike, in another order; constants stay.
    """
    target, generator = frozen_copy(online), torch.Generator().manual_seed(seed)
    for p in target.parameters():
        order = torch.randperm(p.numel(), generator=generator).to(p.device)
        p.data = p.data.flatten()[order].view_as(p)
    return target


@torch.no_grad()
def update_ema(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- momentum * target + (1 - momentum) * online, over parameters  [He 2020, eq. 2].

    Buffers are left alone: the target's batch norm keeps statistics of what the target itself has seen.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1.0 - momentum)
