"""Chance as a function: random numbers that depend only on what they are for.

A draw is addressed by (seed, epoch, image index, view, operation), so any worker, rank or resumed run
gets the same numbers, and a view can be drawn again long after training.
Philox4x32-10 is a block cipher on counters: no state, whole batches at once [Salmon 2011, "Parallel random
numbers: as easy as 1, 2, 3"].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox4x32: counters (..., 4) and one 2 x 32 bit key -> (..., 4) random words."""
    c0, c1, c2, c3 = (counters[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniform(
    seed: int, epoch: int, index: NDArray[np.integer], view: int, operation: int, n: int
) -> NDArray[np.float64]:
    """(B, n) numbers in [0, 1) for B image indices; equal arguments give equal numbers, in any batch and order.

    `operation` separates the draws of one view (crop 0, flip 1, ...): adding one later leaves the others as they were.
    """
    blocks = -(-n // 4)
    index = np.asarray(index, dtype=np.uint64)
    counters = np.empty((len(index), blocks, 4), dtype=np.uint32)
    counters[..., 0] = (index & _LOW).astype(np.uint32)[:, None]
    counters[..., 1] = (index >> _SHIFT).astype(np.uint32)[:, None]
    counters[..., 2] = np.uint32((view << 16) | operation)
    counters[..., 3] = np.arange(blocks, dtype=np.uint32)
    words = philox(counters, (seed & 0xFFFFFFFF, epoch & 0xFFFFFFFF)).reshape(len(index), blocks * 4)
    return words[:, :n].astype(np.float64) / 2**32


def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order in which an epoch visits n images: a function of (seed, epoch), never a replayed state."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
