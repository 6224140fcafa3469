"""Batch norm over the batches of all processes: W processes normalise as one process with the joined batch would.

PyTorch's SyncBatchNorm needs a GPU; this is its arithmetic on any device, so that what tests show on processors is
what runs on GPUs. Shares have one size, as the loader makes them. Sums are in float32 at least.

Shape letters: B batch of one process, C channels, W processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whytransfer.nn.batchnorm import SplitBatchNorm1d, SplitBatchNorm2d, share
from whytransfer.nn.gather import gather, world


class JoinedBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d whose training statistics are those of all processes; x (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return normalise_jointly(self, x) if self.training and world()[1] > 1 else super().forward(x)


class JoinedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of all processes; x (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return normalise_jointly(self, x) if self.training and world()[1] > 1 else super().forward(x)


def join_batch_norm(module: nn.Module) -> nn.Module:
    """Turn every batch norm inside that is not in groups into a joined one, in place; names and weights stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d or (type(child) is SplitBatchNorm1d and child.groups == 1):
            setattr(module, name, share(child, JoinedBatchNorm1d(child.num_features)))
        elif type(child) is nn.BatchNorm2d or (type(child) is SplitBatchNorm2d and child.groups == 1):
            setattr(module, name, share(child, JoinedBatchNorm2d(child.num_features)))
        else:
            join_batch_norm(child)
    return module


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Running statistics of each batch norm inside <- their mean over processes; nothing happens alone.

    The mean commutes with the running average, so these are what one process would keep that makes all groups itself.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if world()[1] == 1 or not norms:
        return
    kept = [x for m in norms for x in (m.running_mean, m.running_var) if x is not None]
    joined = torch.cat(kept)
    dist.all_reduce(joined)
    joined /= world()[1]
    for x, mean in zip(kept, joined.split([len(x) for x in kept]), strict=True):
        x.copy_(mean)


def normalise_jointly(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Batch norm in training by the statistics of x (B, C, ...) of all processes; running ones move as for one."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    y: Tensor
    y, mean, variance, count = _Joined.apply(x, norm.weight, norm.bias, norm.eps)
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return y


class _Joined(torch.autograd.Function):
    """x, weight (C,), bias (C,) -> y, mean and biased variance (C,) over all processes, values per channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Any, ...]:
        axes = [0, *range(2, x.ndim)]
        own = torch.stack(torch.var_mean(_full(x), axes, correction=0))  # variance and mean, (2, C)
        variances, means = gather(own[None]).unbind(1)  # (W, C) both
        mean = means.mean(0)
        variance = variances.mean(0) + means.var(0, correction=0)  # of equal shares
        count = x.numel() // x.shape[1] * len(means)
        y = F.batch_norm(x, mean, variance, _like(weight, mean), _like(bias, mean), training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.count = count
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        axes, across = [0, *range(2, x.ndim)], (1, -1, *(1,) * (x.ndim - 2))
        centred, g = (_full(x) - mean.view(across)) * scale.view(across), _full(grad)
        own = torch.stack([g.sum(axes), (g * centred).sum(axes)])  # of this process: gradients of bias and weight
        joined = own.clone()
        dist.all_reduce(joined)
        slope, tilt = (joined / ctx.count).view(2, *across)
        factor = scale if weight is None else scale * weight
        x_grad = ((g - slope - centred * tilt) * factor.view(across)).to(x.dtype)
        given = (None, None) if weight is None else (own[1].to(weight.dtype), own[0].to(weight.dtype))
        return x_grad, *given, None


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _like(x: Tensor | None, other: Tensor) -> Tensor | None:
    return None if x is None else x.to(other.dtype)
