"""DetCon for small data: presets of this project, no paper's, for 5,000 to 50,000 images and batches of 64 to 256.

The published settings assume 4096 images per step and 300,000 steps. Here the losses and regions of `detcon` stay; a
narrower head, plain SGD at moco-v2-small's learning rate, MoCo's views, and for B a target that follows closely from
the start, so that it does not remain what it was drawn as. Values of the other small presets, not tuned for regions.

Regions live on the last map, 32 px per cell: pictures of 96 px and more, or a backbone with the small stem, are meant.
"""

from __future__ import annotations

from typing import Any

from whytransfer.methods.detcon import DetConB, DetConS
from whytransfer.nn.schedules import Training

SMALL = Training("sgd", lr_per_256=0.5, weight_decay=5e-4, schedule="cosine", warmup_epochs=1.0, epochs=15, batch=128)


class DetConSSmall(DetConS):
    """DetCon-S with a head of 512 and 128."""

    recipe = "moco-v2"
    defaults = SMALL

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
        draws: int = 16,
        cut: int = 1,
        local_negatives: bool = True,
    ) -> None:
        given: dict[str, Any] = {"T": T, "draws": draws, "cut": cut, "local_negatives": local_negatives}
        super().__init__(backbone, classes=classes, images=images, seed=seed, dim=dim, hidden=hidden, **given)


class DetConBSmall(DetConB):
    """DetCon-B with heads of 512 and 128, and a target whose momentum rises from 0.9 to 1."""

    recipe = "moco-v2"
    defaults = SMALL
    presets = {}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 512,
        tau: float = 0.9,
        T: float = 0.1,
        draws: int = 16,
        cut: int = 1,
        local_negatives: bool = True,
    ) -> None:
        given: dict[str, Any] = {"tau": tau, "T": T, "draws": draws, "cut": cut, "local_negatives": local_negatives}
        super().__init__(backbone, classes=classes, images=images, seed=seed, dim=dim, hidden=hidden, **given)
