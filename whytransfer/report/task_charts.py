"""Charts of transfer: every task, label efficiency, what fusions gain, and what a score costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from whytransfer.figures import altair
from whytransfer.report.answers import is_random
from whytransfer.report.dots import axis, dots
from whytransfer.report.look import (
    LABEL_PX,
    PANEL_PX,
    Point,
    beside,
    data,
    look,
    point,
    tooltip,
    where_known,
)
from whytransfer.report.numbers import Number, digits, interval_text, names_of, of_unit, plain
from whytransfer.report.tables import Table, labels_percent, main_column, tables_of
from whytransfer.study.statistics import paired_difference

COST = {"seconds": "time of pretraining", "images_per_second": "speed of pretraining", "peak_mib": "peak memory"}


def tasks(numbers: Sequence[Number]) -> Any | None:
    """A panel per task: its first metric, with all labels."""
    panels = [(table.item, list(main_column(table).cells.values())) for table in transfers(numbers)]
    return dots(panels, numbers)


def transfers(numbers: Sequence[Number]) -> list[Table]:
    """The tables of the tasks, in the order of the study."""
    return [table for table in tables_of(numbers) if table.stage == "transfer"]


def label_efficiency(numbers: Sequence[Number]) -> Any | None:
    """A panel per task that was run with several shares of its labels: score by share, bands are intervals."""
    by_task = dict[str, tuple[str, list[Point]]]()
    for table in transfers(numbers):
        first = table.columns[0].first.metric
        own = [n for column in table.columns if column.first.metric == first for n in column.cells.values()]
        if len({labels_percent(number) for number in own}) > 1:
            by_task[table.item] = axis(own[0]), [point(n, percent=labels_percent(n)) for n in own]
    return _panels(numbers, by_task, _curve)


def _panels(
    numbers: Sequence[Number],
    by_task: Mapping[str, tuple[str, list[Point]]],
    drawn: Callable[[Sequence[Point], Mapping[str, Any], str], Any],
) -> Any | None:
    """{task: (title of the y axis, points)} side by side, backbones in the colours of the page; None without any."""
    channels = look(names_of(numbers), "color", "shape", points=[p for _, points in by_task.values() for p in points])
    panels = [
        drawn(points, channels, y_title).properties(title=altair().Title(item))
        for item, (y_title, points) in by_task.items()
    ]
    return beside(panels).resolve_scale(color="shared", shape="shared") if panels else None


def _curve(points: Sequence[Point], channels: Mapping[str, Any], y_title: str) -> Any:
    alt, percents = altair(), sorted({p["percent"] for p in points})
    x = alt.X(
        "percent:Q", title="% of the labels", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=percents)
    )
    base = alt.Chart(data(points)).encode(x=x, color=channels["color"])
    y = alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False))
    told = tooltip(("backbone", "backbone"), ("percent", "% of the labels"))
    bands = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q")
    layers = (
        *where_known(bands, points),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=56, opacity=1).encode(
            y=y, href="href:N", tooltip=told, shape=channels["shape"]
        ),
    )
    return alt.layer(*layers).properties(width=PANEL_PX + 40, height=PANEL_PX)


def fusion_gains(numbers: Sequence[Number]) -> Any | None:
    """Each fusion less the best of its members on every task, paired by seed; a panel per unit."""
    by_unit: dict[str, list[Point]] = {}
    for gain in _gains(numbers):
        by_unit.setdefault(gain["unit"], []).append(gain)
    alt, names, panels = altair(), names_of(numbers), []
    channels = look(names, "color", "shape", points=[p for points in by_unit.values() for p in points])
    for unit, points in by_unit.items():
        x_title = f"gain over the best member, {'points' if unit == '%' else unit}"
        y = alt.Y("item:N", sort=None, title=None, axis=alt.Axis(labelLimit=LABEL_PX))
        offset = alt.YOffset("backbone:N", sort=names)
        told = tooltip(("backbone", "fusion"), ("item", "task"), ("of", "best member"))
        base = alt.Chart(data(points)).encode(y=y, yOffset=offset, tooltip=told, href="href:N")
        x = alt.X("value:Q", title=x_title)
        high = len({p["item"] for p in points}) * (8 + 14 * len({p["backbone"] for p in points}))
        low = alt.X("low:Q", title=x_title)
        bars = base.mark_rule(strokeWidth=2).encode(x=low, x2="high:Q", color=channels["color"])
        layers = (
            zero_line(),
            *where_known(bars, points),
            base.mark_point(filled=True, size=64, opacity=1).encode(x=x, **channels),
        )
        panels.append(alt.layer(*layers).properties(width=PANEL_PX + 40, height=high))
    return beside(panels, 2).resolve_scale(color="shared", shape="shared") if panels else None


def zero_line() -> Any:
    """Where there is no difference."""
    alt = altair()
    return alt.Chart(data([{"zero": 0}])).mark_rule(strokeDash=[3, 3], opacity=0.6).encode(x="zero:Q")


def _gains(numbers: Sequence[Number]) -> Iterator[Point]:
    for table in transfers(numbers):
        column = main_column(table)
        sign = 1 if column.first.direction == "higher" else -1
        for fusion, members in fusions(column.cells).items():
            best = max(members, key=lambda member: sign * column.cells[member].value)
            yield _gain(column.cells[fusion], column.cells[best], sign)


def fusions(cells: Mapping[str, Number]) -> dict[str, list[str]]:
    """{fusion: those of its members that are backbones of the study too}, two at least."""
    specs = {str(number.rows[0]["model"]): name for name, number in cells.items()}
    found = {name: [specs[m.strip()] for m in spec.split("+") if m.strip() in specs] for spec, name in specs.items()}
    return {name: members for name, members in found.items() if len(members) > 1}


def _gain(fusion: Number, best: Number, sign: int) -> Point:
    gap, places = paired_difference(fusion.by_seed, best.by_seed), digits([fusion, best])
    low, high = sorted((sign * gap.low, sign * gap.high)) if gap.known else (None, None)
    each = {seed: sign * (fusion.by_seed[seed] - best.by_seed[seed]) for seed in fusion.seeds if seed in best.by_seed}
    ends = None if low is None or high is None else (low, high)
    return point(
        fusion, value=sign * gap.value, low=low, high=high, unit=fusion.unit, of=best.backbone,
        shown=f"{plain(sign * gap.value, places)}{' points' if fusion.unit == '%' else of_unit(fusion.unit)}",
        interval=f"{interval_text(ends, places)} over seeds, paired" if ends else "one seed: none",
        seeds=", ".join(f"{seed}: {plain(value, places)}" for seed, value in each.items()),
        href=f"#n{fusion.index}+n{best.index}",
    )  # fmt: skip


def cost(numbers: Sequence[Number]) -> Any | None:
    """Time, speed and memory of every pretraining."""
    own = {metric: [n for n in _pretrainings(numbers) if n.metric == metric] for metric in COST}
    return dots([(COST[metric], found) for metric, found in own.items()], numbers, zero=True)


def _pretrainings(numbers: Sequence[Number]) -> list[Number]:
    return [number for number in numbers if number.rows[0]["stage"] == "pretrain"]


def score_for_time(numbers: Sequence[Number]) -> Any | None:
    """A panel per task: score by the minutes of pretraining; random weights took none, fusions those of all members."""
    minutes = {n.backbone: n.value / 60 for n in _pretrainings(numbers) if n.metric == "seconds"}
    by_task = dict[str, tuple[str, list[Point]]]()
    for table in transfers(numbers):
        column = main_column(table)
        both = {b: sum(minutes.get(m, math.nan) for m in members) for b, members in fusions(column.cells).items()}
        known = {b: 0.0 for b, n in column.cells.items() if is_random(n)} | both | minutes
        points = [point(n, minutes=known[b]) for b, n in column.cells.items() if math.isfinite(known.get(b, math.nan))]
        if len(points) > 1:
            by_task[table.item] = axis(column.first), points
    return _panels(numbers, by_task, _for_time)


def _for_time(points: Sequence[Point], channels: Mapping[str, Any], y_title: str) -> Any:
    alt = altair()
    x = alt.X("minutes:Q", title="minutes of pretraining", scale=alt.Scale(zero=True))
    told = tooltip(("backbone", "backbone"), ("minutes", "minutes"))
    base = alt.Chart(data(points)).encode(x=x, href="href:N", tooltip=told, color=channels["color"])
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q")
    layers = (
        *where_known(bars, points),
        base.mark_point(filled=True, size=64, opacity=1).encode(
            y=alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False)), shape=channels["shape"]
        ),
    )
    return alt.layer(*layers).properties(width=PANEL_PX + 20, height=PANEL_PX)
