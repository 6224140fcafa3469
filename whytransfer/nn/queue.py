"""The dictionary of past keys: a ring of K rows, oldest first out.

Shape letters: B batch, D key width, K queue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.errors import InputError


class KeyQueue(nn.Module):
    """The last K keys, to serve as negatives; starts as K random directions [He 2020, §3.2].

    Reading (`keys`) and writing (`enqueue`) are apart, so that a loss computed before `enqueue` never meets its own
    positive among the negatives. K may exceed the number of images: then keys of earlier epochs stay in it.
    Labels travel with their keys for those who read them; a million keys of width 128 are 512 MiB, their labels 8 MiB.
    """

    keys: Tensor  # (K, D), unit rows
    labels: Tensor  # (K,), int64: the class of each key, -1 at the start and where none was given
    pointer: Tensor  # (), int64: the oldest row, the next to be overwritten

    def __init__(self, size: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise InputError(f"a queue of {size} keys of width {dim} holds nothing; both must be at least 1")
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("keys", F.normalize(torch.randn(size, dim, generator=generator), dim=1))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def check_batch(self, batch: int) -> None:
        """InputError unless whole batches of `batch` keys fill the queue exactly."""
        size = len(self.keys)
        if batch < 1 or size % batch:
            below = size - size % batch if 0 < batch <= size else 0
            near = " or ".join(str(n) for n in (below, below + batch) if n > 0)
            raise InputError(
                f"a queue of {size} keys is not divisible by a batch of {batch}: "
                f"choose a batch that divides {size}, or a queue of {near or 'any multiple of the batch'}"
            )

    @torch.no_grad()
    def enqueue(self, keys: Tensor, labels: Tensor | None = None) -> None:
        """Overwrite the B oldest rows with keys (B, D) and their labels (B,); InputError unless B divides K."""
        self.check_batch(len(keys))
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.keys)  # no copy to the host
        self.keys.index_copy_(0, rows, keys.to(self.keys.dtype))
        self.labels.index_copy_(0, rows, torch.full_like(rows, -1) if labels is None else labels)
        self.pointer.copy_((self.pointer + len(keys)) % len(self.keys))
