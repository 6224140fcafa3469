"""Momentum contrast: tell an image's other view from a queue of other images' keys.

MoCo v1 [He 2020, "Momentum contrast for unsupervised visual representation learning", alg. 1] and v2 [Chen 2020,
"Improved baselines with momentum contrastive learning"], with the papers' letters: q, k, l_pos, queue, m, T.
Default, Spatial and Appearance [Ericsson 2021] are MoCo v2 under the recipes of those names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer import chance
from whytransfer.nn import heads
from whytransfer.nn.batchnorm import check_groups, groups_here, shuffled, split_batch_norm
from whytransfer.nn.ema import frozen_copy, update_ema
from whytransfer.nn.gather import gather, world
from whytransfer.nn.losses import info_nce, unit
from whytransfer.nn.queue import KeyQueue
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class MoCo(nn.Module):
    """The steps that both papers share; the first view is the query, the second the key.

    splits: groups of the batch with batch statistics of their own, as on so many devices (`nn.batchnorm`).
    Under several processes keys are shuffled over all of them and enqueued from all.
    """

    views = 2
    needs: tuple[str, ...] = ()

    def __init__(
        self, backbone: Any, projector: nn.Module, *, dim: int, queue: int, m: float, T: float, splits: int, seed: int
    ) -> None:
        super().__init__()
        self.m, self.T, self.splits, self.seed = m, T, splits, seed
        self.backbone = split_batch_norm(backbone, splits)
        self.projector = split_batch_norm(projector, splits)
        self.key_backbone, self.key_projector = frozen_copy(self.backbone), frozen_copy(self.projector)
        self.queue = KeyQueue(queue, dim, seed)
        self.steps = 0

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError unless the batch divides the queue and each of its parts falls into equal groups."""
        self.queue.check_batch(batch)
        check_groups(batch // parts, groups_here(self.splits))

    def loss(self, views: Views) -> dict[str, Tensor]:
        return self.contrast(views.images[0], views.images[1])

    def contrast(self, im_q: Tensor, im_k: Tensor) -> dict[str, Tensor]:
        """InfoNCE of one view against the other; im_q, im_k (B, 3, S, S)."""
        q, k = self.encode_queries(im_q), self.encode_keys(im_k)  # (B, dim) both
        l_pos = (q.detach() * k).sum(dim=1)
        return {"loss": info_nce(q, k, self.queue.keys, self.T), "l_pos": l_pos.mean(), "keys": k}

    def encode_queries(self, im_q: Tensor) -> Tensor:
        return unit(self.projector(self.backbone(im_q).vector))

    @torch.no_grad()
    def encode_keys(self, im_k: Tensor) -> Tensor:
        """Keys of the momentum encoder, in training mode, each image among other neighbours than its query's."""
        order = torch.from_numpy(chance.permutation(self.seed, self.steps, len(im_k) * world()[1]))
        if im_k.is_cuda:  # without pinned memory the host would wait here for all that the GPU still has to do
            order = order.pin_memory().to(im_k.device, non_blocking=True)
        return unit(shuffled(lambda x: self.key_projector(self.key_backbone(x).vector), im_k, order))

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Enqueue the keys that the loss has used, then let the key encoder follow."""
        self.queue.enqueue(gather(out["keys"]))
        self.follow()

    def follow(self) -> None:
        """The key encoder moves towards the query encoder.

        The paper does it just before it encodes keys; nothing happens between here and there.
        """
        update_ema(self.key_backbone, self.backbone, self.m)
        update_ema(self.key_projector, self.projector, self.m)
        self.steps += 1

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


class MoCoV1(MoCo):
    """MoCo v1: one linear layer, T 0.07, learning rate dropped at 60 % and 80 % of the epochs."""

    recipe = "moco-v1"
    defaults = Training("sgd", lr_per_256=0.03, schedule="step", changes_every="epoch", epochs=200, batch=256)

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        queue: int = 65536,
        m: float = 0.999,
        T: float = 0.07,
        splits: int = 8,
    ) -> None:
        projector = heads.linear(backbone.width, dim, seed)
        super().__init__(backbone, projector, dim=dim, queue=queue, m=m, T=T, splits=splits, seed=seed)


class MoCoV2(MoCo):
    """MoCo v2: a two-layer projector without batch norm, T 0.2, cosine schedule moved once per epoch."""

    recipe = "moco-v2"
    defaults = Training("sgd", lr_per_256=0.03, schedule="cosine", changes_every="epoch", epochs=200, batch=256)

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        queue: int = 65536,
        m: float = 0.999,
        T: float = 0.2,
        splits: int = 8,
    ) -> None:
        projector = heads.mlp(backbone.width, backbone.width, dim, seed=seed)
        super().__init__(backbone, projector, dim=dim, queue=queue, m=m, T=T, splits=splits, seed=seed)
