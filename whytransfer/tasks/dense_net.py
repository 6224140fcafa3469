"""A backbone and the head that predicts every pixel from its maps, and how the two are fitted (segmentation, depth)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer import chance
from whytransfer.backbones import fingerprint
from whytransfer.backbones.backbone import IMAGENET_MEAN
from whytransfer.errors import InputError, RunError
from whytransfer.records import Features
from whytransfer.tasks.dense_views import Size
from whytransfer.tasks.fitting import Schedule, fit

Mode = Literal["finetune", "frozen"]
MODES = ("finetune", "frozen")
NOISE = 15  # operation of chance: what dropout draws from
HEAD_SEED_OFFSET = 7_919  # weights of heads are not those that random:ARCH:SEED draws first

Heads = Callable[[Features], tuple[nn.Module, nn.Module | None]]  # (features of a test image) -> head, auxiliary head


class DenseNet(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> the maps of its head and of its auxiliary head (None without one).

    The backbone is a copy that is trained with the heads, or is frozen: no gradients, batch norm as in evaluation.
    """

    def __init__(self, backbone: nn.Module, heads: Heads, mode: Mode, seed: int, device: torch.device) -> None:
        super().__init__()
        self.backbone, self.frozen = backbone, mode == "frozen"
        self.backbone.requires_grad_(not self.frozen).eval()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(HEAD_SEED_OFFSET + seed)
            with torch.inference_mode():
                features = backbone(torch.zeros(1, 3, 64, 64, device=device))
            self.head, self.auxiliary = heads(features)
        self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> DenseNet:
        """Training mode, of the heads alone where the backbone is frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.backbone(images)
        return self.head(features), None if self.auxiliary is None or not self.training else self.auxiliary(features)


class Of(nn.Module):
    """A head on one stage of the features ("map" is the last)."""

    def __init__(self, stage: str, layers: nn.Module) -> None:
        super().__init__()
        self.stage, self.layers = stage, layers

    def forward(self, features: Features) -> Tensor:
        return self.layers(features.map if self.stage == "map" else features.stages[self.stage])


def own_copy(backbone: nn.Module) -> nn.Module:
    """The backbone as it is, to be trained without touching the caller's."""
    return copy.deepcopy(backbone)


def checked_mode(mode: str) -> None:
    """InputError unless it is one of MODES."""
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r}. Known: {', '.join(MODES)}.")


def enlarged(maps: Tensor, size: Size) -> Tensor:
    """(B, C, h, w) -> (B, C, H, W) bilinearly, in float32."""
    return F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)


def mean_colour(backbone: nn.Module) -> tuple[float, ...]:
    """(3,) what padding is filled with: it becomes 0 when the backbone normalises."""
    mean = getattr(backbone, "mean", None)
    return tuple(mean.tolist()) if isinstance(mean, Tensor) else IMAGENET_MEAN


def content_of(images: Any) -> str:
    """The fingerprint of an image set, which of some is a method and of some an attribute."""
    return images.fingerprint() if callable(images.fingerprint) else images.fingerprint


def device_of(backbone: nn.Module) -> torch.device:
    """Where its parameters are."""
    return next(backbone.parameters()).device


def check_batch_norm(net: DenseNet, crop: Size, batch: int, pooled: bool) -> Size:
    """(h, w) of the last map of a crop; InputError where a batch norm in training would see one value per channel.

    `pooled` says that the head pools each image to one place, so that the batch alone gives the values.
    """
    with torch.inference_mode():
        last = net.backbone(torch.zeros(1, 3, *crop, device=device_of(net))).map
    height, width = int(last.shape[2]), int(last.shape[3])
    if batch * (1 if pooled else height * width) > 1:
        return height, width
    why = "pools each image to one place" if pooled else f"sees maps of {height} x {width} places"
    raise InputError(
        f"batch norm needs two values per channel, and with one image per step this task has one: its head {why}. "
        "Give --fit-batch 2 or more."
    )


def fit_dense(
    net: DenseNet,
    batch_at: Callable[[int], Any],
    loss_of: Callable[[Any], Tensor],
    schedule: Schedule,
    seed: int,
    folder: Path | None,
    label: str,
) -> dict[str, Any]:
    """fitting.fit of a DenseNet, which is in evaluation mode afterwards; returns what provenance should say.

    Dropout draws from (seed, step), so that a fit that was killed goes on as it would have. RunError where a frozen
    backbone is not what it was.
    """
    before = fingerprint(net.backbone)
    devices = [device_of(net)] if device_of(net).type == "cuda" else []

    def numbered(step: int) -> tuple[int, Any]:
        return step, batch_at(step)

    def loss(batch: tuple[int, Any]) -> Tensor:
        step, content = batch
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(chance.uniform(seed, step, np.array([0]), 0, NOISE, 1)[0, 0] * 2**32))
            return loss_of(content)

    net.train()
    summary = fit(net, numbered, loss, schedule, folder=folder, label=label)
    net.eval()
    if net.frozen and (after := fingerprint(net.backbone)) != before:
        raise RunError(f"the frozen backbone changed while its head was fitted: {before[:12]} became {after[:12]}")
    return summary
