"""Is a network still telling images apart? Two numbers that need no labels.

Shape letters: N images, D feature width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def spread(features: Tensor) -> float:
    """Standard deviation over images of unit features, mean over dimensions, times sqrt(D) [Chen 2021, SimSiam, §4.1].

    features (N, D). 0: all images at one point; 1: evenly over the sphere.
    """
    z = F.normalize(features.double(), dim=1)
    return float(z.std(dim=0, correction=0).mean()) * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the singular values: how many directions the features use [Roy 2007; Garrido 2023, RankMe].

    features (N, D), not centred. Between 1 (all on one line) and min(N, D) (all directions alike); 0 for zeros.
    """
    x = features.double()
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if not float(singular.sum()) > 0:
        return 0.0
    p = singular / singular.sum()
    return float(torch.special.entr(p).sum().exp())
