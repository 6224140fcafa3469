"""The pictures of the invariance diagnosis: curves, heat map, trade-off, real changes, transfer map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.diagnosis.grids import COLUMNS, GROUPS, NAMES, SWITCHED, Mode, Values, grid
from whytransfer.diagnosis.transfer_map import Correlation
from whytransfer.figures import altair, save, save_table, styles
from whytransfer.records import Result

UNRELATED = "0 = unrelated pictures, 1 = no change"


def abscissa(name: str, values: Values) -> tuple[NDArray[np.float64], str]:
    """One number per value of a transform to draw its curve over, and its name."""
    if name == "translation":
        return np.hypot(values[:, 0], values[:, 1]).round(1), "distance, px of 256"
    if name == "shear":
        return np.abs(values).max(1), "larger angle, degrees"
    if name == "resized_crop":
        return (100 * values[:, 2] * values[:, 3] / 256**2).round(1), "area, % of the picture"
    return values[:, 0], COLUMNS[name][0]


def draw(
    results: Sequence[Result], folder: Path, mode: Mode, most: int | None, correlations: Sequence[Correlation] = ()
) -> list[Path]:
    """Every figure that the results (of all stages) allow, and the tables behind them; returns the paths."""
    labels = labels_of(dict.fromkeys(r.model for r in results))
    synthetic = [r for r in results if "transform" in r.provenance or "group" in r.provenance]
    paths: list[Path] = []
    for stage in dict.fromkeys(r.provenance["stage"] for r in synthetic):
        own = [r for r in synthetic if r.provenance["stage"] == stage]
        end = "" if stage == "vector" else f"-{stage}"
        for measure in ("similarity", "distance"):
            part = [r for r in own if r.provenance["measure"] == measure]
            paths += _curves(part, labels, folder, f"curves-{measure}{end}", mode, most)
        similar = [r for r in own if r.provenance["measure"] == "similarity"]
        paths += _heat_map(similar, labels, folder, f"heat-map{end}")
        paths += _trade_off(similar, labels, folder, f"trade-off{end}")
    real = [r for r in results if r.provenance.get("measure") == "similarity" and "factor" in r.provenance]
    paths += _real(real, labels, folder)
    paths += _map(correlations, folder)
    return paths


def labels_of(models: Iterable[str]) -> dict[str, str]:
    """Short names of models: the last part of a path, where that leaves them different."""
    models = list(models)
    short = [Path(m).name if "/" in m else m for m in models]
    return dict(zip(models, short if len(set(short)) == len(short) else models, strict=True))


def _curve_rows(
    results: Sequence[Result], labels: Mapping[str, str], mode: Mode, most: int | None
) -> list[dict[str, Any]]:
    rows = []
    for r in (r for r in results if "curve" in r.provenance):
        name = r.provenance["transform"]
        values = grid(name, mode, most)
        x, what = abscissa(name, values)
        ends = (r.provenance.get(f"curve_{end}", [None] * len(x)) for end in ("low", "high"))
        for at, row, mean, low, high in zip(x, values, r.provenance["curve"], *ends, strict=True):
            rows.append({
                "model": labels[r.model], "transform": name, "stage": r.provenance["stage"], "x": float(at), "of": what,
                "value": mean, "low": low, "high": high, "parameters": " ".join(f"{v:g}" for v in row),
            })  # fmt: skip
    return rows


def _curves(
    results: Sequence[Result], labels: Mapping[str, str], folder: Path, name: str, mode: Mode, most: int | None
) -> list[Path]:
    """One panel per transform, a line with its interval per model; values with the same x are averaged."""
    rows = _curve_rows(results, labels, mode, most)
    if not rows:
        return []
    alt, measure = altair(), results[0].provenance["measure"]
    title = f"cosine ({UNRELATED})" if measure == "similarity" else "Mahalanobis distance (0 = no change)"
    panels = []
    for transform in (n for n in NAMES if n not in SWITCHED):
        part = [r for r in rows if r["transform"] == transform]
        if not part:
            continue
        base = alt.Chart(alt.Data(values=part)).encode(
            x=alt.X("x:Q", title=part[0]["of"], scale=alt.Scale(zero=False, nice=False)),
            **_look(alt, labels, "color"),
        )
        scale = (
            alt.Scale(domain=[min(0.0, *(r["low"] or 0 for r in rows)), 1])
            if measure == "similarity"
            else alt.Undefined
        )
        y = lambda field, scale=scale: alt.Y(f"mean({field}):Q", title=None, scale=scale)  # noqa: E731
        layers = [base.mark_line(strokeWidth=2).encode(y=y("value"), **_look(alt, labels, "strokeDash"))]
        if part[0]["low"] is not None:
            layers.insert(0, base.mark_area(opacity=0.2).encode(y=y("low"), y2="mean(high):Q"))
        panels.append(alt.layer(*layers).properties(width=170, height=120, title=transform.replace("_", " ")))
    paths = save_table(rows, folder, name)
    if panels:
        chart = alt.concat(*panels, columns=4).properties(title=alt.Title(title, anchor="start"))
        paths += save(chart.resolve_scale(color="shared", strokeDash="shared"), folder, name)
    return paths


def _look(alt: Any, labels: Mapping[str, str], *channels: str) -> dict[str, Any]:
    """Encodings that tell the backbones apart, in one legend."""
    legend = alt.Legend(orient="top", symbolOpacity=1, labelLimit=300, columns=6)
    kinds = {"color": alt.Color, "shape": alt.Shape, "strokeDash": alt.StrokeDash}
    scales = styles(list(labels.values()))
    return {c: kinds[c]("model:N", title="backbone", scale=scales[c], legend=legend) for c in channels}


def _row(r: Result, labels: Mapping[str, str], what: str) -> dict[str, Any]:
    return {"model": labels[r.model], "what": what, "value": r.value, "low": r.low, "high": r.high, "n": r.n}


def _heat_map(results: Sequence[Result], labels: Mapping[str, str], folder: Path, name: str) -> list[Path]:
    """Transforms and the means of their groups (rows) by models, colour and number the similarity."""
    order = [what for group, members in GROUPS.items() for what in (f"{group} (mean)", *members)]
    named = [
        (r, f"{r.provenance['group']} (mean)" if "group" in r.provenance else r.provenance["transform"])
        for r in results
    ]
    rows = [{**_row(r, labels, what), "shown": f"{r.value:.2f}"} for r, what in named]
    if not rows:
        return []
    alt = altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("model:N", title=None, sort=list(labels.values()), axis=alt.Axis(labelAngle=-40, labelLimit=200)),
        y=alt.Y("what:N", title=None, sort=[what for what in order if any(r["what"] == what for r in rows)]),
    )
    colour = alt.Color("value:Q", title="cosine", scale=alt.Scale(scheme="viridis", domain=[0, 1], clamp=True))
    text = alt.condition("datum.value > 0.55", alt.value("black"), alt.value("white"))
    chart = base.mark_rect().encode(color=colour) + base.mark_text().encode(text="shown:N", color=text)
    chart = chart.properties(
        width=alt.Step(52), height=alt.Step(20), title=alt.Title("Invariance", subtitle=UNRELATED, anchor="start")
    )
    return [*save_table(rows, folder, name), *save(chart, folder, name)]


def _trade_off(results: Sequence[Result], labels: Mapping[str, str], folder: Path, name: str) -> list[Path]:
    """Spatial against appearance invariance, one cross of intervals per model."""
    by: dict[str, dict[str, Result]] = {}
    for r in (r for r in results if "group" in r.provenance):
        by.setdefault(r.model, {})[r.provenance["group"]] = r
    rows = []
    for model, groups in by.items():
        if len(groups) == len(GROUPS):
            row: dict[str, Any] = {"model": labels[model]}
            for group, r in groups.items():
                row |= {group: r.value, f"{group}_low": r.low, f"{group}_high": r.high}
            rows.append(row)
    if not rows:
        return []
    alt = altair()
    scale = alt.Scale(zero=False, padding=24)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("spatial:Q", title="spatial invariance (cosine)", scale=scale),
        y=alt.Y("appearance:Q", title="appearance invariance (cosine)", scale=scale),
    )
    base = base.encode(**_look(alt, labels, "color"))
    layers = [base.mark_point(filled=True, size=90, opacity=1).encode(**_look(alt, labels, "shape"))]
    if rows[0]["spatial_low"] is not None:
        layers = [
            base.mark_rule().encode(x="spatial_low:Q", x2="spatial_high:Q"),
            base.mark_rule().encode(y="appearance_low:Q", y2="appearance_high:Q"),
            *layers,
        ]
    title = alt.Title("Trade-off", subtitle="95 % intervals over pictures", anchor="start")
    chart = alt.layer(*layers).properties(width=380, height=320, title=title)
    return [*save_table(rows, folder, name), *save(chart, folder, name)]


def _real(results: Sequence[Result], labels: Mapping[str, str], folder: Path) -> list[Path]:
    """A dot with its interval over groups for each set and model."""
    rows = [
        _row(r, labels, f"{r.data}: {r.provenance['factor']}") for r in results if r.provenance["stage"] == "vector"
    ]
    if not rows:
        return []
    alt = altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("model:N", title=None, sort=list(labels.values()), axis=alt.Axis(labelLimit=300)),
        color=alt.Color("model:N", sort=list(labels.values()), legend=None),
    )
    x = alt.X("value:Q", title="cosine of two views of one thing", scale=alt.Scale(zero=True))
    bars = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    chart = (bars + base.mark_point(filled=True, size=60, opacity=1).encode(x=x)).properties(
        width=320, height=alt.Step(22)
    )
    chart = chart.facet(row=alt.Row("what:N", title=None, header=alt.Header(labelAngle=0, labelAlign="left")))
    return [*save_table(rows, folder, "real"), *save(chart, folder, "real")]


def _map(correlations: Sequence[Correlation], folder: Path) -> list[Path]:
    """Rank correlation of each invariance (rows) with each score (columns); * where the interval excludes 0."""
    rows = [
        {
            "invariance": c.x, "score": c.y, "rho": c.rho, "low": c.low, "high": c.high, "models": len(c.models),
            "sign_holds": c.sign_holds, **{f"without {family}": rho for family, rho in c.without.items()},
            "shown": f"{c.rho:+.2f}{'*' if c.low is not None and c.high is not None and c.low * c.high > 0 else ''}",
        }
        for c in correlations
    ]  # fmt: skip
    if not rows:
        return []
    alt = altair()
    order = [x for group, members in GROUPS.items() for x in (group, *members)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("score:N", title=None, sort=None, axis=alt.Axis(labelAngle=-40, labelLimit=420)),
        y=alt.Y("invariance:N", title=None, sort=[x for x in order if any(r["invariance"] == x for r in rows)]),
    )
    scale = alt.Scale(domain=[-1, 0, 1], range=["#D55E00", "#f7f7f7", "#0072B2"])
    text = alt.condition("abs(datum.rho) > 0.6", alt.value("white"), alt.value("black"))
    chart = base.mark_rect().encode(color=alt.Color("rho:Q", title="rank correlation", scale=scale))
    chart = chart + base.mark_text().encode(text="shown:N", color=text)
    fewest, most = min(len(c.models) for c in correlations), max(len(c.models) for c in correlations)
    over = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    subtitle = f"over {over} backbones; * 95 % interval excludes 0"
    chart = chart.properties(
        width=alt.Step(52),
        height=alt.Step(20),
        title=alt.Title("Invariance and transfer", subtitle=subtitle, anchor="start"),
    )
    return [*save_table(rows, folder, "transfer-map"), *save(chart, folder, "transfer-map")]
