"""One cell, from its lock to its rows; wherever it runs, this is what runs it."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from whytransfer import progress
from whytransfer.errors import InputError, RunError, is_out_of_memory
from whytransfer.files import is_disk_full, locked
from whytransfer.study.cells import Cell
from whytransfer.study.store import StudyFolder


@dataclass(frozen=True)
class Job:
    """What a process needs to know to run a cell; it can be sent to another process."""

    store: str  # folder of the study
    cell: Cell
    key: str
    decided: Mapping[str, Any]
    settings: Mapping[str, Any]  # as run: backbones are specs
    run: Callable[[Mapping[str, Any], Path], Sequence[Any]]
    about: Mapping[str, Any] = field(default_factory=dict)  # for its card: machine, effort
    at: str = ""  # folder in which relative paths begin, for a process that starts elsewhere
    argv: tuple[str, ...] = ()  # of the process that asks, for another: the command in the provenance of results


@dataclass(frozen=True)
class Outcome:
    """How it went: "held" by another process, "there" already, ... and the message of a failure."""

    name: str
    how: Literal["finished", "there", "held", "failed", "stopped", "disk full"]
    seconds: float = 0.0
    message: str = ""


def run_cell(job: Job) -> Outcome:
    """Run a cell unless it is there or another process runs it. What fails is noted and told, never raised.

    Ctrl-C gives "stopped"; what the stage saved stays in its files, and the next run goes on from it.
    """
    if job.at:
        os.chdir(job.at)
    if job.argv:
        sys.argv = list(job.argv)
    store, name = StudyFolder(Path(job.store)), job.cell.name
    store.cell(job.key).mkdir(parents=True, exist_ok=True)
    with locked(store.cell(job.key) / ".lock", wait=False) as mine:
        if not mine:
            return Outcome(name, "held")
        if store.card(job.key).get("state") in ("finished", "damaged"):
            damage = store.damage(job.key)
            if damage is None:
                return Outcome(name, "there")
            moved = ", ".join(path.name for path in store.set_aside(job.key))
            progress.say(f"note: {damage}: set aside as {moved or 'nothing'}, and {name} is run again")
        began = time.monotonic()
        try:
            card = store.begin(job.cell, job.key, job.decided, job.about)
        except RunError as error:
            return Outcome(name, "disk full" if is_disk_full(error) else "failed", 0.0, str(error))
        return _attempt(job, store, card, began)


def _attempt(job: Job, store: StudyFolder, card: dict[str, Any], began: float) -> Outcome:
    name, log = job.cell.name, store.cell(job.key) / "log.txt"
    cpu_before = _cpu_seconds()

    def ended(how: Any, message: str = "", traced: str = "") -> Outcome:
        seconds = time.monotonic() - began
        try:
            _append(log, f"{how} after {progress.duration(seconds)}" + (f": {traced or message}" if message else ""))
            store.failed(card, message, seconds, how, _cpu_seconds() - cpu_before)
        except (RunError, OSError):  # of a full disk: the card says "started", which is run again as well
            pass
        return Outcome(name, how, seconds, message)

    try:
        store.files(job.key).mkdir(exist_ok=True)
        _append(log, f"{job.cell.stage} {name}, process {os.getpid()}")
        with progress.also_in(log):
            results = list(job.run(job.settings, store.files(job.key)))
        seconds = time.monotonic() - began
        store.finish(card, results, seconds, _cpu_seconds() - cpu_before)
        _append(log, f"finished after {progress.duration(seconds)}: {len(results)} rows")
    except KeyboardInterrupt:
        return ended("stopped", "stopped by Ctrl-C")
    except (InputError, RunError, OSError) as error:
        how = "disk full" if is_disk_full(error) else "failed"
        return ended(how, str(error), traceback.format_exc())
    except Exception as error:  # a defect of ours, or of memory: told with its traceback, and the others go on
        advice = _advice(error)
        return ended("failed", f"{type(error).__name__}: {error}{advice}", traceback.format_exc().rstrip() + advice)
    return Outcome(name, "finished", seconds)


def _advice(error: Exception) -> str:
    short = is_out_of_memory(error)
    return ". Memory was short: run fewer cells at a time (--workers), or make its batch smaller" if short else ""


def _cpu_seconds() -> float:
    """What all threads of this process and its children that have ended took of the processors."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _append(log: Path, line: str) -> None:
    with open(log, "a") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
