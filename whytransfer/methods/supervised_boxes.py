"""Supervision by the boxes of objects: the backbone is trained inside a detector  [Zhao 2021, §2.2: COCO].

Which detector, and all its settings, that paper leaves open. Here it is FCOS [Tian 2019, arXiv:1904.01355] in
torchvision's parts (pyramid, heads, matching, losses), which has no anchors to fit to small views.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.nn import heads
from whytransfer.nn.dense import stages_of
from whytransfer.nn.gather import gather
from whytransfer.nn.losses import full_precision
from whytransfer.nn.schedules import Training
from whytransfer.records import Views

STAGES = ("layer2", "layer3", "layer4")  # of ResNets cells of 8, 16, 32 px: P3 to P5, and P6, P7 on top of them


class SupervisedBoxes(nn.Module):
    """Focal loss, generalised IoU and centredness over five levels; views.boxes[0] holds the boxes of the first view.

    As torchvision sums them: over the places inside objects, divided by their number, here that of all processes. A
    view without any box is all background. width: channels of the pyramid and of the heads, a multiple of 32.
    """

    recipe = "supervised"
    defaults = Training("sgd", lr_per_256=0.1, weight_decay=1e-4, warmup_epochs=5.0, epochs=200, batch=64)
    views = 1
    needs = ("boxes",)

    def __init__(self, backbone: Any, *, classes: int | None, images: int, seed: int = 0, hidden: int = 256) -> None:
        super().__init__()
        if not classes:
            raise InputError("supervised-boxes needs boxes with classes, found none")
        if hidden < 32 or hidden % 32:
            raise InputError(f"supervised-boxes normalises channels in 32 groups: hidden {hidden} is no multiple of 32")
        self.backbone = backbone
        stages = stages_of(backbone, STAGES)
        self.strides_px = [s.stride_px for s in stages] + [2 * stages[-1].stride_px, 4 * stages[-1].stride_px]
        with heads.seeded(seed):
            self.detector = fcos([s.channels for s in stages], self.strides_px, hidden, classes)

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError for a batch of one: where a map has one cell, batch norm has nothing to average over."""
        if batch // parts < 2:
            raise InputError(f"supervised-boxes needs at least 2 images per forward pass, got {batch // parts}")

    def loss(self, views: Views) -> dict[str, Tensor]:
        if not views.boxes:
            raise InputError(
                "supervised-boxes learns boxes and these views have none: hand them over with the pictures"
            )
        stages = self.backbone(views.images[0]).stages
        levels = list(self.detector.backbone({name: stages[name] for name in STAGES}).values())  # (B, hidden, h, w)
        predicted = self.detector.head(levels)  # of each place, the finest level first
        with torch.autocast(views.images[0].device.type, enabled=False):
            losses = self.detector.compute_loss(
                [target(boxes) for boxes in views.boxes[0]],
                {name: full_precision(x) for name, x in predicted.items()},
                [self.places(levels)] * len(views.index),
                [x.shape[2] * x.shape[3] for x in levels],
            )
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def places(self, levels: list[Tensor]) -> Tensor:
        """(places, 4) squares of a cell's side around the centre of each cell, all levels.

        By the stride of each level: torchvision divides the view's side by the map's, which shifts them where views
        are no multiple of the last stride (its detectors fill such pictures up).
        """
        cells, device = self.detector.anchor_generator, levels[0].device
        cells.set_cell_anchors(torch.float32, device)
        strides = [[torch.tensor(px, device=device)] * 2 for px in self.strides_px]
        return torch.cat(cells.grid_anchors([list(x.shape[2:]) for x in levels], strides))

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """Nothing moves besides the weights."""


def fcos(channels: list[int], strides_px: list[int], hidden: int, classes: int) -> Any:
    """torchvision's FCOS, whose "backbone" is only the pyramid over three stages."""
    from torchvision.models.detection import FCOS  # a second's import, for this method alone
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOSHead
    from torchvision.ops import FeaturePyramidNetwork
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    class Coarser(LastLevelP6P7):
        """P6 and P7, not in bfloat16: of a map of one cell oneDNN then gives gradients that are no numbers."""

        def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
            with torch.autocast(p[-1].device.type, enabled=False):
                return super().forward([full_precision(x) for x in p], [full_precision(x) for x in c], names)

    class Joined(FCOSHead):
        """Losses divided by what the mean over processes needs: the mean number of places inside objects."""

        def compute_loss(self, targets: Any, found: Any, places: Any, matched: list[Tensor]) -> dict[str, Tensor]:
            inside = (torch.cat(matched) >= 0).sum()  # torchvision divides by it, or by 1
            everywhere = gather(inside[None]).float()
            share = inside.clamp(min=1) / everywhere.mean().clamp(min=1 / len(everywhere))
            losses = super().compute_loss(targets, found, places, matched)
            return {name: loss * share for name, loss in losses.items()}

    pyramid: Any = FeaturePyramidNetwork(channels, hidden, extra_blocks=Coarser(hidden, hidden))
    pyramid.out_channels = hidden
    cells = AnchorGenerator(tuple((px,) for px in strides_px), ((1.0,),) * len(strides_px))
    head = Joined(hidden, cells.num_anchors_per_location()[0], classes)
    return FCOS(pyramid, num_classes=classes, anchor_generator=cells, head=head)


def target(boxes: Tensor) -> dict[str, Tensor]:
    """(R, 5) rows of one view, -1 where there is none -> what torchvision's detectors are told."""
    real = boxes[boxes[:, 4] >= 0]
    return {"boxes": real[:, :4], "labels": real[:, 4].long()}
