"""The weighted nearest-neighbour classifier: a readout without training, hence without settings to tune.

Shape letters: M queries, N bank, D feature width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from whytransfer.errors import InputError

SIMILARITIES_AT_ONCE = 1 << 24  # of a chunk of queries to the whole bank: 64 MiB


def knn_scores(
    queries: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int = 200, temperature: float = 0.07
) -> Tensor:
    """Votes (M, classes) of the k nearest rows of the bank by cosine, each weighing exp(cosine / T) [Wu 2018, §3.4].

    queries (M, D), bank (N, D), labels (N,) int64 in range(classes); features are normalised here. The votes of a query
    are divided by the weight of its nearest neighbour, which keeps any temperature within float32. k above N means N.
    """
    if len(bank) == 0 or k < 1:
        raise InputError(f"kNN needs at least one neighbour and one labelled feature, got k={k}, {len(bank)} features")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"kNN labels must lie in 0..{classes - 1}, found {int(labels.min())}..{int(labels.max())}")
    queries, bank = F.normalize(queries.float(), dim=1), F.normalize(bank.float(), dim=1)
    scores = queries.new_zeros(len(queries), classes)
    rows = max(1, SIMILARITIES_AT_ONCE // len(bank))
    for part, votes in zip(queries.split(rows), scores.split(rows), strict=True):
        cosine, neighbours = (part @ bank.T).topk(min(k, len(bank)), dim=1)  # (m, k)
        votes.scatter_add_(1, labels[neighbours], ((cosine - cosine[:, :1]) / temperature).exp())
    return scores


def knn_predict(queries: Tensor, bank: Tensor, labels: Tensor, k: int = 200, temperature: float = 0.07) -> Tensor:
    """The class (M,) with most votes in `knn_scores`; of equal ones the smallest."""
    return knn_scores(queries, bank, labels, int(labels.max()) + 1 if len(labels) else 0, k, temperature).argmax(dim=1)
