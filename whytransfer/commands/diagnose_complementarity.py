"""`whytransfer diagnose complementarity`: do backbones know different things, and does fusing them pay?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from whytransfer.commands.common import (
    Backbones,
    Settings,
    interval_text,
    one_is_enough,
    print_json,
    print_table,
)
from whytransfer.errors import InputError

Several = Annotated[tuple[str, ...], BeforeValidator(one_is_enough), Field(min_length=1)]
OF_TASKS = ("mode", "schedule", "budget", "fit_batch", "architecture")


class DiagnoseComplementaritySettings(Settings):
    """Do backbones know different things? What each fusion gains over its best member, and why it could.

    For every pair: linear CKA of their features (1 the same up to rotation and scale; the unbiased estimate), and
    whether they fail on the same test images (kappa 0 is chance, 1 the same images). For every fusion A+B, A+C, ...,
    A+B+C: its gain over its best single member, both scored on the same draws of the test images. The best member is
    chosen by a fifth of the training images that a fit of its own has not seen, so the test images have no part in it.
    Over all tasks: each model's mean rank, 1 the best.

    A fusion sets the features side by side, as published. --standardised adds every fusion once more with its members
    scaled to equal variance; readout, factors and ridge-readout scale each feature themselves, so there it says the
    same. --control names single backbones that stand beside and are not fused: random features, a supervised one, and
    one with as many features as the whole fusion: is it the knowledge or the width?

    Tasks: readout, knn, sgd-readout, finetune, factors, ridge-readout, kernel-readout, landmarks, segmentation, depth.
    Detectors are compared pairwise by `whytransfer diagnose errors`. Several tasks on one pair of image sets, one task
    on several pairs, or as many of both in order. All backbones see images of one size.

    Kept in --out: results.jsonl (also of the tasks, as `whytransfer transfer` would) and figures/.

    Examples:
      whytransfer diagnose complementarity --backbone runs/default runs/spatial runs/appearance \\
        --task readout factors --train scenes:3000:1 --test scenes:1000:2 --out fusion/
      whytransfer diagnose complementarity --backbone random:resnet18:0 random:resnet18:1 --control random:resnet18x2 \\
        --train photos/train --test photos/val --size 64 --out fusion/
    """

    backbone: Backbones
    """Two or more single ones: run folder, weight file, random:ARCH[:SEED], torchvision:NAME:WEIGHTS, timm:NAME."""

    train: Several
    """One or more sets of labelled images to fit on: folder, zip, scenes:COUNT:SEED, ..."""
    test: Several
    """The same number of sets to score on."""
    out: Path
    """Folder for results.jsonl, figures/ and predictions; results of equal settings are replaced, others stay."""
    task: Several = ("readout",)
    """One or more tasks, see above."""
    control: Annotated[tuple[str, ...], BeforeValidator(one_is_enough)] = ()
    """Single backbones that stand beside the fusions."""
    standardised: bool = False
    """Also every fusion with its members scaled to equal variance on --train: standardised:A+B."""
    size: Annotated[int, Field(ge=8, le=2048)] | None = None
    """Side of the images in pixels, the same for all; when not given, the largest of the pretrainings."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides folds, what is held out, initial weights and bootstrap draws."""
    draws: Annotated[int, Field(ge=2)] = 2000
    """Bootstrap draws of the test images."""
    batch: Annotated[int, Field(ge=1)] = 256
    """Images per forward pass; changes only speed and memory."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the decoded cache; what does not fit is decoded at every access."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of stopping."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    figures: bool = True
    """Draw; the tables and results are written either way."""

    # settings of single tasks, for those of the tasks that have them
    mode: Literal["frozen", "finetune"] | None = None
    """Whether the backbone stays as it is or is trained with the head (landmarks, segmentation, depth)."""
    schedule: str | None = None
    """Name of a published schedule of the task; a wrong one lists those that there are."""
    budget: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the schedule's images to see: 0.01 is a hundredth. The results say so."""
    fit_batch: Annotated[int, Field(ge=1)] | None = None
    """Images per step of training."""
    architecture: str | None = None
    """What is built on the backbone: fcn or deeplab (segmentation)."""


def diagnose_complementarity(**settings: Any) -> list[Any]:
    """Compare and fuse backbones; keywords are the fields of DiagnoseComplementaritySettings. Returns the Results.

    diagnose_complementarity(backbone=["runs/a", "runs/b"], train="train", test="val", out="fusion")[0].value
    """
    return DiagnoseComplementaritySettings.called_for_all(run, settings)


