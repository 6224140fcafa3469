"""What stands behind each number of the page: its values by seed, the run, the command, what decided it.

Plain values, as small as they can be: a study has thousands of numbers, which share their cells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from whytransfer.report.numbers import Number, Row, digits, interval_text, of_unit, plain, words

LONGEST = 160  # characters of a fact; what is longer is in the cell's results.jsonl
APART = ("command", "versions", "predictions")  # said elsewhere, or of this machine alone


def evidence(
    numbers: Iterable[Number], folder: Path, page: Path, made_by: Callable[[Row], str]
) -> dict[str, Any]:  # fmt: skip
    """{"cells": [...], "facts": [...], "numbers": [...]}; links are relative to where the page lies.

    `made_by` gives the command that makes a row again, "" where there is none.

    A number is [backbone, item, metric, metric in words, what is said of it, [[seed, value, low, high, n, cell, facts],
    ...]], of which the last two are positions in "cells" and "facts".
    """
    cells, facts = _Once(), _Once()
    found = []
    for number in numbers:
        places = digits([number])
        by_seed = [
            [
                int(row["seed"]), *map(_short, (row["value"], row.get("low"), row.get("high"))), int(row["n"]),
                cells.place(_cell(row, folder, page, made_by)), facts.place(_facts(row)),
            ]
            for row in number.rows
        ]  # fmt: skip
        said = f"{plain(number.value, places)}{of_unit(number.unit)} {interval_text(number.ends, places)}".rstrip()
        found.append([
            number.name, number.item, number.metric, words(number.metric), f"{said}{_over(number)}", by_seed,
        ])  # fmt: skip
    return {"cells": cells.values, "facts": facts.values, "numbers": found}


class _Once:
    """Equal values are kept once; `place` tells where."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def _short(value: float | None) -> float | None:
    """Seven digits, which is more than any of these numbers has; thousands of them are in the page."""
    return None if value is None else float(f"{value:.7g}")


def _over(number: Number) -> str:
    if number.over == "seeds":
        return f": mean of {len(number.rows)} seeds, 95 % interval over seeds (Student's t)"
    if number.over == "test images":
        return ": one seed, 95 % interval over its test images"
    return ": one seed, no interval"


def _cell(row: Row, folder: Path, page: Path, made_by: Callable[[Row], str]) -> dict[str, Any]:
    origin = row.get("provenance") or {}
    there = folder / str(row["folder"])
    versions = origin.get("versions") or {}
    return {
        "name": str(row["cell"]),
        "link": quote(Path(os.path.relpath(there, page.parent)).as_posix()) + "/",
        "study": str(origin.get("command", "")),
        "command": made_by(row),
        "model": str(row["model"]),
        "data": str(row["data"]),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _facts(row: Row) -> list[list[str]]:
    """[name, value] of what decided the value, by name; lists of single values stay in the results file."""
    origin: Mapping[str, Any] = row.get("provenance") or {}
    found = []
    for name in sorted(origin):
        value = origin[name]
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
        if name not in APART and value not in (None, {}, []) and len(text) <= LONGEST:
            found.append([name.replace("_", " "), text])
    return found
