"""InstDisc for small data: a preset of this project, no paper's, for 5,000 to 50,000 images and batches of 64 to 256.

What differs and why: the exact softmax; an entry counts once its image was seen, so that no image is drawn to a random
entry and the first epoch only fills the bank; m 0, as an entry is an epoch old already; for that reason a lower
learning rate than its sisters', warmed up over the second epoch; batch norm in the projector. T 0.07, the paper's, was
no worse than 0.1 and 0.2 in one run each (docs/results/methods.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.methods.instdisc import InstDiscSoftmax
from whytransfer.nn import heads
from whytransfer.nn.losses import info_nce
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class InstDiscSmall(InstDiscSoftmax):
    """Every image is told from all images that were seen, by what the network last saw in them."""

    recipe = "moco-v2"
    defaults = Training("sgd", lr_per_256=0.1, weight_decay=5e-4, warmup_epochs=2.0, epochs=15, batch=128)

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 512,
        m: float = 0.0,
        T: float = 0.07,
    ) -> None:
        super().__init__(backbone, classes=classes, images=images, seed=seed, dim=dim, negatives=images, m=m, T=T)
        self.projector = heads.mlp(backbone.width, hidden, dim, nn.BatchNorm1d, seed)
        self.bank.rows.zero_()  # until an image was seen

    def loss(self, views: Views) -> dict[str, Tensor]:
        v = self.encode(views.images[0])  # (B, dim)
        rows, index = self.bank.rows, views.index
        seen = rows.any(dim=1)  # (N,)
        own = seen[index]
        if own.any():
            keep = seen & (torch.arange(len(rows), device=index.device) != index[own, None])
            loss = info_nce(v[own], rows[index[own]], rows, self.T, keep)
        else:
            loss = 0 * v.sum()
        return {"loss": loss, "features": v.detach(), "index": index}
