"""`whytransfer study`: a grid of pretrainings, tasks and diagnoses, run once each, into one table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from whytransfer.commands.common import Settings, print_json, print_table
from whytransfer.commands.study_plan import Plan, width_of
from whytransfer.errors import InputError, RunError

_BUDGET = re.compile(r"(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?")


class StudySettings(Settings):
    """Run a study: backbones (pretrainings or existing weights) x tasks x diagnoses x seeds, each cell once.

    The plan comes first: cells, what is there, what changed and why, time, disk. A finished cell is never run again;
    one whose settings, images, weights or code changed is. A cell that fails is reported and does not stop the others.
    Ctrl-C, a kill or a full disk lose nothing: the same command goes on, a pretraining from its last checkpoint.
    Several studies, and several processes, may share --out: equal cells are one.

    A study file (every name is yours; settings are those of `whytransfer pretrain`, `transfer`, `diagnose NAME`):
      study: trade-off
      seeds: [0, 1, 2]
      values: {train: "scenes:2000:0:48", test: "scenes:1500:1:48"}     # {train} below; {seed} is always known
      pretrain: {backbone: resnet18, size: 48, epochs: 5, batch: 64, images: "{train}"}
      transfer: {size: 48, train: "{train}", test: "{test}"}
      backbones:
        random: random:resnet18:{seed}                                  # weights that exist
        default: {method: moco-v2-small, recipe: default}               # a pretraining
        spatial: {method: moco-v2-small, recipe: spatial}
        fused: default + spatial                                        # a fusion of names of this file
      tasks:
        class: {task: readout}
        pose: {task: factors, backbones: [default, spatial]}
      diagnoses:
        invariance: {diagnose: invariance, images: "{test}"}

    Examples:
      whytransfer study trade-off.yaml --out studies/trade-off --dry-run
      whytransfer study trade-off.yaml --out studies/trade-off --only "class/*" --budget 2h
      whytransfer study trade-off.yaml --out studies/trade-off --workers 4
      whytransfer study trade-off.yaml --out /shared/trade-off --on ray

    Then: whytransfer results DIR, whytransfer report DIR.
    """

    file: tyro.conf.Positional[Path]
    """The study file (YAML)."""
    out: Path
    """Folder of cells, results and logs; may be that of other studies."""
    dry_run: bool = False
    """Print the plan and do nothing."""
    only: tuple[str, ...] = ()
    """Cells whose names match (class/*, */default/0, pretrain/*), and what these need."""
    budget: str | None = None
    """Start no cell that would end after this time: 2h, 90min, 1h30min. The same command goes on later."""
    on: str | None = None
    """ray, or ray:ADDRESS of a cluster whose machines share the disk of --out and of the images (extra `ray`)."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Cells at a time, each a process with its share of the cores, or a GPU; 1 works in this process, with its progress
    in sight. On Ray all of the cluster when not given."""
    values: tuple[str, ...] = ()
    """NAME=TEXT, instead of what the file has under `values`: --values data=/data"""
    calibrate: bool = True
    """Time a few steps of each kind of cell that was never run here, for the plan; without, its time is not known."""
    accept_code: bool = False
    """Take finished cells whose code has changed since as they are; the plan names what changed."""


@dataclass(frozen=True)
class Answer:
    """What a study came to: its rows, and the cells that failed or were left, with why."""

    study: str
    out: Path
    rows: list[dict[str, Any]]
    failed: dict[str, str]
    left: dict[str, str]
    finished: int

    def complain(self) -> None:
        """RunError naming each failed cell, its log and the first line of what went wrong."""
        if self.failed:
            lines = "\n".join(f"  {name}: {why}" for name, why in self.failed.items())
            raise RunError(
                f"{len(self.failed)} cells of {self.study} failed; the others are in {self.out}.\n{lines}\n"
                "The same command runs them again."
            )


def run_study(study: Mapping[str, Any] | Path | str, out: Path | str, **settings: Any) -> list[dict[str, Any]]:
    """Run a study given as a mapping or a file; keywords are the fields of StudySettings. Returns its rows.

    `run_study({"backbones": {"r": "random:resnet18"}, "tasks": {...}}, out="study")[0]["value"]`
    Raises RunError at the end where cells failed; what else was made is kept.
    """
    answer = answer_of(study, out, **settings)
    answer.complain()
    return answer.rows


def answer_of(study: Mapping[str, Any] | Path | str, out: Path | str, **settings: Any) -> Answer:
    """As `run_study`, without complaint about cells that failed."""
    mapping = study if isinstance(study, Mapping) else None
    file = Path("study") if mapping is not None else Path(str(study))
    return StudySettings.called(lambda s: run(s, mapping), {**settings, "file": file, "out": out})


def run(s: StudySettings, mapping: Mapping[str, Any] | None = None) -> Answer:
    """Wire the settings to objects: the plan, then (not with dry_run) the cells that are not there."""
    from whytransfer.progress import say
    from whytransfer.study.schedule import Ended, Schedule

    budget_s = seconds_of(s.budget) if s.budget else None
    plan = Plan(s, mapping)
    for line in plan.lines():
        say(line)
    ended = Ended()
    if not s.dry_run:
        plan.keep()
        _check_weights(plan.todo)
        executor = _executor(s) if plan.todo else None
        if executor is not None:
            try:
                ended = Schedule(plan.chosen, plan.job, executor, plan.seconds, budget_s).run()
            finally:
                executor.close()
    rows = plan.store.rows(plan.grid.name) if not s.dry_run else []
    failed = {o.name: f"{_first_line(o.message)} ({plan.log(o.name)})" for o in ended.failed}
    there = sum(o.how in ("finished", "there") for o in ended.outcomes.values())
    return Answer(plan.grid.name, s.out, rows, failed, ended.left, there + len(plan.chosen) - len(plan.todo))


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def seconds_of(budget: str) -> float:
    """5400.0 of "1h30min", "90m" or "1.5 h"; InputError for anything else."""
    match = _BUDGET.fullmatch(budget.strip())
    if not match or not any(match.groups()):
        raise InputError(f"--budget {budget}: give hours, minutes or seconds, such as 2h, 90min or 1h30min")
    h, m, sec = (float(part or 0) for part in match.groups())
    return 3600 * h + 60 * m + sec


def _executor(s: StudySettings) -> Any:
    from whytransfer.memory import usable_cores
    from whytransfer.study.executors import InProcess, Pool, places

    if s.on is not None:
        from whytransfer.study.ray_executor import OnRay

        return OnRay(ray_address(s.on), s.workers)
    if width_of(s) == 1:
        return InProcess()
    return Pool(places(s.workers, usable_cores(), _gpus()))


def ray_address(on: str) -> str | None:
    """The address of --on: None for "ray", that is a cluster of this machine; InputError for what is none."""
    if on == "ray":
        return None
    address = on if on.startswith("ray://") else on.removeprefix("ray:")
    if address == on and not (on.startswith("ray://") or re.fullmatch(r"[\w.-]+:\d+|auto", on)):
        raise InputError(f"--on {on}: cells can run here (leave it out), on ray, or on ray:ADDRESS")
    return address


def _gpus() -> tuple[str, ...]:
    import os

    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    return tuple(given.split(",")) if given else tuple(map(str, range(torch.cuda.device_count())))


def _check_weights(todo: Iterable[Any]) -> None:
    """Load every backbone that exists already, once, before any cell runs; InputError for one that cannot be."""
    from whytransfer.backbones.load import load_backbone

    specs = dict.fromkeys(spec for entry in todo for spec in entry.cell.specs.get("backbone", ()))
    for spec in specs:
        if "<" not in spec:
            load_backbone(spec)


def show(s: StudySettings) -> None:
    """Run and print the means of the study, or as JSON lines its rows (with --dry-run its cells)."""
    if s.dry_run:
        _show_plan(s)
        return
    from whytransfer.commands.results import table_of

    answer = run(s)
    if s.as_json:
        print_json(answer.rows)
    elif answer.rows:
        print_table(*table_of(answer.rows))
    _say_left(answer)
    answer.complain()


def _show_plan(s: StudySettings) -> None:
    plan = Plan(s, None)
    if s.as_json:
        print_json(
            {"cell": e.cell.name, "key": e.key, "state": e.state, "why": e.why, "seconds": plan.seconds(e)}
            for e in plan.chosen
        )
        return
    for line in plan.lines():
        print(line)


def _say_left(answer: Answer) -> None:
    from whytransfer.progress import say

    reasons: dict[str, list[str]] = {}
    for name, why in answer.left.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        say(f"{len(names)} cells were not run, {names[0]} first: {why}. The same command goes on.")
    say(f"{answer.finished} cells finished; read them with whytransfer results {answer.out}, or whytransfer report")
