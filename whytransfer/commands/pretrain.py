"""`whytransfer pretrain`: from a folder of images to a pretrained backbone that knows where random features stand."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whytransfer.commands.common import Settings, print_json, print_table
from whytransfer.errors import InputError


class PretrainSettings(Settings):
    """Pretrain a backbone on images: class folders, a flat folder, a zip, or generated scenes.

    Labels are needed for --method supervised only.
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
    """moco-v1, moco-v2 (the papers' settings), moco-v2-small (for 5,000-50,000 images) or supervised."""
    recipe: str | None = None
    """Views: default, spatial, appearance, moco-v1, simclr, ladder-1 ... (ladder-1-supervised where labels are
    trained on); the method's own when not given."""
    backbone: str = "resnet18"
    """resnet18 ... resnet200; resnet50x2: twice as wide throughout; resnet18-small: stem for images under 100 px."""
    size: Annotated[int, Field(ge=8, le=2048)] = 64
    """Side of the square views in pixels."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the images; the method's own when not given (200 in the papers)."""
    batch: Annotated[int, Field(ge=2)] | None = None
    """Images per optimiser step, over all processes."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides everything drawn: initial weights, order, views."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate at this batch; by default the method's, in proportion to the batch."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay; the method's own when not given."""
    schedule: Literal["cosine", "step"] | None = None
    """Learning rate over time; the method's own when not given."""
    optimizer: Literal["sgd", "lars"] | None = None
    """The method's own when not given."""
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    """Epochs of linear warm-up; the method's own when not given."""
    queue: Annotated[int, Field(ge=1)] | None = None
    """MoCo: keys kept as negatives."""
    momentum: Annotated[float, Field(ge=0, le=1)] | None = None
    """MoCo: m of the key encoder."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """MoCo: T of the softmax."""
    splits: Annotated[int, Field(ge=1)] | None = None
    """MoCo: batch-norm groups; 8 is the maths of eight devices."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts a batch is computed in, when memory is short (batch norm and keys then see the parts)."""
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


NOT_IN_CONFIG = frozenset(
    {"out", "val", "monitor", "cache_gb", "threads", "devices", "accelerator", "save_minutes", "as_json", "images"}
)
OPTIONS = {"queue": "queue", "momentum": "m", "temperature": "T", "splits": "splits"}  # our setting: the paper's letter


def pretrain(**settings: Any) -> dict[str, Any]:
    """Pretrain a backbone; keywords are the fields of PretrainSettings. Returns what `--json` prints.

    pretrain(images="photos/", out="runs/first")["knn"] is the last kNN accuracy in %.
    """
    return run(PretrainSettings.made_from(settings))


def run(s: PretrainSettings) -> dict[str, Any]:
    """Wire the settings to objects and train."""
    from whytransfer import methods, progress
    from whytransfer.loading import check_parts, steps_per_epoch
    from whytransfer.pretraining import Plan, Pretraining
    from whytransfer.runs import RunFolder, writable_folder
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    writable_folder(s.out, make=False)
    paper = known_method(s.method)
    options = {**methods.options_of(s.method), **_options(s)}
    training = training_of(s, paper.defaults)
    views = views_for(recipe(recipe_for(s.recipe or paper.recipe, paper)), paper.views)
    pixels, val = open_pixels(s, s.images), open_pixels(s, s.val) if s.val else None
    method = build_method(s, pixels, options)
    steps_per_epoch(len(pixels), training.batch)  # refuses a batch that is larger than the data
    fabric = _fabric(s)
    check_parts(training.batch, s.accumulate, fabric.world_size)
    method.check_batch(training.batch, s.accumulate * fabric.world_size)
    card = _card(s, views.name, training, options, pixels, method.backbone, fabric)
    progress.be_quiet(progress.is_quiet() or not fabric.is_global_zero)
    with fabric.rank_zero_first():
        folder = RunFolder.open(s.out, card)
    with folder.locked() if fabric.is_global_zero else contextlib.nullcontext():
        if folder.finished:
            progress.say(f"{s.out} is finished already; nothing to do.")
            return _summary(s.out, folder.card["result"]) if fabric.is_global_zero else {}
        if fabric.is_global_zero:
            _write_config(s, folder)
        _say_what_changed(folder, card)
        _say_what_is_unusual(s, views.name, options, pixels)
        plan = Plan(training, training.epochs, training.batch, s.seed, s.accumulate, s.save_minutes)
        viewer = Viewer(views, s.size, s.seed, threads=s.threads, device=fabric.device)
        monitor = _monitor(s, pixels, val, fabric) if s.monitor else None
        result = Pretraining(method, pixels, viewer, plan, folder, fabric, monitor).fit()
    return _summary(s.out, result) if fabric.is_global_zero else {}


