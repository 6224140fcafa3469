"""Supervision by the class of every pixel: the backbone is trained inside a segmenter  [Zhao 2021, §2.2: Synthia].

Which segmenter, and all its settings, that paper leaves open. Here it is FCN-8s [Long 2015, arXiv:1411.4038], the
plainest that reads more than the last map: a score per class from each of the last three stages, coarse to fine.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.nn import heads
from whytransfer.nn.dense import stages_of
from whytransfer.nn.gather import gather
from whytransfer.nn.losses import full_precision
from whytransfer.nn.schedules import Training
from whytransfer.records import Views

VOID = 255  # the id of a pixel that has no class
STAGES = ("layer4", "layer3", "layer2")  # coarse to fine; of ResNets cells of 32, 16, 8 px


class SupervisedMasks(nn.Module):
    """Softmax cross-entropy over the labelled pixels of the first view; views.regions[0] is its label map of classes.

    The mean is over the labelled pixels of all processes. A view without any adds nothing; all such views, loss 0.
    """

    recipe = "supervised"
    defaults = Training("sgd", lr_per_256=0.1, weight_decay=1e-4, warmup_epochs=5.0, epochs=200, batch=64)
    views = 1
    needs = ("semantic",)

    def __init__(self, backbone: Any, *, classes: int | None, images: int, seed: int = 0) -> None:
        super().__init__()
        if classes is None or classes < 2:
            raise InputError(f"supervised-masks needs pixels of at least 2 classes, found {classes or 'none'}")
        self.backbone, self.classes = backbone, classes
        with heads.seeded(seed):
            self.scores = nn.ModuleList(nn.Conv2d(s.channels, classes, 1) for s in stages_of(backbone, STAGES))

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError for a batch of one: where a map has one cell, batch norm has nothing to average over."""
        if batch // parts < 2:
            raise InputError(f"supervised-masks needs at least 2 images per forward pass, got {batch // parts}")

    def logits(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, classes, S, S)."""
        stages = self.backbone(images).stages
        score: Tensor | None = None
        for name, layer in zip(STAGES, self.scores, strict=True):
            own = full_precision(layer(stages[name]))  # (B, classes, h, w)
            score = own if score is None else own + enlarged(score, own.shape[2:])
        assert score is not None
        return enlarged(score, images.shape[2:])

    def loss(self, views: Views) -> dict[str, Tensor]:
        if not views.regions or views.regions[0].ndim != 3:
            raise InputError("supervised-masks learns the classes of pixels and these views have no label maps")
        classes = views.regions[0].long()  # (B, S, S)
        logits = self.logits(views.images[0])
        labelled = classes != VOID
        count = gather(labelled.sum()[None]).float().mean()  # so that the mean over processes is that of all pixels
        loss = F.cross_entropy(logits, classes, ignore_index=VOID, reduction="sum") / count.clamp(min=1)
        right = (logits.detach().argmax(dim=1) == classes) & labelled
        return {"loss": loss, "pixel_accuracy": right.sum() / labelled.sum().clamp(min=1)}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Nothing moves besides the weights."""


def enlarged(scores: Tensor, size: torch.Size) -> Tensor:
    """Bilinear, (B, C, h, w) -> (B, C, *size)."""
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
