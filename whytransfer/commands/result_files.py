"""The file of results that commands share: what a Result is of, which one replaces another, where it came from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.parsing import json_of


class Counted:
    """Adds up the progress of train and test features, which each count from the start."""

    def __init__(self, update: Any) -> None:
        self.update, self.before = update, 0

    def __call__(self, done: int, total: int) -> None:
        self.update(self.before + done)
        if done == total:
            self.before += total


def signed(result: Any, content: Mapping[str, Any]) -> Any:
    """The result with `content`, the command and the versions that made it in its provenance."""
    from whytransfer.runs import command_line, versions

    made_by = {"command": command_line(), "versions": versions()}
    return dataclasses.replace(result, provenance={**result.provenance, **content, **made_by})


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a result is of. Names are not enough: another folder may be called alike, a run may be trained again."""
    content = ("train_fingerprint", "test_fingerprint", "size_px", "weights_sha256")
    named, origin = ("model", "data", "task", "seed"), row["provenance"]
    options = json.dumps(origin.get("options", {}), sort_keys=True)
    return *(row[name] for name in named), *(origin.get(name) for name in content), options


def kept_results(folder: Path) -> list[dict[str, Any]]:
    """The rows of results.jsonl in a folder; [] without one. InputError naming the line that is no result."""
    path = folder / "results.jsonl"
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            rows.append(json_of(line))
            hash(_key(rows[-1]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"line {number} of {path} is no result of this command: the file is damaged or another program's. "
                "Remove that line, or choose another --out."
            ) from None
    return rows


def keep(folder: Path, results: Sequence[Any]) -> None:
    """Replace the results of an equal key in results.jsonl, keep the others."""
    from whytransfer.files import atomic_write, locked

    new = [json.loads(r.to_json()) for r in results]
    replaced = {_key(row) for row in new}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".results.lock"):  # two commands may write here: each must see what the other has kept
        kept = [row for row in kept_results(folder) if _key(row) not in replaced]
        content = "".join(json.dumps(r, sort_keys=True) + "\n" for r in [*kept, *new]).encode()
        atomic_write(folder / "results.jsonl", lambda file: file.write(content))
