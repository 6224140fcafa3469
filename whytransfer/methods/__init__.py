"""Views -> loss: one method per file, each telling its own steps in the order of its paper."""

from __future__ import annotations

import inspect
import math
from typing import Any, Protocol

from torch import Tensor

from whytransfer.errors import unknown_name
from whytransfer.methods.byol import BYOL, BYOLSmall
from whytransfer.methods.detcon import DetConB, DetConS
from whytransfer.methods.detcon_one_view import DetConBOneView, DetConSOneView
from whytransfer.methods.detcon_small import DetConBSmall, DetConSSmall
from whytransfer.methods.exemplar import ExemplarV1, ExemplarV2
from whytransfer.methods.exemplar_small import ExemplarSmall
from whytransfer.methods.instdisc import InstDisc, InstDiscSoftmax
from whytransfer.methods.instdisc_small import InstDiscSmall
from whytransfer.methods.moco import MoCoV1, MoCoV2
from whytransfer.methods.moco_small import MoCoV2Small
from whytransfer.methods.simclr import SimCLR, SimCLRSmall
from whytransfer.methods.supcon import SupCon, SupConQueue, SupConSmall
from whytransfer.methods.supervised import Supervised
from whytransfer.methods.supervised_boxes import SupervisedBoxes
from whytransfer.methods.supervised_masks import SupervisedMasks
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class Method(Protocol):
    """What the pretraining loop knows of a method; every one is an nn.Module around a backbone that it was handed."""

    recipe: str  # the views that belong to the name, unless another recipe is asked for
    defaults: Training  # the paper's optimiser and schedule (nn.Module has a `training` of its own)
    views: int  # how many views of an image the loss reads
    needs: tuple[str, ...]  # of the images, besides pixels: "labels", "regions", "boxes", "semantic"
    backbone: Any  # what is kept after pretraining: images -> Features, with .width

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError, before anything is computed, if it cannot train on this batch.

        batch: images per optimiser step over all processes; parts: forward passes that share them.
        """

    def loss(self, views: Views) -> dict[str, Tensor]:
        """ "loss", scalars to log, and (B, ...) tensors for after_step; changes nothing but batch-norm statistics."""

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Once after each optimiser step (out: of all its micro-batches, concatenated; progress: share of the run)."""


# Papers first, each with its paper's settings; then this project's presets for small data.
METHODS: dict[str, type] = {
    "instdisc": InstDisc,
    "instdisc-softmax": InstDiscSoftmax,
    "moco-v1": MoCoV1,
    "moco-v2": MoCoV2,
    "simclr": SimCLR,
    "byol": BYOL,
    "detcon-s": DetConS,
    "detcon-b": DetConB,
    "detcon-s-one-view": DetConSOneView,
    "detcon-b-one-view": DetConBOneView,
    "supervised": Supervised,
    "supervised-boxes": SupervisedBoxes,
    "supervised-masks": SupervisedMasks,
    "supcon": SupCon,
    "supcon-queue": SupConQueue,
    "exemplar-v1": ExemplarV1,
    "exemplar-v2": ExemplarV2,
    "instdisc-small": InstDiscSmall,
    "moco-v2-small": MoCoV2Small,
    "simclr-small": SimCLRSmall,
    "byol-small": BYOLSmall,
    "detcon-s-small": DetConSSmall,
    "detcon-b-small": DetConBSmall,
    "supcon-small": SupConSmall,
    "exemplar-small": ExemplarSmall,
}


def build(name: str, backbone: Any, *, classes: int | None, images: int, seed: int = 0, **options: Any) -> Any:
    """The method called `name` around a backbone; InputError for a name or an option that does not exist.

    classes: how many the labels have (None: unlabelled); images: how many there are to train on.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    known = options_of(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    return METHODS[name](backbone, classes=classes, images=images, seed=seed, **options)


def preset(name: str, epochs: float | None = None) -> tuple[Training, dict[str, Any]]:
    """Training and options of a method for a run of so many epochs; None is the paper's own length.

    A paper that changes its settings with the length of a run lists them in its method's `presets`, {epochs: (Training,
    options)}, and the length nearest in ratio counts. Every other method is trained by its `defaults`, however long.
    """
    kind: Any = METHODS[name]
    presets = getattr(kind, "presets", {})
    if not presets or epochs is None:
        return kind.defaults, {}
    training, options = presets[min(presets, key=lambda length: abs(math.log(length / epochs)))]
    return training, dict(options)


def options_of(name: str) -> dict[str, Any]:
    """The options of a method and their defaults, which are the paper's."""
    given = {"self", "backbone", "classes", "images", "seed"}
    parameters = inspect.signature(METHODS[name]).parameters
    return {key: p.default for key, p in parameters.items() if key not in given}
