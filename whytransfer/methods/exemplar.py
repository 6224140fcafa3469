"""Exemplar: MoCo in which the queued keys of an image's own class leave the denominator.

[Zhao 2021, "What makes instance discrimination good for transfer learning?", §3, eq. 2]: the one positive is the
image's other view; other images of its class are neither attracted nor repelled, all other classes are negatives.
Labels travel with their keys. With labels that no two keys share it is MoCo, to the last bit; with one label for all
only the positive is left and the loss is 0.

Memory of the paper's queue of a million keys (1,048,576, which batches of powers of two divide): keys 512 MiB, labels
8 MiB; the loss and its gradient take 17 MiB for each image of the process's batch (logits, masks, exponentials;
measured on a processor at 64 and 128 images), so 4.3 GiB at 256. A checkpoint holds the queue as well.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from whytransfer.errors import too_few_classes
from whytransfer.methods.moco import MoCoV1, MoCoV2
from whytransfer.nn.gather import gather
from whytransfer.nn.losses import info_nce
from whytransfer.records import Views

MILLION = 1_048_576  # paper: "1M"; divisible by its batch


class Exemplar(nn.Module):
    """What both versions do to their MoCo. A key without a label (the queue's random start) is everyone's negative."""

    views = 2
    needs = ("labels",)

    def __init__(
        self, moco: type[MoCoV1] | type[MoCoV2], backbone: Any, classes: int | None, images: int, **options: Any
    ) -> None:
        super().__init__()
        if classes is None or classes < 2:
            raise too_few_classes("Exemplar", classes)
        self.moco = moco(backbone, classes=classes, images=images, **options)

    @property
    def backbone(self) -> Any:
        return self.moco.backbone

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """As MoCo: the batch divides the queue, and its parts fall into equal groups."""
        self.moco.check_batch(batch, parts)

    def loss(self, views: Views) -> dict[str, Tensor]:
        q, k = self.moco.encode_queries(views.images[0]), self.moco.encode_keys(views.images[1])  # (B, dim) both
        keep = views.labels[:, None] != self.moco.queue.labels  # (B, K)
        loss = info_nce(q, k, self.moco.queue.keys, self.moco.T, keep)
        return {"loss": loss, "l_pos": (q.detach() * k).sum(dim=1).mean(), "keys": k, "labels": views.labels}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Enqueue the keys that the loss has used with their labels, then let the key encoder follow."""
        self.moco.queue.enqueue(gather(out["keys"]), gather(out["labels"]))
        self.moco.follow()


class ExemplarV1(Exemplar):
    """On MoCo v1: T 0.07, a million keys."""

    recipe = "moco-v1"
    defaults = MoCoV1.defaults

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        queue: int = MILLION,
        m: float = 0.999,
        T: float = 0.07,
        splits: int = 8,
    ) -> None:
        options = {"seed": seed, "dim": dim, "queue": queue, "m": m, "T": T, "splits": splits}
        super().__init__(MoCoV1, backbone, classes, images, **options)


class ExemplarV2(Exemplar):
    """On MoCo v2: T 0.1 (not MoCo v2's 0.2), a million keys."""

    recipe = "moco-v2"
    defaults = MoCoV2.defaults

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        queue: int = MILLION,
        m: float = 0.999,
        T: float = 0.1,
        splits: int = 8,
    ) -> None:
        options = {"seed": seed, "dim": dim, "queue": queue, "m": m, "T": T, "splits": splits}
        super().__init__(MoCoV2, backbone, classes, images, **options)
