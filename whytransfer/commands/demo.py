"""`whytransfer demo`: a whole study in minutes, on generated scenes, with findings tested and a page to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json, print_table

CLAIMS = ("C16", "C18", "C19", "C20", "C21")  # the findings about views, invariances and what they are good for
BACKBONES = ("random", "supervised", "default", "spatial", "appearance", "fused")
SEEDS = 3
WORKERS = 2  # a third process would not fit into 4 GB
QUICK = {"scenes:800:": "scenes:150:", "scenes:60:": "scenes:30:"}

# what is there to be seen, at one seed: too small for a verdict. Items of scale demo, and the backbones they are for
PAIR = ["random", "supervised"]
ONCE: Mapping[str, Sequence[str]] = {
    "fewshot": [*PAIR, "appearance"], "detection": PAIR, "segmentation": PAIR, "errors": PAIR,
    "inversion": ["spatial", "appearance"],
}  # fmt: skip
# and what no finding asks for
DEPTH: Mapping[str, Any] = {
    "task": "depth", "train": "scenes:60:2:64", "test": "scenes:30:3:64", "size": 64, "budget": 0.0001, "fit_batch": 8,
    "backbones": PAIR,
}  # fmt: skip
FUSION: Mapping[str, Any] = {
    "diagnose": "complementarity", "task": ["factors"], "train": "scenes:300:1:48", "test": "scenes:150:2:48",
    "size": 40, "draws": 200, "figures": False, "backbones": ["default", "spatial", "appearance"],
}  # fmt: skip


class DemoSettings(Settings):
    """A study in minutes, no download: generated scenes, six backbones, all kinds of tasks and diagnoses, 5 findings.

    Five backbones see the same images and the same number of them; only the views differ, or labels are used, or
    nothing is learned (random); the sixth is three of them side by side. Spatial views (crop, flip) teach to ignore
    where things are, appearance views (colour, grey, blur) to ignore colour, and the tables show what each forgot.
    Three seeds of each, so that the findings of Ericsson 2022 on this get a verdict; detection, segmentation, depth,
    few-shot, inversion, fusion and masks are there in small, at one seed. A demonstration, not a benchmark.

    It is a study like any other: `whytransfer results`, `whytransfer report` and `whytransfer claims` read its folder,
    and the same command goes on where it was stopped.

    Examples:
      whytransfer demo
      whytransfer demo --quick          a minute or two, to see that everything runs; its numbers mean nothing
    """

    out: Path = Path("whytransfer-demo")
    """Folder of the runs, the results and report.html."""
    quick: bool = False
    """Few images, one epoch, one seed: checks the way, not the science."""
    seed: Annotated[int, Field(ge=0, lt=2**20)] = 0
    """The first of the three seeds."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Cells at a time, each a process with its share of the cores; 2 where there are as many, within 4 GB."""


@dataclass(frozen=True)
class Shown:
    """What the demo came to: the rows of its study, an Answer per claim, the page."""

    rows: list[dict[str, Any]]
    answers: list[Any]
    page: Path


def demo(**settings: Any) -> list[dict[str, Any]]:
    """Run the demo; keywords are the fields of DemoSettings. Returns the rows of its study, as run_study does."""
    return DemoSettings.called(run, settings).rows


def run(s: DemoSettings) -> Shown:
    """The study, the verdicts, the page; RunError at the end where a cell failed."""
    from whytransfer.claims import judge
    from whytransfer.commands.claims import chosen, keep_answers
    from whytransfer.commands.report import write_report
    from whytransfer.commands.study import answer_of
    from whytransfer.memory import usable_cores
    from whytransfer.study.scores import Scores

    workers = s.workers or min(WORKERS, usable_cores())
    study = answer_of(study_of(s), s.out, workers=workers, calibrate=not s.quick)  # which would take as long as it runs
    study.complain()
    scores = Scores(study.rows)
    answers = keep_answers(s.out, [judge(claim, scores, "demo") for claim in chosen(CLAIMS)])
    return Shown(study.rows, answers, write_report(s.out))


