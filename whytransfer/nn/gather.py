"""Rows of every process, or one's own when alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """(B, ...) on each of W processes -> (W * B, ...) on all, by rank, without gradient; a no-op alone."""
    if world()[1] == 1:
        return rows
    rows = rows.contiguous()
    out = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(out, rows)
    return out


def gather_with_grad(rows: Tensor) -> Tensor:
    """gather(rows) that is differentiable: a row's gradient is the sum of those that all processes have for it.

    With losses that are means over each process's rows, and gradients averaged over processes afterwards, weights get
    the gradient of the mean over all rows.
    """
    gathered: Tensor = rows if world()[1] == 1 else _Gather.apply(rows)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return gather(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        rank, processes = world()
        return grad.chunk(processes)[rank]


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def own_rows(rows: Tensor) -> Tensor:
    """(B,) positions that this process's rows have in gather(rows)."""
    return world()[0] * len(rows) + torch.arange(len(rows), device=rows.device)
