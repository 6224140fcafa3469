"""`whytransfer report`: a study, and the claims that it tested, as one page; its tables for a README and a paper."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tyro

from whytransfer.commands.common import Settings, print_json
from whytransfer.errors import InputError


class ReportSettings(Settings):
    """Write a study as one HTML file that needs no network and no other file: mail it, archive it, print it.

    It says what was compared, answers in a paragraph per question, as far as the intervals carry, and shows claims with
    their verdicts, tables with intervals and ranks, and charts. Every number opens its values by seed, the folder
    of its run and a command that makes it again. Cells that failed or are not finished yet are listed, with why; report
    again when they are.

    Examples:
      whytransfer report studies/trade-off                               (writes studies/trade-off/report.html)
      whytransfer report claims-demo --out claims.html --markdown docs/results/claims --latex paper/tables
    """

    folder: tyro.conf.Positional[Path]
    """Folder of a study, or of claims."""
    out: Path | None = None
    """HTML file to write; FOLDER/report.html when not given. Beside the runs its links to them work."""
    study: str | None = None
    """Only this study of the folder."""
    markdown: Path | None = None
    """Also write report.md with answers, claims and tables into this folder."""
    latex: Path | None = None
    """Also write each table as NAME.tex into this folder, for \\input (package booktabs)."""


def write_report(folder: Path | str, **settings: Any) -> Path:
    """Write the report of a study; keywords are the fields of ReportSettings. Returns the HTML file.

    write_report("studies/trade-off", markdown="docs/trade-off")
    """
    return ReportSettings.called(run, {"folder": folder, **settings})[0]


def run(s: ReportSettings) -> list[Path]:
    """Read rows and claims, write the page and the tables; returns the paths, the page first."""
    from whytransfer import figures, progress
    from whytransfer.commands.claims import kept_answers
    from whytransfer.commands.results import finished_rows
    from whytransfer.files import writable_folder
    from whytransfer.report.build import build
    from whytransfer.report.page import LARGEST_MB, html
    from whytransfer.runs import command_line

    figures.altair()
    out = s.out or s.folder / "report.html"
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: give the name of a file, such as {out / 'report.html'}")
    rows = finished_rows(s.folder, s.study)
    claims = kept_answers(s.folder)
    for folder in (out.parent, s.markdown, s.latex):
        if folder is not None:
            writable_folder(folder)
    page = build(rows, claims, s.folder, out, command_line(), made_by(s.folder), missing(s.folder, s.study))
    paths = [_write(out, html(page))]
    if (size := paths[0].stat().st_size / 1e6) > LARGEST_MB:
        progress.say(f"note: {out} has {size:.1f} MB, more than the {LARGEST_MB} that mail takes; --study makes less")
    return [*paths, *_tables(s, page)]


def _tables(s: ReportSettings, page: Any) -> list[Path]:
    from whytransfer.report import latex, markdown

    paths = [_write(s.markdown / "report.md", markdown.report(page))] if s.markdown else []
    return paths + [_write(s.latex / f"{name}.tex", text) for name, text in latex.tables(page).items() if s.latex]


def _write(path: Path, text: str) -> Path:
    from whytransfer.files import atomic_write

    atomic_write(path, lambda file: file.write(text.encode()))
    return path


def missing(folder: Path, study: str | None = None) -> list[Any]:
    """The cells of a study (or of all in a folder) that have no result, and why."""
    from whytransfer.report.page import Missing
    from whytransfer.study.store import StudyFolder

    store = StudyFolder.open(folder)
    found = []
    for name, said in store.studies().items():
        for cell, entry in said["cells"].items() if study in (None, name) else ():
            card = store.card(entry["key"])
            if card.get("state") != "finished" or store.damage(entry["key"]):
                state = "damaged" if card.get("state") == "finished" else card.get("state", "not run")
                found.append(Missing(cell, state, str(card.get("message", ""))))
    return found


def made_by(folder: Path) -> Callable[[Mapping[str, Any]], str]:
    """What makes a row's cell again outside its study: `whytransfer transfer --backbone ...`, by the row."""
    from whytransfer.study.store import StudyFolder

    store = StudyFolder.open(folder)
    known: dict[str, str] = {}

    def command(row: Mapping[str, Any]) -> str:
        key = str(row["key"])
        if key not in known:
            known[key] = command_of(store, store.card(key))
        return known[key]

    return command


def command_of(store: Any, card: Mapping[str, Any]) -> str:
    """The command of a cell, without settings that are as they would be anyway; "" of a stage that is no command."""
    from whytransfer.study.cells import filled

    stage = str(card["decided"]["stage"])
    name = stage.replace("-", "_")
    try:
        module = importlib.import_module(f"whytransfer.commands.{name}")
    except ModuleNotFoundError:
        return ""
    kind = getattr(module, "".join(part.title() for part in name.split("_")) + "Settings")
    parts = ["whytransfer", *stage.split("-")]
    for setting, value in card["decided"]["settings"].items():
        field = kind.model_fields.get(setting)
        if field is not None and not _same(value, field.default):
            parts += _flag(setting, filled(value, lambda key: str(store.files(key))))
    return shlex.join([*parts, *(["--out", "again"] if "out" in kind.model_fields else [])])


def _same(value: Any, default: Any) -> bool:
    return value is None or value == default or (isinstance(value, list) and tuple(value) == default)


def _flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{flag[2:]}"]
    return [flag, *map(str, value if isinstance(value, list) else [value])]


def show(s: ReportSettings) -> None:
    """Write it and print where it is."""
    paths = run(s)
    if s.as_json:
        print_json([{"file": str(path)} for path in paths])
        return
    for path in paths:
        print(path)
    print(f"open it in a browser: {paths[0].resolve().as_uri()}")
