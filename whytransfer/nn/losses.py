"""Contrastive losses as functions of tensors; rows are features, nothing is remembered.

Shape letters: B batch, D feature width, K queue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """float32 at least: logits divided by a small temperature do not survive bfloat16; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Rows of length one, (B, D) -> (B, D), in float32 at least; a zero row stays zero."""
    return F.normalize(full_precision(x), dim=1)


def info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float, keep: Tensor | None = None) -> Tensor:
    """InfoNCE of B queries, each with one own positive and a shared bank of negatives; the mean over B, a scalar.

    -log( exp(q.k/T) / (exp(q.k/T) + sum over kept negatives of exp(q.n/T)) )   [van den Oord 2018; He 2020, eq. 1]

    q, k (B, D); negatives (K, D); keep (B, K) bool, False drops that negative for that query (None keeps all).
    Rows are used as they are: the caller normalises. It works in float32 at least, whatever autocast says.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, negatives = full_precision(q), full_precision(k), full_precision(negatives)
        l_pos = (q * k).sum(dim=1) / temperature  # (B,)
        l_neg = (q / temperature) @ negatives.T  # (B, K)
        if keep is not None:
            l_neg = l_neg.masked_fill(~keep, -torch.inf)
        return (torch.logaddexp(l_pos, l_neg.logsumexp(dim=1)) - l_pos).mean()
