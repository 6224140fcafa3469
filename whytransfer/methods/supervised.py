"""Plain supervision: cross-entropy on class labels, the baseline every other method is read against.

The schedule is the cosine one of [Zhao 2021, §2.1], who trained supervised and contrastive models alike: 200 epochs.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.errors import InputError, too_few_classes
from whytransfer.nn import heads
from whytransfer.nn.losses import full_precision
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class Supervised(nn.Module):
    """Backbone, one linear layer, softmax cross-entropy over `classes`; reads the first view only."""

    recipe = "supervised"
    defaults = Training("sgd", lr_per_256=0.1, weight_decay=1e-4, schedule="cosine", epochs=200, batch=256)
    views = 1
    needs = ("labels",)

    def __init__(self, backbone: Any, *, classes: int | None, images: int, seed: int = 0) -> None:
        super().__init__()
        if classes is None or classes < 2:
            raise too_few_classes("supervised pretraining", classes)
        self.backbone = backbone
        self.classifier = heads.linear(backbone.width, classes, seed)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError for a batch of one: its batch norm has nothing to average over."""
        if batch // parts < 2:
            raise InputError(f"supervised pretraining needs at least 2 images per forward pass, got {batch // parts}")

    def loss(self, views: Views) -> dict[str, Tensor]:
        logits = full_precision(self.classifier(self.backbone(views.images[0]).vector))  # (B, classes)
        accuracy = (logits.detach().argmax(dim=1) == views.labels).float().mean()
        return {"loss": F.cross_entropy(logits, views.labels), "accuracy": accuracy}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Nothing moves besides the weights."""
