"""Stages that a study can run in milliseconds: they count their runs, wait, fail, or die, as their settings say."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.records import Result
from whytransfer.runs import command_line
from whytransfer.study.cells import Stage
from whytransfer.study.contents import Contents
from whytransfer.study.plan import grid_of
from whytransfer.study.running import Job
from whytransfer.study.schedule import Ended, Executor, Schedule
from whytransfer.study.status import Entry, survey
from whytransfer.study.store import StudyFolder
from whytransfer.study.study_file import read_study

DEFAULTS: dict[str, Any] = {"level": 1.0, "does": "", "size": 8, "seed": 0, "images": "a", "wait": 0.0, "threads": 1}


def check(settings: Mapping[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in (*DEFAULTS, "backbone", "control", "truth", "detections", "names"):
            raise unknown_name("setting", name, DEFAULTS)
    return {**DEFAULTS, **settings}


def run(settings: Mapping[str, Any], folder: Path) -> list[Result]:
    """One Result per backbone: the level of this cell and those written into what it needs."""
    counted(folder)
    time.sleep(settings["wait"])
    act(settings["does"], folder)
    (folder / "level.txt").write_text(str(settings["level"]))
    specs = settings.get("backbone") or settings.get("names") or [""]
    return [
        Result(
            model=spec or str(folder), data=settings["images"], task="fake", metric="level",
            value=settings["level"] + below(spec), unit="%", direction="higher", n=10, seed=settings["seed"], low=0.0,
            high=9.0, provenance={"ran": True, "command": command_line()},
        )
        for spec in specs
    ]  # fmt: skip


def below(spec: str) -> float:
    """The sum of the levels of the cells whose files a spec names."""
    files = [Path(part) / "level.txt" for part in spec.split("+") if part]
    return sum(float(file.read_text()) for file in files if file.exists())


def counted(folder: Path) -> None:
    with open(folder / "runs.txt", "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")


def act(what: str, folder: Path) -> None:
    """Fail in the way that a setting asks for; "once" only at the first attempt."""
    first = len((folder / "runs.txt").read_text().splitlines()) == 1
    what = what.removeprefix("once ") if first or not what.startswith("once ") else ""
    if what == "input":
        raise InputError("no images here\nlook elsewhere")
    if what == "run":
        raise RunError("the loss became nan")
    if what == "work":  # two tenths of a second of the processor's, half of it a child's
        burn = "import time\nwhile time.process_time() < 0.1: pass"
        subprocess.run([sys.executable, "-S", "-c", burn], check=True)
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
    if what == "bug":
        raise KeyError("a defect of ours")
    if what == "memory":  # more than any machine has: the system refuses it
        np.ones(1 << 55)
    if what == "full":
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RunError("the disk is full: x could not be written") from None
    if what == "wait":  # until the test says go, in the folder of the study
        until = time.monotonic() + 240
        while not (folder.parents[2] / ".go").exists() and time.monotonic() < until:
            time.sleep(0.05)
    if what == "stop":
        raise KeyboardInterrupt
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)


def stage(takes: Any, **more: Any) -> Stage:
    return Stage(run, check, takes, images=("images",), ignored=("threads",), **more)


STAGES = {
    "pretrain": stage("seed"),
    "transfer": stage("backbone"),
    "diagnose-all": stage("backbones", beside=("control",)),
    "diagnose-errors": stage("predictions"),
    "masks-quality": stage("nothing"),
}
STUDY: dict[str, Any] = {
    "study": "s",
    "seeds": [0, 1],
    "pretrain": {"size": 16},
    "transfer": {"images": "b"},
    "backbones": {"one": {"level": 10}, "two": {"level": 20}, "both": "one + two", "random": "random:x:{seed}"},
    "tasks": {"class": {"level": 1}, "pose": {"level": 2, "backbones": ["one", "two"], "seeds": [0]}},
    "diagnoses": {
        "all": {"diagnose": "all", "backbones": ["one", "both"]},
        "errors": {"diagnose": "errors", "of": "pose"},
        "masks": {"diagnose": "masks"},
    },
}


class FakeImages:
    """An image set that is only a name and a content."""

    content = {"a": "1", "b": "2"}

    def __init__(self, spec: str) -> None:
        if spec not in self.content:
            raise InputError(f"{spec} does not exist")
        self.spec = spec

    def __len__(self) -> int:
        return 7

    def fingerprint(self) -> str:
        return self.content[self.spec]


class Lab:
    """A folder in which studies of fake stages are run."""

    def __init__(self, path: Path, stages: Mapping[str, Stage] = STAGES) -> None:
        self.store, self.stages = StudyFolder.create(path), stages

    def entries(self, study: Mapping[str, Any], accept_code: bool = False) -> list[Entry]:
        grid = grid_of(read_study(study), self.stages)
        found = survey(grid, self.stages, self.store, Contents(FakeImages), accept_code)
        return found

    def job(self, entries: list[Entry]) -> Any:
        keys = {entry.cell.name: entry.key for entry in entries}

        def made(entry: Entry) -> Job:
            settings = entry.cell.as_run(lambda need: str(self.store.files(keys[need])))
            run_by = self.stages[entry.cell.stage].run
            return Job(str(self.store.path), entry.cell, entry.key, entry.decided, settings, run_by)

        return made

    def run(self, study: Mapping[str, Any], executor: Executor, **options: Any) -> Ended:
        entries = self.entries(study, options.pop("accept_code", False))
        self.store.keep_study(str(study["study"]), [(e.cell, e.key) for e in entries], {})
        try:
            return Schedule(entries, self.job(entries), executor, **options).run()
        finally:
            executor.close()

    def runs(self) -> dict[str, int]:
        """How often each cell was run, by the name it had."""
        found = {}
        for card in (self.store.card(path.name) for path in (self.store.path / "cells").iterdir()):
            lines = (self.store.files(card["key"]) / "runs.txt").read_text().splitlines()
            found[card["name"]] = found.get(card["name"], 0) + len(lines)
        return found
