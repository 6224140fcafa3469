"""The folder of studies: cells by key, written once, and for each study which cell it calls what.

OUT/study.json          the format of this folder
OUT/studies/NAME.json   the cells of a study: name -> key; the study file
OUT/cells/KEY/          cell.json (what decided it, how it went), results.jsonl (its rows), log.txt,
                        files/ (what the stage left: a run folder, predictions, figures)
OUT/code/HASH.json      the digests of the modules behind a hash of code, to say which of them changed
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.files import atomic_write, locked, remove_asides, remove_asides_below, writable_folder
from whytransfer.parsing import json_of
from whytransfer.progress import say
from whytransfer.study.cells import Cell, filled

FORMAT = 1
GO_ON = "Free some space and run the same command again: what is finished is kept."


class StudyFolder:
    """Cells and studies on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path | str) -> StudyFolder:
        """The folder, made or opened; InputError where it cannot be written, holds something else or is newer."""
        folder = cls(writable_folder(path))
        if not (folder.path / "study.json").exists():
            held = [p.name for p in folder.path.iterdir() if not p.name.startswith(".") and p.name != "study.json"]
            if held:
                raise InputError(f"--out {path} is not empty and holds no study.json (but {held[0]}). Choose another.")
            folder.write_shared(folder.path / "study.json", {"format": FORMAT})
        folder._check()
        for part in ("cells", "studies", "code"):
            (folder.path / part).mkdir(exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path | str) -> StudyFolder:
        """A folder that is there; InputError for one that is none, or of a newer version."""
        folder = cls(Path(path))
        if not (folder.path / "study.json").is_file():
            what = "it has no study.json" if folder.path.exists() else "it does not exist"
            raise InputError(f"{path} is no folder of a study: {what}. `whytransfer study FILE.yaml --out` makes one.")
        folder._check()
        return folder

    def _check(self) -> None:
        path = self.path / "study.json"
        try:
            version = json_of(path.read_text())["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged or no study's ({type(error).__name__}: {error})") from None
        if version != FORMAT:
            raise InputError(
                f"{self.path} is of format {version!r}, this version reads {FORMAT}: it was made by a newer "
                "whytransfer. Update, or choose another folder. Nothing was changed."
            )

    def cell(self, key: str) -> Path:
        """The folder of a cell."""
        return self.path / "cells" / key

    def files(self, key: str) -> Path:
        """What the stage of a cell left: the run folder of a pretraining, the results folder of a task."""
        return self.cell(key) / "files"

    def card(self, key: str) -> dict[str, Any]:
        """cell.json; {} where there is none, {"state": "damaged"} where it cannot be read."""
        path = self.cell(key) / "cell.json"
        try:
            card = json_of(path.read_bytes())
            return card if isinstance(card, dict) and isinstance(card.get("state"), str) else {"state": "damaged"}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            return {"state": "damaged"}

    def begin(self, cell: Cell, key: str, decided: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
        """Note that a cell is being run; returns its card."""
        self.cell(key).mkdir(parents=True, exist_ok=True)
        remove_asides_below(self.cell(key))  # of whoever was killed here; the cell's lock is held
        before = self.card(key)
        card = {"format": FORMAT, "key": key, "name": cell.name, "stage": cell.stage, "seed": cell.seed}
        card |= {"settings": dict(cell.settings), "decided": decided, "place": str(self.path / "cells"), **about}
        card |= {"state": "started", "started": time.time(), "seconds": before.get("seconds", 0.0)}
        card["cpu_seconds"] = before.get("cpu_seconds", 0.0)
        write_json(self.cell(key) / "cell.json", card)
        return card

    def finish(self, card: Mapping[str, Any], results: Sequence[Any], seconds: float, cpu_seconds: float = 0.0) -> None:
        """Write the rows, then the card that makes them count."""
        content = "".join(result.to_json() + "\n" for result in results).encode()
        place = self.cell(card["key"])
        atomic_write(place / "results.jsonl", lambda file: file.write(content), GO_ON)
        done = {"rows": len(results), "sha256": hashlib.sha256(content).hexdigest()}
        self._ended(card, seconds, cpu_seconds, {"state": "finished", **done})

    def failed(
        self, card: Mapping[str, Any], message: str, seconds: float, state: str = "failed", cpu_seconds: float = 0.0
    ) -> None:
        """Note that a cell failed (or was stopped) and why; it will be run again."""
        self._ended(card, seconds, cpu_seconds, {"state": state, "message": message})

    def _ended(self, card: Mapping[str, Any], seconds: float, cpu_seconds: float, how: Mapping[str, Any]) -> None:
        """Times add up over attempts; the processor's are what a busy machine cannot change."""
        times = {"seconds": card["seconds"] + seconds, "cpu_seconds": card["cpu_seconds"] + cpu_seconds}
        ended = {**card, **times, "ended": time.time(), **how}
        write_json(self.cell(card["key"]) / "cell.json", ended)

    def damage(self, key: str) -> str | None:
        """What is wrong with the rows of a finished cell; None where they are as they were written."""
        card = self.card(key)
        if card.get("state") == "damaged":
            return f"{self.cell(key) / 'cell.json'} cannot be read"
        path = self.cell(key) / "results.jsonl"
        if not path.is_file():
            return f"{path} is missing"
        if hashlib.sha256(path.read_bytes()).hexdigest() != card.get("sha256"):
            return f"{path} is not as it was written"
        return None

    def set_aside(self, key: str) -> list[Path]:
        """Rename the damaged card and rows of a cell; its files stay, so that running it again may go on from them."""
        moved = []
        for name in ("results.jsonl", "cell.json"):
            path = self.cell(key) / name
            if path.exists():
                n = 1 + sum(1 for _ in self.cell(key).glob(f"{name}.damaged-*"))
                moved.append(path.rename(path.with_name(f"{name}.damaged-{n}")))
        return moved

    def studies(self) -> dict[str, dict[str, Any]]:
        """The studies in this folder by name, as `keep_study` wrote them; InputError for a damaged file."""
        found = {}
        for path in sorted((self.path / "studies").glob("*.json")):
            try:
                said = json_of(path.read_bytes())
                found[str(said["study"])] = said
                for name, entry in said["cells"].items():
                    if not _is_listed(entry):
                        raise ValueError(f"its cell {name} is {str(entry)[:60]!r}")
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path} is damaged ({type(error).__name__}: {error}). Delete it and run its study again: finished "
                    "cells are found by their keys."
                ) from None
        return found

    def keep_study(self, name: str, cells: Iterable[tuple[Cell, str]], about: Mapping[str, Any]) -> None:
        """Write which cells a study has now, in its order, which is that of its table. Cells that it had before and has
        no more are out of the table."""
        listed = {
            cell.name: {
                "key": key, "stage": cell.stage, "item": cell.item, "backbone": cell.backbone, "seed": cell.seed,
                "needs": list(cell.needs), "models": dict(cell.models),
            }
            for cell, key in cells
        }  # fmt: skip
        self.write_shared(self.path / "studies" / f"{name}.json", {"study": name, **about, "cells": listed})

    def keep_code(self, code: str, digests: Mapping[str, str]) -> None:
        """Remember what a hash of code stands for."""
        path = self.path / "code" / f"{code}.json"
        if not path.exists():
            self.write_shared(path, dict(digests))

    def write_shared(self, path: Path, content: Any) -> None:
        """Write what several processes may write, one at a time: so what a killed one left aside can be removed."""
        with locked(self.path / ".lock"):
            remove_asides(path.parent, (path.name,))
            write_json(path, content)

    def code(self, code: str) -> dict[str, str]:
        """The digests of modules behind a hash of code; {} where they are not known."""
        try:
            return dict(json_of((self.path / "code" / f"{code}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return {}

    def rows(self, study: str | None = None) -> list[dict[str, Any]]:
        """The table: one row per Result of every finished cell of the studies here (or of one). Damaged cells are said.

        Cells of earlier versions of a study file are not in it.
        """
        studies = self.studies()
        if study is not None and study not in studies:
            raise InputError(f"{self.path} has no study {study!r}; it has: {', '.join(studies) or 'none'}")
        found: list[dict[str, Any]] = []
        for name, said in studies.items():
            if study in (None, name):
                for cell, entry in said["cells"].items():
                    found += self._rows_of(name, cell, entry, said["cells"])
        return found

    def _rows_of(
        self, study: str, cell: str, entry: Mapping[str, Any], cells: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        card = self.card(entry["key"])
        if card.get("state") not in ("finished", "damaged"):
            return
        if said := self.damage(entry["key"]):
            say(f"note: {said}: the rows of {cell} are left out. Run the study again, which makes them anew.")
            return
        models = {
            filled(spec, lambda need: f"{card.get('place')}/{cells.get(need, entry)['key']}/files"): name
            for spec, name in entry["models"].items()
        }
        named = {"study": study, "cell": cell} | {k: entry[k] for k in ("key", "stage", "item", "seed")}
        named["folder"] = f"cells/{entry['key']}"
        path = self.cell(entry["key"]) / "results.jsonl"
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            row = result_of(line, f"line {number} of {path}")
            yield {**row, **named, "backbone": entry["backbone"] or study_name(row["model"], models)}


def _is_listed(entry: Any) -> bool:
    """Whether this is what `keep_study` says of a cell; its key is the name of a folder, never a path."""
    if not isinstance(entry, dict) or not isinstance(entry.get("models"), dict):
        return False
    texts = [*(entry.get(name) for name in ("key", "stage", "item", "backbone")), *entry["models"].values()]
    if not all(isinstance(text, str) for text in texts) or not isinstance(entry.get("seed"), int):
        return False
    return re.fullmatch(r"[\w-]+", entry["key"]) is not None


def result_of(line: bytes, where: str) -> dict[str, Any]:
    """A row of results.jsonl, as Result.to_json wrote it; InputError for anything else."""
    try:
        row = json_of(line)
        fine = type(row["value"]) in (int, float) and math.isfinite(row["value"])
        fine &= all(end is None or type(end) in (int, float) for end in (row["low"], row["high"]))
        fine &= all(isinstance(row[name], str) for name in ("model", "data", "task", "metric", "unit", "direction"))
        fine &= isinstance(row["provenance"], dict) and type(row["n"]) is int and type(row["seed"]) is int
    except (ValueError, KeyError, TypeError, OverflowError):
        fine = False
    if not fine:
        raise InputError(
            f"{where} is no result: the file is damaged or another program's. Delete it and run the study again, which "
            "makes it anew."
        )
    return row


def study_name(model: str, models: Mapping[str, str]) -> str:
    """What a Result's model is called in the study, also inside a longer text such as the difference of two."""
    if model in models:
        return models[model]
    for spec in sorted(models, key=len, reverse=True):
        model = model.replace(spec, models[spec])
    return model


def rows(folder: Path | str, study: str | None = None) -> list[dict[str, Any]]:
    """The rows of a study's folder, plain dictionaries: study, cell, key, stage, item, backbone, seed, metric, value,
    low, high, unit, direction, n, data, task, model, provenance, folder (below the study's, of the cell; what its stage
    left is in folder/files, and paths in the provenance are below that)."""
    return StudyFolder.open(folder).rows(study)


def finished(folder: Path | str) -> Iterator[tuple[str, str, bool]]:
    """(study, cell, whether it is finished) for every cell that the studies of a folder have."""
    store = StudyFolder.open(folder)
    for name, said in store.studies().items():
        for cell, entry in said["cells"].items():
            yield name, cell, store.card(entry["key"]).get("state") == "finished"


def write_json(path: Path, content: Any) -> None:
    """Indented JSON in the order given, written aside and renamed."""
    text = json.dumps(content, indent=1, default=str).encode() + b"\n"
    atomic_write(path, lambda file: file.write(text), GO_ON)
