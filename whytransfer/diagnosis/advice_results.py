"""An advice as records: one Result per number for tables and reports, and one answer of plain values for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from whytransfer.diagnosis.advice import WORDS, Candidate, Measured, is_recommended, sentences
from whytransfer.diagnosis.invariance import mean_interval
from whytransfer.diagnosis.out_of_fold import CS, FOLDS, INNER_FOLDS, WIDEN
from whytransfer.diagnosis.told_apart import DRAWS, Pair
from whytransfer.records import Result

TASK = "advise"
METRICS = {"top1": False, "mean_per_class": True}  # whether every class counts alike
METHOD = {
    "protocol": f"out of fold: {FOLDS} folds, {INNER_FOLDS} inner ones, {len(CS)} strengths of regularisation",
    "interval": f"over pictures, {WIDEN:.2f} times as wide for what folds share; the pretraining's seed is not covered",
    "bootstrap_draws": DRAWS,
}


def results_of(m: Measured, c: Candidate, name: str) -> list[Result]:
    """Accuracies by share of the labels, and cosine and fall of each group of changes, of one candidate on `name`."""
    where = {**METHOD, "frozen": True, "size_px": c.size_px, "images_per_second": round(c.images_per_second, 2)}
    found = []
    for share in m.shares:
        data = name if share == 100 else f"{name} ({share:g} % of the labels)"
        how = {**where, "labels_percent": share, "labelled_images": round(c.labelled[share])}
        for metric, per_class in METRICS.items():
            value, low, high = dataclasses.replace(m, per_class=per_class).interval(c.correct[share])
            found.append(
                Result(c.name, data, TASK, metric, value, "%", "higher", len(m.labels), m.seed, low, high, how)
            )
    for group in WORDS:
        alike, fall = c.offered[group], m.fall(c, group)
        ends = mean_interval(alike, DRAWS, m.seed)
        how, n = {**where, "group": group}, len(alike)
        value = float(np.nanmean(alike))
        found += [
            Result(c.name, name, TASK, f"{group} similarity", value, "cosine", "higher", n, m.seed, *ends, how),
            Result(
                c.name, name, TASK, f"fall under {group} changes", fall.difference, "%", "lower", n, m.seed,
                fall.low, fall.high, how,
            ),
        ]  # fmt: skip
    return found


def answer_of(m: Measured, name: str, classes: Sequence[str], notes: Sequence[str]) -> dict[str, Any]:
    """The whole advice as plain values, what `--json` prints."""
    best = None if m.best is None else m.candidates[m.best].name
    return {
        "images": name,
        "pictures": len(m.labels),
        "classes": {label: int(n) for label, n in zip(classes, np.bincount(m.labels), strict=True)},
        "metric": "mean_per_class" if m.per_class else "top1",
        "recommended": best if is_recommended(m) else None,
        "best": best,
        "tied_with_best": [m.candidates[i].name for i in m.tied_with_best()],
        "advice": sentences(m),
        "largest_class": _row(*m.interval(m.largest)),
        "alone": {word: _alone(m, group) for group, (word, _) in WORDS.items()},
        "candidates": [_candidate(m, i) for i in np.argsort(-m.comparison.means, kind="stable").tolist()],
        "notes": list(notes),
        "method": METHOD,
    }


def _candidate(m: Measured, i: int) -> dict[str, Any]:
    c = m.candidates[i]
    low, high = m.comparison.interval(i)
    behind = None if m.best in (None, i) else _difference(m.comparison.pair(i, m.best or 0))
    return {
        "backbone": c.name,
        "untrained": c.untrained,
        **_row(float(m.comparison.means[i]), low, high),
        "best_in_percent_of_draws": round(m.comparison.best_in(i), 1),
        "over_best": behind,
        "curve": [
            {"percent": share, "pictures": round(c.labelled[share]), **_row(*m.interval(c.correct[share]))}
            for share in m.shares
        ],
        "ignores": {word: round(float(np.nanmean(c.offered[group])), 4) for group, (word, _) in WORDS.items()},
        "falls": {word: _difference(m.fall(c, group)) for group, (word, _) in WORDS.items()},
        "images_per_second": round(c.images_per_second, 1),
        "size_px": c.size_px,
        "features": c.width,
        "parameters_millions": round(c.millions, 2),
    }


def _alone(m: Measured, group: str) -> dict[str, Any]:
    """What pose or colour alone reaches, and that over the largest class."""
    reached = _row(*m.interval(m.alone[group]))
    return {**reached, "over_largest_class": _difference(m.alone_over_largest(group))}


def _row(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(value, 3), "low": round(low, 3), "high": round(high, 3)}


def _difference(pair: Pair) -> dict[str, float]:
    return {**_row(pair.difference, pair.low, pair.high), "detectable": round(pair.detectable, 3)}
