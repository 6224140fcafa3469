"""Which model is good everywhere? The mean of its ranks over tasks, 1 the best, ties sharing their mean rank.

A difference that the test images cannot tell makes a rank by luck; so every draw of the images ranks all models anew on
every task, and the interval says how far a mean rank moves. It covers the test images, not the choice of the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from whytransfer.diagnosis.answers import Answers
from whytransfer.errors import InputError
from whytransfer.tasks import bootstrap


@dataclass(frozen=True)
class MeanRank:
    """The mean rank of a model with its interval, and its rank on each task."""

    value: float
    low: float
    high: float
    ranks: Mapping[str, float]


def mean_ranks(tasks: Mapping[str, Mapping[str, Answers]], draws: int = 2000, seed: int = 0) -> dict[str, MeanRank]:
    """{model: its mean rank} of the answers {task: {model: ...}}; InputError unless every task has the same models."""
    models = list(next(iter(tasks.values())))
    for name, by in tasks.items():
        if set(by) != set(models):
            differ = ", ".join(sorted(set(by) ^ set(models)))
            raise InputError(f"ranks need every model on every task; {name} differs in {differ}")
    ranks, drawn = [], np.zeros((draws, len(models)))
    for by in tasks.values():
        values = np.array([by[m].sign * by[m].value for m in models])
        ranks.append(rankdata(-values))
        drawn += rankdata(-np.stack([by[m].sign * by[m].drawn(draws, seed) for m in models], axis=1), axis=1)
    low, high = bootstrap.percentiles(drawn / len(tasks))
    table = np.stack(ranks)  # (tasks, models)
    return {
        m: MeanRank(
            float(table[:, k].mean()),
            float(low[k]),
            float(high[k]),
            dict(zip(tasks, table[:, k].tolist(), strict=True)),
        )
        for k, m in enumerate(models)
    }
