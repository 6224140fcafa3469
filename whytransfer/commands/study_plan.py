"""The plan of `whytransfer study`: its cells in a folder, how each stands and why, what the rest will take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError


class Plan:
    """The cells of a study in a folder: how each stands, and what the rest will take."""

    def __init__(self, s: Any, mapping: Mapping[str, Any] | None) -> None:
        import fnmatch

        from whytransfer.commands.study_stages import STAGES
        from whytransfer.study.contents import Contents
        from whytransfer.study.costs import Costs
        from whytransfer.study.plan import grid_of
        from whytransfer.study.status import survey, wanted
        from whytransfer.study.study_file import read_study

        self.s, self.stages = s, STAGES
        self.grid = grid_of(read_study(mapping if mapping is not None else s.file, values_of(s.values)), STAGES)
        self.store = _folder(s)
        contents = Contents()
        self.entries = survey(self.grid, STAGES, self.store, contents, s.accept_code)
        self.chosen = wanted(self.entries, s.only, fnmatch.fnmatchcase)
        if s.only and not self.chosen:
            some = ", ".join(entry.cell.name for entry in self.entries[:6])
            raise InputError(f"--only {' '.join(s.only)}: no cell is called so. Cells are {some}, ...")
        self.todo = [entry for entry in self.chosen if entry.state != "finished"]
        self.keys = {entry.cell.name: entry.key for entry in self.entries}
        self.machine = machine_of(s)
        self.costs = Costs(self.store, self.machine, contents.sizes)
        if self.todo and s.calibrate:
            self.costs.calibrate(self.todo, STAGES)

    def keep(self) -> None:
        """Write down which cells the study has now."""
        from whytransfer.progress import say
        from whytransfer.runs import command_line

        before = self.store.studies().get(self.grid.name, {"cells": {}})["cells"]
        if gone := [name for name in before if name not in self.keys]:
            say(f"note: {len(gone)} cells that {self.grid.name} had, {gone[0]} first, are no longer in its table")
        about = {"file": dataclasses.asdict(self.grid.file), "command": command_line()}
        self.store.keep_study(self.grid.name, [(entry.cell, entry.key) for entry in self.entries], about)

    def seconds(self, entry: Any) -> float | None:
        """What a cell will take."""
        return self.costs.seconds(entry, self.stages[entry.cell.stage])

    def log(self, name: str) -> Path:
        """The log of a cell."""
        return self.store.cell(self.keys[name]) / "log.txt"

    def job(self, entry: Any) -> Any:
        """What is sent to whoever runs a cell."""
        from whytransfer.study.running import Job

        stage = self.stages[entry.cell.stage]
        settings = entry.cell.as_run(lambda need: str(self.store.files(self.keys[need])))
        about = {"machine": self.machine, "effort": self.costs.effort(entry, stage)}
        return Job(str(self.store.path), entry.cell, entry.key, entry.decided, settings, stage.run, about)

    def lines(self) -> Iterator[str]:
        """The plan for people: totals, then what is to be run and why."""
        from whytransfer.progress import duration
        from whytransfer.study.costs import disk

        known = [self.seconds(entry) for entry in self.todo]
        there = len(self.chosen) - len(self.todo)
        yield f"study {self.grid.name}: {len(self.chosen)} cells, {there} finished, {len(self.todo)} to run"
        yield from grouped(self.chosen)
        if self.todo:
            sure = sum(x for x in known if x is not None)
            width = width_of(self.s)
            text = f"about {duration(sure / width)}" + (f" with {width} at a time" if width > 1 else "")
            unknown = sum(x is None for x in known)
            text += f", and {unknown} cells of kinds that were never timed here" if unknown else ""
            yield f"time: {text}"
            yield _disk_line(disk(self.todo, self.stages), self.store.path)


def grouped(entries: Iterable[Any]) -> Iterator[str]:
    """A line per task or diagnosis and per reason: which cells, and why they are run."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        key = entry.cell.name.split("/")[0], entry.state, entry.why
        groups.setdefault(key, []).append(entry.cell.name)
    words = {"new": "to run", "finished": "there", "changed": "to run again", "damaged": "to run again"}
    for (item, state, why), names in groups.items():
        some = names[0] if len(names) == 1 else f"{len(names)} cells"
        yield f"  {item}: {some}, {words.get(state, state)}" + (f" ({why})" if why else "")


def _disk_line(needed: int, place: Path) -> str:
    import shutil

    there = next(p for p in (place, *place.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    short = "; that is MORE THAN IS FREE" if needed > free else ""
    return f"disk: about {needed / 2**30:.2g} GiB of weights, {free / 2**30:.3g} GiB free{short}"


def _folder(s: Any) -> Any:
    """The folder of the study; with dry_run nothing is made."""
    from whytransfer.study.store import StudyFolder

    if not s.dry_run:
        return StudyFolder.create(s.out)
    there = s.out.exists() and (not s.out.is_dir() or any(s.out.iterdir()))
    return StudyFolder.open(s.out) if there else StudyFolder(s.out)


def values_of(given: Sequence[str]) -> dict[str, str]:
    """{"data": "/data"} of ["data=/data"]; InputError for one without "="."""
    for text in given:
        if "=" not in text:
            raise InputError(f"--values {text}: NAME=TEXT is expected, such as data=/data")
    return dict(text.split("=", 1) for text in given)  # type: ignore[misc]


def width_of(s: Any) -> int:
    """How many cells run at a time, as far as it is known here."""
    return s.workers or 1


def machine_of(s: Any) -> str:
    """What a cell's time depends on besides its kind: processor, threads that it may use, GPU."""
    import torch

    from whytransfer.memory import usable_cores
    from whytransfer.runs import versions

    threads = torch.get_num_threads() if width_of(s) == 1 else max(1, usable_cores() // width_of(s))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{versions()['processor']}, {threads} threads, {gpu}" + (", on Ray" if s.on else "")
