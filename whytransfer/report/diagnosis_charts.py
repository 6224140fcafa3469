"""Charts of diagnoses: invariances, their trade-off, detection errors, scores of inversions, quality of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whytransfer.diagnosis.detection_figures import WORDS
from whytransfer.diagnosis.grids import GROUPS
from whytransfer.figures import altair
from whytransfer.report.dots import dots
from whytransfer.report.look import LABEL_PX, PANEL_PX, STEP_PX, Point, beside, data, look, point, tooltip, where_known
from whytransfer.report.numbers import Number, names_of, plain, words
from whytransfer.report.tables import labels_percent

MEASURE, REAL = " similarity", "real invariance"  # the end of a metric's name, a task: see diagnosis/invariance.py
ROWS = [
    what for group, members in GROUPS.items() for what in (f"{group} (mean)", *(m.replace("_", " ") for m in members))
]


def heat_map(numbers: Sequence[Number]) -> Any | None:
    """A panel per diagnosis: cosine by change (groups, then their members, then real ones) and backbone."""
    colour = {"title": "cosine", "scale": altair().Scale(scheme="viridis", domain=[0, 1], clamp=True)}
    names, panels = names_of(numbers), []
    for item, own in _similar(numbers).items():
        points = [point(n, what=_what(n), short=plain(n.value, 2)) for n in own]
        panels.append(_heat(points, names, colour).properties(title=altair().Title(f"{item}: {own[0].data}")))
    return beside(panels, 2).resolve_scale(color="shared") if panels else None


def factors(numbers: Sequence[Number]) -> Any | None:
    """A panel per task or diagnosis that reads latent factors: R2 by factor and backbone."""
    colour = {"title": "R2", "scale": altair().Scale(scheme="viridis", domain=[0, 1], clamp=True)}
    names, found = names_of(numbers), dict[tuple[str, str], list[Number]]()
    for number in numbers:
        if number.unit == "R2" and number.backbone_is_whole and not number.kind and labels_percent(number) == 100:
            found.setdefault((number.item, str(number.rows[0]["task"])), []).append(number)
    panels = [
        _heat([point(n, what=n.metric, short=plain(n.value, 2)) for n in own], names, colour).properties(
            title=altair().Title(item if task == item else f"{item}: {task}")
        )
        for (item, task), own in found.items()
        if len({n.metric for n in own}) > 1
    ]
    return beside(panels, 2).resolve_scale(color="shared") if panels else None


def _heat(points: Sequence[Point], names: Sequence[str], scale: Mapping[str, Any]) -> Any:
    alt, seen = altair(), list(dict.fromkeys(p["what"] for p in points))
    order = [what for what in ROWS if what in seen] + [what for what in seen if what not in ROWS]
    base = alt.Chart(data(points)).encode(
        x=alt.X("backbone:N", title=None, sort=list(names), axis=alt.Axis(labelAngle=-40, labelLimit=LABEL_PX)),
        y=alt.Y("what:N", title=None, sort=order, axis=alt.Axis(labelLimit=LABEL_PX)),
        href="href:N",
        tooltip=tooltip(("backbone", "backbone"), ("what", "of")),
    )
    ink = alt.condition("datum.value > 0.55", alt.value("black"), alt.value("white"))
    cells = base.mark_rect().encode(color=alt.Color("value:Q", **scale))
    cells += base.mark_text(fontSize=10).encode(text="short:N", color=ink)
    return cells.properties(width=alt.Step(38), height=alt.Step(STEP_PX))


def _similar(numbers: Sequence[Number]) -> dict[str, list[Number]]:
    """{item: similarities of the pooled features}, synthetic changes first."""
    found: dict[str, list[Number]] = {}
    for number in numbers:
        if number.rows[0]["stage"] == "diagnose-invariance" and number.metric.endswith(MEASURE):
            found.setdefault(number.item, []).append(number)
    return {item: sorted(own, key=lambda n: n.rows[0]["task"] == REAL) for item, own in found.items()}


def _what(number: Number) -> str:
    name = number.metric.removesuffix(MEASURE)
    if number.rows[0]["task"] == REAL:
        return f"real: {name} ({number.data})"
    return f"{name} (mean)" if name in GROUPS else name.replace("_", " ")


def trade_off(numbers: Sequence[Number]) -> Any | None:
    """A panel per diagnosis: spatial against appearance invariance, a cross of intervals per backbone."""
    alt, by_item = altair(), dict[str, list[Point]]()
    names = names_of(numbers)
    for item, own in _similar(numbers).items():
        spatial, appearance = (
            {n.backbone: n for n in own if n.metric == f"{group}{MEASURE}" and n.rows[0]["task"] != REAL}
            for group in ("spatial", "appearance")
        )
        points = [_crossed(spatial[name], appearance[name]) for name in names if name in spatial and name in appearance]
        if len(points) > 1:
            by_item[f"{item}: {own[0].data}"] = points
    channels = look(names, "color", "shape", points=[p for points in by_item.values() for p in points])
    panels = [_scatter(points, channels).properties(title=alt.Title(title)) for title, points in by_item.items()]
    return beside(panels, 2).resolve_scale(color="shared", shape="shared") if panels else None


def _crossed(spatial: Number, appearance: Number) -> dict[str, Any]:
    across, up = point(spatial), point(appearance)
    seeds = {"seeds": f"spatial {across['seeds']}; appearance {up['seeds']}"}
    ends = {"interval": f"spatial {across['interval']}; appearance {up['interval']}"}
    shown = {"shown": f"spatial {across['shown']}; appearance {up['shown']}"}
    both = {"x": across["value"], "x_low": across["low"], "x_high": across["high"]}
    both["href"] = f"{across['href']}+{up['href'][1:]}"
    return {**across, **both, "y": up["value"], "y_low": up["low"], "y_high": up["high"], **seeds, **ends, **shown}


def _scatter(points: Sequence[Point], channels: Mapping[str, Any]) -> Any:
    alt = altair()
    x_title, y_title = "spatial invariance (cosine)", "appearance invariance (cosine)"
    scale = alt.Scale(zero=False, padding=20)
    base = alt.Chart(data(points)).encode(href="href:N", tooltip=tooltip(), color=channels["color"])
    bar = base.mark_rule(strokeWidth=2)
    layers = (
        *where_known(bar.encode(x=alt.X("x_low:Q", title=x_title), x2="x_high:Q", y="y:Q"), points, "x_low"),
        *where_known(bar.encode(y=alt.Y("y_low:Q", title=y_title), y2="y_high:Q", x="x:Q"), points, "y_low"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=alt.X("x:Q", title=x_title, scale=scale),
            y=alt.Y("y:Q", title=y_title, scale=scale),
            shape=channels["shape"],
        ),
    )
    return alt.layer(*layers).properties(width=PANEL_PX + 60, height=PANEL_PX + 40)


def error_shares(numbers: Sequence[Number]) -> Any | None:
    """A panel per kind of Hoiem's false positives: its share among as many detections as there are objects."""
    return _by_metric(numbers, "Hoiem share ", lambda kind: WORDS.get(kind, ""), zero=True)


