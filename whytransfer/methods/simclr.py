"""SimCLR: find an image's other view among all other views of the batch.

[Chen 2020, "A simple framework for contrastive learning of visual representations"], with the paper's letters: h, z.
Loss and batch norm are over the views of all processes, as published. The loss is the mean over both directions, eq. 1;
the published code adds them up, which LARS notices in norms and in the weight decay alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.nn import heads
from whytransfer.nn.losses import nt_xent
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class SimCLR(nn.Module):
    """SimCLR as published (version 1): a two-layer projector with batch norm behind both layers.

    4096 images a step, LARS with the learning rate inside its velocity: 0.3 per 256 images, 4.8 at the paper's batch.
    """

    recipe = "simclr"
    defaults = Training("lars-simclr", lr_per_256=0.3, weight_decay=1e-6, warmup_epochs=10.0, epochs=100, batch=4096)
    views = 2
    needs: tuple[str, ...] = ()

    def __init__(
        self, backbone: Any, *, classes: int | None, images: int, seed: int = 0, dim: int = 128, T: float = 0.1
    ) -> None:
        super().__init__()
        self.T = T
        self.backbone = backbone
        self.projector = projector(backbone.width, dim, seed)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError unless every part holds a few images to tell apart."""
        if batch % parts or batch // parts < 4:
            raise InputError(
                f"SimCLR tells the images of a batch apart: {batch} images in {parts} equal parts are too few; "
                "choose a batch with at least 4 images per part"
            )

    def loss(self, views: Views) -> dict[str, Tensor]:
        h = self.backbone(torch.cat(views.images)).vector  # (2 B, width): both views share their batch statistics
        z1, z2 = self.projector(h).chunk(2)  # (B, dim) both
        agreement = torch.cosine_similarity(z1.detach().float(), z2.detach().float())  # (B,)
        return {"loss": nt_xent(z1, z2, self.T), "l_pos": agreement.mean()}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Nothing moves besides the weights."""


class SimCLRSmall(SimCLR):
    """SimCLR for small data: a preset of this project, for 5,000 to 50,000 images and batches of 64 to 256.

    What differs and why: SGD with a high learning rate and one epoch of warm-up, because LARS's steps of a thousandth
    of a layer's length need many of them; MoCo v2's views, whose crops keep a fifth of a picture that is small already;
    a projector of 512 hidden units. T was chosen of 0.1, 0.2, 0.5 with one run each (docs/results/methods.md).
    """

    recipe = "moco-v2"
    defaults = Training("sgd", lr_per_256=0.5, weight_decay=5e-4, warmup_epochs=1.0, epochs=15, batch=128)

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 512,
        T: float = 0.1,
    ) -> None:
        super().__init__(backbone, classes=classes, images=images, seed=seed, dim=dim, T=T)
        self.projector = heads.mlp(backbone.width, hidden, dim, nn.BatchNorm1d, seed)


def projector(width: int, dim: int, seed: int) -> nn.Module:
    """Linear, batch norm, ReLU, linear, batch norm without a shift: (B, width) -> (B, dim), as was published."""
    with heads.seeded(seed):
        layers = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, dim, bias=False),
            nn.BatchNorm1d(dim),
        )
    layers[-1].bias.requires_grad_(False)  # stays 0
    return layers
