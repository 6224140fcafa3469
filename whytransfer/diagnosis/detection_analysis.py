"""Why do detectors fail, and where does one fail less than another? Errors by two taxonomies, compared pairwise.

Every number has a bootstrap interval over the test images, moved by the bootstrap's bias: average precision, and the
best group less the worst, are higher in resamples. Draws of two detectors are of the same images, so the interval of
their difference holds what the two have in common constant.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from whytransfer.diagnosis.detection_measures import LEAST, Measures
from whytransfer.diagnosis.detection_table import HOIEM, TIDE, matched_with
from whytransfer.errors import InputError
from whytransfer.memory import usable_cores
from whytransfer.records import Result
from whytransfer.tasks import bootstrap
from whytransfer.tasks.coco_json import Detections, Truth
from whytransfer.tasks.matching import FALSE, TRUE, Floats

DRAWS = 1000
HIGHER = ("AP", "AP50", "AP75", "normalised AP50")  # all others are costs, or shares of errors


@dataclass(frozen=True)
class DetectionErrors:
    """Error analysis of one or more detectors on the same images; run() yields every number with its interval.

    `truth` and `found`, by name of the detector, as detection_files reads them. `similar` are groups of class names
    (see detection_errors), `least` is the number of objects that a class needs in a group of objects to have a say.
    With several detectors the differences of all pairs follow, named "B - A". InputError without a detector.
    """

    question: ClassVar[str] = "why is the average precision not higher?"

    truth: Truth
    found: Mapping[str, Detections]
    data: str = "given"
    similar: Sequence[Sequence[str]] | None = None
    least: int = LEAST
    draws: int = DRAWS
    seed: int = 0
    progress: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        if not self.found:
            raise InputError("no detections were given, so there are no errors to analyse")
        if self.draws < 2:
            raise InputError(f"an interval needs at least 2 draws, got {self.draws}")

    @cached_property
    def measures(self) -> dict[str, Measures]:
        """What is measured of each detector, by name."""
        tables = {name: matched_with(self.truth, found, self.similar) for name, found in self.found.items()}
        return {name: Measures(table, self.least) for name, table in tables.items()}

    @cached_property
    def drawn(self) -> Floats:
        """(draws, detectors, measures): every number of every detector on the same draws of the images."""
        measures = list(self.measures.values())
        rows: list[Floats] = []
        with ThreadPoolExecutor(usable_cores()) as pool:
            for block in bootstrap.resamples(len(self.truth["images"]), self.draws, self.seed):
                for row in pool.map(lambda weights: np.stack([m.of(weights) for m in measures]), block):
                    rows.append(row)
                    if self.progress:
                        self.progress(len(rows))
        return np.stack(rows)

    def run(self) -> Iterator[Result]:
        """Each detector's numbers, then the differences of each pair; numbers that nothing speaks for are left out."""
        values = np.array([list(m.values.values()) for m in self.measures.values()])
        names = list(self.measures)
        for i, name in enumerate(names):
            more: dict[str, Any] = {"detections_sha256": self._digests[name]}
            yield from self._results(name, values[i], self.drawn[:, i], more)
        for i, j in itertools.combinations(range(len(names)), 2):
            more = {"paired_difference_of": [names[j], names[i]]}
            more["detections_sha256"] = [self._digests[names[j]], self._digests[names[i]]]
            drawn = self.drawn[:, j] - self.drawn[:, i]
            yield from self._results(f"{names[j]} - {names[i]}", values[j] - values[i], drawn, more)

    def _results(self, model: str, values: Floats, drawn: Floats, more: Mapping[str, Any]) -> Iterator[Result]:
        names = next(iter(self.measures.values())).names
        low, high = bootstrap.around(values, drawn)
        if "paired_difference_of" not in more:
            least, most = np.array([bounds_of(name) for name in names]).T
            low, high = low.clip(least, most), high.clip(least, most)
        provenance = {**self._origin, **more}
        for k, name in enumerate(names):
            if np.isnan(values[k]):
                continue
            known = len(self.truth["images"]) > 1 and not np.isnan(low[k])  # one image has no spread
            ends = (float(low[k]) if known else None, float(high[k]) if known else None)
            yield Result(
                model, self.data, "detection errors", name, float(values[k]), unit_of(name), direction_of(name),
                len(self.truth["images"]), self.seed, *ends, provenance,
            )  # fmt: skip

    @cached_property
    def _digests(self) -> dict[str, str]:
        """What each detector's detections were, whatever they are called."""
        return {
            name: _digest(m.table.table.det_source, m.table.table.det_score, m.table.same_iou, m.table.states)
            for name, m in self.measures.items()
        }

    @cached_property
    def _origin(self) -> dict[str, Any]:
        one = next(iter(self.measures.values()))
        first = one.table
        parts = (first.gt_boxes, first.counted, first.table.gt_image, first.table.gt_class)
        return {
            "test_fingerprint": _digest(*parts),
            "bootstrap_draws": self.draws, "test_objects": int(first.counted.sum()),
            "least_objects": self.least, "classes_with_enough": one.speaking,
            "detections": {name: len(found) for name, found in self.found.items()},
            "similar_classes": _pairs(first.classes, first.similar),
        }  # fmt: skip

    def per_class(self) -> Iterator[dict[str, Any]]:
        """One row per detector and class: how many objects, AP50 in % and how many errors of each kind."""
        for name, m in self.measures.items():
            found, precision, (shares, _) = m.table, 100 * m.average_precision(), m.shares()
            for k, kind in enumerate(found.classes):
                mine, objects = found.table.det_class == k, found.table.gt_class == k
                row = {"detector": name, "class": kind, "objects": int((found.counted & objects).sum())}
                row |= {"right": int((found.states[1][mine] == TRUE).sum()),
                        "wrong": int((found.states[1][mine] == FALSE).sum())}  # fmt: skip
                row |= {"AP50": _number(precision[0, k]), "normalised AP50": _number(precision[m.overall, k])}
                row |= {f"TIDE {error}": int((found.tide[mine] == i).sum()) for i, error in enumerate(TIDE)}
                row["TIDE Miss"] = int((found.missed & objects).sum())
                row |= {f"Hoiem {error}": int((found.hoiem[mine] == i).sum()) for i, error in enumerate(HOIEM)}
                row |= {f"Hoiem {error} of first N": int(shares[k, 1 + i]) for i, error in enumerate(HOIEM)}
                yield row


def _digest(*parts: np.ndarray) -> str:
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _pairs(classes: Sequence[str], similar: Any) -> list[list[str]]:
    """Groups as each class with those like it, for the record."""
    return [
        [classes[k], *(classes[i] for i in np.flatnonzero(row).tolist())] for k, row in enumerate(similar) if row.any()
    ]


def unit_of(name: str) -> str:
    """The unit of a number of Measures."""
    return "errors" if name.startswith("TIDE errors") else "%"


def bounds_of(name: str) -> tuple[float, float]:
    """What a number of Measures cannot be below or above; a cost, and the impact of a group, may be negative."""
    if "dAP" in name or name.startswith("impact"):
        return -np.inf, np.inf
    return 0.0, np.inf if unit_of(name) == "errors" else 100.0


def direction_of(name: str) -> Literal["higher", "lower"]:
    """Whether a number is better the higher or the lower it is."""
    return "higher" if name in HIGHER or name.startswith("normalised AP50") else "lower"
