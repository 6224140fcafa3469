"""The picture of an advice: what more labels bring, and what ignoring pose or colour brings on these pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.diagnosis.advice import WORDS
from whytransfer.diagnosis.invariance_figures import labels_of
from whytransfer.figures import altair, save, save_table, styles

SIDE_PX = 240
Rows = list[dict[str, Any]]


def draw(answer: Mapping[str, Any], folder: Path) -> list[Path]:
    """advice.svg, .pdf, .png and the tables behind them, of an answer (advice.json); returns the paths."""
    labels = labels_of(c["backbone"] for c in answer["candidates"])
    curve, needs = curve_rows(answer, labels), need_rows(answer, labels)
    folder.mkdir(parents=True, exist_ok=True)
    paths = save_table(curve, folder, "labels") + save_table(needs, folder, "invariance")
    return [*save(_picture(answer, curve, needs, list(labels.values())), folder, "advice"), *paths]


def curve_rows(answer: Mapping[str, Any], labels: Mapping[str, str]) -> Rows:
    """A row per candidate and share of the labels: % right with its interval."""
    return [
        {"backbone": labels[c["backbone"]], **{k: row[k] for k in ("percent", "pictures", "value", "low", "high")}}
        for c in answer["candidates"]
        for row in c["curve"]
    ]


def need_rows(answer: Mapping[str, Any], labels: Mapping[str, str]) -> Rows:
    """A row per candidate and group of changes: cosine (how much it ignores them), points lost, with the interval."""
    return [
        {
            "of": word, "backbone": labels[c["backbone"]], "ignores": c["ignores"][word],
            **{f"lost{end}": c["falls"][word][key] for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))},
        }
        for word, _ in WORDS.values()
        for c in answer["candidates"]
    ]  # fmt: skip


def _picture(answer: Mapping[str, Any], curve: Rows, needs: Rows, names: Sequence[str]) -> Any:
    alt = altair()
    channels = {
        channel: {"color": alt.Color, "shape": alt.Shape}[channel](
            "backbone:N", title=None, scale=scale, legend=alt.Legend(orient="top", columns=2, labelLimit=400)
        )
        for channel, scale in styles(names).items()
        if channel in ("color", "shape")
    }
    panels = [_labels(answer, curve, channels)] if len({row["percent"] for row in curve}) > 1 else []
    for word, how in WORDS.values():
        own = [row for row in needs if row["of"] == word]
        panels.append(_needed(answer["alone"][word]["over_largest_class"], own, word, how, channels))
    title = alt.Title(
        f"{answer['images']}: {answer['pictures']:,} pictures of {len(answer['classes'])} classes",
        subtitle="95 % intervals over pictures", anchor="start", offset=12,
    )  # fmt: skip
    joined = alt.concat(*panels, columns=3).resolve_scale(x="independent", y="independent", color="shared")
    return joined.resolve_scale(shape="shared").properties(title=title)


def _labels(answer: Mapping[str, Any], rows: Rows, channels: Mapping[str, Any]) -> Any:
    """The label-efficiency curve, above the line of always saying the largest class."""
    alt, axis = altair(), alt_axis(sorted({row["pictures"] for row in rows}))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("pictures:Q", title="labelled pictures", scale=alt.Scale(type="log", nice=False), axis=axis),
        color=channels["color"],
    )
    y = alt.Y("value:Q", title=f"% right ({answer['metric']})", scale=alt.Scale(zero=False))
    largest = alt.Chart(alt.Data(values=[{"value": answer["largest_class"]["value"]}]))
    layers = (
        largest.mark_rule(strokeDash=[4, 3], color="#666666").encode(y=y),
        base.mark_area(opacity=0.12).encode(y=alt.Y("low:Q", title=""), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y, shape=channels["shape"]),
    )
    title = alt.Title("Do more labels pay?", subtitle="dashed: always the largest class", anchor="start")
    return alt.layer(*layers).properties(width=SIDE_PX, height=SIDE_PX, title=title)


def alt_axis(pictures: Sequence[int]) -> Any:
    """Ticks at the numbers of pictures that were measured."""
    return altair().Axis(values=list(pictures), format=",d", labelOverlap="greedy")


def _needed(alone: Mapping[str, float], rows: Rows, word: str, how: str, channels: Mapping[str, Any]) -> Any:
    """What ignoring a group of changes brings when pictures are changed so, below what ignoring it can cost."""
    alt = altair()
    told = f"{word} alone tells {alone['value']:+.1f} points [{alone['low']:+.1f}, {alone['high']:+.1f}] of the labels"
    needed = f"ignoring {word} can cost" if alone["low"] > 0 else f"ignoring {word} costs little that shows"
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("ignores:Q", title=f"ignores {word} (cosine, 1: all of it)", scale=alt.Scale(zero=False, padding=12)),
        color=channels["color"],
    )
    y_title = f"points lost on pictures {how}"
    layers = (
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("lost_low:Q", title=y_title), y2="lost_high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            y=alt.Y("lost:Q", title=y_title), shape=channels["shape"]
        ),
    )
    title = alt.Title(f"{word.capitalize()}: needed and offered", subtitle=[told, needed], anchor="start")
    return alt.layer(*layers).properties(width=SIDE_PX, height=SIDE_PX, title=title)
