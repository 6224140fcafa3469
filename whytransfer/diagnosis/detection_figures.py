"""Figures of error analysis, drawn from its Results alone: intervals are 95 % over test images, detectors are colours.

Each function takes the Results of DetectionErrors.run() and gives a chart, or None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from whytransfer import figures
from whytransfer.diagnosis.detection_measures import HOIEM_COSTS, RANKS, TIDE_COSTS
from whytransfer.diagnosis.detection_table import HOIEM
from whytransfer.records import Result

WORDS = {
    "Loc": "localisation", "Sim": "similar class", "Oth": "other class", "BG": "background", "Cls": "class",
    "Both": "class and localisation", "Dupe": "duplicate", "Bkg": "background", "Miss": "missed",
    "FP": "all false positives", "FN": "all false negatives",
}  # fmt: skip
_AXES = {"size": "size (area of the box)", "aspect": "aspect (tall to wide)"}
WIDE, HIGH = 330, 190
Rows = list[dict[str, Any]]


def save_all(results: Sequence[Result], folder: Path) -> list[Path]:
    """Every chart as SVG, PDF and PNG with its numbers as CSV and Parquet; returns the paths."""
    paths = []
    for name, (chart_of, rows_of) in CHARTS.items():
        if rows := rows_of(results):
            paths += figures.save(chart_of(rows), folder, name)
            paths += figures.save_table(rows, folder, name)
    return paths


def share_rows(results: Iterable[Result]) -> Rows:
    """Shares of Hoiem's errors among as many detections as there are objects."""
    names = {f"Hoiem share {name}": WORDS[name] for name in HOIEM}
    return [{**row, "error": names[row["metric"]]} for row in _rows(results, False) if row["metric"] in names]


def rank_rows(results: Iterable[Result]) -> Rows:
    """The same shares among the first false positives of a class."""
    names = {f"Hoiem share {name} of the first {rank} FPs": (WORDS[name], rank) for name in HOIEM for rank in RANKS}
    return [
        {**row, "error": names[row["metric"]][0], "rank": names[row["metric"]][1]}
        for row in _rows(results, False) if row["metric"] in names
    ]  # fmt: skip


def cost_rows(results: Iterable[Result]) -> Rows:
    """What every error costs, by both taxonomies."""
    return [{**row, **_COSTS[row["metric"]]} for row in _rows(results, False) if row["metric"] in _COSTS]


def sensitivity_rows(results: Iterable[Result]) -> Rows:
    """Normalised AP by group of objects, with that of all objects of the same classes, and which these are."""
    known, found = list(results), list[dict[str, Any]]()
    speaking = known[0].provenance["classes_with_enough"] if known else {}
    for row in _rows(known, False):
        words = row["metric"].removeprefix("normalised AP50 ").split(" ", 1)
        if row["metric"].startswith("normalised AP50 ") and len(words) == 2:
            kinds = speaking[words[0]]
            own = {"characteristic": words[0], "group": words[1], "of": _some(kinds), "classes": ", ".join(kinds)}
            found.append({**row, **own})
    return found


def difference_rows(results: Iterable[Result]) -> Rows:
    """Paired differences of AP and of costs."""
    metrics = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "normalised AP50": "normalised AP50"}
    metrics |= {name: f"{cost['taxonomy']}: {cost['error']}" for name, cost in _COSTS.items()}
    return [
        {**row, "what": metrics[row["metric"]], "apart": bool(row["low"] > 0 or row["high"] < 0)}
        for row in _rows(results, True) if row["metric"] in metrics and row["low"] is not None
    ]  # fmt: skip


def _rows(results: Iterable[Result], differences: bool) -> Rows:
    return [
        {"detector": r.model, "metric": r.metric, "value": r.value, "low": r.low, "high": r.high, "unit": r.unit}
        for r in results if ("paired_difference_of" in r.provenance) == differences
    ]  # fmt: skip


def _costs() -> dict[str, dict[str, str]]:
    """Metric -> taxonomy and what is mended, in words."""
    found = {f"TIDE dAP {name}": {"taxonomy": "TIDE", "error": WORDS[name]} for name in TIDE_COSTS}
    for name in HOIEM_COSTS:
        parts = name.split()
        pairs = zip(parts[::2], parts[1::2], strict=True)
        words = ", ".join(f"{do} {' + '.join(WORDS[x] for x in kind.split('+'))}" for do, kind in pairs)
        found[f"Hoiem dAP {name}"] = {"taxonomy": "Hoiem", "error": words}
    return found


_COSTS = _costs()


