"""The memory bank: one remembered feature for every image of the training set.

Shape letters: B batch, D width, K drawn, N images.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer import chance
from whytransfer.errors import InputError

VIEW = 0xFFFF  # of the address in `chance`: no view has this number


class MemoryBank(nn.Module):
    """N features, found by the position of their image; starts evenly in +-sqrt(3 / D), so of length about 1.

    [Wu 2018, §3.1; start and update as in its published code]. 128 floats of 1,281,167 images are 626 MiB.
    """

    rows: Tensor  # (N, D), unit rows once they were updated

    def __init__(self, images: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        if images < 2 or dim < 1:
            raise InputError(
                f"a memory bank of {images} image(s) and width {dim}: telling images apart needs at least 2 of them"
            )
        self.seed = seed
        even = torch.rand(images, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("rows", (2 * even - 1) * math.sqrt(3 / dim))

    def draw(self, count: int, step: int) -> Tensor:
        """(K,) positions drawn evenly, with replacement: a function of (seed, step), equal in all processes."""
        blocks = np.arange(-(-count // 4))
        even = chance.uniform(self.seed, step, blocks, VIEW, 0, 4).ravel()[:count]
        drawn = torch.from_numpy((even * len(self.rows)).astype(np.int64))
        if self.rows.is_cuda:  # without pinned memory the host would wait here for all that the GPU still has to do
            return drawn.pin_memory().to(self.rows.device, non_blocking=True)
        return drawn

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor, momentum: float) -> None:
        """Entries (B,) <- unit(momentum * entry + (1 - momentum) * features (B, D)); no position occurs twice."""
        mixed = torch.lerp(features.to(self.rows.dtype), self.rows[index], momentum)
        self.rows.index_copy_(0, index, F.normalize(mixed, dim=1))
