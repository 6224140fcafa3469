"""The weighted nearest-neighbour readout: nothing is trained, so nothing can be tuned in a model's favour."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from whytransfer.nn.knn import knn_scores

K = 20
TEMPERATURE = 0.1


def predict(train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Class (M,) of test features (M, D): 20 neighbours by cosine, votes exp(cosine / 0.1); the seed has no part."""
    scores = knn_scores(test, train, labels, classes, K, TEMPERATURE)
    return scores.argmax(1), {"k": K, "temperature": TEMPERATURE, "similarity": "cosine"}
