"""Contrastive detection: every region of an image against itself in the other view, and against all other regions.

DetCon-S and -B [Henaff 2021, arXiv:2103.10957], B as in the authors' published code; S they did not publish: here its
optimiser and colours are SimCLR's, the projector B's in SimCLR's sizes. Letters: projections z, predictions q, tau, T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.masks.pooling import Drawn, chances, draw, mean_features
from whytransfer.nn.detcon import detcon, part_of
from whytransfer.nn.ema import redrawn, rising, update_ema
from whytransfer.nn.heads import byol_mlp, per_region
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class DetCon(nn.Module):
    """What both share. draws: regions per image and view, with replacement; cut, local_negatives: see `nn.detcon`.

    Regions that win no cell of the last map (32 px wide) do not exist in a view; a view without any counts for nothing.
    """

    views = 2
    needs = ("regions",)

    def __init__(
        self, backbone: Any, projector: nn.Module, draws: int, T: float, cut: int, local_negatives: bool, seed: int
    ) -> None:
        super().__init__()
        self.draws, self.T, self.cut, self.local_negatives, self.seed = draws, T, cut, local_negatives, seed
        self.backbone, self.projector, self.steps = backbone, projector, 0

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError unless every part has images to tell apart, and as many as `cut` can deal out evenly."""
        if batch % parts or batch // parts < 2:
            raise InputError(f"DetCon needs equal parts of at least 2 images, got {batch} images in {parts} parts")
        part_of(batch // parts, self.cut)

    def regions(self, views: Views) -> list[tuple[Tensor, Drawn]]:
        """Of each view the mean features (B, M, width) of the regions drawn in it, and these regions."""
        if len(views.regions) < 2:
            raise InputError("DetCon contrasts regions and these views have none: hand them over with the pictures")
        u = [chances(self.draws, self.seed, self.steps, views.index, view) for view in (0, 1)]
        maps = [self.backbone(x).map for x in views.images[:2]]  # each (B, width, h, w)
        drawn = [draw(r, m.shape[2:], n) for r, m, n in zip(views.regions[:2], maps, u, strict=True)]
        return [(mean_features(m, d.cells), d) for m, d in zip(maps, drawn, strict=True)]

    def contrast(self, q: list[Tensor], z: list[Tensor], ids1: Tensor, ids2: Tensor) -> dict[str, Tensor]:
        """Both directions; "matched" is the share of view 1's draws whose region was drawn in view 2 as well."""
        matched = ((ids1[:, :, None] == ids2[:, None, :]) & (ids1 >= 0)[:, :, None]).any(dim=2)
        loss = detcon(q[0], q[1], z[0], z[1], ids1, ids2, self.T, self.local_negatives, self.cut)
        return {"loss": loss, "matched": matched.float().mean()}

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        self.steps += 1  # the next step draws other regions

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


class DetConS(DetCon):
    """One network for both views; anchors and keys are the same vectors and both take gradients."""

    recipe = "detcon-s"
    defaults = Training("lars-simclr", lr_per_256=0.3, weight_decay=1e-6, warmup_epochs=10.0, epochs=1000, batch=4096)

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        hidden: int = 2048,
        T: float = 0.1,
        draws: int = 16,
        cut: int = 1,
        local_negatives: bool = True,
    ) -> None:
        super().__init__(backbone, byol_mlp(backbone.width, hidden, dim, seed), draws, T, cut, local_negatives, seed)

    def loss(self, views: Views) -> dict[str, Tensor]:
        (h1, one), (h2, two) = self.regions(views)
        z = [per_region(self.projector, h1), per_region(self.projector, h2)]  # each (B, M, dim)
        return self.contrast(z, z, one.ids, two.ids)


def _paper(epochs: int, lr: float, weight_decay: float) -> Training:
    return Training("lars", lr, weight_decay=weight_decay, warmup_epochs=epochs / 100, epochs=epochs, batch=4096)


class DetConB(DetCon):
    """Predictions of the online network against the target's projections of the same regions.

    The target begins with other weights and normalises by its own batches, of all processes.
    """

    recipe = "detcon-b"
    defaults = _paper(1000, 0.2, 1.5e-6)
    # the code has 1000 epochs' settings only; at the paper's other lengths BYOL's, with the code's warm-up, a hundredth
    presets: dict[int, tuple[Training, dict[str, Any]]] = {
        epochs: (_paper(epochs, lr, 1e-6), {"tau": 0.99})
        for epochs, lr in ((100, 0.45), (200, 0.3), (300, 0.3), (500, 0.3))
    } | {1000: (defaults, {"tau": 0.996})}

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
        T: float = 0.1,
        draws: int = 16,
        cut: int = 1,
        local_negatives: bool = True,
    ) -> None:
        super().__init__(backbone, byol_mlp(backbone.width, hidden, dim, seed), draws, T, cut, local_negatives, seed)
        self.tau = tau
        self.predictor = byol_mlp(dim, hidden, dim, seed + 1)
        self.target_backbone, self.target_projector = redrawn(backbone, seed), redrawn(self.projector, seed + 1)

    def loss(self, views: Views) -> dict[str, Tensor]:
        (h1, one), (h2, two) = self.regions(views)
        q = [per_region(self.predictor, per_region(self.projector, h)) for h in (h1, h2)]  # each (B, M, dim)
        with torch.no_grad():  # z' of the very regions that the online network saw
            pairs = zip(views.images[:2], (one.cells, two.cells), strict=True)
            z = [per_region(self.target_projector, mean_features(self.target_backbone(x).map, c)) for x, c in pairs]
        return self.contrast(q, z, one.ids, two.ids)

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """The target follows with a momentum that rises from tau to 1."""
        super().after_step(out, progress)
        tau = rising(self.tau, 1.0, progress)
        update_ema(self.target_backbone, self.backbone, tau)
        update_ema(self.target_projector, self.projector, tau)
