"""SQL over the rows of a study, by DuckDB: `results` is a table with one row per number."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.files import atomic_write

COLUMNS = {
    "study": "VARCHAR", "cell": "VARCHAR", "key": "VARCHAR", "stage": "VARCHAR", "item": "VARCHAR",
    "backbone": "VARCHAR", "seed": "BIGINT", "metric": "VARCHAR", "value": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE",
    "unit": "VARCHAR", "direction": "VARCHAR", "n": "BIGINT", "data": "VARCHAR", "task": "VARCHAR", "model": "VARCHAR",
    "provenance": "JSON", "folder": "VARCHAR",
}  # fmt: skip


def query(rows: Sequence[Mapping[str, Any]], sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query on `results`; InputError with DuckDB's words for one that cannot be answered.

    query(rows, "SELECT backbone, avg(value) FROM results WHERE metric = 'top1' GROUP BY backbone")
    The database is in memory: nothing that a query says changes the study, and it sees no file.
    """
    import duckdb

    columns = "{" + ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items()) + "}"
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as base:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(json.dumps(_plain({c: row[c] for c in COLUMNS})) + "\n" for row in rows))
        place = str(path).replace("'", "''")
        base.execute(
            f"CREATE TABLE results AS SELECT * FROM read_json('{place}', format='newline_delimited', "
            f"maximum_object_size=268435456, columns={columns})"
        )
        base.execute("SET enable_external_access = false")
        try:
            found = base.execute(sql)
            if found is None:
                raise InputError("the query is empty. Columns of results: " + ", ".join(COLUMNS))
            return [column[0] for column in found.description or []], found.fetchall()
        except duckdb.Error as error:
            raise InputError(
                f"the query cannot be answered: {str(error).strip()}\nColumns of results: {', '.join(COLUMNS)}."
            ) from None


def _plain(value: Any) -> Any:
    """The same with null for NaN and infinities, which JSON does not have and a provenance may."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table as CSV, floats with all their digits, written aside and renamed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))
