"""Exemplar for small data: a preset of this project, for 5,000 to 50,000 images and batches of 64 to 256.

It is `moco-v2-small` whose keys of an image's own class leave the denominator [Zhao 2021, §3, eq. 2]. What differs from
Exemplar v2 and why is what differs there from MoCo v2: no queue, whose keys tell their age in a short run, a key
encoder that follows closely at first, batch norm in the projector, both directions, a high learning rate. Those were
chosen for moco-v2-small; not tuned for this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import too_few_classes
from whytransfer.methods.moco_small import MoCoV2Small
from whytransfer.nn.gather import gather
from whytransfer.nn.losses import info_nce
from whytransfer.records import Views


class ExemplarSmall(nn.Module):
    """Each view finds its image's other view among the keys of other classes in the batch."""

    recipe = MoCoV2Small.recipe
    defaults = MoCoV2Small.defaults
    views = 2
    needs = ("labels",)

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
        if classes is None or classes < 2:
            raise too_few_classes("Exemplar", classes)
        given: dict[str, Any] = {"seed": seed, "dim": dim, "hidden": hidden, "m": m, "m_end": m_end, "T": T}
        self.moco = MoCoV2Small(backbone, classes=classes, images=images, **given)

    @property
    def backbone(self) -> Any:
        return self.moco.backbone

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """As moco-v2-small."""
        self.moco.check_batch(batch, parts)

    def loss(self, views: Views) -> dict[str, Tensor]:
        moco, (one, two) = self.moco, views.images[:2]
        q1, q2 = moco.encode(one), moco.encode(two)  # (B, dim)
        with torch.no_grad():
            k1, k2 = moco.encode_keys(one), moco.encode_keys(two)
        keep = views.labels[:, None] != gather(views.labels)  # (B, keys of all processes), False for the own one too
        there, back = info_nce(q1, k2, gather(k2), moco.T, keep), info_nce(q2, k1, gather(k1), moco.T, keep)
        return {"loss": (there + back) / 2, "l_pos": (q1.detach() * k2).sum(dim=1).mean()}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """The key encoder follows, as in moco-v2-small."""
        self.moco.after_step(out, progress)