def _names(rows: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _bars(rows: Rows, x: str, key: str, order: Sequence[str]) -> Any:
    """Horizontal bars by detector with their intervals, one row per `key`."""
    alt = figures.altair()
    detectors = _names(rows, "detector")
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y(f"{key}:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=320)),
        yOffset=alt.YOffset("detector:N", sort=detectors),
    )
    height = len(order) * (10 + 12 * len(detectors))
    bars = base.mark_bar(opacity=0.75).encode(
        x=alt.X("value:Q", title=x),
        color=alt.Color("detector:N", sort=detectors, title="detector", legend=_legend(detectors)),
    )
    ends = base.mark_rule(strokeWidth=1.5, color="black").encode(x=alt.X("low:Q"), x2="high:Q")
    return (bars + ends).properties(width=WIDE, height=height)


def _legend(names: Sequence[str]) -> Any:
    alt = figures.altair()
    return alt.Legend(orient="top", columns=1, labelLimit=500, symbolOpacity=1) if len(names) > 1 else None


def _titled(rows: Rows, title: str) -> Any:
    """The title, with the detector below it where there is but one."""
    alt = figures.altair()
    names = _names(rows, "detector")
    below = "95 % intervals over test images" + (f"; {names[0]}" if len(names) == 1 else "")
    return alt.TitleParams(title, subtitle=below, anchor="start")


def _heading(text: str, below: str = "") -> Any:
    return figures.altair().TitleParams(text, anchor="start", frame="group", **({"subtitle": below} if below else {}))


def shares(rows: Rows) -> Any:
    """Bars of the shares of Hoiem's errors."""
    chart = _bars(rows, "share of the false positives (%)", "error", [WORDS[name] for name in HOIEM])
    return chart.properties(
        title=_titled(rows, "False positives among the first N detections of a class, which has N objects")
    )


def by_rank(rows: Rows) -> Any:
    """Shares of Hoiem's errors along the ranking, one panel per error."""
    alt = figures.altair()
    detectors = _names(rows, "detector")
    ranks = sorted({row["rank"] for row in rows})
    x = alt.X(
        "rank:Q", title="first false positives", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=ranks)
    )
    colour = alt.Color("detector:N", sort=detectors, title="detector", legend=_legend(detectors))
    base = alt.Chart().encode(x=x, color=colour)
    y = alt.Y("value:Q", title="share (%)")
    layers = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title="share (%)"), y2="high:Q")
    layers += base.mark_line(point={"opacity": 1}).encode(y=y)
    panels = layers.properties(width=150, height=HIGH).facet(
        data=alt.Data(values=rows),
        column=alt.Column("error:N", sort=[WORDS[name] for name in HOIEM], title=None),
    )
    return panels.properties(
        title=_titled(rows, "The first false positives, from the best score down, of classes with as many")
    )


def costs(rows: Rows) -> Any:
    """Bars of what every error costs, one panel per taxonomy."""
    alt = figures.altair()
    panels = []
    for taxonomy in _names(rows, "taxonomy"):
        own = [row for row in rows if row["taxonomy"] == taxonomy]
        panels.append(
            _bars(own, "gain of AP50 (points)", "error", _names(own, "error")).properties(title=_heading(taxonomy))
        )
    joined = alt.vconcat(*panels).resolve_scale(x="shared")
    return joined.properties(title=_titled(rows, "AP50 gained if the errors were not made"))


def sensitivity(rows: Rows) -> Any:
    """Normalised AP of every group, one panel per characteristic; dashed: all objects of these classes."""
    alt = figures.altair()
    detectors = _names(rows, "detector")
    colour = alt.Color("detector:N", sort=detectors, title="detector", legend=_legend(detectors))
    panels = []
    for name in _names(rows, "characteristic"):
        own = [row for row in rows if row["characteristic"] == name]
        groups = [row for row in own if row["group"] != "all"]
        order = _names(groups, "group")
        title = f"{_AXES.get(name, name)}, of {own[0]['of']}"
        base = alt.Chart(alt.Data(values=groups)).encode(
            x=alt.X("group:N", sort=order, title=title, axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("detector:N", sort=detectors),
            color=colour,
        )
        y = alt.Y("value:Q", title="normalised AP50 (%)", scale=alt.Scale(zero=True))
        layers = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="normalised AP50 (%)"), y2="high:Q")
        layers += base.mark_point(filled=True, size=55, opacity=1).encode(y=y)
        every = alt.Chart(alt.Data(values=[row for row in own if row["group"] == "all"]))
        layers += every.mark_rule(strokeDash=[4, 3]).encode(y="value:Q", color=colour)
        panels.append(layers.properties(width=50 + 26 * len(order) * max(1, len(detectors)), height=HIGH))
    joined = alt.hconcat(*panels).resolve_scale(y="shared")
    return joined.properties(
        title=_titled(rows, "Which objects are found badly (dashed: all objects of these classes)")
    )


def _some(classes: Sequence[str]) -> str:
    """Up to two names, or how many there are."""
    return " and ".join(classes) if len(classes) <= 2 else f"{len(classes)} classes"


def differences(rows: Rows) -> Any:
    """Paired differences with intervals, one panel per pair; filled where the interval leaves zero out."""
    alt = figures.altair()
    panels = []
    for pair in _names(rows, "detector"):
        own = [row for row in rows if row["detector"] == pair]
        order = _names(own, "what")
        base = alt.Chart(alt.Data(values=own)).encode(
            y=alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=320))
        )
        x = alt.X("value:Q", title="difference (points of AP)")
        layers = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="#999").encode(x="zero:Q")
        layers += base.mark_rule(strokeWidth=1.5).encode(
            x=alt.X("low:Q", title="difference (points of AP)"), x2="high:Q"
        )
        fill = alt.condition("datum.apart", alt.value(figures.PALETTE[0]), alt.value("white"))
        layers += base.mark_point(size=60, filled=True, stroke="black", strokeWidth=1, opacity=1).encode(x=x, fill=fill)
        title = _heading(
            pair, "95 % intervals, paired over test images; white: may be 0; of costs (TIDE, Hoiem) less is better"
        )
        panels.append(layers.properties(width=WIDE, height=18 * len(order), title=title))
    return alt.vconcat(*panels)


Chart = tuple[Callable[[Rows], Any], Callable[[Iterable[Result]], Rows]]
CHARTS: dict[str, Chart] = {
    "error-shares": (shares, share_rows),
    "false-positives-by-rank": (by_rank, rank_rows),
    "error-costs": (costs, cost_rows),
    "sensitivity": (sensitivity, sensitivity_rows),
    "paired-differences": (differences, difference_rows),
}
