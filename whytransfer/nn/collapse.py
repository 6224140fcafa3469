"""Is a network still telling images apart? Two numbers that need no labels.

Shape letters: N images, D feature width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Pooled features are never negative, so their common mean keeps both numbers low even in good health: untrained
# networks on 64 px photographs have spread 0.14 and rank 100 (ResNet-18, D 512), 0.06 and 40 (ResNet-50, D 2048).
COLLAPSED_SPREAD, COLLAPSED_RANK = 0.02, 3.0
NARROW_SPREAD, NARROW_RANK_SHARE = 0.05, 0.015


def spread(features: Tensor) -> float:
    """Standard deviation over images of unit features, mean over dimensions, times sqrt(D) [Chen 2021, SimSiam, §4.1].

    features (N, D). 0: all images at one point; 1: evenly over the sphere.
    """
    z = F.normalize(features.double(), dim=1)
    return float(z.std(dim=0, correction=0).mean()) * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the singular values: how many directions the features use [Roy 2007; Garrido 2023, RankMe].

    features (N, D), not centred. Between 1 (all on one line) and min(N, D) (all directions alike); 0 for zeros,
    NaN where a feature is not finite.
    """
    x = features.double()
    if not bool(torch.isfinite(x).all()):
        return math.nan
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if not float(singular.sum()) > 0:
        return 0.0
    p = singular / singular.sum()
    return float(torch.special.entr(p).sum().exp())


def verdict(spread: float, rank: float, width: int) -> str:
    """What the two numbers of pooled features of width D mean: "not collapsed", or "narrow: ..", "collapsed: ..".

    Rules of thumb, not statistics; whether features are any good is for a readout to say.
    """
    if not (math.isfinite(spread) and math.isfinite(rank)):
        return "broken: some features are not finite; try a lower learning rate, or --precision 32"
    if spread < COLLAPSED_SPREAD or rank < COLLAPSED_RANK:
        return (
            f"collapsed: nearly one feature for all images (spread {spread:.3f}, rank {rank:.1f} of {width}); "
            "try a lower learning rate, a longer warm-up, a projector with batch norm, or (MoCo) fewer --splits"
        )
    if spread < NARROW_SPREAD or rank < NARROW_RANK_SHARE * width:
        return f"narrow: few directions carry the features (spread {spread:.3f}, rank {rank:.1f} of {width}); watch it"
    return "not collapsed"
