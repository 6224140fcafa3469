"""From the rows of a study, and the verdicts of claims, to the page: what goes where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.progress import several
from whytransfer.report import slider
from whytransfer.report.answers import answers
from whytransfer.report.charts import specs
from whytransfer.report.evidence import evidence
from whytransfer.report.numbers import Number, Row, collect, names_of
from whytransfer.report.page import Drawn, Missing, Page, Section, states_text
from whytransfer.report.pretraining_charts import learning_points, pretrained
from whytransfer.report.tables import Table, overview, tables_of

# anchors and titles, in the order of the page; those of claims and tasks have parts of their own there
SECTIONS = {
    "labels": "How many labels it takes",
    "fusion": "Backbones side by side",
    "ladder": "Augmentation ladder",
    "sets": "Images of the pretraining",
    "invariance": "Invariance",
    "errors": "Errors of detections",
    "inversion": "Inversion",
    "masks": "Quality of regions",
    "more": "More diagnoses",
    "cost": "Cost",
}
OF_STAGE = {  # of any other stage: "more"
    "diagnose-complementarity": "fusion",
    "diagnose-invariance": "invariance",
    "diagnose-errors": "errors",
    "diagnose-inversion": "inversion",
    "masks-quality": "masks",
    "pretrain": "cost",
}
KINDS = {"transfer": "task", "masks-quality": "quality of regions"}


def build(
    rows: Sequence[Row], claims: Sequence[Mapping[str, Any]], folder: Path, page: Path, command: str,
    made_by: Callable[[Row], str], missing: Sequence[Missing] = (),
) -> Page:  # fmt: skip
    """The page of these rows of the study in `folder`, to be written as the file `page` by `command`.

    `made_by` gives the command that makes a row again; `missing` are the cells without a result. InputError without
    rows: nothing is finished yet.
    """
    if not rows:
        raise _nothing_finished(folder, missing)
    numbers = collect(rows)
    tables = tables_of(numbers)
    drawn = _drawn(rows, numbers, claims, folder)
    studies = list(dict.fromkeys(str(row["study"]) for row in rows))
    return Page(
        title=", ".join(studies),
        lead=_lead(rows, numbers),
        missing=missing,
        compared=compared(numbers),
        asked=asked(tables),
        answers=answers(tables),
        claims=claims,
        overview=overview(tables),
        task_tables=[table for table in tables if table.stage == "transfer"],
        sections=_sections(drawn, {"inversion": slider.drawn(rows, folder, names_of(numbers))}, tables),
        evidence=evidence(numbers, folder, page, made_by),
        method=METHOD,
        command=command,
        claim_charts=drawn.get("claims", ()),
        task_charts=drawn.get("tasks", ()),
    )


def _nothing_finished(folder: Path, missing: Sequence[Missing]) -> InputError:
    """With the first cell that failed, as people who ask for a report then ask why there is none."""
    failed = [m for m in missing if m.state == "failed"]
    cells = f" of {len(missing)} ({states_text(missing)})" if missing else ""
    why = f". {failed[0].cell}: {failed[0].message.splitlines()[0]}" if failed and failed[0].message else ""
    return InputError(
        f"{folder} has no finished cell{cells}, so there is nothing to report{why}. Run its study (again): whytransfer "
        f"study FILE.yaml --out {folder}"
    )


def _drawn(
    rows: Sequence[Row], numbers: Sequence[Number], claims: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, list[Drawn]]:
    """{section: its charts}"""
    found: dict[str, list[Drawn]] = {}
    for chart, spec in specs(numbers, list(learning_points(rows, folder)), claims):
        found.setdefault(chart.section, []).append(Drawn(f"chart-{chart.name}", chart.title, chart.reading, spec))
    return found


def _sections(
    drawn: Mapping[str, Sequence[Drawn]], pieces: Mapping[str, Sequence[str]], tables: Iterable[Table]
) -> list[Section]:
    by_anchor: dict[str, list[Table]] = {}
    for table in tables:
        if table.stage != "transfer":
            by_anchor.setdefault(OF_STAGE.get(table.stage, "more"), []).append(table)
    return [
        Section(anchor, title, drawn.get(anchor, ()), pieces.get(anchor, ()), by_anchor.get(anchor, ()))
        for anchor, title in SECTIONS.items()
        if anchor in drawn or anchor in by_anchor
    ]


def _lead(rows: Sequence[Row], numbers: Sequence[Number]) -> str:
    """ "6 backbones, 5 tasks and diagnoses, 3 seeds: 210 numbers from 90 runs" """
    backbones = {number.backbone for number in of_backbones(numbers)}
    items = {number.item for number in numbers} - {""}
    seeds, cells = ({row[name] for row in rows} for name in ("seed", "folder"))
    return (
        f"{several(len(backbones), 'backbone')}, {len(items)} tasks and diagnoses, {several(len(seeds), 'seed')}: "
        f"{len(numbers):,} numbers from {len(cells):,} runs. Every number opens its values by seed, its run and its "
        "command."
    )


def of_backbones(numbers: Sequence[Number]) -> list[Number]:
    """The numbers of the backbones that the study compares; a complementarity makes fusions of its own, which count
    where there is nothing else."""
    whole = [number for number in numbers if number.backbone_is_whole and not number.kind]
    asked = [number for number in whole if number.rows[0]["stage"] != "diagnose-complementarity"]
    return asked or whole


def compared(numbers: Sequence[Number]) -> list[dict[str, Any]]:
    """One row per backbone: its name, what it is, its seeds, how many numbers the report has of it."""
    made = pretrained(numbers)
    whole = of_backbones(numbers)
    specs = {str(n.rows[0]["model"]): n.backbone for n in whole}
    found = []
    for name in names_of(whole):
        own = [n for n in whole if n.backbone == name]
        seeds = sorted({seed for n in own for seed in n.seeds})
        what = _what(made[name]) if name in made else _spec(str(own[0].rows[0]["model"]), specs)
        found.append({"name": name, "what": what, "seeds": ", ".join(map(str, seeds)), "numbers": len(own)})
    return found


def _what(row: Row) -> str:
    """ "moco-v2-small, recipe default, on scenes:2000:0:48" """
    origin = row.get("provenance") or {}
    how = [str(origin["method"])] if "method" in origin else ["pretrained"]
    how += [f"views {origin['recipe']}"] if "recipe" in origin else []
    return ", ".join([*how, f"on {row['data']}"])


def _spec(model: str, names: Mapping[str, str]) -> str:
    """The string that named it; of a fusion, the study's names of its members."""
    members = [member.strip() for member in model.split("+")]
    return " + ".join(names.get(member, member) for member in members) if len(members) > 1 else model


