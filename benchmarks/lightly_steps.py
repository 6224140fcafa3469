"""lightly's documented examples of MoCo v2, SimCLR and BYOL: what is trained, on which views, by which loss.

Sizes apart (64 px, heads for ResNet-18 as in its examples), settings are lightly's own; blur is on as in the papers'
transforms, where its SimCLR and BYOL examples, made for 32 px, turn it off.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn


class Step(NamedTuple):
    """trained: modules with gradients; transform: PIL image -> views; loss: (view 1, view 2) -> scalar."""

    trained: list[nn.Module]
    transform: Any
    loss: Callable[[Tensor, Tensor], Tensor]
    weight_decay: float


def resnet18() -> nn.Module:
    return nn.Sequential(*list(torchvision.models.resnet18().children())[:-1], nn.Flatten())


def followed(*modules: nn.Module) -> list[nn.Module]:
    """Frozen copies, as momentum encoders begin."""
    return [copy.deepcopy(module).requires_grad_(False) for module in modules]


def moco_v2(size: int, queue: int) -> Step:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import update_momentum
    from lightly.transforms.moco_transform import MoCoV2Transform

    backbone, head = resnet18(), MoCoProjectionHead(512, 512, 128)
    key_backbone, key_head = followed(backbone, head)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue, 128))

    def loss(x_query: Tensor, x_key: Tensor) -> Tensor:
        update_momentum(backbone, key_backbone, m=0.99)
        update_momentum(head, key_head, m=0.99)
        query = head(backbone(x_query))
        with torch.no_grad():
            key = key_head(key_backbone(x_key))
        return criterion(query, key)

    return Step([backbone, head], MoCoV2Transform(input_size=size), loss, weight_decay=5e-4)


def simclr(size: int, queue: int) -> Step:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform

    backbone, head = resnet18(), SimCLRProjectionHead(512, 512, 128)
    criterion = NTXentLoss()

    def loss(x0: Tensor, x1: Tensor) -> Tensor:
        return criterion(head(backbone(x0)), head(backbone(x1)))

    return Step([backbone, head], SimCLRTransform(input_size=size), loss, weight_decay=0.0)


def byol(size: int, queue: int) -> Step:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import update_momentum
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform

    backbone, head, predictor = resnet18(), BYOLProjectionHead(512, 1024, 256), BYOLPredictionHead(256, 1024, 256)
    target_backbone, target_head = followed(backbone, head)
    criterion = NegativeCosineSimilarity()
    views = BYOLTransform(BYOLView1Transform(input_size=size), BYOLView2Transform(input_size=size))

    def loss(x0: Tensor, x1: Tensor) -> Tensor:
        update_momentum(backbone, target_backbone, m=0.996)
        update_momentum(head, target_head, m=0.996)
        p0, p1 = predictor(head(backbone(x0))), predictor(head(backbone(x1)))
        with torch.no_grad():
            z0, z1 = target_head(target_backbone(x0)), target_head(target_backbone(x1))
        return 0.5 * (criterion(p0, z1) + criterion(p1, z0))

    return Step([backbone, head, predictor], views, loss, weight_decay=0.0)


STEPS = {"moco-v2": moco_v2, "simclr": simclr, "byol": byol}
