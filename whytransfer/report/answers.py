"""The answers in words: a paragraph per question, written from the numbers, as far as their intervals carry it.

A sentence never names a winner that the intervals do not show; where nothing can be told, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from whytransfer.report.numbers import Number, digits, interval_text, of_unit, plain
from whytransfer.report.tables import Column, Overview, Table, labels_percent, overview
from whytransfer.study.statistics import (
    Interval,
    holm,
    mean_interval,
    p_value,
    paired_difference,
    rank_correlation,
    rank_error,
)


@dataclass(frozen=True)
class Said:
    """Words that rest on numbers: a reader can open their runs and raw values."""

    text: str
    numbers: tuple[Number, ...]

    def __str__(self) -> str:
        return self.text


Part = str | Said


@dataclass(frozen=True)
class Answer:
    """A question, its answer in sentences, and the section that shows more."""

    question: str
    parts: tuple[Part, ...]
    section: str

    @property
    def text(self) -> str:
        return "".join(map(str, self.parts))


def answers(tables: Sequence[Table]) -> list[Answer]:
    """What the study can say, question by question; questions that it did not ask are left out."""
    asked: list[tuple[str, str, Callable[[Sequence[Table]], Iterator[Part]]]] = [
        ("Which backbone transfers best?", "tasks", best_on_tasks),
        ("What did pretraining give?", "tasks", over_random),
        ("What does each backbone ignore?", "invariance", invariances),
        ("Does setting backbones side by side help?", "fusion", side_by_side),
        ("What kind of mistakes do the detectors make?", "errors", detection_errors),
        ("What is left of a picture?", "inversion", inversions),
        ("How many labels does it take?", "labels", label_shares),
        ("Do the regions cover what people annotated?", "masks", mask_quality),
        ("What did it cost?", "cost", cost),
    ]
    found = []
    for question, section, write in asked:
        if parts := tuple(write(tables)):
            found.append(Answer(question, parts, section))
    return found


def cited(number: Number, places: int | None = None, bare: bool = False) -> Said:
    """ "62.3 % [60.1, 64.5]", with its runs behind it."""
    places = digits([number]) if places is None else places
    unit = "" if bare else of_unit(number.unit)
    return Said(f"{plain(number.value, places)}{unit} {interval_text(number.ends, places)}".rstrip(), (number,))


def listed(names: Sequence[str]) -> str:
    """ "a, b and c" """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def best_on_tasks(tables: Sequence[Table]) -> Iterator[Part]:
    """By task: who is not surely beaten; then the mean ranks."""
    seen = overview(tables)
    for item, column in zip(seen.items, seen.columns, strict=True) if seen else ():
        yield from _winner(item, column)
    if seen:
        yield from _mean_ranks(seen)


def _winner(item: str, column: Column) -> Iterator[Part]:
    if len(column.cells) < 2:
        return
    sign = 1 if column.first.direction == "higher" else -1
    order = sorted(column.cells, key=lambda name: -sign * column.cells[name].value)
    tied = [name for name in order if column.ranks.get(name, (1, 0))[0] == 1]
    yield f"On {item} ({column.title}), "
    if not column.ranks:
        yield "one seed and no intervals: nothing can be told apart. "
    elif len(tied) == len(order):
        yield from (f"the {len(order)} backbones cannot be told apart: ", cited(column.cells[order[0]], column.places))
        yield from (f" ({order[0]}) to ", cited(column.cells[order[-1]], column.places), f" ({order[-1]}). ")
    else:
        yield from (f"{order[0]} has ", cited(column.cells[order[0]], column.places))
        rest = [name for name in tied if name != order[0]]
        yield f"; {listed(rest)} cannot be told apart from it. " if rest else ", surely better than every other. "


def _mean_ranks(seen: Overview) -> Iterator[Part]:
    ranked = sorted((row for row in seen.rows if row.mean_rank), key=lambda row: row.mean_rank.value)  # type: ignore[union-attr]
    if not ranked or ranked[0].mean_rank is None:
        return
    first = ranked[0]
    numbers = tuple(number for number in first.cells if number is not None)
    yield f"Over {len(seen.columns)} tasks {first.backbone} has the lowest mean rank, "
    yield Said(_rank_interval(ranked[0].mean_rank), numbers)
    tied = [row.backbone for row in ranked[1:] if row.ranks is None or row.ranks[0] == 1]
    if tied:
        yield f", which {listed(tied)} may share"
    yield ". "


def _rank_interval(rank: Interval) -> str:
    return f"{rank.value:.1f}" + (f" [{rank.low:.1f}, {rank.high:.1f}]" if rank.known else " (one seed)")


def over_random(tables: Sequence[Table]) -> Iterator[Part]:
    """By task: who is surely above random features, who below; paired by seed, corrected over the table."""
    seen = overview(tables)
    for item, column in zip(seen.items, seen.columns, strict=True) if seen else ():
        random = next((name for name, n in column.cells.items() if is_random(n)), None)
        others = [name for name in column.cells if name != random]
        if random is None or not others:
            continue
        above, level, below = _against(column, random, others)
        yield from (f"On {item}, random features reach ", cited(column.cells[random], column.places), ": ")
        parts = [
            f"{listed(names)} {'is' if len(names) == 1 else 'are'} {where}"
            for names, where in (
                (above, "better"), (level, "not told apart from them"),
                (below, "worse than features that learned nothing"),
            )
            if names
        ]  # fmt: skip
        yield "; ".join(parts) + ". "


def is_random(number: Number) -> bool:
    """Whether a backbone, or every member of a fusion, has random weights."""
    spec = str(number.rows[0].get("model", ""))
    return all(member.strip().startswith("random:") for member in spec.split("+"))


def _against(column: Column, base: str, others: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Who is better than `base`, who cannot be told apart and who is worse: by seeds (Holm), else by intervals."""
    sign = 1 if column.first.direction == "higher" else -1
    sides: dict[str, int] = {}
    at = column.cells[base]
    pairs = {name: _differences(column.cells[name], at, sign) for name in others}
    if all(len(values) > 1 for values in pairs.values()):
        adjusted = holm(p_value(values) for values in pairs.values())
        for (name, values), p in zip(pairs.items(), adjusted, strict=True):
            sides[name] = 0 if p >= 0.05 else 1 if sum(values) > 0 else -1
    else:
        for name in others:
            one, other = column.cells[name].ends, at.ends
            apart = one is not None and other is not None and (one[0] > other[1] or one[1] < other[0])
            sides[name] = (1 if sign * (column.cells[name].value - at.value) > 0 else -1) if apart else 0
    return tuple([n for n in others if sides[n] == side] for side in (1, 0, -1))  # type: ignore[return-value]


