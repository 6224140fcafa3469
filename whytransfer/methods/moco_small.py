"""MoCo v2 for small data: a preset of this project, no paper's, for 5,000 to 50,000 images and batches of 64 to 256.

The published settings assume a million steps; run small they can end below random features. Chosen together, on a
held-out part of such a training set and with one run each (docs/results/first-answer.md); no ablation says which of
them matters:

* No queue; the negatives are the other keys of the batch. The idea, not tested by itself: while everything still moves
  fast, keys that are a few steps old can be told from fresh ones by their age, without looking at the picture.
* Keys of one batch share their batch statistics, positives and negatives alike, so nothing is split or shuffled.
* A key encoder that follows closely at first (m 0.9) and slowly at the end (0.99).
* Batch norm in the projector, both directions, a high learning rate with warm-up, moved at every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.nn import heads
from whytransfer.nn.ema import frozen_copy, rising, update_ema
from whytransfer.nn.gather import gather, own_rows
from whytransfer.nn.losses import info_nce, unit
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class MoCoV2Small(nn.Module):
    """Query and key encoder, each view once the query and once the key.

    m is the momentum at the start; it rises to m_end, or stays where it is at least that.
    """

    recipe = "moco-v2"
    defaults = Training(
        "sgd", lr_per_256=0.5, weight_decay=5e-4, schedule="cosine", warmup_epochs=1.0, epochs=15, batch=128
    )
    views = 2
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 512,
        m: float = 0.9,
        m_end: float = 0.99,
        T: float = 0.2,
    ) -> None:
        super().__init__()
        self.m, self.m_end, self.T = m, max(m, m_end), T
        self.backbone = backbone
        self.projector = heads.mlp(backbone.width, hidden, dim, nn.BatchNorm1d, seed)
        self.key_backbone, self.key_projector = frozen_copy(self.backbone), frozen_copy(self.projector)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError unless every part holds a few images to tell apart."""
        if batch % parts or batch // parts < 4:
            raise InputError(
                f"moco-v2-small tells the images of a batch apart: {batch} images in {parts} equal parts are too few; "
                "choose a batch with at least 4 images per part (64 to 256 in all are meant)"
            )

    def loss(self, views: Views) -> dict[str, Tensor]:
        one, two = views.images[0], views.images[1]
        q1, q2 = self.encode(one), self.encode(two)  # (B, dim)
        with torch.no_grad():
            k1, k2 = self.encode_keys(one), self.encode_keys(two)
        loss = (self.contrast(q1, k2) + self.contrast(q2, k1)) / 2
        return {"loss": loss, "l_pos": (q1.detach() * k2).sum(dim=1).mean()}

    def encode(self, images: Tensor) -> Tensor:
        return unit(self.projector(self.backbone(images).vector))

    def encode_keys(self, images: Tensor) -> Tensor:
        return unit(self.key_projector(self.key_backbone(images).vector))

    def contrast(self, q: Tensor, k: Tensor) -> Tensor:
        """InfoNCE of each query against its own key and the other keys of the batch, those of other processes too."""
        others = gather(k)  # (B * processes, dim)
        keep = torch.ones(len(q), len(others), dtype=torch.bool, device=q.device)
        keep.scatter_(1, own_rows(k)[:, None], False)
        return info_nce(q, k, others, self.T, keep)

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """The key encoder follows; m rises from `m` to `m_end`."""
        m = rising(self.m, self.m_end, progress)
        update_ema(self.key_backbone, self.backbone, m)
        update_ema(self.key_projector, self.projector, m)