def show(s: PretrainSettings) -> None:
    """Run and print the answer for people, or as JSON."""
    summary = run(s)
    if not summary:  # another rank of a distributed run: the first one speaks
        return
    if s.as_json:
        print_json([summary])
        return
    rows = [
        (k.replace("_", " "), f"{v:.4g}" if isinstance(v, float) else v) for k, v in summary.items() if v is not None
    ]
    print_table(f"pretrained {s.out}", ["", "value"], rows)
    print(summary["standing"])
    backbones = f"{s.out} random:{s.backbone}"
    print(f"next: whytransfer transfer --backbone {backbones} --task readout --train ... --test ... --out ...")


def known_method(name: str) -> Any:
    from whytransfer.errors import unknown_name
    from whytransfer.methods import METHODS

    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def _options(s: PretrainSettings) -> dict[str, Any]:
    """The method's options that were given; InputError for one that the method does not have."""
    from whytransfer.methods import options_of

    known_method(s.method)
    given = {setting: getattr(s, setting) for setting in OPTIONS if getattr(s, setting) is not None}
    for setting in given:
        if OPTIONS[setting] not in options_of(s.method):
            raise InputError(
                f"--{setting} {given[setting]}: {s.method} has no such setting. Leave it out or choose a MoCo method."
            )
    return {OPTIONS[setting]: value for setting, value in given.items()}


def training_of(s: PretrainSettings, paper: Any) -> Any:
    """The method's Training with what the settings replace."""
    batch = s.batch or paper.batch
    given = {
        "epochs": s.epochs,
        "batch": batch,
        "lr_per_256": s.lr * 256 / batch if s.lr else None,
        "weight_decay": s.weight_decay,
        "schedule": s.schedule,
        "optimizer": s.optimizer,
        "warmup_epochs": s.warmup_epochs,
    }
    return dataclasses.replace(paper, **{k: v for k, v in given.items() if v is not None})


def open_pixels(s: PretrainSettings, spec: str) -> Any:
    from whytransfer.commands.data import cached

    side = None if s.cache_px == 0 else s.cache_px or 2 * s.size
    return cached(spec, side, s.cache_gb, s.skip_unreadable)


