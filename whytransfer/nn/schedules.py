"""How a method is trained: optimiser, learning rate over time, epochs, batch; the paper's values as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from whytransfer.errors import InputError
from whytransfer.nn.lars import LARS


@dataclass(frozen=True)
class Training:
    """Everything that decides the weights besides data, views and method; speed and logging are set elsewhere."""

    # the optimiser
    optimizer: Literal["sgd", "lars", "lars-simclr"]  # lars is BYOL's and DetCon's; see LARS
    lr_per_256: float  # peak learning rate at batch 256; proportional to the batch [Goyal 2017]
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_biases_and_norms: bool = True  # SGD only (True: decay all, as MoCo does); LARS never decays them
    # the learning rate over time
    schedule: Literal["cosine", "step"] = "cosine"
    changes_every: Literal["epoch", "step"] = "step"  # the warm-up always moves at each step
    warmup_epochs: float = 0.0  # linear: peak / steps at its first step (official codes: 0), the peak at its last
    milestones: tuple[float, ...] = (0.6, 0.8)  # step schedule: shares of all epochs after which it drops
    drop: float = 0.1  # step schedule: factor of each drop
    # the amount
    epochs: int = 200
    batch: int = 256

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "lars", "lars-simclr"):
            raise InputError(f"unknown optimizer {self.optimizer!r}. Known: lars, lars-simclr, sgd.")
        if self.schedule not in ("cosine", "step"):
            raise InputError(f"unknown schedule {self.schedule!r}. Known: cosine, step.")
        if self.changes_every not in ("epoch", "step"):
            raise InputError(f"the learning rate changes every 'epoch' or 'step', not every {self.changes_every!r}")
        if self.lr_per_256 <= 0 or self.warmup_epochs < 0 or self.epochs < 1 or self.batch < 1:
            raise InputError(
                f"training needs lr_per_256 > 0, warmup_epochs >= 0, epochs >= 1 and batch >= 1, got "
                f"{self.lr_per_256}, {self.warmup_epochs}, {self.epochs} and {self.batch}"
            )


def lr_at(training: Training, step: int, steps_per_epoch: int, epochs: float, batch: int) -> float:
    """The learning rate of one optimiser step, counted from 0 over the whole run of epochs * steps_per_epoch steps.

    A run that ends inside an epoch has a broken number of epochs.

    cosine: peak * (1 + cos(pi * share)) / 2, share of the epochs after the warm-up [Loshchilov 2017, eq. 5];
    step: peak * drop ** (milestones passed). With changes_every="epoch" time is counted in whole epochs.
    """
    peak = training.lr_per_256 * batch / 256
    warmup_epochs = min(training.warmup_epochs, epochs)
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    epoch = step // steps_per_epoch if training.changes_every == "epoch" else step / steps_per_epoch
    if training.schedule == "step":
        passed = sum(epoch >= round(share * epochs, 6) for share in training.milestones)
        return peak * training.drop**passed
    share = max(0.0, epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def build_optimizer(training: Training, module: nn.Module) -> Optimizer:
    """The optimiser of the parameters that take gradients; the loop writes lr_at(...) into its groups' "lr"."""
    trained = [p for p in module.parameters() if p.requires_grad]
    lr, momentum, decay = training.lr_per_256, training.momentum, training.weight_decay
    if training.optimizer != "sgd":
        return LARS(trained, lr, momentum, decay, lr_inside=training.optimizer == "lars-simclr")
    small_decay = decay if training.decay_biases_and_norms else 0.0
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": small_decay},
    ]
    return torch.optim.SGD(groups, lr, momentum, fused=True)
