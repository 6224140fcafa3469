"""The forest plot of claims: every effect with its interval, turned so that the right side is the papers'."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from whytransfer.figures import PALETTE, altair
from whytransfer.report.look import LABEL_PX, PANEL_PX, STEP_PX, Point, beside, data, where_known
from whytransfer.report.numbers import interval_text, of_unit, plain
from whytransfer.report.task_charts import zero_line

LINE = 34  # letters of a line of labels
VERDICTS = {
    "holds": (PALETTE[0], "circle"),
    "undecided": ("#888888", "diamond"),
    "contradicted": (PALETTE[1], "square"),
}


def forest(claims: Sequence[Mapping[str, Any]]) -> Any | None:
    """A panel per unit, a row per effect of claims.json (claims.Answer.row()); None where no claim was run.

    Effects of sign "-" are turned; those of sign "0" (no difference that matters) stand as they are, their margin
    as a grey band.
    """
    by_unit: dict[str, list[Point]] = {}
    for claim in claims:
        for effect in claim["effects"]:
            points = by_unit.setdefault(effect["unit"], [])
            label, used = _lines(claim["id"], effect["name"]), {p["label"] for p in points}
            while label in used:  # cut to the same words: a row of its own all the same
                label += " "
            points.append({**_effect(claim, effect), "label": label})
    panels = [_panel(unit, points) for unit, points in by_unit.items()]
    return beside(panels, 2).resolve_scale(color="shared", shape="shared") if panels else None


def _effect(claim: Mapping[str, Any], effect: Mapping[str, Any]) -> Point:
    turn = -1 if effect["sign"] == "-" else 1
    low, high = effect["low"], effect["high"]
    ends = None if low is None else (low, high)
    turned = (None, None) if low is None else sorted((turn * low, turn * high))
    small = abs(effect["value"]) < 1
    margin = effect.get("margin") if effect["sign"] == "0" else None
    return {
        "item": claim["id"], "claim": f"{claim['id']} {effect['name']}",
        "finding": claim["finding"],
        "value": turn * effect["value"], "low": turned[0], "high": turned[1], "verdict": effect["verdict"],
        "shown": f"{plain(effect['value'], 3 if small else 2)}{of_unit(effect['unit'])}",
        "interval": interval_text(ends, 3 if small else 2) or "one seed: none", "sign": effect["sign"],
        "seeds": ", ".join(f"{seed}: {value:.4g}" for seed, value in effect["seeds"].items()),
        "paper": effect["paper"], "from": None if margin is None else -margin, "to": margin, "href": f"#{claim['id']}",
    }  # fmt: skip


def _lines(claim: str, effect: str) -> str:
    """The effect in two lines at most, which the axis breaks at "\\n"; what is longer is cut, and told on hovering."""
    return "\n".join(textwrap.wrap(f"{claim} {effect}", LINE, max_lines=2, placeholder=" \u2026"))


def _panel(unit: str, points: Sequence[Point]) -> Any:
    alt = altair()
    x_title = f"effect{of_unit(unit) and ',' + of_unit(unit)}"  # right of 0 as the paper says: told above the chart
    told = [
        alt.Tooltip(f"{field}:N", title=title)
        for field, title in (
            ("claim", "effect"), ("finding", "finding"), ("shown", "value"), ("sign", "sign expected"),
            ("interval", "95 % interval over seeds"), ("seeds", "by seed"), ("verdict", "verdict"), ("paper", "paper"),
        )
    ]  # fmt: skip
    broken = alt.Axis(labelLimit=LABEL_PX + 60, labelExpr="split(datum.label, '\\n')")
    y = alt.Y("label:N", sort=[p["label"] for p in points], title=None, axis=broken)
    base = alt.Chart(data(points)).encode(y=y, tooltip=told, href="href:N")
    order = list(VERDICTS)
    colour = alt.Color(
        "verdict:N", title="verdict", scale=alt.Scale(domain=order, range=[VERDICTS[v][0] for v in order])
    )
    shape = alt.Shape(
        "verdict:N", title="verdict", scale=alt.Scale(domain=order, range=[VERDICTS[v][1] for v in order])
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=x_title), x2="high:Q", color=colour)
    layers = [
        zero_line(),
        *where_known(bars, points),
        base.mark_point(filled=True, size=64, opacity=1).encode(
            x=alt.X("value:Q", title=x_title), color=colour, shape=shape
        ),
    ]
    if any(p["to"] is not None for p in points):
        bands = base.transform_filter("isValid(datum.to)")
        layers.insert(0, bands.mark_bar(opacity=0.25, size=STEP_PX - 6, color="#888888").encode(x="from:Q", x2="to:Q"))
    return alt.layer(*layers).properties(width=PANEL_PX + 30, height=alt.Step(STEP_PX + 10))