def error_costs(numbers: Sequence[Number]) -> Any | None:
    """A panel per kind of TIDE's errors: the AP50 that it costs."""
    return _by_metric(numbers, "TIDE dAP ", lambda kind: WORDS.get(kind, kind), zero=True)


def _by_metric(numbers: Sequence[Number], start: str, named: Any, zero: bool) -> Any | None:
    panels: dict[str, list[Number]] = {}
    for number in numbers:
        kind = named(number.metric.removeprefix(start)) if number.metric.startswith(start) else ""
        if kind and number.rows[0]["stage"] == "diagnose-errors" and number.backbone_is_whole:
            panels.setdefault(f"{number.item}: {kind}", []).append(number)
    return dots(list(panels.items()), numbers, zero)


def inversion_scores(numbers: Sequence[Number]) -> Any | None:
    """A panel per score of the inversions."""
    panels: dict[str, list[Number]] = {}
    for number in numbers:
        if number.rows[0]["stage"] == "diagnose-inversion" and number.backbone_is_whole:
            panels.setdefault(f"{number.item}: {words(number.metric)}", []).append(number)
    return dots(list(panels.items()), numbers)


def mask_quality(numbers: Sequence[Number]) -> Any | None:
    """Each engine's best overlap with annotated objects, over all of them."""
    own = [n for n in numbers if n.rows[0]["stage"] == "masks-quality" and n.metric == "best overlap"]
    panels: dict[str, list[Number]] = {}
    for number in own:
        panels.setdefault(number.data, []).append(number)
    return dots(list(panels.items()), own, zero=True)
