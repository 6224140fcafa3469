"""What a study runs: each stage is one of our commands, its settings checked beforehand, its Results handed on.

A stage's function must be importable by name: it is sent to other processes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.commands.common import Settings
from whytransfer.errors import InputError
from whytransfer.study.cells import Cell, Stage

UNUSED = Path("cell")  # stands for the folder of a cell where settings are only checked
SPEED = ("batch", "cache_gb", "device", "threads", "save_minutes", "accelerator")  # change no number
# of the answer of a pretraining: metric -> (unit, direction)
MEASURED: dict[str, tuple[str, Any]] = {
    "images_per_second": ("images/s", "higher"), "seconds": ("s", "lower"), "peak_mib": ("MiB", "lower"),
    "knn": ("%", "higher"), "pairs": ("%", "higher"), "spread": ("", "higher"), "rank": ("", "higher"),
    "loss": ("", "lower"),
}  # fmt: skip
FITTED = ("finetune", "detection", "instances", "segmentation", "depth", "landmarks")  # tasks that train a network


def pretrain(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """A pretraining, from its last checkpoint if there is one; what it measured of itself as Results."""
    from whytransfer.commands import pretrain as command
    from whytransfer.commands.result_files import signed
    from whytransfer.records import Result
    from whytransfer.runs import read_card

    answer = command.pretrain(**settings, out=folder)
    (folder / "checkpoint.pt").unlink(missing_ok=True)  # three times the backbone, of which nothing is needed any more
    config = read_card(folder / "card.json")["config"]
    known = {name: answer[name] for name in MEASURED if answer.get(name) is not None}
    shared = {"model": str(folder), "data": settings["images"], "task": "pretrain", "seed": settings["seed"]}
    content = {"method": settings["method"], "recipe": config["recipe"], "epochs": config["epochs"]}
    content |= {name: value for name, value in answer.items() if name.startswith("random_")}
    return [
        signed(
            Result(**shared, metric=name, value=float(value), unit=MEASURED[name][0], direction=MEASURED[name][1],
                   n=answer.get("knn_query_count") or config["images"]),
            content,
        )
        for name, value in known.items()
    ]  # fmt: skip


def transfer(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """A task on a backbone."""
    from whytransfer.commands import transfer as command

    return command.transfer(**settings, out=folder)


def invariance(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """What a backbone ignores."""
    from whytransfer.commands.diagnose_invariance import diagnose_invariance

    return diagnose_invariance(**settings, out=folder)


def inversion(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """Pictures made again from a backbone's features."""
    from whytransfer.commands.diagnose_inversion import diagnose_inversion

    return diagnose_inversion(**settings, out=folder)


