"""Tables and answers as Markdown, for a README, an issue or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whytransfer.report.answers import Answer
from whytransfer.report.effects import effect_cells
from whytransfer.report.numbers import interval_text, of_unit, plain
from whytransfer.report.page import Page, states_text
from whytransfer.report.tables import Column, Overview, Table, rank_text

ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


def escaped(text: object) -> str:
    """Text that Markdown shows as it is, in a cell of a table too."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", one_line)


def cell(column: Column, backbone: str) -> str:
    """ "**62.3** [60.1, 64.5] (1-2)"; bold only where something is surely worse; empty where it was not run."""
    number = column.cells.get(backbone)
    if number is None:
        return ""
    value = plain(number.value, column.places)
    value = f"**{value}**" if column.bold(backbone) else value
    rank = rank_text(column.ranks.get(backbone))
    return " ".join(filter(None, (value, interval_text(number.ends, column.places), f"({rank})" if rank else "")))


def heading(column: Column) -> str:
    """ "top-1, % (up)" """
    unit = of_unit(column.first.unit).strip()
    return f"{column.title}{', ' + unit if unit else ''} {ARROWS[column.first.direction]}"


def table(t: Table) -> str:
    """One row per backbone, or per metric where there are many."""
    if t.is_wide:
        head = ["", *map(escaped, t.backbones)]
        rows = [[escaped(heading(c)), *(cell(c, b) for b in t.backbones)] for c in t.columns]
    else:
        head = ["backbone", *(escaped(heading(c)) for c in t.columns)]
        rows = [[escaped(b), *(cell(c, b) for c in t.columns)] for b in t.backbones]
    return lines(head, rows)


def overview_table(o: Overview) -> str:
    """Backbones by tasks, with the mean rank."""
    titles = [escaped(f"{item}: {heading(c)}") for item, c in zip(o.items, o.columns, strict=True)]
    rows = []
    for row in o.rows:
        mean = row.mean_rank
        known = mean is not None and mean.known
        ends = interval_text((mean.low, mean.high), 1) if mean is not None and known else ""
        rank = f"{mean.value:.1f} {ends}".rstrip() if mean is not None else ""
        rows.append([escaped(row.backbone), *(cell(c, row.backbone) for c in o.columns), rank])
    return lines(["backbone", *titles, "mean rank"], rows)


def claims_table(claims: Iterable[Mapping[str, Any]]) -> str:
    """One row per effect of a claim, the verdict of the claim on its first."""
    rows = []
    for claim in claims:
        whole = [claim["id"], claim["source"], claim["finding"], claim["verdict"]]
        for effect in claim["effects"] or [None]:
            own = ["", claim.get("why", ""), ""] if effect is None else list(effect_cells(effect))
            rows.append([escaped(x) for x in (*whole, *own)])
            whole = [""] * 4
    head = ["id", "from", "finding", "verdict", "effect", "ours, 95 % over seeds", "paper"]
    return lines(head, rows, words=len(head))


def report(page: Page) -> str:
    """The whole report without its charts: answers, claims, tables, how they were made."""
    parts = [f"# {escaped(page.title)}", escaped(page.lead)]
    if page.missing:
        left_out = [
            f"* {escaped(m.cell)}: {escaped(' '.join(filter(None, (m.state, m.message))))}" for m in page.missing
        ]
        parts += [f"Without a result: {states_text(page.missing)}.", "\n".join(left_out)]
    parts += ["## The answers", answers_text(page.answers)]
    if page.claims:
        parts += ["## Claims of the papers", claims_table(page.claims)]
    if page.overview is not None:
        parts += ["## Tasks", overview_table(page.overview)]
    tables = [*page.task_tables, *(t for section in page.sections for t in section.tables)]
    for t in tables:
        parts += [f"### {escaped(t.name) or 'Pretraining'}", table(t)]
    return "\n\n".join([*parts, "## How these numbers were made", "\n".join(f"* {m}" for m in page.method)]) + "\n"


def answers_text(found: Iterable[Answer]) -> str:
    """A heading and a paragraph per question."""
    return "\n\n".join(f"### {a.question}\n\n{escaped(a.text)}" for a in found)


def lines(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A pipe table; all but the first columns, which hold words, are aligned to the right."""
    rule = [":--" if k < words else "--:" for k in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows)) + "\n"