def build_method(s: PretrainSettings, pixels: Any, options: dict[str, Any]) -> Any:
    import torch

    from whytransfer import methods
    from whytransfer.backbones.resnet import build
    from whytransfer.images import require_labels

    if "labels" in known_method(s.method).needs:
        require_labels(pixels, f"--method {s.method}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        backbone = build(s.backbone)
    classes = len(pixels.classes) or None
    return methods.build(s.method, backbone, classes=classes, images=len(pixels), seed=s.seed, **options)


def device_of(name: str) -> Any:
    """torch.device for "auto", "cpu" or "cuda"; InputError where there is no GPU to take."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("a GPU was asked for and PyTorch sees none. Use auto or cpu, or see `whytransfer doctor`.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def has_bf16(device: Any = None) -> bool:
    """Whether the device (the one that "auto" takes when not given) has bfloat16 instructions, not an emulation."""
    import torch

    if (device or device_of("auto")).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test)() for test in tests if hasattr(torch.cpu, test))


def in_bf16(precision: str, size_px: int, device: Any = None) -> bool:
    """Whether a run computes in bfloat16 (on the device that "auto" takes when none is given).

    "auto" does where it can, but not under 17 px: the last stage then sees 1 x 1 maps, where oneDNN's bfloat16
    gradients differ from run to run.
    """
    return precision == "bf16" or (precision == "auto" and has_bf16(device) and size_px > 16)


def _fabric(s: PretrainSettings) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers import TensorBoardLogger

    from whytransfer.memory import keep_freed_memory

    keep_freed_memory()
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


def recipe_for(name: str, method: Any) -> str:
    """The recipe's twin for training on labels where it has one: a rung's crop is wider there."""
    from whytransfer.views.recipes import RECIPES

    twin = f"{name}-supervised"
    return twin if "labels" in method.needs and twin in RECIPES else name


def views_for(views: Any, count: int) -> Any:
    """A recipe with as many views as the method reads: a one-view recipe is drawn again, a spare view is left out."""
    pipelines = (views.views * count)[:count] if len(views.views) == 1 else views.views[:count]
    return dataclasses.replace(views, views=pipelines)


def _card(
    s: PretrainSettings, views: str, training: Any, options: dict[str, Any], pixels: Any, backbone: Any, fabric: Any
) -> dict[str, Any]:
    """The run card. `config` is what decides the weights: only a run with an equal one may continue in the folder."""
    from whytransfer.runs import command_line, versions

    plain = s.model_dump(mode="json", exclude={*NOT_IN_CONFIG, *OPTIONS})
    config = {
        **plain,
        **dataclasses.asdict(training),
        "recipe": views,
        "lr": training.lr_per_256 * training.batch / 256,
        "precision": fabric._precision.precision,
        "world_size": fabric.world_size,
        "device": fabric.device.type,
        "cache_px": 2 * s.size if s.cache_px is None else s.cache_px,
        **{f"{s.method}.{key}": value for key, value in options.items()},
        "data_fingerprint": pixels.fingerprint,
        "images": len(pixels),
    }
    return {
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in config.items() if k != "lr_per_256"},
        "arch": s.backbone,
        "method": s.method,
        "recipe": views,
        "seed": s.seed,
        "size": s.size,
        "mean": backbone.mean.tolist(),
        "std": backbone.std.tolist(),
        "data": {"spec": s.images, "name": pixels.name, "images": len(pixels), "classes": len(pixels.classes)},
        "command": command_line(),
        "versions": versions(),
    }


def _write_config(s: PretrainSettings, folder: Any) -> None:
    """The settings as YAML, ready for `--config`, with every default written out."""
    import yaml

    from whytransfer.runs import atomic_write

    resolved = {k: v for k, v in s.model_dump(mode="json").items() if v is not None and k not in ("out", "as_json")}
    config = folder.card["config"]
    resolved |= {
        k: config[k]
        for k in ("recipe", "epochs", "batch", "lr", "weight_decay", "schedule", "optimizer", "warmup_epochs")
    }
    resolved |= {
        "precision": "bf16" if config["precision"] == "bf16-mixed" else "32",
        "cache_px": config["cache_px"],
        **{setting: config.get(f"{s.method}.{key}") for setting, key in OPTIONS.items()},
    }
    resolved = {k: v for k, v in resolved.items() if v is not None}
    text = yaml.safe_dump(resolved, sort_keys=True).encode()
    atomic_write(folder.path / "config.yaml", lambda file: file.write(text))


def _say_what_changed(folder: Any, card: dict[str, Any]) -> None:
    """A continued run is bit for bit the uninterrupted one only where threads, libraries and processor stay."""
    from whytransfer import progress

    changes = folder.changed_versions(card["versions"])
    if folder.saved and changes:
        progress.say(
            f"note: this changed since {folder.path} was started, so its weights may differ in the last bits from "
            f"an uninterrupted run's: {'; '.join(changes)}."
        )


def _say_what_is_unusual(s: PretrainSettings, views: str, options: dict[str, Any], pixels: Any) -> None:
    from whytransfer import progress

    if s.recipe and views != s.recipe:
        progress.say(f"note: {s.method} takes the views {views}, which is what {s.recipe} means for it.")
    if options.get("queue") and options["queue"] > len(pixels):
        progress.say(
            f"note: the queue ({options['queue']} keys) is larger than the data ({len(pixels)} images), so an image "
            "meets its own older keys as negatives. Choose a smaller --queue, or moco-v2-small, which needs none."
        )
    if s.method in ("moco-v1", "moco-v2") and len(pixels) < 100_000:
        progress.say(
            f"note: {s.method}'s published settings assume a million images; with {len(pixels)} a run can end below "
            "random features. moco-v2-small is the preset for small data."
        )


def _monitor(s: PretrainSettings, pixels: Any, val: Any, fabric: Any) -> Any:
    from whytransfer.monitor import Monitor

    return Monitor(pixels, val, s.size, s.seed, amp=fabric._precision.precision == "bf16-mixed")


def _summary(out: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What is printed: the run folder, speed, loss, and the standing against random features in words."""
    from whytransfer.nn.collapse import verdict

    random = result["random"]
    summary = {k: v for k, v in result.items() if k not in ("random", "epoch")}
    if not random or "pairs" not in result:
        return {"run": str(out), **summary, "standing": "not watched (--no-monitor)"}
    if result.get("knn") is not None and random.get("knn") is not None:
        gain = result["knn"] - random["knn"]
        than = "above" if gain >= 0 else "BELOW"
        words = f"kNN {result['knn']:.1f} %, random features {random['knn']:.1f} %: {abs(gain):.1f} points {than} "
        words += "random features"
    else:
        words = f"pair matching {result['pairs']:.1f} %, random features {random['pairs']:.1f} % (no labels, so no kNN)"
    words += f"; {verdict(result['spread'], result['rank'], result['width'])}"
    randoms = {f"random_{k}": v for k, v in random.items()}
    return {"run": str(out), **summary, **randoms, "standing": words}