def run(s: DiagnoseComplementaritySettings) -> Iterator[Any]:
    """Wire the settings to objects; yields Results as they are ready and keeps results.jsonl up to date."""
    from whytransfer import figures, progress
    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.pretrain import device_of
    from whytransfer.commands.result_files import keep, kept_results
    from whytransfer.commands.transfer import sizes_of
    from whytransfer.diagnosis.complementarity import TASK, Complementarity
    from whytransfer.memory import keep_freed_memory
    from whytransfer.runs import writable_folder
    from whytransfer.tasks.feature_bank import FeatureBank

    if s.figures:
        figures.altair()  # what is missing is said before the work
    keep_freed_memory()
    _check(s)
    size = s.size or max(sizes_of(s.backbone))
    load = functools.partial(load_backbone, device=device_of(s.device))
    backbones = {spec: load(spec) for spec in s.backbone}
    controls = {spec: load(spec) for spec in s.control}
    writable_folder(s.out, make=False)
    kept_results(s.out)
    bank, counted = FeatureBank(progress.bar), _Counted()
    jobs = _jobs(s, size, bank)
    asked = Complementarity(
        backbones, jobs, size, s.out, bank, controls, s.standardised, s.seed, s.batch, s.draws, counted.tick
    )
    _say_notes(asked)
    found: list[Any] = []
    with progress.bar(f"complementarity of {len(backbones)} backbones: fits", asked.work) as counted.update:
        for part in asked.run():
            results = [_signed(r, s, jobs) for r in part]
            keep(s.out, results)
            found += results
            yield from results
    if s.figures:
        from whytransfer.diagnosis.complementarity_figures import draw

        (s.out / "figures").mkdir(parents=True, exist_ok=True)
        draw([r for r in found if r.task == TASK], s.out / "figures")


class _Counted:
    """Counts the fits that are done."""

    def __init__(self) -> None:
        self.done, self.update = 0, lambda done: None

    def tick(self, more: int) -> None:
        self.done += more
        self.update(self.done)


def _check(s: DiagnoseComplementaritySettings) -> None:
    """InputError for what cannot be compared."""
    from whytransfer.backbones.load import members_of

    if len(set(s.backbone)) < max(2, len(s.backbone)):
        raise InputError("--backbone takes two different backbones or more: complementarity is between them")
    for spec in (*s.backbone, *s.control):
        if len(members_of(spec)) > 1:
            raise InputError(f"{spec} is a fusion: name single backbones, those of --backbone are fused here")
    for spec in s.control:
        if spec in s.backbone or s.control.count(spec) > 1:
            raise InputError(f"--control {spec} is one of the backbones that it should be compared with")
    counts = {name: len(getattr(s, name)) for name in ("task", "train", "test")}
    if set(counts.values()) - {1, max(counts.values())}:
        told = ", ".join(f"{n} of --{name}" for name, n in counts.items())
        raise InputError(f"give one task and one pair of sets for all, or as many of each: got {told}")


def _jobs(s: DiagnoseComplementaritySettings, size: int, bank: Any) -> list[Any]:
    """One for each task and pair of image sets; settings that no task has are refused."""
    from whytransfer.commands.data import cached, opened
    from whytransfer.diagnosis.complementarity import Job
    from whytransfer.tasks import TASKS, reads_annotations, settings_of

    several = max(len(s.task), len(s.train), len(s.test))
    triples = list(zip(*(_as_many(getattr(s, name), several) for name in ("task", "train", "test")), strict=True))
    known = {name for task in s.task for name in _settings_of(task)}
    for name in OF_TASKS:
        if getattr(s, name) is not None and name not in known:
            raise InputError(f"no task of {', '.join(s.task)} has --{name.replace('_', '-')}")
    opened_once, pixels = (
        functools.cache(opened),
        functools.cache(lambda spec: cached(opened_once(spec), 2 * size, s.cache_gb, s.skip_unreadable)),
    )
    jobs = []
    for task, train, test in triples:
        open_ = opened_once if reads_annotations(task) else pixels
        options = {name: getattr(s, name) for name in OF_TASKS if name in _settings_of(task)}
        options = {name: value for name, value in options.items() if value is not None}
        if "taken_by" in settings_of(task):
            options["taken_by"] = bank

        def make(train: Any, test: Any, folder: Path, task: str = task, options: Any = options) -> Any:
            return TASKS[task](train, test, size_px=size, seed=s.seed, batch=s.batch, folder=folder, **options)

        jobs.append(Job(task, open_(train), open_(test), make, pixels(test)))
        make(jobs[-1].train, jobs[-1].test, s.out)  # sets that do not suit a task are refused before the work
    return jobs


