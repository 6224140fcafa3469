"""Rows of every process, or one's own when alone."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """(B, ...) on each of W processes -> (W * B, ...) on all, by rank, without gradient; a no-op alone."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    rows = rows.contiguous()
    out = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(out, rows)
    return out


def own_rows(rows: Tensor) -> Tensor:
    """(B,) positions that this process's rows have in gather(rows)."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return rank * len(rows) + torch.arange(len(rows), device=rows.device)
