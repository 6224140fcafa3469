"""Charts of what was pretrained: the augmentation ladder, the image sets, and the learning curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.figures import altair
from whytransfer.parsing import json_of
from whytransfer.report.dots import axis, dots
from whytransfer.report.look import PANEL_PX, Point, beside, data, look, point, tooltip, where_known
from whytransfer.report.numbers import Number, names_of
from whytransfer.report.tables import main_column
from whytransfer.report.task_charts import transfers
from whytransfer.views.recipes import RECIPES

RUNGS = ("flip", "+ crop", "+ jitter", "+ grayscale", "+ blur")  # of the ladder  [Zhao 2021, table 1]
MOST_POINTS = 150  # of a learning curve
CURVES = {"knn": "kNN accuracy, %", "loss": "loss", "rank": "effective rank of the features"}


def pretrained(numbers: Iterable[Number]) -> dict[str, Mapping[str, Any]]:
    """{backbone: row of its pretraining}, whose provenance names method and recipe."""
    found: dict[str, Mapping[str, Any]] = {}
    for number in numbers:
        if number.rows[0]["stage"] == "pretrain":
            found.setdefault(number.backbone, number.rows[0])
    return found


def rung_of(recipe: str) -> int | None:
    """Which step of the ladder a recipe's views are, 0 to 4; None for those that are no step of it."""
    known = RECIPES.get(recipe)
    for rung in range(len(RUNGS)):
        for name in (f"ladder-{rung + 1}", f"ladder-{rung + 1}-supervised"):
            if known is not None and known.views == RECIPES[name].views:
                return rung
    return None


def ladder(numbers: Sequence[Number]) -> Any | None:
    """A panel per task: score by the operations of the views, a line per method; None without two steps."""
    places, by_task = _rungs(pretrained(numbers)), dict[str, tuple[str, list[Point]]]()
    methods = list(dict.fromkeys(method for method, _ in places.values()))
    for table in transfers(numbers):
        column = main_column(table)
        points = [
            point(n, method=places[b][0], rung=RUNGS[places[b][1]], step=places[b][1])
            for b, n in column.cells.items()
            if b in places
        ]
        if len({p["rung"] for p in points}) > 1:
            by_task[table.item] = axis(column.first), points
    seen = [p for _, points in by_task.values() for p in points]
    channels = look(methods, "color", "shape", points=seen, field="method")
    panels = [
        _steps(points, channels, y_title).properties(title=altair().Title(item))
        for item, (y_title, points) in by_task.items()
    ]
    return beside(panels).resolve_scale(color="shared", shape="shared") if panels else None


def _rungs(made: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """{backbone: (method, rung)}: of each method those on the images and of the length that has most rungs."""
    found: dict[str, dict[tuple[Any, ...], dict[int, str]]] = {}
    for backbone, row in made.items():
        origin = row["provenance"]
        rung = rung_of(str(origin.get("recipe", "")))
        if rung is not None:
            alike = found.setdefault(str(origin.get("method", "")), {}).setdefault(
                (row["data"], origin.get("epochs")), {}
            )
            alike.setdefault(rung, backbone)
    fullest = {method: max(alike.values(), key=len) for method, alike in found.items()}
    return {backbone: (method, rung) for method, rungs in fullest.items() for rung, backbone in rungs.items()}


def _steps(points: Sequence[Point], channels: Mapping[str, Any], y_title: str) -> Any:
    alt = altair()
    x = alt.X("rung:O", sort=list(RUNGS), title=None, axis=alt.Axis(labelAngle=-35))
    base = alt.Chart(data(points)).encode(x=x, color=channels["color"])
    y = alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False))
    told = tooltip(("backbone", "backbone"), ("method", "method"), ("rung", "views"))
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q")
    layers = (
        base.mark_line(strokeWidth=1.5).encode(y=y, order="step:Q"),
        *where_known(bars, points),
        base.mark_point(filled=True, size=56, opacity=1).encode(
            y=y, href="href:N", tooltip=told, shape=channels["shape"]
        ),
    )
    return alt.layer(*layers).properties(width=PANEL_PX + 20, height=PANEL_PX)


def image_sets(numbers: Sequence[Number]) -> Any | None:
    """A panel per task and method that was pretrained on several image sets."""
    made, panels = pretrained(numbers), list[tuple[str, Sequence[Number]]]()
    sets: dict[tuple[str, str], dict[str, list[str]]] = {}  # (method, recipe) -> {image set: backbones}
    for backbone, row in made.items():
        how = str(row["provenance"].get("method", "")), str(row["provenance"].get("recipe", ""))
        sets.setdefault(how, {}).setdefault(str(row["data"]), []).append(backbone)
    for table in transfers(numbers):
        cells = main_column(table).cells
        for (method, _), by_set in sets.items():
            own = [cells[b] for backbones in by_set.values() for b in backbones if b in cells]
            if len(by_set) > 1 and len(own) > 1:
                panels.append((f"{table.item}: {method}", own))
    return dots(panels, numbers)


def learning_points(rows: Iterable[Mapping[str, Any]], folder: Path) -> Iterator[Point]:
    """The epochs of every pretraining in a study's folder, at most 150 each: backbone, seed, epoch, loss, kNN, rank.

    InputError for a line that is no JSON; a cell without metrics.jsonl (not begun, or moved away) has no curve.
    """
    cells = {(r["folder"], r["backbone"], r["seed"]): r for r in rows if r["stage"] == "pretrain"}
    for where, backbone, seed in cells:
        path = next(iter(sorted((folder / where).rglob("metrics.jsonl"))), None)
        epochs = list(_lines(path)) if path is not None else []
        every = math.ceil(len(epochs) / MOST_POINTS) if epochs else 1
        for k, epoch in enumerate(epochs):
            if k % every == 0 or k == len(epochs) - 1:
                yield {"backbone": backbone, "seed": seed, **{c: epoch.get(c) for c in ("epoch", *CURVES)}}


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            yield json_of(line)
        except ValueError:
            raise InputError(
                f"line {number} of {path} is no JSON: the file is damaged. Remove that line, or run the cell again."
            ) from None


def learning_curves(points: Sequence[Point], numbers: Sequence[Number]) -> Any | None:
    """A panel each for kNN accuracy, loss and effective rank by epoch: a line per run, seeds in one colour."""
    alt, panels = altair(), []
    names = list(dict.fromkeys([*names_of(numbers), *(p["backbone"] for p in points)]))
    channels = look(names, "color", "strokeDash", points=points)
    for column, title in CURVES.items():
        seen = [
            {**{k: p[k] for k in ("backbone", "seed", "epoch")}, "value": p[column], "shown": f"{p[column]:.4g}"}
            for p in points
            if p[column] is not None
        ]
        if seen:
            told = [alt.Tooltip(f"{f}:N") for f in ("backbone", "seed", "epoch", "shown")]
            y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
            x = alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1))
            base = alt.Chart(data(seen)).encode(x=x, y=y, detail="seed:N", tooltip=told, **channels)
            panels.append(
                base.mark_line(strokeWidth=1.5, opacity=0.85).properties(width=PANEL_PX + 20, height=PANEL_PX)
            )
    return beside(panels).resolve_scale(color="shared", strokeDash="shared") if panels else None