def study_of(s: DemoSettings) -> dict[str, Any]:
    """The study of the claims at scale demo: all six backbones in each item, and one seed of all other kinds."""
    from whytransfer.claims.models import models
    from whytransfer.claims.suite import joined, setup_of
    from whytransfer.commands.claims import chosen

    setup = setup_of("demo")
    whole, known = joined(claim.study("demo") for claim in chosen(CLAIMS)), models(setup)
    seeds = [s.seed] if s.quick else list(range(s.seed, s.seed + SEEDS))
    one, masks = {"seeds": seeds[:1]}, {**setup.diagnoses["masks"], "engine": setup.engines[setup.found]}
    study = {
        "study": "demo",
        "seeds": seeds,
        "pretrain": dict(setup.pretrain),
        "backbones": {name: _of_epochs(known[name], 1 if s.quick else setup.epochs) for name in BACKBONES},
        # the fusion's invariances would say what its parts' do
        "tasks": {name: {**item, "backbones": list(BACKBONES)} for name, item in whole["tasks"].items()}
        | {**_once(setup.tasks, one), "depth": {**DEPTH, **one}},
        "diagnoses": {name: {**item, "backbones": list(BACKBONES[:-1])} for name, item in whole["diagnoses"].items()}
        | {**_once(setup.diagnoses, one), "fusion": {**FUSION, **one}, "masks": {**masks, **one}},
    }
    return _with_images(study, QUICK) if s.quick else study


def _once(items: Mapping[str, Any], seeds: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a setup's items that are looked at once, for their backbones."""
    return {name: {**items[name], "backbones": list(of), **seeds} for name, of in ONCE.items() if name in items}


def _of_epochs(backbone: Any, epochs: int) -> Any:
    """The settings of a pretraining with another length; a backbone that exists as it is."""
    return {**backbone, "epochs": epochs} if isinstance(backbone, Mapping) else backbone


def _with_images(content: Any, sets: Mapping[str, str]) -> Any:
    """The same with other image sets in every text that names one."""
    if isinstance(content, Mapping):
        return {name: _with_images(value, sets) for name, value in content.items()}
    if isinstance(content, list):
        return [_with_images(value, sets) for value in content]
    if isinstance(content, str):
        for one, other in sets.items():
            content = content.replace(one, other)
    return content


COLUMNS = {  # of the table in the terminal: (item, metric)
    "class, % right": ("readout", "top1"), "landmarks, R2": ("points", "mean"), "pose, R2": ("factors", "pose"),
    "colour, R2": ("factors", "colour"), "ignores space": ("invariance", "spatial similarity"),
    "ignores colour": ("invariance", "appearance similarity"),
}  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of the answer: one per backbone, the mean over seeds and its 95 % interval in each column that it has."""
    from whytransfer.study.scores import Scores

    scores, has = Scores(rows), {(row["backbone"], row["item"]) for row in rows}
    return [
        [name, *(_cell(scores.interval(name, *c)) if (name, c[0]) in has else "" for c in COLUMNS.values())]
        for name in BACKBONES
    ]


def _cell(interval: Any) -> str:
    ends = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.known else ""
    return f"{interval.value:.2f}{ends}"


def show(s: DemoSettings) -> None:
    """Run and print the table, the verdicts and where the page is; or every row as JSON."""
    shown = run(s)
    if s.as_json:
        print_json(shown.rows)
        return
    seeds = "one seed" if s.quick else f"means over {SEEDS} seeds, 95 % interval"
    print_table(f"What frozen features know, and what they ignore ({seeds})", ["", *COLUMNS], table(shown.rows))
    for answer in shown.answers:
        print(f"{answer.claim.id} {answer.verdict}: {answer.claim.finding} ({answer.claim.source})")
    if s.quick:
        print("--quick is over before anything is learned: it shows that the way works, its numbers mean nothing.")
    print(f"every effect, table and chart: {shown.page.resolve().as_uri()}")
    print(f"next: whytransfer results {s.out} | whytransfer show views | whytransfer study --help")
