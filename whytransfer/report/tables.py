"""Tables of a report: backbones by metrics, each cell with its interval and the ranks that the seeds leave open.

A table is data; page, markdown and latex write it down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from whytransfer.report.numbers import Number, digits, names_of, words
from whytransfer.study.statistics import Interval, mean_interval, rank_ranges, ranks

Range = tuple[int, int]  # best and worst rank that cannot be excluded, 1 is best
WIDE = 8  # a table of more columns is written with metrics as rows


@dataclass(frozen=True)
class Column:
    """One metric on one set of images: {backbone: number}, and {backbone: ranks} where they can be compared."""

    title: str
    cells: Mapping[str, Number]
    ranks: Mapping[str, Range]

    @property
    def first(self) -> Number:
        return next(iter(self.cells.values()))

    @property
    def places(self) -> int:
        """Digits after the point, the same for all cells."""
        return digits(list(self.cells.values()))

    def bold(self, backbone: str) -> bool:
        """Whether nothing is surely better and something is surely worse: a best without an interval is no best.

        Nor is one below a mean that is itself not surely better than anything (few seeds that scatter much).
        """
        number = self.cells.get(backbone)
        if number is None or number.ends is None or self.ranks.get(backbone, (0, 0))[0] != 1:
            return False
        sign = 1 if number.direction == "higher" else -1
        above = [name for name in self.ranks if sign * (self.cells[name].value - number.value) >= 0]
        return all(self.ranks[name][1] < len(self.ranks) for name in above)


@dataclass(frozen=True)
class Table:
    """All numbers of one item (task or diagnosis; "" is the pretraining) of a study, or of one part of them."""

    study: str
    item: str
    stage: str
    backbones: tuple[str, ...]
    columns: tuple[Column, ...]
    part: str = ""  # of a complementarity: what its rows are

    @property
    def is_wide(self) -> bool:
        return len(self.columns) > WIDE

    @property
    def name(self) -> str:
        """What it is called: "fusion: pairs"."""
        return f"{self.item}: {self.part}" if self.part else self.item


PARTS = {"cka": "pairs", "overlap": "pairs", "gain": "gains", "rank": "ranks"}


def tables_of(numbers: Sequence[Number]) -> list[Table]:
    """One table per item, in the order of the study, of a complementarity one per kind of number; differences of two
    backbones are no rows of it."""
    by_item: dict[tuple[str, str, str], list[Number]] = {}
    for number in numbers:
        if not number.is_difference:
            where = str(number.rows[0].get("study", "")), number.item, PARTS.get(number.kind, "")
            by_item.setdefault(where, []).append(number)
    names = names_of(numbers)
    return [_table(*where, own, names) for where, own in by_item.items()]


def _table(study: str, item: str, part: str, numbers: Sequence[Number], names: Sequence[str]) -> Table:
    stage = str(numbers[0].rows[0]["stage"])
    by_column: dict[tuple[str, str, str], dict[str, Number]] = {}
    for number in numbers:
        task = str(number.rows[0].get("task", ""))
        by_column.setdefault((number.metric, number.data, task), {})[number.name] = number
    alone = stage == "pretrain" or part == "pairs"  # a cost is no contest, nor is likeness
    columns = [
        Column(_title(next(iter(cells.values())), by_column), cells, {} if alone else ranks_of(cells))
        for cells in by_column.values()
    ]
    there = {number.name for number in numbers}
    return Table(study, item, stage, tuple(name for name in names if name in there), tuple(columns), part)


def _title(number: Number, columns: Iterable[tuple[str, str, str]]) -> str:
    """The metric in words, and what tells its images from those of others; a share of the labels is short."""
    images = {data for metric, data, _ in columns if metric == number.metric}
    share = f"{labels_percent(number):g} % of the labels"
    if len({re.sub(r" \(\S+ % of the labels\)$", "", data) for data in images}) > 1:
        return f"{words(number.metric)}, {number.data}"
    return words(number.metric) + (f", {share}" if labels_percent(number) < 100 else "")


def ranks_of(cells: Mapping[str, Number]) -> dict[str, Range]:
    """The ranks that each backbone may have: by seeds where all share two of them, else by intervals over test images.

    Two of these that overlap leave two backbones tied, which is cautious: a paired comparison could tell more apart.
    Empty where there is nothing to compare, or no interval.
    """
    if len(cells) < 2:
        return {}
    direction = next(iter(cells.values())).direction
    shared = set.intersection(*(set(number.seeds) for number in cells.values()))
    if len(shared) > 1:
        values = {name: {s: n.by_seed[s] for s in sorted(shared)} for name, n in cells.items()}
        return rank_ranges(values, direction)
    ends = {name: number.ends for name, number in cells.items() if number.ends is not None}
    if len(ends) < len(cells):
        return {}
    signed = {name: (low, high) if direction == "higher" else (-high, -low) for name, (low, high) in ends.items()}
    return {
        name: (
            1 + sum(other_low > high for other_low, _ in signed.values()),
            len(signed) - sum(low > other_high for _, other_high in signed.values()),
        )
        for name, (low, high) in signed.items()
    }


@dataclass(frozen=True)
class Standing:
    """A backbone over all tasks: its numbers by task, and its mean rank over them with an interval over seeds."""

    backbone: str
    cells: tuple[Number | None, ...]  # one per column
    mean_rank: Interval | None  # None where it was not run on every task, or there is but one task
    ranks: Range | None


@dataclass(frozen=True)
class Overview:
    """Every backbone on every task, by the task's first metric and all its labels."""

    items: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Standing, ...]


