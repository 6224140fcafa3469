"""MoCo v2 for small data: a preset of this project, no paper's, for 5,000 to 50,000 images and batches of 64 to 256.

The published settings assume a million steps. Run small they can end below random features: the queue is larger than
the data, the key encoder hardly leaves its start, and a projector without batch norm learns slowly. Changed against
MoCo v2: batch norm in the projector, a queue no larger than the data, a key encoder that follows ten times as fast,
fewer and larger batch-norm groups, a higher learning rate with warm-up, moved at every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.methods.moco import MoCo
from whytransfer.nn import heads
from whytransfer.nn.batchnorm import check_groups
from whytransfer.nn.schedules import Training
from whytransfer.records import Views

SYMMETRIC = False  # True: each view is once the query and once the key, at twice the cost and two keys per image


class MoCoV2Small(MoCo):
    """MoCo v2 under settings for small data; queue=None means the largest power of two up to min(4096, images)."""

    recipe = "moco-v2"
    defaults = Training(
        "sgd", lr_per_256=0.4, weight_decay=5e-4, schedule="cosine", warmup_epochs=1, epochs=15, batch=128
    )

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 512,
        queue: int | None = None,
        m: float = 0.99,
        T: float = 0.2,
        splits: int = 4,
    ) -> None:
        if queue is None:
            queue = 1 << min(12, max(images, 1).bit_length() - 1)
        if queue > images:
            raise InputError(
                f"moco-v2-small keeps its queue within the data: {queue} keys asked for, {images} images found"
            )
        projector = heads.mlp(backbone.width, hidden, dim, nn.BatchNorm1d, seed)
        super().__init__(backbone, projector, dim=dim, queue=queue, m=m, T=T, splits=splits, seed=seed)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError unless the keys of a batch divide the queue and each part falls into equal groups."""
        self.queue.check_batch(2 * batch if SYMMETRIC else batch)
        check_groups(batch // parts, self.splits)

    def loss(self, views: Views) -> dict[str, Tensor]:
        one = self.contrast(views.images[0], views.images[1])
        if not SYMMETRIC:
            return one
        two = self.contrast(views.images[1], views.images[0])
        keys = torch.cat([one.pop("keys"), two.pop("keys")])  # (2B, dim)
        return {name: (one[name] + two[name]) / 2 for name in one} | {"keys": keys}