def _differences(one: Number, other: Number, sign: int) -> list[float]:
    return [sign * (one.by_seed[seed] - other.by_seed[seed]) for seed in one.seeds if seed in other.by_seed]


def _columns(tables: Sequence[Table], wanted: Callable[[Number], bool]) -> Iterator[Column]:
    for table in tables:
        yield from (column for column in table.columns if wanted(column.first))


def invariances(tables: Sequence[Table]) -> Iterator[Part]:
    """The most and the least invariant backbone of each group of transforms, and whether the groups trade off."""
    groups = {
        group: column
        for column in _columns(tables, lambda n: n.rows[0]["stage"] == "diagnose-invariance")
        for group in ("spatial", "appearance")
        if column.first.metric == f"{group} similarity"
    }
    for group, column in groups.items():
        order = sorted(column.cells, key=lambda name: -column.cells[name].value)
        if len(order) > 1:
            most, least = order[0], order[-1]
            yield f"To {group} changes, {most} is the most invariant ("
            yield from (cited(column.cells[most], column.places), f") and {least} the least (")
            yield cited(column.cells[least], column.places)
            surely = column.ranks.get(most, (1, len(order)))[1] < len(order)
            yield ")." if surely else "), a difference that may be chance."
            yield " "
    if len(groups) == 2:
        yield from _trade_off(groups["spatial"], groups["appearance"])


def _trade_off(spatial: Column, appearance: Column) -> Iterator[Part]:
    """Spearman's correlation of the two groups over backbones, by seed."""
    names = [name for name in spatial.cells if name in appearance.cells]
    both = [column.cells[name] for column in (spatial, appearance) for name in names]
    seeds = sorted(set.intersection(*(set(n.seeds) for n in both))) if len(names) > 2 else []
    if not seeds:
        return
    each = [
        rank_correlation(*([c.cells[name].by_seed[seed] for name in names] for c in (spatial, appearance)))
        for seed in seeds
    ]
    rho = mean_interval(each, beside=rank_error(len(names)), most=1)
    ends = interval_text((rho.low, rho.high) if rho.known else None, 2)
    yield f"Over {len(names)} backbones the two have a rank correlation of "
    yield Said(f"{plain(rho.value, 2)} {ends}".rstrip(), tuple(both))
    if not rho.known:
        yield ", from one seed. "
    else:
        yield ": among these they trade off. " if rho.high < 0 else ": no trade-off here. " if rho.low > 0 else ". "


def side_by_side(tables: Sequence[Table]) -> Iterator[Part]:
    """Fusions of the study on its tasks, then what a complementarity says of pairs and of fusions of its own."""
    yield from fusions(tables)
    yield from pairs_and_gains(tables)


def fusions(tables: Sequence[Table]) -> Iterator[Part]:
    """By task: each fusion against the better of its members that were run, paired by seed."""
    seen = overview(tables)
    for item, column in zip(seen.items, seen.columns, strict=True) if seen else ():
        sign = 1 if column.first.direction == "higher" else -1
        specs = {str(n.rows[0].get("model", "")): name for name, n in column.cells.items()}
        for spec, name in specs.items():
            members = [specs[m.strip()] for m in spec.split("+") if m.strip() in specs]
            if "+" not in spec or len(members) < 2:
                continue
            best = max(members, key=lambda member: sign * column.cells[member].value)
            yield f"On {item}, {name} less {best}, the best of its members, is "
            yield from (difference(column.cells[name], column.cells[best]), _side(column, name, best), ". ")


