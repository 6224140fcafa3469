"""The numbers that a report shows: means over seeds with their intervals, each with the rows that it comes from.

A row is one value at one seed (the table of a study); a Number is what people quote.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from whytransfer.progress import say
from whytransfer.study.statistics import mean_interval

Row = Mapping[str, Any]

# in words, where the name alone does not say it
WORDS = {
    "top1": "top-1",
    "mean_per_class": "mean per class",
    "images_per_second": "speed",
    "seconds": "time",
    "peak_mib": "peak memory",
    "knn": "kNN accuracy",
    "mean_iou": "mean IoU",
}
OF_PAIRS = ("cka", "overlap")


@dataclass(frozen=True)
class Number:
    """One metric of one backbone in one item of a study: the mean over its seeds, and how sure it is."""

    index: int  # its place in the report; a link to it is "#n{index}"
    rows: tuple[Row, ...]  # one per seed, ascending

    @property
    def backbone(self) -> str:
        return str(self.rows[0]["backbone"])

    @property
    def name(self) -> str:
        """The backbone; where there is none, what was run, as an engine of masks."""
        return self.backbone or str(self.rows[0]["model"])

    @property
    def item(self) -> str:
        return str(self.rows[0]["item"])

    @property
    def metric(self) -> str:
        return str(self.rows[0]["metric"])

    @property
    def data(self) -> str:
        return str(self.rows[0]["data"])

    @property
    def unit(self) -> str:
        return str(self.rows[0]["unit"])

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "lower" if self.rows[0]["direction"] == "lower" else "higher"

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(row["seed"]) for row in self.rows)

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """{seed: value}"""
        return {int(row["seed"]): float(row["value"]) for row in self.rows}

    @property
    def value(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def over(self) -> Literal["seeds", "test images", ""]:
        """What the interval is over: seeds where there are two, else the test images of the one; "" without one."""
        if len(self.rows) > 1:
            return "seeds"
        return "" if self.rows[0].get("low") is None or self.rows[0].get("high") is None else "test images"

    @cached_property
    def ends(self) -> tuple[float, float] | None:
        """The 95 % interval: Student's t over seeds; of one seed the bootstrap over its test images; None without."""
        if self.over == "seeds":
            interval = mean_interval(self.by_seed.values())
            return interval.low, interval.high
        if self.over == "test images":
            return float(self.rows[0]["low"]), float(self.rows[0]["high"])
        return None

    @property
    def is_difference(self) -> bool:
        """Whether this is the paired difference of two backbones, which is no row of a table of backbones."""
        return "paired_difference_of" in (self.rows[0].get("provenance") or {})

    @property
    def kind(self) -> str:
        """What a complementarity is of: "cka" and "overlap" of a pair, "gain", "rank"; "" of a score, and elsewhere."""
        compares = self.rows[0]["stage"] == "diagnose-complementarity"
        return str((self.rows[0].get("provenance") or {}).get("kind", "")) if compares else ""

    @property
    def is_of_two(self) -> bool:
        """Whether this is of a pair of backbones: how alike they are, or how much one is better."""
        return self.is_difference or self.kind in OF_PAIRS

    @property
    def backbone_is_whole(self) -> bool:
        """Whether this is of one backbone or fusion: not of a pair, and no engine that makes regions."""
        return bool(self.backbone) and not self.is_of_two and self.rows[0]["stage"] != "masks-quality"


def collect(rows: Iterable[Row]) -> list[Number]:
    """The numbers of a table, in its order: rows that differ in their seed alone are one number.

    Rows that only their value tells apart are said; the last of them is shown.
    """
    found: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in rows:
        by_seed = found.setdefault(_key(row), {})
        if int(row["seed"]) in by_seed:
            say(f"note: {row['cell']} has two results of {row['metric']} on {row['data']}; the last is shown")
        by_seed[int(row["seed"])] = row
    return [
        Number(index, tuple(by_seed[seed] for seed in sorted(by_seed))) for index, by_seed in enumerate(found.values())
    ]


def _key(row: Row) -> tuple[Any, ...]:
    """What a number is of; the data name also tells shares of the labels apart."""
    named = tuple(row.get(name, "") for name in ("study", "item", "task", "data", "backbone", "metric", "unit"))
    return (*named, "" if row["backbone"] else row["model"])


def names_of(numbers: Iterable[Number]) -> list[str]:
    """Backbones in the order of the study, behind them engines of regions, then pairs of backbones.

    The order is that of the task or diagnosis that has most of them: charts and tables list and colour them alike.
    """
    by_item: dict[tuple[Any, ...], dict[str, None]] = {}
    for number in numbers:
        own_fusions = number.rows[0]["stage"] == "diagnose-complementarity"  # which are not the study's
        kind = number.is_of_two, not number.backbone_is_whole, own_fusions
        by_item.setdefault((*kind, str(number.rows[0].get("study", "")), number.item), {})[number.name] = None
    fullest = sorted(by_item.items(), key=lambda entry: (entry[0][:3], -len(entry[1])))  # stable: else as in the study
    return list(dict.fromkeys(name for _, names in fullest for name in names))


def words(metric: str) -> str:
    """A metric as people say it: "mean_iou" is "mean IoU", "linear_5way_1shot" "linear 5-way 1-shot"."""
    return WORDS.get(metric, re.sub(r"(\d)(way|shot)\b", r"\1-\2", metric.replace("_", " ")))


def digits(numbers: Sequence[Number]) -> int:
    """Digits after the point that the intervals justify: two digits of the median half width, at most four."""
    halves = [(n.ends[1] - n.ends[0]) / 2 for n in numbers if n.ends is not None and n.ends[1] > n.ends[0]]
    if halves:
        return _clamped(1 - math.floor(math.log10(statistics.median(halves))))
    size = max((abs(n.value) for n in numbers), default=0.0)
    return _clamped(3 - math.floor(math.log10(size))) if size > 0 else 0


def _clamped(places: int) -> int:
    return max(0, min(4, places))


def plain(value: float, places: int) -> str:
    """1234.5 -> "1,234.5"; no "-0.00"."""
    text = f"{value:,.{places}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def interval_text(ends: tuple[float, float] | None, places: int) -> str:
    """ "[60.1, 64.5]", empty where there is no interval."""
    return "" if ends is None else f"[{plain(ends[0], places)}, {plain(ends[1], places)}]"


def of_unit(unit: str) -> str:
    """A unit behind a number: " %", " images/s"; empty where the unit only repeats the metric."""
    return "" if unit in ("", "1", "cosine", "similarity", "distance") else f" {unit}"
