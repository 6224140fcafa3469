"""The slow copy of a network: its weights trail those of the trained one."""

from __future__ import annotations

import copy
import math

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


def rising(start: float, end: float, progress: float) -> float:
    """A momentum on its way from start to end along half a cosine, by the share of the run done  [Grill 2020, §3.3].

    progress: 0 before the first step, 1 after the last. BYOL's and DetCon's code count the steps before the update;
    the methods here also count the one just made.
    """
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def update_ema(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- momentum * target + (1 - momentum) * online, over parameters  [He 2020, eq. 2].

    Buffers are left alone: the target's batch norm keeps statistics of what the target itself has seen.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1.0 - momentum)
