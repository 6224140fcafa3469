"""What the cells that are left will take: time by finished cells alike or a short calibration, and disk.

A stage says of each cell its kind and its units of work (a pretraining of ResNet-18 at 48 px: images that it sees).
Cells of a kind take equal time per unit on the same machine. The time is that of finished cells where there are any,
else what a calibration measured, which is kept in OUT/calibration.json; else it is not known, and said so.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.parsing import json_of
from whytransfer.progress import bar
from whytransfer.study.cells import Stage
from whytransfer.study.status import Entry
from whytransfer.study.store import StudyFolder


class Costs:
    """Seconds per unit of each kind of cell on one machine."""

    def __init__(self, store: StudyFolder, machine: str, sizes: Mapping[str, int]) -> None:
        self.store, self.machine, self.sizes = store, machine, sizes
        self._measured = _of_finished(store, machine)
        self._calibrated: dict[str, float] = self._kept().get(machine, {})

    @property
    def _path(self) -> Path:
        return self.store.path / "calibration.json"

    def _kept(self) -> dict[str, dict[str, float]]:
        """What was calibrated here before, {machine: {kind: seconds per unit}}; {} where the file is damaged: it is
        measured again."""
        try:
            kept = json_of(self._path.read_bytes())
            return {str(m): {str(k): float(v) for k, v in rates.items()} for m, rates in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def effort(self, entry: Entry, stage: Stage) -> tuple[str, float] | None:
        """(kind, units) of a cell, None where its stage does not say."""
        return None if stage.effort is None else stage.effort(entry.cell, self.sizes)

    def seconds(self, entry: Entry, stage: Stage) -> float | None:
        """What a cell will take, None where nothing is known of its kind."""
        effort = self.effort(entry, stage)
        if effort is None:
            return None
        rate = self._measured.get(effort[0], self._calibrated.get(effort[0]))
        return None if rate is None else rate * effort[1]

    def calibrate(self, entries: Sequence[Entry], stages: Mapping[str, Stage]) -> None:
        """Measure a few steps of each kind of which nothing is known yet, and keep what was found.

        A kind that cannot be measured stays unknown: its cells will say what is wrong with them.
        """
        todo: dict[str, Entry] = {}
        for entry in entries:
            stage = stages[entry.cell.stage]
            effort = self.effort(entry, stage)
            known = effort is None or effort[0] in {**self._measured, **self._calibrated}
            if effort is not None and not known and stage.calibrate is not None and entry.state != "finished":
                todo.setdefault(effort[0], entry)
        with bar("calibrating", len(todo)) as update:
            for done, (kind, entry) in enumerate(todo.items()):
                update(done, kind)
                calibrate = stages[entry.cell.stage].calibrate
                assert calibrate is not None
                with contextlib.suppress(InputError, RuntimeError):
                    found = calibrate(entry.cell)
                    self._calibrated |= {} if found is None else {kind: found}
        if todo and self.store.path.is_dir():  # not for a plan of a folder that is not made
            self.store.write_shared(self._path, {**self._kept(), self.machine: self._calibrated})


def _of_finished(store: StudyFolder, machine: str) -> dict[str, float]:
    """The median of seconds per unit over the finished cells of each kind, made on this machine."""
    found: dict[str, list[float]] = {}
    folder = store.path / "cells"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        card = store.card(path.name)
        kind, units = card.get("effort") or ("", 0.0)
        if card.get("state") == "finished" and card.get("machine") == machine and units:
            found.setdefault(kind, []).append(card["seconds"] / units)
    return {kind: statistics.median(rates) for kind, rates in found.items()}


def disk(entries: Sequence[Entry], stages: Mapping[str, Stage]) -> int:
    """Bytes that the unfinished cells will leave, as far as their stages say."""
    asked: list[tuple[Any, Any]] = [(stages[e.cell.stage].bytes, e) for e in entries if e.state != "finished"]
    return sum(size(entry.cell.settings) for size, entry in asked if size is not None)