def _settings_of(task: str) -> set[str]:
    """The settings of a task; InputError for one that cannot be compared here."""
    from whytransfer.errors import unknown_name
    from whytransfer.tasks import TASKS, settings_of

    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if task in ("detection", "instances"):
        raise InputError(
            f"task {task} is compared pairwise by `whytransfer diagnose errors`: run `whytransfer transfer --task "
            f"{task}` on the backbones and their fusions first"
        )
    if task == "fewshot":
        raise InputError("task fewshot answers for episodes, not for each test image: compare by readout or knn")
    return settings_of(task)


def _as_many(values: Sequence[str], n: int) -> Sequence[str]:
    return values if len(values) == n else list(values) * n


def _say_notes(asked: Any) -> None:
    from whytransfer.progress import say

    for spec, backbone in {**asked.backbones, **asked.controls}.items():
        if backbone.note:
            say(f"note: {spec}: {backbone.note}")
    width = sum(b.width for b in asked.backbones.values())
    if width not in {b.width for b in asked.controls.values()}:
        say(
            f"note: no --control has the {width:,} features of the fusion of all: whether a gain is one of knowledge "
            "or of width stays open"
        )


def _signed(result: Any, s: DiagnoseComplementaritySettings, jobs: Sequence[Any]) -> Any:
    """The result with where it came from, and what its images were."""
    from whytransfer.commands.result_files import signed
    from whytransfer.tasks.readout import fingerprint_of

    content: dict[str, Any] = {"size_px": result.provenance.get("size_px")}
    job = next((j for j in jobs if result.data in (j.data, j.pictures.name)), None)
    if job is not None:
        content |= {"train_fingerprint": str(fingerprint_of(job.train))}
        content |= {"test_fingerprint": str(fingerprint_of(job.test))}
    options = {name: getattr(s, name) for name in OF_TASKS if getattr(s, name) is not None}
    own: Mapping[str, Any] = result.provenance.get("options", {})
    return signed(result, {**content, "train": list(s.train), "test": list(s.test), "options": {**options, **own}})


def show(s: DiagnoseComplementaritySettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    results = []
    for result in run(s):
        results.append(result)
        if s.as_json:
            print_json([dataclasses.asdict(result)])
    if s.as_json:
        return
    own = [r for r in results if r.task == "complementarity"]
    by = {kind: [r for r in own if r.provenance["kind"] == kind] for kind in ("cka", "overlap", "gain", "rank")}
    print_table("Features: unbiased linear CKA (95 % interval)", *_pairs(by["cka"]))
    if by["overlap"]:
        print_table("Errors on the same test images (95 % interval)", *_pairs(by["overlap"]))
    print_table("Gain over the best single member, chosen without the test images (95 % interval)", *_gains(by["gain"]))
    if by["rank"]:
        rows = [[r.model, f"{r.value:.2f}", interval_text(r)] for r in sorted(by["rank"], key=lambda r: r.value)]
        title = f"Mean rank over {by['rank'][0].n} scores of the tasks, 1 the best (95 % interval over test images)"
        print_table(title, ["model", "mean rank", "95 % interval"], rows)
    print(f"saved in {s.out}: results.jsonl" + (", figures/" if s.figures else ""))


def _pairs(results: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for r in results:
        by_chance = r.provenance.get("by_chance")
        chance = "" if by_chance is None else f"{by_chance:.3f}"
        what = f"{r.metric}, {r.data}"
        rows.append([r.model, what, f"{r.value:.3f} {interval_text(r)}".rstrip(), chance, f"{r.n:,}"])
    return ["backbones", "", "value", "by chance", "images"], rows


def _gains(results: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    several = len({r.data for r in results}) > 1
    rows = []
    for r in results:
        p = r.provenance
        score = f"{p['of_task']} {p['of_metric']}" + (f", {r.data}" if several else "")
        verdict = "better" if r.low > 0 else "WORSE" if r.high < 0 else "cannot be told apart"
        rows.append(
            [
                r.model, score, f"{p['value_of_it']:.2f}",
                f"{p['value_of_best_single']:.2f} {p['best_single']}",
                f"{r.value:+.2f} {r.unit} [{r.low:+.2f}, {r.high:+.2f}]", verdict,
            ]
        )  # fmt: skip
    return ["fusion", "score", "its value", "best single member", "gain", ""], rows
