"""MoCo's linear readout by SGD [He 2020, section 4.1; MoCo main_lincls]: the protocol behind its published numbers.

lr 30, momentum 0.9, no weight decay, batch 256, 100 epochs, lr x 0.1 after 60 and 80, weights from N(0, 0.01), bias 0;
features as they are, neither centred nor scaled; test images resized to 256 and cropped to 224, the same ratio at other
sizes. The learning rate suits features as small as MoCo's: it was found by a
search on ImageNet. On other features it is arbitrary: compare models with the logistic readout.
Deviation: the paper trains on random crops and flips; here each image's features are taken once, without augmentation.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from whytransfer.chance import permutation
from whytransfer.errors import RunError
from whytransfer.progress import say


@dataclass(frozen=True)
class SgdProtocol:
    """The paper's values."""

    lr: float = 30.0
    momentum: float = 0.9
    batch: int = 256
    epochs: int = 100
    milestones: tuple[int, ...] = (60, 80)
    drop: float = 0.1
    init_std: float = 0.01

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.lr * self.drop ** sum(epoch >= m for m in self.milestones)


def resize_px(size_px: int) -> int:
    """Shorter side before the centre crop of size_px: 256 for the paper's 224."""
    return round(size_px * 256 / 224)


def predict(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int, protocol: SgdProtocol | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """Class (M,) of test features (M, D) after SGD on train features (N, D), at the last epoch (not the best one)."""
    protocol = protocol or SgdProtocol()
    weight, bias, loss = train_linear(train, labels, classes, seed, protocol)
    if loss > math.log(classes):
        say(
            f"note: the SGD readout did not fit: its training loss {loss:.3g} is above that of guessing "
            f"({math.log(classes):.3g}), as lr {protocol.lr:g} does not suit these features. Use --task readout."
        )
    note = "features taken once without augmentation (the paper trains on random crops and flips); last epoch"
    return (test @ weight.T + bias).argmax(1), {
        "sgd": asdict(protocol),
        "train_loss": loss,
        "fitted": loss <= math.log(classes),
        "deviation": note,
    }


def train_linear(
    train: Tensor, labels: Tensor, classes: int, seed: int, protocol: SgdProtocol
) -> tuple[Tensor, Tensor, float]:
    """Weight (K, D), bias (K,) and the last epoch's mean loss; RunError when the loss is no number any more."""
    chance = torch.Generator().manual_seed(seed)
    weight = protocol.init_std * torch.randn(classes, train.shape[1], generator=chance)
    weight, bias = weight.to(train.device).requires_grad_(), train.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.SGD([weight, bias], lr=protocol.lr, momentum=protocol.momentum)
    mean = torch.inf
    for epoch in range(protocol.epochs):
        optimizer.param_groups[0]["lr"] = protocol.lr_at(epoch)
        order = torch.from_numpy(permutation(seed, epoch, len(train))).to(train.device)
        total = train.new_zeros((), dtype=torch.float64)
        for rows in order.split(protocol.batch):
            loss = F.cross_entropy(F.linear(train[rows], weight, bias), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        mean = float(total) / len(train)
        if mean != mean or mean == torch.inf:
            raise RunError(
                f"the SGD readout diverged in epoch {epoch}: lr {protocol.lr:g} is too high for these features "
                f"(norm {float(train.norm(dim=1).mean()):.3g} on average). Use the logistic readout instead."
            )
    return weight.detach(), bias.detach(), mean
