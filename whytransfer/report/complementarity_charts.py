"""Charts of complementarity: who resembles whom, what fusions gain over their best member, who is good everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whytransfer.figures import altair
from whytransfer.report.dots import dots, rows
from whytransfer.report.look import LABEL_PX, PANEL_PX, STEP_PX, Point, beside, data, each, point, tooltip
from whytransfer.report.numbers import Number, names_of, plain
from whytransfer.report.task_charts import zero_line

ALIKE = ("unbiased linear CKA", "kappa of errors", "rank correlation of errors")  # ends of metrics, 1 is the same
GAIN = ": gain over the best single"  # the end of a metric


def alike(numbers: Sequence[Number]) -> Any | None:
    """A panel per measure: every pair of backbones twice, so that the map is square."""
    names, panels = names_of(numbers), dict[str, list[Point]]()
    specs = {str(n.rows[0]["model"]): n.backbone for n in numbers if n.backbone_is_whole}
    for number in numbers:
        if number.is_of_two and number.kind and number.metric.endswith(ALIKE):
            one, other = members_of(number, specs)
            told = {"pair": f"{one} with {other}", "short": plain(number.value, 2)}
            panels.setdefault(f"{number.item}: {number.metric}", []).extend(
                point(number, backbone=a, other=b, **told) for a, b in ((one, other), (other, one))
            )
    drawn = [_square(points, names).properties(title=altair().Title(title)) for title, points in panels.items()]
    return beside(drawn, 2).resolve_scale(color="shared") if drawn else None


def members_of(number: Number, specs: Mapping[str, str]) -> tuple[str, str]:
    """The two backbones of a pair by their names in the study; `specs` is {backbone string as run: name}."""
    one, other = (specs.get(spec, spec) for spec in number.rows[0]["provenance"]["models"])
    return one, other


def _square(points: Sequence[Point], names: Sequence[str]) -> Any:
    alt = altair()
    base = alt.Chart(data(points)).encode(
        x=alt.X("backbone:N", title=None, sort=list(names), axis=alt.Axis(labelAngle=-40, labelLimit=LABEL_PX)),
        y=alt.Y("other:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=LABEL_PX)),
        href="href:N",
        tooltip=tooltip(("pair", "backbones")),
    )
    colour = alt.Color("value:Q", title="alike", scale=alt.Scale(scheme="viridis", domain=[0, 1], clamp=True))
    ink = alt.condition("datum.value > 0.55", alt.value("black"), alt.value("white"))
    cells = base.mark_rect().encode(color=colour) + base.mark_text(fontSize=10).encode(text="short:N", color=ink)
    return cells.properties(width=alt.Step(38), height=alt.Step(STEP_PX + 4))


def gains(numbers: Sequence[Number]) -> Any | None:
    """A panel per score: each fusion less the best of its members, which the training images have chosen."""
    panels: dict[str, list[Number]] = {}
    for number in numbers:
        if number.kind == "gain":
            panels.setdefault(f"{number.item}: {number.metric.removesuffix(GAIN)}", []).append(number)
    names = names_of(numbers)
    drawn = [_gained(own, names).properties(title=altair().Title(title)) for title, own in panels.items()]
    return beside(drawn, 2) if drawn else None


def _gained(own: Sequence[Number], names: Sequence[str]) -> Any:
    alt, order = altair(), names_of(own)
    x_title = f"gain over the best single, {own[0].unit}"
    seeds = [p for number in own for p in each(number)]
    drawn = rows([point(n) for n in own], seeds, order, names, x_title, zero=True)
    return alt.layer(zero_line(), drawn).properties(width=PANEL_PX + 20, height=alt.Step(STEP_PX))


def consistent(numbers: Sequence[Number]) -> Any | None:
    """A panel per diagnosis: the mean rank of every backbone and fusion over its scores."""
    panels: dict[str, list[Number]] = {}
    for number in numbers:
        if number.kind == "rank":
            panels.setdefault(f"{number.item}: {number.metric}, {number.data}", []).append(number)
    return dots(list(panels.items()), numbers)
