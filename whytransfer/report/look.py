"""How the charts of the report look: on paper of any colour, told apart without colour, every mark with its evidence.

Ink is "currentColor": drawn as SVG, a chart takes the colour of the text around it, in light, in the dark and in print,
without being drawn again. The names `backbone` and `item` are columns of all data, so a page can filter any chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whytransfer.figures import PALETTE, altair, styles
from whytransfer.report.numbers import Number, digits, interval_text, of_unit, plain, words

INK = "currentColor"
FAINT = 0.14  # opacity of grid lines
COLOURS = (*PALETTE[:-1], INK)  # the palette ends in black, which the dark would swallow
PANEL_PX, STEP_PX, LABEL_PX = 190, 20, 150  # a panel with its labels fits a phone
COLUMNS = 3

Point = dict[str, Any]  # one mark: what it is, its value and interval, and what a reader sees on hovering


def spec(chart: Any) -> dict[str, Any]:
    """The Vega-Lite specification in this look, as plain values for JSON; to be drawn with the SVG renderer."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titleFontSize": 11}
    config = {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "titleFontWeight": "normal", "gridColor": INK, "gridOpacity": FAINT, "domainColor": INK,
                 "domainOpacity": 0.4, "tickColor": INK, "tickOpacity": 0.4},
        "axisQuantitative": {"labelOverlap": "greedy", "labelSeparation": 6, "labelFlush": False},
        "legend": {**text, "titleFontWeight": "normal", "labelLimit": 150, "columns": 2, "orient": "top",
                   "symbolOpacity": 1},
        "title": {"color": INK, "subtitleColor": INK, "fontSize": 12, "anchor": "start", "frame": "group",
                  "limit": 320},
        "header": {"labelColor": INK, "titleColor": INK},
        "rule": {"color": INK},
        "text": {"color": INK},
    }  # fmt: skip
    drawn: dict[str, Any] = chart.to_dict(validate=False)
    return {**drawn, "config": config}


def point(number: Number, **more: Any) -> Point:
    """What a number is in a chart; `href` leads to its evidence on the page."""
    places = digits([number])
    low, high = number.ends or (None, None)
    return {
        "backbone": number.name, "item": number.item, "metric": words(number.metric), "data": number.data,
        "value": number.value, "low": low, "high": high,
        "shown": f"{plain(number.value, places)}{of_unit(number.unit)}",
        "interval": f"{interval_text(number.ends, places)} over {number.over}" if number.over else "one seed: none",
        "seeds": ", ".join(f"{seed}: {plain(value, places)}" for seed, value in number.by_seed.items()),
        "n": number.rows[0]["n"], "href": f"#n{number.index}", **more,
    }  # fmt: skip


def each(number: Number) -> list[Point]:
    """The value of every seed, where there are several."""
    if len(number.rows) < 2:
        return []
    own = {k: v for k, v in point(number).items() if k in ("backbone", "item", "metric", "shown", "interval", "href")}
    return [{**own, "each": value, "seeds": f"{seed}: {value:.6g}"} for seed, value in number.by_seed.items()]


def tooltip(*first: tuple[str, str]) -> list[Any]:
    """Value, interval, seeds and n of what the pointer is on, behind (field, title) of what it is."""
    alt = altair()
    told = (("shown", "value"), ("interval", "95 % interval"), ("seeds", "by seed"), ("n", "n"))
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in (*(first or (("backbone", "backbone"),)), *told)]


def look(
    names: Sequence[str], *channels: str, points: Sequence[Point] | None = None, field: str = "backbone",
) -> dict[str, Any]:  # fmt: skip
    """Encodings ("color", "shape", "strokeDash") by a column of names, which the place among `names` decides.

    The legend shows the names that points have; there is none without points. Panels that share a legend must be given
    the points of all of them.
    """
    alt = altair()
    kinds = {"color": alt.Color, "shape": alt.Shape, "strokeDash": alt.StrokeDash}
    line = {"symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2} if "strokeDash" in channels else {}
    legend = None if points is None else alt.Legend(values=_in_order(names, {p[field] for p in points}), **line)
    scales = styles(names, COLOURS)
    return {name: kinds[name](f"{field}:N", title=field, scale=scales[name], legend=legend) for name in channels}


def _in_order(names: Sequence[str], chosen: set[str]) -> list[str]:
    return [name for name in names if name in chosen]


def where_known(layer: Any, points: Sequence[Point], field: str = "low") -> list[Any]:
    """A layer that draws a field, in a list; none where no point has a value of it: Vega warns of an axis without."""
    return [layer] if any(p[field] is not None for p in points) else []


def data(points: Sequence[Mapping[str, Any]]) -> Any:
    """Points as the inline data of a chart."""
    return altair().Data(values=[dict(p) for p in points])


def beside(panels: Sequence[Any], columns: int = COLUMNS) -> Any:
    """Panels beside each other, each with its own scales; a narrow page may set `columns` of the specification to 1."""
    return altair().concat(*panels, columns=columns).resolve_scale(x="independent", y="independent")
