"""A float32 matrix product at the processor's speed.

PyTorch gives such products to MKL, which on AMD processors leaves the AVX-512 instructions unused; oneDNN, which does
PyTorch's convolutions, uses them: 85 against 200 GFLOP/s on one core (docs/results/speed.md). Both sum in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """(M, K) @ (K, N) -> (M, N); as `a @ b` but for the order of the sums."""
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and a.numel() and b.numel() and _onednn():
        # some strides send oneDNN to its reference loop, hundreds of times slower: rows and columns without gaps
        return torch.ops.mkldnn._linear_pointwise(a.contiguous(), b.T.contiguous(), None, "none", [], "")
    return a @ b


def _onednn() -> bool:
    """Whether PyTorch was built with oneDNN and offers its product under this name, which is not a public one."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