def overview(tables: Sequence[Table]) -> Overview | None:
    """The tasks beside each other; None where the study has no task."""
    tasks = [table for table in tables if table.stage == "transfer"]
    columns = [main_column(table) for table in tasks]
    if not columns:
        return None
    most = max((table.backbones for table in tasks), key=len)
    names = [*most, *dict.fromkeys(name for table in tasks for name in table.backbones if name not in most)]
    means = _mean_ranks([column for column in columns if len(column.cells) > 1], names)
    ranges = rank_ranges(means, "lower") if len(means) > 1 and len(next(iter(means.values()))) > 1 else {}
    rows = [
        Standing(
            name,
            tuple(column.cells.get(name) for column in columns),
            mean_interval(means[name].values()) if name in means else None,
            ranges.get(name),
        )
        for name in names
    ]
    return Overview(tuple(table.item for table in tasks), tuple(columns), tuple(rows))


def main_column(table: Table) -> Column:
    """The first metric of a task, with all its labels where it was also run with fewer."""
    first = table.columns[0].first.metric
    return max((c for c in table.columns if c.first.metric == first), key=lambda c: labels_percent(c.first))


def labels_percent(number: Number) -> float:
    """How many per cent of the training labels were used."""
    return float((number.rows[0].get("provenance") or {}).get("labels_percent", 100))


def _mean_ranks(columns: Sequence[Column], names: Iterable[str]) -> dict[str, dict[int, float]]:
    """{backbone: {seed: mean rank over the tasks}} of those run on every task, by the seeds that all share."""
    complete = [name for name in names if len(columns) > 1 and all(name in column.cells for column in columns)]
    if len(complete) < 2:
        return {}
    seeds = set.intersection(*(set(column.cells[name].seeds) for column in columns for name in complete))
    found: dict[str, dict[int, float]] = {name: {} for name in complete}
    for seed in sorted(seeds):
        each = [
            ranks({name: column.cells[name].by_seed[seed] for name in complete}, column.first.direction)
            for column in columns
        ]
        for name in complete:
            found[name][seed] = sum(by_name[name] for by_name in each) / len(each)
    return found if seeds else {}


def rank_text(ranks: Range | None) -> str:
    """ "2", or "1-3" of a tie between the first three; empty where nothing was compared."""
    if ranks is None or ranks == (0, 0):
        return ""
    best, worst = ranks
    return str(best) if best == worst else f"{best}\N{EN DASH}{worst}"
