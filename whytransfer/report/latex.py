"""Tables as LaTeX (booktabs), ready to be put into a paper with \\input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whytransfer.report.effects import effect_cells
from whytransfer.report.numbers import Number, of_unit, plain
from whytransfer.report.page import Page
from whytransfer.report.tables import Column, Overview, Table, rank_text

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$",
    "\N{DEGREE SIGN}": r"$^\circ$", "\N{SUPERSCRIPT TWO}": r"$^2$",
}  # fmt: skip
ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}


def escaped(text: object) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(SIGNS.get(sign, sign) for sign in " ".join(str(text).split()))


def cell(column: Column, backbone: str) -> str:
    """The value with its interval in small type below it, its rank as an exponent; bold as in the report."""
    number = column.cells.get(backbone)
    if number is None:
        return "--"
    value = _math(plain(number.value, column.places))
    value = rf"\textbf{{{value}}}" if column.bold(backbone) else value
    rank = rank_text(column.ranks.get(backbone))
    return f"{value}{_exponent(rank)}{_interval(number, column.places)}"


def _exponent(rank: str) -> str:
    return rf"\textsuperscript{{{escaped(rank)}}}" if rank else ""


def _interval(number: Number, places: int) -> str:
    if number.ends is None:
        return ""
    low, high = (_math(plain(end, places)) for end in number.ends)
    return rf" {{\scriptsize [{low}, {high}]}}"


def _math(number: str) -> str:
    """A minus sign that is one; commas of thousands without the space that LaTeX gives them in formulas."""
    return f"$-${number[1:]}" if number.startswith("-") else number


def heading(column: Column) -> str:
    unit = of_unit(column.first.unit).strip()
    return f"{escaped(column.title + (f', {unit}' if unit else ''))} {ARROWS[column.first.direction]}"


def table(t: Table) -> str:
    """One row per backbone, or per metric where there are many."""
    if t.is_wide:
        head = ["", *map(escaped, t.backbones)]
        rows = [[heading(c), *(cell(c, b) for b in t.backbones)] for c in t.columns]
    else:
        head = ["backbone", *map(heading, t.columns)]
        rows = [[escaped(b), *(cell(c, b) for c in t.columns)] for b in t.backbones]
    return tabular(head, rows, note(t.columns))


def overview_table(o: Overview) -> str:
    """Backbones by tasks, with the mean rank."""
    head = ["backbone", *(f"{escaped(item)}, {heading(c)}" for item, c in zip(o.items, o.columns, strict=True))]
    rows = []
    for row in o.rows:
        mean = row.mean_rank
        ends = rf" {{\scriptsize [{mean.low:.1f}, {mean.high:.1f}]}}" if mean is not None and mean.known else ""
        rows.append([
            escaped(row.backbone),
            *(cell(c, row.backbone) for c in o.columns),
            "--" if mean is None else f"{mean.value:.1f}{ends}",
        ])  # fmt: skip
    return tabular([*head, r"mean rank $\downarrow$"], rows, note(o.columns))


def claims_table(claims: Iterable[Mapping[str, Any]]) -> str:
    """A line per effect of a claim; the verdict of the claim on its first."""
    rows = []
    for claim in claims:
        whole = [claim["id"], claim["source"], claim["finding"], claim["verdict"]]
        for effect in claim["effects"]:
            rows.append([escaped(x) for x in (*whole, *effect_cells(effect))])
            whole = [""] * 4
        if not claim["effects"]:
            rows.append([escaped(x) for x in (*whole, claim["why"], "", "")])
    head = ["id", "from", "finding", "verdict", "effect", "ours", "paper"]
    return tabular(head, rows, "% ours: mean over seeds [95 % interval, Student's t]\n", "l" * len(head))


def tables(page: Page) -> dict[str, str]:
    """{name of a file: table} of all tables of a report."""
    found = {"tasks": overview_table(page.overview)} if page.overview is not None else {}
    found |= {"claims": claims_table(page.claims)} if page.claims else {}
    for t in (*page.task_tables, *(t for section in page.sections for t in section.tables)):
        name = re.sub(r"[^A-Za-z0-9-]+", "-", t.name or "pretraining").strip("-") or "table"
        while name in found:
            name += "-more"
        found[name] = table(t)
    return found


def note(columns: Sequence[Column]) -> str:
    """What brackets, exponents and bold mean, as a comment above the table."""
    seeds = sorted({len(number.rows) for column in columns for number in column.cells.values()})
    over = "Student's t over seeds" if seeds[-1] > 1 else "bootstrap over test images, one seed"
    said = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"% means over {said} seed(s); [95 % intervals: {over}]; exponent: ranks that cannot be excluded;\n"
        "% bold: nothing is surely better, something is surely worse than it and than all above it\n"
        "% Needs the package booktabs.\n"
    )


def tabular(head: Sequence[str], rows: Iterable[Sequence[str]], above: str, columns: str = "") -> str:
    """The tabular environment; the first column to the left, the others to the right unless `columns` says else."""
    body = "".join("  " + " & ".join(row) + r" \\" + "\n" for row in rows)
    columns = columns or "l" + "r" * (len(head) - 1)
    return (
        f"{above}\\begin{{tabular}}{{{columns}}}\n  \\toprule\n  {' & '.join(head)} \\\\\n  \\midrule\n{body}"
        "  \\bottomrule\n\\end{tabular}\n"
    )
