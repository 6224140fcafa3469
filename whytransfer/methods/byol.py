"""BYOL: predict what a slow copy of the network sees in the image's other view; no negatives.

[Grill 2020, "Bootstrap your own latent"], with the paper's letters: q predictions, z' targets, tau.
Batch norm is over all processes, as published.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.nn import heads
from whytransfer.nn.ema import frozen_copy, redrawn, rising, update_ema
from whytransfer.nn.losses import byol
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


def _paper(epochs: int, lr: float, weight_decay: float) -> Training:
    return Training("lars", lr, weight_decay=weight_decay, warmup_epochs=10.0, epochs=epochs, batch=4096)


class BYOL(nn.Module):
    """BYOL as published; tau is that of the target at the start, on its way to 1.

    `presets` are the published code's: what changes with the length of a run.
    """

    recipe = "byol"
    defaults = _paper(1000, 0.2, 1.5e-6)
    presets: dict[int, tuple[Training, dict[str, Any]]] = {
        40: (_paper(40, 0.45, 1e-6), {"tau": 0.97}),
        100: (_paper(100, 0.45, 1e-6), {"tau": 0.99}),
        300: (_paper(300, 0.3, 1e-6), {"tau": 0.99}),
        1000: (defaults, {"tau": 0.996}),
    }
    views = 2
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 256,
        hidden: int = 4096,
        tau: float = 0.996,
    ) -> None:
        super().__init__()
        self.tau = tau
        self.backbone = backbone
        self.projector = heads.byol_mlp(backbone.width, hidden, dim, seed)
        self.predictor = heads.byol_mlp(dim, hidden, dim, seed + 1)
        # the published code starts the target from other weights than the online network
        self.target_backbone, self.target_projector = redrawn(self.backbone, seed), redrawn(self.projector, seed + 1)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError where batch norm, which keeps BYOL from collapsing, has next to nothing to average over."""
        if batch % parts or batch // parts < 4:
            raise InputError(
                f"BYOL needs batch statistics: {batch} images in {parts} equal parts are too few; choose a batch with "
                "at least 4 images per part (its authors lose 3 points of accuracy at 128, 13 at 64)"
            )

    def loss(self, views: Views) -> dict[str, Tensor]:
        one, two = views.images[0], views.images[1]
        q1, q2 = self.predict(one), self.predict(two)  # (B, dim)
        with torch.no_grad():
            z1, z2 = self.target(one), self.target(two)
        towards_2, towards_1 = byol(q1, z2), byol(q2, z1)
        return {"loss": towards_2 + towards_1, "l_pos": 1 - towards_2.detach() / 2}

    def predict(self, images: Tensor) -> Tensor:
        return self.predictor(self.projector(self.backbone(images).vector))

    def target(self, images: Tensor) -> Tensor:
        return self.target_projector(self.target_backbone(images).vector)

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """The target follows; tau rises to 1."""
        tau = rising(self.tau, 1.0, progress)
        update_ema(self.target_backbone, self.backbone, tau)
        update_ema(self.target_projector, self.projector, tau)


class BYOLSmall(BYOL):
    """BYOL for small data: a preset of this project, for 5,000 to 50,000 images and batches of 64 to 256.

    What differs and why: SGD with one epoch of warm-up in place of LARS, for the few steps; a predictor that learns ten
    times as fast as the rest, because one near its optimum is what keeps features apart [Grill 2020, §3.2; Tian 2021,
    arXiv:2102.06810] and some thousand steps leave no time to wait for it; a target that starts as a copy (one with
    other weights teaches a random start for long) and follows closely; heads of a tenth of the width; MoCo v2's views,
    both alike, whose crops keep a fifth of a picture that is small already. It learns more slowly than the contrastive
    presets: give it its 40 epochs (docs/results/methods.md).
    """

    recipe = "moco-v2"
    defaults = Training("sgd", lr_per_256=0.1, weight_decay=5e-4, warmup_epochs=1.0, epochs=40, batch=64)
    presets = {}
    FASTER = 10.0  # the predictor's learning rate, in those of the rest

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 512,
        tau: float = 0.99,
    ) -> None:
        super().__init__(backbone, classes=classes, images=images, seed=seed, dim=dim, hidden=hidden, tau=tau)
        self.target_backbone, self.target_projector = frozen_copy(self.backbone), frozen_copy(self.projector)
        for parameter in self.predictor.parameters():  # under SGD a scaled gradient is a scaled learning rate
            parameter.register_hook(lambda gradient: self.FASTER * gradient)
