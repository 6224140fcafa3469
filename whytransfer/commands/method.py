"""From settings to a method: which one, with which options, trained how, on which views."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from whytransfer.errors import InputError

# our setting: the papers' letters for it; a method has one of them or none
OPTIONS = {
    "queue": ("queue",),
    "momentum": ("m", "tau"),
    "temperature": ("T",),
    "dim": ("dim",),
    "hidden": ("hidden",),
    "negatives": ("negatives",),
    "draws": ("draws",),
    "cut": ("cut",),
    "local_negatives": ("local_negatives",),
    "splits": ("splits",),
}


def known_method(name: str) -> Any:
    """The method of that name; an unknown one is refused with the near names."""
    from whytransfer.errors import unknown_name
    from whytransfer.methods import METHODS

    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def option_of(method: str, setting: str) -> str | None:
    """The letter that this method has for one of our settings, None where it has no such thing."""
    from whytransfer.methods import options_of

    known_method(method)
    return next((letter for letter in OPTIONS[setting] if letter in options_of(method)), None)


def given_options(s: Any) -> dict[str, Any]:
    """The method's options that were given; InputError for one that the method does not have."""
    given = {}
    for setting in OPTIONS:
        value, letter = getattr(s, setting), option_of(s.method, setting)
        if value is None:
            continue
        if letter is None:
            has = [flag(other) for other in OPTIONS if option_of(s.method, other)]
            raise InputError(
                f"{flag(setting)} {value}: {s.method} has no such setting. Leave it out, or choose a method that has it"
                + (f" ({s.method} has {', '.join(has)})." if has else ".")
            )
        given[letter] = value
    return given


def flag(setting: str) -> str:
    """What a setting is called on the command line."""
    return f"--{setting.replace('_', '-')}"


def planned(s: Any, images: int) -> tuple[Any, dict[str, Any]]:
    """The method's Training and options for a run of this length over so many images, with what the settings replace.

    Papers that name settings for several lengths (BYOL) give those of the nearest one.
    """
    from whytransfer import methods
    from whytransfer.loading import steps_per_epoch

    paper = known_method(s.method)
    if s.epochs and s.iterations:
        raise InputError(f"--epochs {s.epochs} and --iterations {s.iterations} both say how long: give one of them.")
    length: float | None = s.epochs
    if s.iterations:
        length = s.iterations / steps_per_epoch(images, s.batch or paper.defaults.batch)
    training, options = methods.preset(s.method, length)
    training = training_of(s, training)
    if s.iterations and length:
        training = dataclasses.replace(training, epochs=math.ceil(length))  # the last one ends early
    return training, {**methods.options_of(s.method), **options, **given_options(s)}


def training_of(s: Any, paper: Any) -> Any:
    """The method's Training with what the settings replace."""
    batch = s.batch or paper.batch
    given = {
        "epochs": s.epochs,
        "batch": batch,
        "lr_per_256": s.lr * 256 / batch if s.lr else None,
        "weight_decay": s.weight_decay,
        "schedule": s.schedule,
        "milestones": s.milestones,
        "optimizer": s.optimizer,
        "warmup_epochs": s.warmup_epochs,
    }
    training = dataclasses.replace(paper, **{k: v for k, v in given.items() if v is not None})
    if s.milestones and training.schedule != "step":
        raise InputError(
            f"--milestones: the {training.schedule} schedule has none. Add --schedule step, or leave it out."
        )
    return training


def build_method(s: Any, pixels: Any, options: dict[str, Any]) -> Any:
    """The method around a freshly drawn backbone, for these images."""
    import torch

    from whytransfer import methods
    from whytransfer.backbones.resnet import build

    classes = classes_of(pixels, s.method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        backbone = build(s.backbone)
    return methods.build(s.method, backbone, classes=classes, images=len(pixels), seed=s.seed, **options)


def ready(s: Any, images: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The method for these images, decoded or not, with its Training and options; InputError for what cannot be."""
    from whytransfer.loading import check_parts, steps_per_epoch

    training, options = planned(s, len(images))
    method = build_method(s, images, options)
    steps_per_epoch(len(images), training.batch)  # refuses a batch that is larger than the data
    check_parts(training.batch, s.accumulate, 1)
    method.check_batch(training.batch, s.accumulate)
    return method, training, options


def classes_of(pixels: Any, method: str) -> int | None:
    """How many classes a method is told of: of images, boxes or pixels; InputError where it needs what is not there."""
    from whytransfer.images import require_labels, targets

    needs, why = known_method(method).needs, f"--method {method}"
    for need, classes in (("boxes", targets.box_classes), ("semantic", targets.pixel_classes)):
        if need in needs:
            targets.require_targets(pixels, need, why)
            return len(classes(pixels))
    if "labels" in needs:
        require_labels(pixels, why)
    return len(pixels.classes) or None


def recipe_for(name: str, method: Any) -> str:
    """The recipe's twin for a classifier where it has one: a rung's crop is wider there.

    Methods that compare views keep the contrastive rung, with labels or without.
    """
    from whytransfer.views.recipes import RECIPES

    twin = f"{name}-supervised"
    on_labels = not {"labels", "boxes", "semantic"}.isdisjoint(method.needs)
    return twin if on_labels and method.views == 1 and twin in RECIPES else name


def views_for(views: Any, count: int) -> Any:
    """A recipe with as many views as the method reads: a one-view recipe is drawn again, a spare view is left out."""
    pipelines = (views.views * count)[:count] if len(views.views) == 1 else views.views[:count]
    return dataclasses.replace(views, views=pipelines)
