"""Which invariance goes with which transfer: rank correlations over models, and what they owe to one family of them.

The trade-off: is a model that ignores more of geometry one that ignores less of colour? The map: every invariance
against every task score that a results.jsonl holds of the same models. A handful of models decides little: the
intervals say how little, and each correlation is computed again without each family: relatives are not independent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from whytransfer.errors import InputError
from whytransfer.records import Result

Values = NDArray[np.float64]  # (M,) one number per model
FEWEST = 4  # models for an interval
_NORMAL_975 = 1.959963984540054


def spearman(x: Values, y: Values) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; NaN where one of them is constant."""
    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
    spread = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread > 0 else math.nan


def spearman_interval(rho: float, n: int) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of a rank correlation of n models; None below 4 of them.

    By Fisher's z with variance (1 + rho^2 / 2) / (n - 3) [Bonett & Wright 2000, "Sample size requirements", eq. 5].
    """
    if n < FEWEST or not math.isfinite(rho):
        return None, None
    if abs(rho) > 1 - 1e-12:  # the transform has no end there: the next possible value stands for it
        rho = math.copysign(1 - 6 / (n * (n * n - 1)), rho)
    reach = _NORMAL_975 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)


@dataclass(frozen=True)
class Correlation:
    """One rank correlation over models, its interval, and what is left of it without each family."""

    x: str
    y: str
    models: tuple[str, ...]
    rho: float
    low: float | None
    high: float | None
    without: Mapping[str, float | None]  # family -> rho of the others; None where fewer than 3 or ties are left

    @property
    def sign_holds(self) -> bool:
        """Whether no single family makes the sign: every correlation without one has the sign of the whole."""
        left = [rho for rho in self.without.values() if rho is not None]
        return bool(left) and all(rho * self.rho > 0 for rho in left)


def correlate(
    x: Mapping[str, float], y: Mapping[str, float], names: tuple[str, str], families: Mapping[str, str]
) -> Correlation | None:
    """The correlation over the models that have both; None for fewer than 4, or where one side is constant."""
    models = tuple(model for model in x if model in y)
    if len(models) < FEWEST:
        return None
    a, b = (np.array([side[m] for m in models]) for side in (x, y))
    rho = spearman(a, b)
    if not math.isfinite(rho):
        return None
    without: dict[str, float | None] = {}
    for family in dict.fromkeys(families[m] for m in models):
        left = np.array([families[m] != family for m in models])
        part = spearman(a[left], b[left]) if left.sum() >= 3 else math.nan
        without[family] = part if math.isfinite(part) else None
    low, high = spearman_interval(rho, len(models))
    return Correlation(names[0], names[1], models, rho, low, high, without)


def scores_of(
    rows: Sequence[Mapping[str, Any]], weights: Mapping[str, str], own: Sequence[str]
) -> tuple[dict[str, dict[str, float]], int]:
    """({task, metric and data: {model: score}}, rows of other weights) of the results of models.

    Seeds are averaged; where less is better the sign is turned, so that more is always better. `weights` are the
    fingerprints of the models: a row of the same weights is theirs whatever it is called (a folder that was moved), one
    of the same name but of other weights is left out and counted. Tasks in `own` (this diagnosis) are no scores.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    of_weights, others = {known: model for model, known in weights.items()}, 0
    for row in rows:
        known, name = row["provenance"].get("weights_sha256"), row["model"]
        if row["task"] in own or known not in of_weights and name not in weights:
            continue
        if known is not None and known not in of_weights:
            others += 1
            continue
        model = name if known in (None, weights.get(name)) else of_weights[known]
        sign = 1 if row["direction"] == "higher" else -1
        found[f"{row['task']} {row['metric']}, {row['data']}"][model].append(sign * row["value"])
    return {name: {m: float(np.mean(v)) for m, v in by.items()} for name, by in found.items()}, others


def transfer_map(
    invariances: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, Mapping[str, float]],
    families: Mapping[str, str],
) -> list[Correlation]:
    """Every invariance {name: {model: similarity}} with every score; InputError where no score has 4 models."""
    most = max((len(by) for by in scores.values()), default=0)
    if most < FEWEST:
        raise InputError(
            f"a rank correlation needs {FEWEST} models or more, and the scores know {most} of the backbones (by their "
            "weights, or by the names given to `transfer`): run it on more of them"
        )
    pairs = [(x, y) for y in scores for x in invariances]
    found = (correlate(invariances[x], scores[y], (x, y), families) for x, y in pairs)
    return [correlation for correlation in found if correlation is not None]


def results_of(correlations: Mapping[str, Sequence[Correlation]], data: str, seed: int, mode: str) -> Iterator[Result]:
    """Correlations {task: ...} as Results, whose model is "K backbones"; n is their number."""
    for task, found in correlations.items():
        for c in found:
            how = {
                "models": list(c.models), "without_family": dict(c.without), "sign_holds": c.sign_holds,
                "interval": "Bonett & Wright 2000, over models",
                "options": {"models": list(c.models), "mode": mode},
            }  # fmt: skip
            yield Result(
                f"{len(c.models)} backbones", data, task, f"{c.x} with {c.y}", c.rho, "rank correlation", "higher",
                len(c.models), seed, c.low, c.high, how,
            )  # fmt: skip
