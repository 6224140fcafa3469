"""`whytransfer transfer`: what frozen backbones are worth on a task, with intervals and proof that they were frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whytransfer.commands.common import Backbones, Settings, digits_of, interval_text, print_json, print_table
from whytransfer.commands.result_files import Counted, keep, kept_results, signed
from whytransfer.errors import InputError
from whytransfer.parsing import json_of

ELSEWHERE_PX = 224  # what published weights were pretrained on, but for few
ALONE_PX = 64  # random weights without a run beside them


class TransferSettings(Settings):
    """Read a task out of frozen backbones: one table, every number with its 95 % interval.

    Put random:ARCH beside your own: what random features reach is not yours to claim.
    Tasks: readout (logistic regression over 45 strengths of regularisation, chosen by 5-fold cross-validation),
    knn (20 nearest neighbours), sgd-readout (MoCo's protocol: lr 30, 100 epochs, images at 256/224 of the crop),
    finetune (all layers, rate and decay chosen on a part of train), fewshot (episodes of new classes); of landmarks and
    latent factors: factors, ridge-readout, kernel-readout, landmarks (a head on the maps); and on annotated images:
    detection, instances, segmentation, depth. Those that train take published schedules; --budget shortens them.

    Examples:
      whytransfer transfer --backbone runs/mine random:resnet18 --train data/train --test data/val --out results/mine
      whytransfer transfer --backbone runs/a runs/b --task factors --train scenes:4000:1 --test scenes:1000:2 --out both
    """

    backbone: Backbones
    """One or more: run folder, weight file, random:ARCH[:SEED], torchvision:NAME:WEIGHTS, timm:NAME; A+B+C sets the
    features of several side by side (a fusion), standardised:A+B+C each of them scaled to equal variance on --train."""

    train: str
    """Labelled images to fit the readout on: folder, zip, scenes:COUNT:SEED, ..."""
    test: str
    """Labelled images to score it on (same classes)."""
    out: Path
    """Folder for results.jsonl; a result of the same backbone, weights, images, size, task, settings and seed is
    replaced, others stay."""
    task: str = "readout"
    """readout, knn, sgd-readout, finetune, fewshot, factors, ridge-readout, kernel-readout, landmarks, detection,
    instances, segmentation or depth."""
    size: Annotated[int, Field(ge=8, le=2048)] | None = None
    """Side of the images in pixels; when not given, that of each pretraining (224 for weights from elsewhere; random:
    weights take that of the run beside them)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides folds, initial weights and bootstrap draws."""
    batch: Annotated[int, Field(ge=1)] = 256
    """Images per forward pass; changes only speed and memory."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the decoded cache; what does not fit is decoded at every access."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of stopping."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""

    # settings of single tasks; one that the task does not have is refused
    mode: Literal["frozen", "finetune"] | None = None
    """Whether the backbone stays as it is or is trained with the head; the paper's way of each task when not given."""
    schedule: str | None = None
    """Name of a published schedule of the task; a wrong one lists those that there are."""
    budget: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the schedule's images to see: 0.01 is a hundredth. The results say so."""
    fit_batch: Annotated[int, Field(ge=1)] | None = None
    """Images per step of training; the schedule's when not given, its learning rate in proportion."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate instead of the schedule's."""
    architecture: str | None = None
    """What is built on the backbone: c4 or fpn (detection, instances), fcn or deeplab (segmentation)."""
    stage: str | None = None
    """Features of this stage (layer3, ...) instead of the last one's."""
    labels: tuple[Annotated[float, Field(gt=0, le=100)], ...] | None = None
    """Per cent of the training labels to use, one result each: 1 5 10 100."""
    targets: Literal["factors", "landmarks"] | None = None
    """What ridge-readout and kernel-readout read of images that have both; factors when not given."""
    protocol: str | None = None
    """A published protocol by name, quirks included; a wrong one lists those that there are."""
    way: Annotated[int, Field(ge=2)] | None = None
    """Classes of a few-shot episode."""
    shot: Annotated[int, Field(ge=1)] | None = None
    """Labelled images per class of a few-shot episode."""
    episodes: Annotated[int, Field(ge=2)] | None = None
    """Number of few-shot episodes."""


OF_TASKS = (
    "mode", "schedule", "budget", "fit_batch", "lr", "architecture", "stage", "labels", "targets", "protocol", "way",
    "shot", "episodes",
)  # fmt: skip


def transfer(**settings: Any) -> list[Any]:
    """Run one task on one or more backbones; keywords are the fields of TransferSettings. Returns the Result records.

    transfer(backbone=["runs/mine"], task="knn", train="data/train", test="data/val", out="results/mine")[0].value
    """
    return TransferSettings.called_for_all(run, settings)


def run(s: TransferSettings) -> Iterator[Any]:
    """Wire the settings to objects; yields Results as they are ready and keeps results.jsonl up to date."""
    from whytransfer import progress
    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.data import opened
    from whytransfer.commands.pretrain import device_of
    from whytransfer.runs import writable_folder
    from whytransfer.tasks import TASKS, reads_annotations
    from whytransfer.tasks.standardising import standardise

    check_task(s)
    options = options_of(s)
    backbones = [load_backbone(spec, device_of(s.device)) for spec in s.backbone]  # all of them before the work starts
    writable_folder(s.out, make=False)
    kept_results(s.out)  # a file that is not ours is refused before the work, not after it
    sizes = [s.size] * len(backbones) if s.size else sizes_of(s.backbone)
    if len(set(sizes)) > 1:
        seen = ", ".join(f"{spec} at {size} px" for spec, size in zip(s.backbone, sizes, strict=True))
        progress.say(f"note: the backbones see images of different sizes ({seen}); --size N shows all the same")
    images = {spec: opened(spec) for spec in dict.fromkeys((s.train, s.test))}
    sets: dict[int, Any] = {}  # by size in pixels
    for spec, backbone, size in zip(s.backbone, backbones, sizes, strict=True):
        if backbone.note:
            progress.say(f"note: {spec}: {backbone.note}")
        if size not in sets:
            sets[size] = _read(s, images[s.train], size), _read(s, images[s.test], size)
        train, test = sets[size]
        known = {} if reads_annotations(s.task) else _in_both(train, test)  # which look for themselves
        with progress.bar(f"{s.task} of {spec}: features at {size} px", len(train) + len(test)) as update:
            counted = Counted(update)
            task = TASKS[s.task](train, test, size_px=size, seed=s.seed, batch=s.batch, progress=counted, **options)
            content = {"train_fingerprint": _content(train), "test_fingerprint": _content(test), "size_px": size}
            content |= {"options": {name: value for name, value in options.items() if name != "folder"}, **known}
            content |= standardise(backbone, train, size, s.batch, s.seed)
            results = [_signed(result, s, content) for result in task.run(backbone, s.seed)]
        keep(s.out, results)
        yield from results


def check_task(s: TransferSettings) -> None:
    """InputError for a task that does not exist, and for a setting of all tasks that this one cannot keep."""
    from whytransfer.errors import unknown_name
    from whytransfer.tasks import TASKS, reads_annotations

    if s.task == "label-efficiency":
        raise InputError(
            "label efficiency is the curve of a task: --task readout (knn, finetune, ...) --labels 1 5 10 100"
        )
    if s.task not in TASKS:
        raise unknown_name("task", s.task, TASKS)
    if s.skip_unreadable and reads_annotations(s.task):
        raise InputError(
            f"task {s.task} leaves no image out, so it has no --skip-unreadable: repair or delete an unreadable one"
        )


def options_of(s: TransferSettings) -> dict[str, Any]:
    """What was set of OF_TASKS, and the folder where the task has fits to save; InputError for one it does not have."""
    from whytransfer.tasks import TASKS, settings_of

    known = settings_of(s.task)
    given = {name: getattr(s, name) for name in OF_TASKS if getattr(s, name) is not None}
    for name in given:
        if name not in known:
            others = ", ".join(task for task in TASKS if name in settings_of(task)) or "no task yet"
            raise InputError(f"task {s.task} has no --{name.replace('_', '-')}; it is a setting of: {others}.")
    return {**given, **({"folder": s.out} if "folder" in known else {})}


def show(s: TransferSettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    results = []
    for result in run(s):
        results.append(result)
        if s.as_json:
            print_json([dataclasses.asdict(result)])
    if not s.as_json:
        print_table(f"{s.task}: {s.train} -> {s.test}", *table_of(results))
        for line in against_random(results):
            print(line)
        print(f"saved in {s.out / 'results.jsonl'}")


def table_of(results: Sequence[Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows for people; data and size of the images are columns where they are not the same for all."""
    columns = ["backbone", "metric", "value", "95 % interval", "n"]
    rows = [[r.model, r.metric, f"{r.value:.{digits_of(r)}f} {r.unit}", interval_text(r), r.n] for r in results]
    if len({r.data for r in results}) > 1:  # shares of the labels
        columns.insert(1, "data")
        for row, r in zip(rows, results, strict=True):
            row.insert(1, r.data)
    sizes = [r.provenance["size_px"] for r in results]
    if len(set(sizes)) > 1:
        columns.insert(1, "size")
        for row, size in zip(rows, sizes, strict=True):
            row.insert(1, f"{size} px")
    return columns, rows


def against_random(results: Sequence[Any]) -> Iterator[str]:
    """What lies between each backbone and the untrained one beside it, by the first metric; without one, how to get it.

    Intervals that overlap decide nothing here; a paired comparison could still tell the two apart.
    """
    first = [r for r in results if r.metric == results[0].metric]
    untrained = next((r for r in first if is_untrained(r.model)), None)
    if untrained is None:
        yield "no random features beside it: add random:resnet18, or your architecture, to see what training gave"
        return
    for r in (r for r in first if not is_untrained(r.model)):
        gain, unit = r.value - untrained.value, "points" if r.unit == "%" else r.unit
        apart = None not in (r.low, untrained.low) and (r.low > untrained.high or r.high < untrained.low)
        sure = "beyond their intervals" if apart else "but their intervals overlap"
        ways = ("over", "BELOW") if r.direction == "higher" else ("ABOVE", "under")  # capitals: worse than untrained
        yield f"{r.model}: {abs(gain):.2f} {unit} {ways[gain < 0]} random features in {r.metric}, {sure}"


def is_untrained(spec: str) -> bool:
    """Whether a backbone, or every member of a fusion, has random weights."""
    from whytransfer.backbones.load import members_of

    return all(member.startswith("random:") for member in members_of(spec))


def sizes_of(specs: Sequence[str]) -> list[int]:
    """Side in pixels at which each backbone sees images: that of its pretraining, 224 for weights from elsewhere.

    random:ARCH has none of its own: it takes that of the first run beside it, else of the first other one, else 64.
    """
    runs = [_size_of_runs(spec) for spec in specs]
    own = [run or (None if is_untrained(spec) else ELSEWHERE_PX) for spec, run in zip(specs, runs, strict=True)]
    beside = next((size for size in [*runs, *own] if size), ALONE_PX)
    return [size or beside for size in own]


def _size_of_runs(spec: str) -> int | None:
    """Of a fusion the largest of its members', so that none sees less than it was pretrained on."""
    from whytransfer.backbones.load import members_of

    return max(filter(None, map(_size_of_run, members_of(spec))), default=None)


def _size_of_run(spec: str) -> int | None:
    """The size on the card of a run folder, or of the folder that a weight file lies in; None where there is no run."""
    path = Path(spec)
    card = (path.parent if path.is_file() else path) / "card.json"
    if not (path.exists() and card.is_file()):
        return None
    try:
        return int(json_of(card.read_text())["size"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{card} does not tell the size of the images ({type(error).__name__}: {error}): it is damaged or not a "
            "run's. Give --size."
        ) from None


def _read(s: TransferSettings, images: Any, size: int) -> Any:
    """What the task reads: decoded pixels of about twice the size, or the images with their annotations as they are."""
    from whytransfer.commands.data import cached
    from whytransfer.tasks import reads_annotations

    return images if reads_annotations(s.task) else cached(images, 2 * size, s.cache_gb, s.skip_unreadable)


def _in_both(train: Any, test: Any) -> dict[str, int | None]:
    """For provenance, how many test images are training images too (said: a readout looks better than it is for them).

    None where that is not known, which is said too.
    """
    from whytransfer import progress
    from whytransfer.images.duplicates import comparable, in_both

    if train is not test and not comparable(train, test):
        progress.say(
            "note: whether test images are training images too was not looked at: not every picture is in the cache "
            "(--cache-gb)"
        )
        return {"test_images_in_train": None}
    found = len(test) if train is test else in_both(train, test)
    if found:
        progress.say(
            f"note: {found:,} of the {len(test):,} test images are training images too (equal pixels), so the results "
            "say less about new images than they seem to"
        )
    return {"test_images_in_train": found}


def _content(images: Any) -> str:
    """The fingerprint, which is an attribute of a PixelCache and a method of an ImageSet."""
    return images.fingerprint() if callable(images.fingerprint) else images.fingerprint


def _signed(result: Any, s: TransferSettings, content: Mapping[str, Any]) -> Any:
    """The result with where it came from; `content` says what the images were, whatever they are called."""
    return signed(result, {**content, "train": s.train, "test": s.test})
