"""Supervised contrast: draw together all images of a class, one view at a time.

[Khosla 2020, "Supervised contrastive learning"], its better form with the mean outside the logarithm; letters z, q, k,
T. On a batch (`supcon`), and on the queue of a momentum encoder (`supcon-queue`), for batches that hold few images of
a class. An image whose class has no other image there has its own other view as its one positive, as without labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError, too_few_classes
from whytransfer.methods.moco import MoCoV2
from whytransfer.nn import heads
from whytransfer.nn.gather import gather
from whytransfer.nn.losses import supcon, supcon_queue
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class SupCon(nn.Module):
    """SupCon on a batch: every other view of the class, of all processes, is a positive.

    T, batch and LARS are the paper's; learning rate, weight decay and warm-up are SimCLR's, whose settings it takes up.
    paper: AutoAugment; here SimCLR's views. Batch norm is over all processes, as published.
    """

    recipe = "simclr"
    defaults = Training("lars-simclr", lr_per_256=0.3, weight_decay=1e-6, warmup_epochs=10.0, epochs=350, batch=6144)
    views = 2
    needs = ("labels",)

    def __init__(
        self, backbone: Any, *, classes: int | None, images: int, seed: int = 0, dim: int = 128, T: float = 0.1
    ) -> None:
        super().__init__()
        if classes is None or classes < 2:
            raise too_few_classes("SupCon", classes)
        self.T = T
        self.backbone = backbone
        self.projector = heads.mlp(backbone.width, backbone.width, dim, seed=seed)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError unless every part holds a few images to compare."""
        if batch % parts or batch // parts < 4:
            raise InputError(
                f"SupCon compares the images of a batch: {batch} images in {parts} equal parts are too few; "
                "choose a batch with at least 4 images per part"
            )

    def loss(self, views: Views) -> dict[str, Tensor]:
        h = self.backbone(torch.cat(views.images)).vector  # (2 B, width): both views share their batch statistics
        z = torch.stack(self.projector(h).chunk(2), dim=1)  # (B, 2, dim)
        return {"loss": supcon(z, views.labels, self.T)}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Nothing moves besides the weights."""


class SupConSmall(SupCon):
    """SupCon for small data: a preset of this project, for 5,000 to 50,000 images and batches of 64 to 256.

    What differs and why: SGD with one epoch of warm-up in place of LARS, for the few steps; batch norm in a projector
    of 512 hidden units and MoCo v2's views, as in the other small presets; batch norm behind the projector too, without
    which the vectors fell together on one point at first, where the loss is log(2 B - 1). With 100 classes or more a
    batch of 128 holds hardly two images of one: take a larger --batch. T was chosen of 0.1, 0.2, 0.3 with one run each
    (docs/results/methods.md).
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
        T: float = 0.3,
    ) -> None:
        super().__init__(backbone, classes=classes, images=images, seed=seed, dim=dim, T=T)
        mlp = heads.mlp(backbone.width, hidden, dim, nn.BatchNorm1d, seed)
        self.projector = nn.Sequential(mlp, nn.BatchNorm1d(dim, affine=False))


class SupConQueue(nn.Module):
    """SupCon on MoCo v2's queue, whose keys carry labels: all queued keys of the class are positives.

    The paper's own account of this form names no settings; these are MoCo v2's, with SupCon's T.
    """

    recipe = "moco-v2"
    defaults = MoCoV2.defaults
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
        queue: int = 65536,
        m: float = 0.999,
        T: float = 0.1,
        splits: int = 8,
    ) -> None:
        super().__init__()
        if classes is None or classes < 2:
            raise too_few_classes("SupCon", classes)
        given: dict[str, Any] = {"seed": seed, "dim": dim, "queue": queue, "m": m, "T": T, "splits": splits}
        self.moco = MoCoV2(backbone, classes=classes, images=images, **given)

    @property
    def backbone(self) -> Any:
        return self.moco.backbone

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """As MoCo."""
        self.moco.check_batch(batch, parts)

    def loss(self, views: Views) -> dict[str, Tensor]:
        q, k = self.moco.encode_queries(views.images[0]), self.moco.encode_keys(views.images[1])  # (B, dim) both
        queue = self.moco.queue
        loss = supcon_queue(q, k, views.labels, queue.keys, queue.labels, self.moco.T)
        return {"loss": loss, "l_pos": (q.detach() * k).sum(dim=1).mean(), "keys": k, "labels": views.labels}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Enqueue the keys with their labels, then let the key encoder follow."""
        self.moco.queue.enqueue(gather(out["keys"]), gather(out["labels"]))
        self.moco.follow()
