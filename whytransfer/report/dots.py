"""Dots with their intervals: a panel per measure, a row per backbone, thin ticks for single seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from whytransfer.figures import altair
from whytransfer.report.look import (
    LABEL_PX,
    PANEL_PX,
    STEP_PX,
    Point,
    beside,
    data,
    each,
    look,
    point,
    tooltip,
    where_known,
)
from whytransfer.report.numbers import Number, names_of, of_unit, words

Panel = tuple[str, Sequence[Number]]  # title, numbers of one unit


def dots(panels: Sequence[Panel], numbers: Sequence[Number], zero: bool = False) -> Any | None:
    """The chart; None without panels. `numbers` are all of the report, whose backbones decide the colours."""
    names = names_of(numbers)
    drawn = [_panel(title, own, names, zero) for title, own in panels if own]
    return beside(drawn) if drawn else None


def _panel(title: str, numbers: Sequence[Number], names: Sequence[str], zero: bool) -> Any:
    alt = altair()
    order = [name for name in names if name in set(names_of(numbers))]
    points = [point(number) for number in numbers]
    seeds = [p for number in numbers for p in each(number)]
    return rows(points, seeds, order, names, axis(numbers[0]), zero).properties(
        title=alt.Title(title), width=PANEL_PX, height=alt.Step(STEP_PX)
    )


def axis(number: Number) -> str:
    """Metric and unit; which way is better, where less is."""
    unit = of_unit(number.unit).strip()
    better = " (less is better)" if number.direction == "lower" else ""
    return words(number.metric) + (f", {unit}" if unit else "") + better


def rows(
    points: Sequence[Point],
    seeds: Sequence[Point],
    order: Sequence[str],
    names: Sequence[str],
    x_title: str,
    zero: bool,
) -> Any:
    """One row per backbone: interval, ticks of the seeds, dot."""
    alt = altair()
    y = alt.Y("backbone:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=LABEL_PX))
    x = alt.X("value:Q", title=x_title, scale=alt.Scale(zero=zero, nice=True), axis=alt.Axis(tickCount=5))
    base = alt.Chart(data(points)).encode(y=y, href="href:N", tooltip=tooltip())
    colour, shape = look(names, "color"), look(names, "shape")
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=x_title), x2="high:Q", **colour)
    layers = [
        *where_known(bars, points),
        base.mark_point(filled=True, size=64, opacity=1).encode(x=x, **colour, **shape),
    ]
    if seeds:
        ticks = alt.Chart(data(seeds)).mark_tick(opacity=0.45, thickness=1, size=9)
        layers.insert(-1, ticks.encode(x=alt.X("each:Q", title=x_title), y=y, tooltip=_of_seed(), **colour))
    return alt.layer(*layers)


def _of_seed() -> list[Any]:
    alt = altair()
    return [alt.Tooltip("backbone:N", title="backbone"), alt.Tooltip("seeds:N", title="seed: value")]
