"""One HTML file that holds everything: numbers, charts, the libraries that draw them. It asks nothing of a network.

Whatever is printed is text: Jinja2 escapes it, data and libraries are compressed and written as base64, and the page's
own policy lets no script run but ours, so a name with markup in it stays a name.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

from whytransfer.report import slider
from whytransfer.report.answers import Answer
from whytransfer.report.effects import effect_cells
from whytransfer.report.numbers import Number, interval_text, of_unit, plain
from whytransfer.report.tables import Overview, Table, rank_text

LARGEST_MB = 8


@dataclass(frozen=True)
class Drawn:
    """A Vega-Lite specification with its data inside; rows with `backbone` and `item` follow the page's filter."""

    id: str
    title: str
    reading: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page: its charts, pieces of HTML (escaped by who made them), its tables."""

    anchor: str
    title: str
    charts: Sequence[Drawn] = ()
    pieces: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Missing:
    """A cell of the study without a result, and why: "failed", "stopped", "started", "not run"; what it said."""

    cell: str
    state: str
    message: str


@dataclass(frozen=True)
class Page:
    """All that the page shows, in its order."""

    title: str
    lead: str
    compared: Sequence[Mapping[str, Any]]  # name, what, seeds, numbers: one per backbone
    asked: Sequence[Mapping[str, Any]]  # name, kind, data, n, seeds: one per task or diagnosis
    answers: Sequence[Answer]
    claims: Sequence[Mapping[str, Any]]
    overview: Overview | None
    task_tables: Sequence[Table]
    sections: Sequence[Section]
    evidence: Mapping[str, Any]
    method: Sequence[str]
    command: str
    missing: Sequence[Missing] = ()
    claim_charts: Sequence[Drawn] = ()
    task_charts: Sequence[Drawn] = ()


def html(page: Page) -> str:
    """The file's content."""
    scripts = [_own("page.js"), slider.script()]
    charts = (*page.claim_charts, *page.task_charts, *(chart for section in page.sections for chart in section.charts))
    anchors = _contents(page)
    return _template().render(
        vars(page),
        contents=list(anchors.items()),
        anchors=set(anchors),
        backbones=[row["name"] for row in page.compared],
        items=[row["name"] for row in page.asked],
        ranked=page.overview is not None and any(row.mean_rank for row in page.overview.rows),
        version=metadata.version("whytransfer"),
        date=datetime.date.today().isoformat(),
        style=_own("page.css"),
        scripts=scripts,
        script_hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in (*scripts, libraries())),
        libraries=_packed(libraries()),
        data=_packed(plain_json({"evidence": page.evidence, "specs": {chart.id: chart.spec for chart in charts}})),
    )


def _contents(page: Page) -> dict[str, str]:
    """{anchor: title} of the parts that this page has."""
    found = {"compared": "What was compared", "answers": "The answers"}
    found |= {"claims": "Claims of the papers"} if page.claims else {}
    found |= {"tasks": "Tasks"} if page.overview else {}
    found |= {section.anchor: section.title for section in page.sections}
    return {**found, "method": "How these numbers were made"}


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals.update(
        address=address, plain=plain, interval_text=interval_text, of_unit=of_unit,
        rank_text=rank_text, effect_cells=effect_cells, states_text=states_text,
    )  # fmt: skip
    return environment.from_string(_own("page.html.jinja"))


def states_text(missing: Sequence[Missing]) -> str:
    """ "2 failed, 3 not run" """
    return ", ".join(f"{n} {state}" for state, n in Counter(m.state for m in missing).items())


def address(numbers: Iterable[Number | None]) -> str:
    """The fragment that opens what stands behind these numbers: "n3+n7"."""
    return "+".join(f"n{number.index}" for number in numbers if number is not None)


def plain_json(value: Any) -> str:
    """JSON on one line; null for what is not a number."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)


def _packed(text: str) -> str:
    """Compressed (zlib) and as base64, a third to a tenth of the size: letters, digits, "+", "/" and "=" alone, so
    nothing in it can end the element that it stands in. The page's script unpacks it."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


@functools.cache
def libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script of 0.9 MB (0.4 packed); what they load is up to a specification, and
    the page's policy allows them nothing."""
    from whytransfer.figures import altair

    altair()
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _own(name: str) -> str:
    return resources.files("whytransfer.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