def errors(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """Why the detections of several backbones are not better; `truth` is the folder of a detection task's results."""
    import dataclasses

    from whytransfer.commands.diagnose_errors import diagnose_errors
    from whytransfer.commands.result_files import kept_results

    data = kept_results(Path(settings["truth"]))[0]["data"]  # not what the folder is called
    return [dataclasses.replace(result, data=data) for result in diagnose_errors(**settings, out=folder)]


def complementarity(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """Whether backbones know different things, and what fusing them gains."""
    from whytransfer.commands.diagnose_complementarity import diagnose_complementarity

    return diagnose_complementarity(**settings, out=folder)


def quality(settings: Mapping[str, Any], folder: Path) -> list[Any]:
    """How well regions cover what people annotated."""
    from whytransfer.commands.masks_quality import masks_quality

    return masks_quality(**settings)


def _complete(kind: type[Settings], settings: Mapping[str, Any], **ours: Any) -> dict[str, Any]:
    """The settings of a command with their defaults; InputError for a wrong one."""
    read = kind.made_from({**settings, **ours})
    return read.model_dump(mode="json", exclude={"as_json", "quiet", *ours})


def _check_pretrain(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.method import given_options, known_method
    from whytransfer.commands.pretrain import PretrainSettings
    from whytransfer.commands.regions import check_masks
    from whytransfer.views.recipes import recipe

    complete = _complete(PretrainSettings, settings, out=UNUSED)
    s = PretrainSettings.made_from({**settings, "out": UNUSED})
    paper = known_method(s.method)
    check_masks(s.masks, s.method, paper.needs)
    given_options(s)
    recipe(s.recipe or paper.recipe)
    return complete


def _check_transfer(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.transfer import TransferSettings, check_task, options_of

    s = TransferSettings.made_from({**settings, "out": UNUSED})
    check_task(s)
    options_of(s)
    return _complete(TransferSettings, settings, out=UNUSED)


def _check_invariance(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.diagnose_invariance import DiagnoseInvarianceSettings

    return _complete(DiagnoseInvarianceSettings, {"figures": False, **settings}, out=UNUSED)


def _check_inversion(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.diagnose_inversion import DiagnoseInversionSettings

    return _complete(DiagnoseInversionSettings, settings, out=UNUSED)


def _check_errors(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.diagnose_errors import DiagnoseErrorsSettings

    return _complete(DiagnoseErrorsSettings, {"figures": False, **settings}, out=UNUSED)


def _check_complementarity(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.diagnose_complementarity import DiagnoseComplementaritySettings

    return _complete(DiagnoseComplementaritySettings, {"figures": False, **settings}, out=UNUSED)


def _check_quality(settings: Mapping[str, Any]) -> dict[str, Any]:
    from whytransfer.commands.masks_quality import MasksQualitySettings

    complete = _complete(MasksQualitySettings, settings)
    if len([*complete["engine"], *complete["masks"]]) != 1:
        raise InputError(
            f"engine: a diagnosis of masks in a study is of one engine or one folder of regions, got "
            f"{[*complete['engine'], *complete['masks']]}: write one diagnosis for each"
        )
    return complete


def _module_of(thing: Any) -> str:
    """The module, named below the package, of a class or of a partial of one."""
    return str(getattr(thing, "func", thing).__module__).partition(".")[2]


BACKBONES = ("backbones.resnet", "backbones.fused")
PIXELS = ("images.decode", "images.build")


def _modules_of_pretrain(settings: Mapping[str, Any]) -> list[str]:
    from whytransfer.methods import METHODS

    own = ["pretraining", "monitor", "views.engine", "views.recipes", _module_of(METHODS[settings["method"]])]
    masks = ["masks.store", *_modules_of_engine(settings["masks"])] if settings.get("masks") else []
    return [*own, *BACKBONES, *PIXELS, *masks]


def _modules_of_transfer(settings: Mapping[str, Any]) -> list[str]:
    from whytransfer.tasks import TASKS

    return [_module_of(TASKS[settings["task"]]), *BACKBONES, *PIXELS]


def _modules_of_complementarity(settings: Mapping[str, Any]) -> list[str]:
    tasks = [module for task in settings["task"] for module in _modules_of_transfer({"task": task})]
    return ["diagnosis.complementarity", "diagnosis.consistency", "backbones.standardised", *tasks]


def _modules_of_engine(spec: str) -> list[str]:
    from whytransfer.masks import ENGINES

    name = spec.partition(":")[0].partition("-")[0]
    alone = name in ENGINES and name != "annotated"  # which is named with whatever reads annotations
    return [f"masks.{name}"] if alone else []


def _modules_of_quality(settings: Mapping[str, Any]) -> list[str]:
    engines = [module for spec in settings["engine"] for module in _modules_of_engine(spec)]
    return ["masks.quality", "masks.annotated", *dict.fromkeys(engines)]


def _fixed(*modules: str) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    return lambda settings: (*modules, *BACKBONES, *PIXELS)


def archs_of(cell: Cell) -> list[str]:
    """The architectures of the backbones that a cell takes; "" where the study file does not say."""
    return [
        str(origin.get("backbone", "resnet18"))
        if isinstance(origin, Mapping)
        else origin.split(":")[1] if origin.startswith("random:") else ""
        for origin in cell.origins
    ]  # fmt: skip


def size_of(cell: Cell) -> int:
    """The side of the images that a cell sees, in pixels: its own setting, else that of its pretrainings, else 64."""
    sizes = [origin.get("size", 64) for origin in cell.origins if isinstance(origin, Mapping)]
    return int(cell.settings.get("size") or max(sizes, default=64))


def _effort_of_pretrain(cell: Cell, sizes: Mapping[str, int]) -> tuple[str, float]:
    """Unit: an image of a step. Recipes differ little beside the step, so they are no kinds of their own."""
    s = cell.settings
    training, steps = _planned(s, sizes[s["images"]])
    kind = f"pretrain {s['method']} {s['backbone']} {s['size']} px batch {training.batch}"
    return kind, float(steps * training.batch)


def _planned(settings: Mapping[str, Any], images: int) -> tuple[Any, int]:
    """The Training of a pretraining, and its steps."""
    from whytransfer.commands.method import planned
    from whytransfer.commands.pretrain import PretrainSettings
    from whytransfer.loading import steps_per_epoch

    s = PretrainSettings.made_from({**settings, "out": UNUSED})
    training, _ = planned(s, images)
    return training, s.iterations or steps_per_epoch(images, training.batch) * training.epochs


def _calibrate_pretrain(cell: Cell) -> float:
    """Seconds per image: reading, views and step, a few batches of each on generated scenes."""
    from whytransfer import progress
    from whytransfer.commands.doctor import doctor

    s = cell.settings
    side = min(512, max(16, 2 * s["size"]))
    wanted = {k: s[k] for k in ("method", "recipe", "backbone", "size", "batch", "threads", "epochs", "iterations")}
    count = max(128, _planned(s, 10_000)[0].batch)
    with progress.quietly():
        found = doctor(images=f"scenes:{count}:0:{side}", seconds=0.2, **wanted)
    return 1 / found["expected_images_per_second"]


def _effort_of_transfer(cell: Cell, sizes: Mapping[str, int]) -> tuple[str, float]:
    """Unit: an image; tasks that train a network take their schedule's time however many there are."""
    s = cell.settings
    about = f"{s['task']} of {'+'.join(archs_of(cell))} at {size_of(cell)} px"
    if s["task"] in FITTED:
        about += "".join(
            f" {key} {s[key]}" for key in ("schedule", "budget", "fit_batch", "architecture", "mode") if s[key]
        )
        return f"{about} on {s['train']}", 1.0
    return about, float(sizes[s["train"]] + sizes[s["test"]])


def _effort_of_invariance(cell: Cell, sizes: Mapping[str, int]) -> tuple[str, float]:
    """Unit: a view."""
    from whytransfer.commands.diagnose_invariance import COUNTS, VALUES
    from whytransfer.diagnosis.grids import chosen, grid

    s = cell.settings
    names = () if tuple(s["transforms"]) == ("none",) else chosen(tuple(s["transforms"]))
    most = s["values"] or VALUES[s["mode"]]
    views = (s["count"] or COUNTS[s["mode"]]) * sum(len(grid(name, s["mode"], most)) for name in names)
    latent = sum(sizes.get(spec, 0) for spec in s["latent"] or ())
    kind = f"invariance of {'+'.join(archs_of(cell))} at {size_of(cell)} px, {len(s['stages'])} stages"
    return kind, float(views + sizes[s["images"]] + latent)


def _calibrate_features(cell: Cell) -> float | None:
    """Seconds per image of the frozen backbones: three batches through random weights of their architectures."""
    import time

    import torch

    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.pretrain import device_of

    archs, size = archs_of(cell), size_of(cell)
    if not all(archs) or cell.settings.get("task") in FITTED:
        return None
    device = device_of(cell.settings.get("device", "auto"))
    images = torch.rand(32, 3, size, size, device=device)
    seconds = 0.0
    with torch.inference_mode():
        for arch in archs:
            backbone = load_backbone(f"random:{arch}", device)
            backbone(images)
            began = time.perf_counter()
            for _ in range(3):
                float(backbone(images).vector.sum())  # waits for a GPU
            seconds += (time.perf_counter() - began) / 96
    return seconds


def _effort_of_steps(cell: Cell, sizes: Mapping[str, int]) -> tuple[str, float]:
    """Of an inversion; unit: a picture's fit of the published length."""
    s = cell.settings
    kind = f"inversion of {'+'.join(archs_of(cell))} at {size_of(cell)} px"
    return kind, min(s["count"], sizes[s["images"]]) * s["budget"]


def _effort_of_quality(cell: Cell, sizes: Mapping[str, int]) -> tuple[str, float]:
    """Unit: an image."""
    s = cell.settings
    return f"quality of {', '.join([*s['engine'], *s['masks']])} on {s['images']}", float(sizes[s["images"]])


@functools.cache
def _weights_bytes(arch: str) -> int:
    from whytransfer.backbones.resnet import build

    return 4 * sum(tensor.numel() for tensor in build(arch).state_dict().values())


def _bytes_of_pretrain(settings: Mapping[str, Any]) -> int:
    """The weights; the checkpoint, gone at the end, is not counted."""
    return _weights_bytes(settings["backbone"])


STAGES: dict[str, Stage] = {
    "pretrain": Stage(
        pretrain, _check_pretrain, "seed", images=("images", "val"), files=("masks",),
        ignored=("threads", "save_minutes", "accelerator", "cache_gb"), modules=_modules_of_pretrain,
        effort=_effort_of_pretrain, calibrate=_calibrate_pretrain, bytes=_bytes_of_pretrain,
    ),
    "transfer": Stage(
        transfer, _check_transfer, "backbone", images=("train", "test"), ignored=SPEED, modules=_modules_of_transfer,
        effort=_effort_of_transfer, calibrate=_calibrate_features,
    ),
    "diagnose-invariance": Stage(
        invariance, _check_invariance, "backbone", images=("images", "statistics", "latent"),
        files=("groups", "scores"), ignored=(*SPEED, "figures"),
        modules=_fixed("diagnosis.invariance", "diagnosis.real_invariance", "diagnosis.view_groups", "tasks.kernel"),
        effort=_effort_of_invariance, calibrate=_calibrate_features,
    ),
    "diagnose-inversion": Stage(
        inversion, _check_inversion, "backbone", images=("images",), files=("lpips",),
        ignored=("batch", "previews", "device"), modules=_fixed("diagnosis.inversion"), effort=_effort_of_steps,
    ),
    "diagnose-errors": Stage(
        errors, _check_errors, "predictions", ignored=("figures",),
        modules=lambda settings: ("diagnosis.detection_analysis", "diagnosis.detection_files"),
    ),
    "diagnose-complementarity": Stage(
        complementarity, _check_complementarity, "backbones", images=("train", "test"), beside=("control",),
        ignored=(*SPEED, "figures"), modules=_modules_of_complementarity,
    ),
    "masks-quality": Stage(
        quality, _check_quality, "nothing", images=("images",), files=("truth", "masks", "engine"),
        modules=_modules_of_quality, effort=_effort_of_quality,
    ),
}  # fmt: skip
