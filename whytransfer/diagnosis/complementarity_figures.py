"""The pictures of complementarity: who resembles whom, what fusions gain, who is good everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.backbones.load import members_of
from whytransfer.backbones.standardised import SCHEME
from whytransfer.diagnosis.invariance_figures import labels_of
from whytransfer.figures import altair, save, save_table
from whytransfer.records import Result

Rows = list[dict[str, Any]]
SHOWN = ("unbiased linear CKA", "kappa of errors", "rank correlation of errors")


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Every figure that the results allow, and the tables behind them; returns the paths."""
    paths: list[Path] = []
    for name, (rows_of, chart_of) in FIGURES.items():
        if rows := rows_of(results):
            paths += [*save_table(rows, folder, name), *save(chart_of(rows), folder, name)]
    return paths


def alike_rows(results: Iterable[Result]) -> Rows:
    """Each pair twice, so that the map is square; CKA, and how far errors meet."""
    found = [r for r in results if r.provenance["kind"] in ("cka", "overlap")]
    labels = labels_of(dict.fromkeys(m for r in found for m in r.provenance["models"]))
    rows = []
    for r in found:
        what = next((name for name in SHOWN if name in r.metric), None)
        if what is None:
            continue
        a, b = (labels[m] for m in r.provenance["models"])
        panel = f"{r.metric}, {r.data}"
        for one, other in ((a, b), (b, a)):
            rows.append({
                "panel": panel, "one": one, "other": other, "value": r.value, "low": r.low, "high": r.high, "n": r.n,
                "shown": f"{r.value:.2f}",
            })  # fmt: skip
    return rows


def _alike(rows: Rows) -> Any:
    alt = altair()
    panels = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        part = [row for row in rows if row["panel"] == panel]
        order = list(dict.fromkeys(row["one"] for row in part))
        base = alt.Chart(alt.Data(values=part)).encode(
            x=alt.X("one:N", title=None, sort=order, axis=alt.Axis(labelAngle=-40, labelLimit=200)),
            y=alt.Y("other:N", title=None, sort=order, axis=alt.Axis(labelLimit=200)),
        )
        colour = alt.Color("value:Q", title=None, scale=alt.Scale(scheme="viridis", domain=[0, 1], clamp=True))
        text = alt.condition("datum.value > 0.55", alt.value("black"), alt.value("white"))
        chart = base.mark_rect().encode(color=colour) + base.mark_text().encode(text="shown:N", color=text)
        title = alt.Title(panel.split(", ")[0], subtitle=panel.split(", ", 1)[1], anchor="start", limit=360)
        panels.append(chart.properties(width=alt.Step(58), height=alt.Step(34), title=title))
    title = alt.Title("How alike? 1 the same, 0 what chance gives", anchor="start", offset=12)
    return alt.concat(*panels, columns=3).properties(title=title).resolve_scale(x="independent", y="independent")


def gain_rows(results: Iterable[Result]) -> Rows:
    """Every fusion's gain over its best single member on every score."""
    found = [r for r in results if r.provenance["kind"] == "gain"]
    labels = _labels(found)
    return [
        {
            "fusion": labels[r.model], "score": f"{r.provenance['of_task']} {r.provenance['of_metric']}",
            "data": r.data, "variant": r.provenance["variant"], "value": r.value, "low": r.low, "high": r.high,
            "unit": r.unit, "n": r.n, "best_single": r.provenance["best_single"],
        }
        for r in found
    ]  # fmt: skip


def _gains(rows: Rows) -> Any:
    alt = altair()
    variants = _in_order(rows, "variant")
    panels = []
    for key in dict.fromkeys((row["score"], row["data"], row["unit"]) for row in rows):
        part = [row for row in rows if (row["score"], row["data"], row["unit"]) == key]
        base = alt.Chart(alt.Data(values=part)).encode(
            y=alt.Y("fusion:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)),
            yOffset=alt.YOffset("variant:N", sort=variants),
        )
        zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="#666666", strokeDash=[4, 3])
        title = alt.Title(key[0], subtitle=key[1], anchor="start", limit=360)
        step = alt.Step(12 * len(variants) + 8, **{"for": "position"})
        layers = zero.encode(x="zero:Q") + _dots(base, f"gain over the best single member, {key[2]}", variants, True)
        panels.append(layers.properties(width=280, height=step, title=title))
    title = alt.Title(
        "What fusions gain", subtitle="95 % intervals, paired over test images", anchor="start", offset=12
    )
    return alt.concat(*panels, columns=2).properties(title=title).resolve_scale(x="independent", y="independent")


def rank_rows(results: Iterable[Result]) -> Rows:
    """The mean rank of every model."""
    found = sorted((r for r in results if r.provenance["kind"] == "rank"), key=lambda r: r.value)
    labels = _labels(found)
    return [
        {
            "model": f"{labels[r.model]} (standardised)" if r.model.startswith(SCHEME) else labels[r.model],
            "variant": r.provenance["variant"], "value": r.value, "low": r.low, "high": r.high, "tasks": r.n,
        }
        for r in found
    ]  # fmt: skip


def _ranks(rows: Rows) -> Any:
    alt = altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("model:N", title=None, sort=None, axis=alt.Axis(labelLimit=320))
    )
    title = alt.Title("Who is the most consistent?", subtitle="95 % intervals over test images", anchor="start")
    words = f"mean rank over {rows[0]['tasks']} scores, 1 the best"
    layers = _dots(base, words, _in_order(rows, "variant"), False)
    return layers.properties(width=340, height=alt.Step(22), title=title)


def _dots(base: Any, words: str, variants: list[str], zero: bool) -> Any:
    """Values with their intervals; colour and shape both tell the variant."""
    alt = altair()
    base = base.encode(
        color=alt.Color("variant:N", sort=variants, title=None, legend=alt.Legend(orient="top", symbolOpacity=1))
    )
    shape = alt.Shape("variant:N", sort=variants, legend=None)  # beside the rules its legend would be a second one
    x = alt.X("value:Q", title=words, scale=alt.Scale(zero=zero))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, shape=shape)
    return base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q") + dots


def _in_order(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _labels(results: Sequence[Result]) -> Mapping[str, str]:
    """Short names of fusions: those of their members."""
    models = list(dict.fromkeys(r.model for r in results))
    single = labels_of(dict.fromkeys(part for m in models for part in members_of(m)))
    return {m: " + ".join(single[part] for part in members_of(m)) for m in models}


FIGURES: dict[str, tuple[Callable[[Sequence[Result]], Rows], Callable[[Rows], Any]]] = {
    "alike": (alike_rows, _alike),
    "gains": (gain_rows, _gains),
    "ranks": (rank_rows, _ranks),
}
