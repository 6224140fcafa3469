"""`whytransfer results`: the table of a study, as means over seeds, by SQL, or as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from whytransfer.commands.common import Settings, print_json, print_table
from whytransfer.errors import InputError


class ResultsSettings(Settings):
    """The numbers of a study. Without SQL: means over seeds with 95 % intervals (Student's t; seeds are the unit).

    With SQL: any query on the table `results`, which has one row per number: study, cell, key, stage, item, backbone,
    seed, metric, value, low, high (over test images), unit, direction, n, data, task, model, provenance (JSON), folder.

    Examples:
      whytransfer results studies/trade-off
      whytransfer results studies/trade-off "SELECT backbone, avg(value) FROM results WHERE metric = 'top1' GROUP BY 1"
      whytransfer results studies/trade-off "SELECT cell, provenance->>'command' FROM results" --json
      whytransfer results studies/trade-off --csv all.csv          (every row, with all its columns)
    """

    folder: tyro.conf.Positional[Path]
    """Folder of a study."""
    sql: tyro.conf.Positional[str | None] = None
    """A query on `results`."""
    study: str | None = None
    """Only this study of the folder."""
    csv: Path | None = None
    """Write the answer as CSV: of the query, or all rows."""


def results(folder: Path | str, sql: str | None = None, **settings: Any) -> list[dict[str, Any]]:
    """Rows of a study, or of a query on them; keywords are the fields of ResultsSettings.

    `results("study", "SELECT item, max(value) AS best FROM results GROUP BY item")[0]["best"]`
    """
    columns, rows = ResultsSettings.called(run, {"folder": folder, "sql": sql, **settings})
    return [dict(zip(columns, row, strict=True)) for row in rows]


def run(s: ResultsSettings) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of the answer; InputError where nothing is finished."""
    from whytransfer.study.query import query, write_csv

    columns, rows = query(finished_rows(s.folder, s.study), s.sql or "SELECT * FROM results")
    if s.csv is not None:
        write_csv(s.csv, columns, rows)
    return columns, rows


def finished_rows(folder: Path, study: str | None = None) -> list[dict[str, Any]]:
    """The rows of a study's folder; InputError, which says how far it is, where no cell is finished."""
    from whytransfer.study.store import finished, rows

    found = rows(folder, study)
    if not found:
        cells = list(finished(folder))
        done = sum(is_done for _, _, is_done in cells)
        said = f"none of {len(cells)} cells is finished" if not done else f"{done} cells are finished, and have no rows"
        raise InputError(f"{folder} has no results yet: {said}. Repeat its `whytransfer study` to go on.")
    return found


def show(s: ResultsSettings) -> None:
    """Print a table, or JSON lines."""
    columns, rows = run(s)
    if s.as_json:
        print_json(_jsonable(zip(columns, row, strict=True)) for row in rows)
    elif s.csv is not None:
        print(f"{len(rows):,} rows in {s.csv}")
    elif s.sql:
        print_table(f"{s.folder}: {len(rows):,} rows", columns, [[_cell(value) for value in row] for row in rows])
    else:
        print_table(*table_of([dict(zip(columns, row, strict=True)) for row in rows]))


def _jsonable(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value if isinstance(value, str | int | float | bool | None) else str(value) for name, value in pairs}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows of the means over seeds; from one seed the interval over test images, which is said."""
    from whytransfer.study.statistics import mean_interval

    groups: dict[tuple[str, ...], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if row["stage"] != "pretrain":
            where = tuple(str(row[column]) for column in ("study", "item", "data", "metric", "backbone"))
            groups.setdefault(where, {})[row["seed"]] = row
    studies = len({where[0] for where in groups}) > 1
    found = []
    for where, by_seed in groups.items():
        mean = mean_interval(row["value"] for row in by_seed.values())
        first = next(iter(by_seed.values()))
        ends = (mean.low, mean.high) if mean.known else (first["low"], first["high"])
        low, high = (math.nan if end is None else end for end in ends)
        interval = "" if math.isnan(low) else f"[{low:.2f}, {high:.2f}]" + ("" if mean.known else " of images")
        shown = [*where] if studies else [*where[1:]]
        found.append([*shown, f"{mean.value:.2f} {first['unit']}".rstrip(), interval, str(len(by_seed))])
    columns = [*(["study"] if studies else []), "item", "data", "metric", "backbone", "mean", "95 % interval", "seeds"]
    title = "means over seeds; 95 % intervals over seeds (Student's t), over test images where there is one seed"
    return title, columns, found
