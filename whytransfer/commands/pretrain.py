"""`whytransfer pretrain`: from a folder of images to a pretrained backbone that knows where random features stand."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whytransfer.commands.card import (
    make_card,
    say_how_small_groups_are,
    say_if_all_is_warm_up,
    say_the_plan,
    say_what_changed,
    say_what_is_unusual,
    write_config,
)
from whytransfer.commands.common import Settings, in_words, print_json, print_table
from whytransfer.commands.method import given_options, known_method, ready, recipe_for, views_for
from whytransfer.commands.regions import (
    check_masks,
    check_masks_are_there,
    open_targets,
    say_how_many_are_bare,
    with_regions,
)
from whytransfer.errors import InputError

BEAT_S = 60.0  # how long processes wait in one go for what the first does


class PretrainSettings(Settings):
    """Pretrain a backbone on images: class folders, a flat folder, a zip, or generated scenes.

    The same command continues an unfinished run: killed at any step, it ends in the same weights, bit for bit where
    libraries, processor and OMP_NUM_THREADS are the same (it says when they are not). Every epoch prints how the
    backbone stands against random features, which is the first thing to know about a small run.

    Examples:
      whytransfer pretrain --images photos/ --out runs/first                          (moco-v2-small, resnet18, 64 px)
      whytransfer pretrain --images photos.zip/train --method supervised --epochs 10 --out runs/sup
      whytransfer pretrain --images scenes:5000 --recipe appearance --out runs/app    (generated, nothing to download)
    """

    # what changes the result
    images: str
    """Folder, zip (FILE.zip or FILE.zip/sub/folder), scenes:COUNT[:SEED[:SIZE]], cifar10:ROOT, hf:PATH, ..."""
    out: Path
    """Run folder to create, or to continue."""
    method: str = "moco-v2-small"
    """The papers', with their settings: moco-v1, moco-v2, simclr, byol, instdisc, instdisc-softmax; on class labels:
    supervised, supcon, supcon-queue, exemplar-v1, exemplar-v2; on boxes: supervised-boxes (a detector); on the classes
    of pixels: supervised-masks (a segmenter); on regions (--masks): detcon-s, detcon-b, and with positives within one
    view detcon-s-one-view, detcon-b-one-view. For 5,000 to 50,000 images and batches of 64 to
    256: moco-v2-small, simclr-small, byol-small, instdisc-small, supcon-small, exemplar-small, detcon-s-small,
    detcon-b-small."""
    masks: str | None = None
    """Regions for detcon: a folder that `whytransfer masks` made, or how to make them now: grid:5, felzenszwalb, ...
    For supervised-masks only what the images are labelled with, which it takes by itself."""
    recipe: str | None = None
    """Views; the method's own when not given: default (moco-v2's), spatial (crop and flip), appearance (colour, grey,
    blur), moco-v1, simclr, byol, detcon-s, detcon-b, supervised; and the ladder, an operation more at each step:
    ladder-1 (flip), -2 (+ crop), -3 (+ colour), -4 (+ grey), -5 (+ blur: moco-v2's). `whytransfer show views` draws."""
    backbone: str = "resnet18"
    """resnet18 ... resnet200; resnet50x2: twice as wide throughout; resnet18-small: stem for images under 100 px."""
    size: Annotated[int, Field(ge=8, le=2048)] = 64
    """Side of the square views in pixels."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the images; the method's own when not given. The settings of byol and detcon-b follow the length."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps, instead of --epochs: the same budget for image sets of any size; may end inside an epoch."""
    batch: Annotated[int, Field(ge=2)] | None = None
    """Images per optimiser step, over all processes; the method's own when not given."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides everything drawn: initial weights, order, views."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate at this batch; by default the method's, in proportion to the batch."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay; the method's own when not given."""
    schedule: Literal["cosine", "step"] | None = None
    """Learning rate over time; the method's own when not given."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    """Shares of the run after which --schedule step divides the learning rate by 10; 0.6 0.8 when not given. DetCon on
    COCO has 0.96 0.98."""
    optimizer: Literal["sgd", "lars", "lars-simclr"] | None = None
    """The method's own when not given; lars is BYOL's, lars-simclr has the learning rate inside the velocity."""
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    """Epochs of linear warm-up; the method's own when not given."""
    queue: Annotated[int, Field(ge=1)] | None = None
    """Past keys that are kept (MoCo, Exemplar, supcon-queue)."""
    momentum: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the slow copy (m of MoCo; tau of BYOL at the start; moco-v2-small: at the start, to 0.99 or itself where that
    is more) or of an entry of the bank (InstDisc)."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """T of the softmax."""
    dim: Annotated[int, Field(ge=1)] | None = None
    """Width of the vectors that are compared."""
    hidden: Annotated[int, Field(ge=1)] | None = None
    """Width inside the projector, where it has a layer of its own width."""
    negatives: Annotated[int, Field(ge=1)] | None = None
    """Entries that are drawn from the bank for a step (InstDisc)."""
    draws: Annotated[int, Field(ge=1)] | None = None
    """Regions drawn per image and view (DetCon)."""
    cut: Annotated[int, Field(ge=1)] | None = None
    """Equal parts of a batch that are contrasted apart, which divides the negatives (DetCon)."""
    local_negatives: bool | None = None
    """Whether an image's other regions are among its negatives too (DetCon); they are when not given."""
    splits: Annotated[int, Field(ge=1)] | None = None
    """Batch-norm groups (MoCo and what builds on it); 8 is the maths of eight devices."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts a batch is computed in, when memory is short (batch norm, keys and batch-wise losses then see parts)."""
    precision: Literal["auto", "bf16", "32"] = "auto"
    """auto: bfloat16 arithmetic where the processor has it."""
    cache_px: Annotated[int, Field(ge=0)] | None = None
    """Shorter side of the cached pictures (larger are shrunk once); 2 x size when not given, 0 keeps all pixels."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of stopping."""

    # what changes only speed or what is looked at
    val: str | None = None
    """Images whose kNN accuracy is watched each epoch (same classes); part of the training images when not given."""
    monitor: bool = True
    """Watch kNN, pair matching, spread and rank each epoch."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the decoded cache; what does not fit is decoded at every access."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads that make views; all cores when not given."""
    devices: Annotated[int, Field(ge=1)] = 1
    """Processes, one per GPU (or CPU process); under torchrun, its own numbers count."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    save_minutes: Annotated[float, Field(ge=0)] = 5.0
    """Also save between epochs, this often."""


def pretrain(**settings: Any) -> dict[str, Any]:
    """Pretrain a backbone; keywords are the fields of PretrainSettings. Returns what `--json` prints.

    pretrain(images="photos/", out="runs/first")["knn"] is the last kNN accuracy in %.
    """
    return PretrainSettings.called(run, settings)


def run(s: PretrainSettings) -> dict[str, Any]:
    """Wire the settings to objects and train."""
    from whytransfer import progress
    from whytransfer.commands.data import opened
    from whytransfer.loading import check_parts
    from whytransfer.pretraining import Plan, Pretraining
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    paper = _checked_method(s)
    views = views_for(recipe(recipe_for(s.recipe or paper.recipe, paper)), paper.views)
    images = opened(s.images)
    method, training, options = ready(s, images)  # refuses what cannot be trained before anything is decoded
    watched = _to_watch(s, images)
    pixels, val = open_pixels(s, images), None if watched is None else open_pixels(s, watched)
    if len(pixels) < len(images):  # unreadable ones were left out
        method, training, options = ready(s, pixels)
    fabric = _fabric(s)
    check_parts(training.batch, s.accumulate, fabric.world_size)
    method.check_batch(training.batch, s.accumulate * fabric.world_size)
    card = make_card(s, views.name, training, options, pixels, method.backbone, fabric)
    progress.be_quiet(progress.is_quiet() or not fabric.is_global_zero)

    regions, boxes, folder = first_rank_first(fabric, lambda: _targets_and_folder(s, paper.needs, pixels, card))
    with folder.locked() if fabric.is_global_zero else contextlib.nullcontext():
        if folder.finished:
            progress.say(f"{s.out} is finished already; nothing to do.")
            return _summary(s.out, folder.card["result"]) if fabric.is_global_zero else {}
        if fabric.is_global_zero:
            write_config(s, folder)
        say_what_changed(folder, card)
        say_the_plan(card, options, s.iterations)
        say_what_is_unusual(s, views.name, options, pixels)
        say_if_all_is_warm_up(training, s.iterations, len(pixels))
        say_how_small_groups_are(training.batch, s.accumulate, options.get("splits") or 1)
        plan = Plan(training, training.epochs, training.batch, s.seed, s.accumulate, s.save_minutes, s.iterations)
        viewer = Viewer(views, s.size, s.seed, threads=s.threads, device=fabric.device)
        monitor = _monitor(s, pixels, val, fabric) if s.monitor else None
        result = Pretraining(method, pixels, viewer, plan, folder, fabric, monitor, regions, boxes).fit()
    return _summary(s.out, result) if fabric.is_global_zero else {}


def _checked_method(s: PretrainSettings) -> Any:
    """The method, once all is refused that can be before an image is read: a misspelt option, missing regions."""
    from whytransfer.runs import writable_folder

    writable_folder(s.out, make=False)
    paper = known_method(s.method)
    check_masks(s.masks, s.method, paper.needs)
    check_masks_are_there(s.masks)
    given_options(s)
    return paper


def _to_watch(s: PretrainSettings, images: Any) -> Any:
    """The images of --val, None where none are watched; InputError, before anything is decoded, for foreign classes."""
    from whytransfer.commands.data import opened
    from whytransfer.images import match_classes

    watched = opened(s.val) if s.val and s.monitor else None
    if watched is not None:
        match_classes(watched, images.classes)
    return watched


def _targets_and_folder(s: PretrainSettings, needs: Any, pixels: Any, card: dict[str, Any]) -> tuple[Any, Any, Any]:
    from whytransfer.runs import RunFolder

    regions, boxes = open_targets(s, needs, pixels)
    if regions is not None:
        say_how_many_are_bare(regions)
    return regions, boxes, RunFolder.open(s.out, with_regions(card, s.masks, regions))


def first_rank_first(fabric: Any, work: Callable[[], Any]) -> Any:
    """work() in the first process, then in the others. What fails in the first ends all, and only it says why.

    The others wait in turns of BEAT_S: making regions may take hours, and no process group waits that long in one go.
    """
    if fabric.world_size == 1:
        return work()
    done, first = threading.Event(), fabric.is_global_zero
    outcome: list[Any] = [None, None]  # result, failure

    def told() -> None:
        try:
            outcome[0] = work()
        except BaseException as failure:
            outcome[1] = failure
        done.set()

    if first:
        threading.Thread(target=told, name="first-rank", daemon=True).start()  # so that Ctrl-C ends it too
    while not fabric.broadcast(first and done.wait(BEAT_S)):
        continue
    if fabric.broadcast(outcome[1] is not None):
        raise outcome[1] or SystemExit(2)
    return outcome[0] if first else work()


def show(s: PretrainSettings) -> None:
    """Run and print the answer for people, or as JSON."""
    summary = run(s)
    if not summary:  # another rank of a distributed run: the first one speaks
        return
    if s.as_json:
        print_json([summary])
        return
    said_below = {"standing"} | ({"knn_queries", "knn_query_count"} if summary.get("knn") is None else set())
    rows = [in_words(k, v) for k, v in summary.items() if v is not None and k not in said_below]
    print_table(f"pretrained {s.out}", ["", "value"], rows)
    print(summary["standing"])
    backbones = f"{s.out} random:{s.backbone}"
    print(f"next: whytransfer transfer --backbone {backbones} --task readout --train ... --test ... --out ...")
    print("      (--train and --test: images of the task you have in mind, labelled by one folder per class)")


def open_pixels(s: PretrainSettings, images: Any) -> Any:
    """The decoded images of a set, or of the set that a string names."""
    from whytransfer.commands.data import cached, opened

    side = None if s.cache_px == 0 else s.cache_px or 2 * s.size
    return cached(opened(images) if isinstance(images, str) else images, side, s.cache_gb, s.skip_unreadable)


def device_of(name: str) -> Any:
    """torch.device for "auto", "cpu" or "cuda"; InputError where there is no GPU to take."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("a GPU was asked for and PyTorch sees none. Use auto or cpu, or see `whytransfer doctor`.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def has_bf16(device: Any = None) -> bool:
    """Whether the device (the one that "auto" takes when not given) has bfloat16 instructions, not an emulation."""
    from whytransfer import memory

    return memory.has_bf16(device or device_of("auto"))


def in_bf16(precision: str, size_px: int, device: Any = None) -> bool:
    """Whether a run computes in bfloat16 (on the device that "auto" takes when none is given).

    "auto" does where it can, but not under 17 px: the last stage then sees 1 x 1 maps, where oneDNN's bfloat16
    gradients differ from run to run.
    """
    return precision == "bf16" or (precision == "auto" and has_bf16(device) and size_px > 16)


def _fabric(s: PretrainSettings) -> Any:
    import logging

    from lightning_fabric import Fabric
    from lightning_fabric.loggers import TensorBoardLogger

    from whytransfer.memory import keep_freed_memory

    keep_freed_memory()
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # the plan says what it would
    device = device_of(s.accelerator)
    logger = TensorBoardLogger(root_dir=s.out / "tensorboard", name="", version="")
    fabric = Fabric(
        accelerator=device.type,
        devices=s.devices,
        precision="bf16-mixed" if in_bf16(s.precision, s.size, device) else "32-true",
        loggers=logger,
    )
    fabric.launch()
    return fabric


def _monitor(s: PretrainSettings, pixels: Any, val: Any, fabric: Any) -> Any:
    from whytransfer.monitor import Monitor

    return Monitor(pixels, val, s.size, s.seed, amp=fabric._precision.precision == "bf16-mixed")


def _chance(now: float, random: float, count: int | None) -> str:
    """Whether two accuracies in % over so many images can be told apart; empty where that is not known.

    The interval of the difference takes the two as independent, which is on the safe side: the images are the same.
    """
    half = 1.96 * math.sqrt((now * (100 - now) + random * (100 - random)) / count) if count else 0
    if not half:  # also where both are 0 or 100 %, of which no formula knows the chance
        return ""
    return f" (± {half:.1f})" if abs(now - random) > half else f", within chance (± {half:.1f})"


def _than_random(now: float, random: float, count: int | None) -> str:
    gain, chance = now - random, _chance(now, random, count)
    below = "below" if "within chance" in chance else "BELOW"
    than = f"{abs(gain):.1f} points {'above' if gain > 0 else below}" if gain else "no better than"
    return f"{than} random features{chance}"


def _health(result: dict[str, Any], random: dict[str, Any]) -> str:
    """The collapse monitor's verdict, unless random features would get no better one: then the pictures are too few.

    N pictures have a rank of N at most, and a set of pictures that are all alike a small spread.
    """
    from whytransfer.nn.collapse import verdict

    now, before = ([math.nan if x.get(k) is None else x[k] for k in ("spread", "rank")] for x in (result, random))
    said, at_first = (verdict(spread, rank, result["width"]) for spread, rank in (now, before))
    fell = any(not n > b / 2 for n, b in zip(now, before, strict=True))
    if said.startswith(("broken", "not")) or at_first.startswith(("broken", "not")) or fell:
        return said
    return (
        f"whether it collapsed cannot be told from so few or so similar pictures (spread {now[0]:.3f}, rank "
        f"{now[1]:.1f}; random features {before[0]:.3f}, {before[1]:.1f})"
    )


def _summary(out: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What is printed: the run folder, speed, loss, and the standing against random features in words."""
    random = result["random"]
    summary = {k: v for k, v in result.items() if k not in ("random", "epoch")}
    if not random or "pairs" not in result:
        return {"run": str(out), **summary, "standing": "not watched (--no-monitor)"}
    pairs = result["pairs"], random["pairs"], result.get("pair_count")
    if result.get("knn") is not None and random.get("knn") is not None:
        queries = result.get("knn_query_count")
        of = f" of {queries} {result.get('knn_queries')}" if queries else ""
        words = f"kNN {result['knn']:.1f} %{of}, random features {random['knn']:.1f} %: "
        words += _than_random(result["knn"], random["knn"], queries)
        if pairs[0] < pairs[1]:
            words += f"; two views of a picture are matched less often ({pairs[0]:.1f} %) than by random "
            words += f"features: {pairs[1]:.1f} %{_chance(*pairs)}"
    else:
        of = f" of {pairs[2]} images" if pairs[2] else ""
        words = f"pair matching {pairs[0]:.1f} %{of}, random features {pairs[1]:.1f} % (no labels, so no kNN): "
        words += _than_random(*pairs)
    words += f"; {_health(result, random)}"
    if result.get("loss") == 0:  # no region in both views, a bank that is not filled yet, one class
        words += "; the loss was exactly 0, so the last steps taught nothing"
    randoms = {f"random_{k}": v for k, v in random.items()}
    return {"run": str(out), **summary, **randoms, "standing": words}