def asked(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """One row per task and diagnosis: its name, kind, images, how many of them, its seeds."""
    by_item: dict[tuple[str, str, str], list[Number]] = {}
    for table in tables:
        own = by_item.setdefault((table.study, table.item, table.stage), [])
        own += [number for column in table.columns for number in column.cells.values()]
    found = []
    for (_, item, stage), numbers in by_item.items():
        counts = sorted({int(row["n"]) for number in numbers for row in number.rows})
        seeds = sorted({seed for number in numbers for seed in number.seeds})
        data = list(dict.fromkeys(number.data for number in numbers))
        if item:
            found.append({
                "name": item,
                "kind": KINDS.get(stage, stage.replace("-", " ", 1)) + _of_task(numbers),
                "data": ", ".join(data[:3]) + (f" and {len(data) - 3} more" if len(data) > 3 else ""),
                "n": f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}",
                "seeds": ", ".join(map(str, seeds)),
            })  # fmt: skip
    return found


def _of_task(numbers: Sequence[Number]) -> str:
    tasks = dict.fromkeys(str(number.rows[0]["task"]) for number in numbers if number.rows[0]["stage"] == "transfer")
    return f": {', '.join(tasks)}" if tasks else ""


METHOD = (
    "A number is the mean over seeds; the seed decides the pretraining, so it is the unit. Its bracket is the 95 % "
    "interval of Student's t over seeds. Of one seed it is the bootstrap interval over test images, which leaves out "
    "that another seed gives another backbone.",
    "Ranks are those that cannot be excluded: two backbones are told apart by a paired t test over shared seeds, "
    "corrected for all pairs of the column (Holm). With one seed they are told apart where their intervals over test "
    "images do not overlap. Overlapping ranks are ties.",
    "The mean rank is taken over tasks, at each seed, among backbones that were run on every task.",
    "Bold needs an interval: nothing is surely better, something is surely worse than it and than all means above it.",
    "A fusion is compared with the best of its members by the same test, which favours the member.",
    "Better or worse than random features is decided by paired t tests over seeds, corrected within a task (Holm).",
    "Verdicts of claims come from the 95 % interval of the effect over seeds. Undecided is not refuted: open a claim's "
    "effect to see which effects so few seeds could not have shown.",
)