def pairs_and_gains(tables: Sequence[Table]) -> Iterator[Part]:
    """Of each complementarity: the pair that is least alike, and of each score the fusion that gains most."""
    for column in _columns(tables, lambda n: n.kind == "cka"):
        order = sorted(column.cells, key=lambda name: column.cells[name].value)
        if len(order) == 1:
            yield from (
                f"The features of {order[0]} have a CKA of ",
                cited(column.cells[order[0]]),
                " (1 is the same). ",
            )
            continue
        yield from (f"The features of {order[0]} are the least alike (CKA ", cited(column.cells[order[0]]), "), those ")
        yield from (f"of {order[-1]} the most (", cited(column.cells[order[-1]]), "). ")
    for column in _columns(tables, lambda n: n.kind == "gain"):
        best = max(column.cells, key=lambda name: column.cells[name].value)
        number, of = column.cells[best], column.first.metric.partition(":")[0]
        yield f"On {column.first.item} ({of}) {best} gains most over the best of its members, by "
        yield from (cited(number), f", of {len(column.cells)} fusions" if len(column.cells) > 1 else "")
        ends = number.ends
        yield ". " if ends is not None and ends[0] > 0 else ", which may be chance. " if ends else " (one seed). "


def _side(column: Column, one: str, other: str) -> str:
    """Which way the difference of two goes, as far as it can be told."""
    better, level, _ = _against(column, other, [one])
    return ", which is better" if better else ", which may be chance" if level else ", which is worse"


def difference(one: Number, other: Number) -> Said:
    """The paired difference over shared seeds in words; of one seed without an interval, which is said."""
    gap = paired_difference(one.by_seed, other.by_seed)
    places = digits([one, other])
    ends = interval_text((gap.low, gap.high), places) if gap.known else "(one seed)"
    value = plain(gap.value, places)
    unit = " points" if one.unit == "%" else of_unit(one.unit)
    return Said(f"{'' if value.startswith('-') else '+'}{value}{unit} {ends}", (one, other))


def detection_errors(tables: Sequence[Table]) -> Iterator[Part]:
    """Each detector's share of false positives that are poor localisation."""
    for column in _columns(tables, lambda n: n.metric == "Hoiem share Loc"):
        yield "Poor localisation among the detections is "
        yield from _enumerated(column)


def inversions(tables: Sequence[Table]) -> Iterator[Part]:
    """Coverage by backbone."""
    for column in _columns(tables, lambda n: n.rows[0]["stage"] == "diagnose-inversion" and n.metric == "coverage"):
        yield "Of the places with structure, inversions show the same structure again in "
        yield from _enumerated(column)


def mask_quality(tables: Sequence[Table]) -> Iterator[Part]:
    """Best overlap by engine."""
    for column in _columns(tables, lambda n: n.rows[0]["stage"] == "masks-quality" and n.metric == "best overlap"):
        yield "The mean best overlap of an annotated object with a region is "
        yield from _enumerated(column)


def _enumerated(column: Column) -> Iterator[Part]:
    """ "62.1 % [..] (a), 60.0 % [..] (b). " """
    for k, (name, number) in enumerate(column.cells.items()):
        yield ", " if k else ""
        yield from (cited(number, column.places), f" ({name})")
    yield ". "


def label_shares(tables: Sequence[Table]) -> Iterator[Part]:
    """Of each task with several shares of its labels: the best with the fewest and with all."""
    for table in tables:
        first = table.columns[0].first.metric
        shares = {labels_percent(c.first): c for c in table.columns if c.first.metric == first}
        if table.stage != "transfer" or len(shares) < 2:
            continue
        yield f"On {table.item}: "
        for k, (percent, column) in enumerate(sorted(shares.items())[:: max(1, len(shares) - 1)]):
            sign = 1 if column.first.direction == "higher" else -1
            best = max(column.cells, key=lambda name: sign * column.cells[name].value)
            yield f"{'; ' if k else ''}with {percent:g} % of the labels {best} reaches "
            yield cited(column.cells[best], column.places)
            tied = [n for n, (rank, _) in column.ranks.items() if rank == 1 and n != best]
            yield f", not told apart from {listed(tied)}" if tied else ""
        yield ". "


def cost(tables: Sequence[Table]) -> Iterator[Part]:
    """Time of the pretrainings, the first and the last of them."""
    for column in _columns(tables, lambda n: n.rows[0]["stage"] == "pretrain" and n.metric == "seconds"):
        total = sum(sum(n.by_seed.values()) for n in column.cells.values())
        runs = sum(len(n.rows) for n in column.cells.values())
        longest = max(column.cells, key=lambda name: column.cells[name].value)
        yield f"{runs} pretrainings took {hours(total)} together; the longest is {longest}, "
        yield from (cited(column.cells[longest], 0), " each. ")


def hours(seconds: float) -> str:
    """95 -> "1.6 minutes"."""
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"
