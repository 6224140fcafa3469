"""A backbone in two parts, for detectors that run its last stage on regions of the map before it (ResNet-C4).

`split` parts a copy: everything up to layer3, and layer4 as a module of its own, layer3-map -> layer4-map. Of a fusion
each member's last stage runs on that member's channels.

Shape letters: B batch, C channels, h and w places of a map.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.fused import Fused, side_by_side
from whytransfer.backbones.standardised import Scaling, Standardised
from whytransfer.errors import InputError

LAST = "layer4"
_PLACES = (LAST, f"model.{LAST}")  # ours and torchvision's; timm's inside its adapter
_TRIED_PX = 64  # the side of the image that shows how large maps are


@dataclass(frozen=True)
class Stage:
    """What a stage gives: channels, and pixels of the image per place of its map."""

    channels: int
    stride: int


def stages_of(backbone: nn.Module, names: Sequence[str]) -> dict[str, Stage]:
    """Channels and stride of some stages, seen on one small image; InputError for a stage that is not there."""
    training = {module: module.training for module in backbone.modules()}
    some = next(backbone.parameters())
    try:
        with torch.no_grad():
            maps = backbone.eval()(torch.zeros(1, 3, _TRIED_PX, _TRIED_PX, device=some.device, dtype=some.dtype)).stages
    finally:
        for module, was in training.items():
            module.training = was
    if lacking := [name for name in names if name not in maps]:
        raise InputError(
            f"{_name(backbone)} has no stage {', '.join(lacking)}; its stages are {', '.join(maps)}. Detectors are "
            "built on backbones with layer1 to layer4: ours, torchvision's ResNets, timm's ResNets."
        )
    return {name: Stage(maps[name].shape[1], _TRIED_PX // maps[name].shape[2]) for name in names}


def last_stage(backbone: nn.Module) -> nn.Module:
    """The module that turns the map of layer3 (B, C3, h, w) into that of layer4 (B, C4, h/2, w/2); not a copy.

    InputError where the backbone does not keep it as one module.
    """
    if isinstance(backbone, Standardised):
        before, after = (backbone.scalings[name] for name in ("layer3", LAST))
        assert isinstance(before, Scaling) and isinstance(after, Scaling)
        return Rescaled(before, last_stage(backbone.fused), after)
    if isinstance(backbone, Fused):
        channels = [stages_of(member, ["layer3"])["layer3"].channels for member in backbone.members]
        return SideBySide([last_stage(member) for member in backbone.members], channels)
    found = dict(backbone.named_modules())
    place = next((name for name in _PLACES if name in found), None)
    if place is None:
        raise InputError(
            f"{_name(backbone)} has no last stage that could run on regions (no module {LAST}): the c4 detector needs "
            "a ResNet. Choose --architecture fpn, or another backbone."
        )
    return found[place]


def split(backbone: nn.Module) -> tuple[nn.Module, nn.Module]:
    """(body, last stage) of a copy: the body's stages end with layer3, and nothing behind it is computed."""
    body = copy.deepcopy(backbone)
    last = last_stage(body)
    for member in body.members if isinstance(body, Fused | Standardised) else [body]:
        place = next(name for name in _PLACES if name in dict(member.named_modules()))
        member.set_submodule(place, nn.Identity())
    if isinstance(body, Standardised):
        body.end_with("layer3")
    return body, last


class SideBySide(nn.Module):
    """The last stages of several backbones, each on its own channels, their maps concatenated."""

    def __init__(self, stages: Sequence[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        self.stages, self.channels = nn.ModuleList(stages), list(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, sum of channels, h, w) -> (B, sum of their outputs, h', w')."""
        parts = x.split(self.channels, dim=1)
        return side_by_side(stage(part) for stage, part in zip(self.stages, parts, strict=True))


class Rescaled(nn.Module):
    """The last stages of a standardised fusion: they take the members' own scale and give the common one."""

    def __init__(self, before: Scaling, stages: nn.Module, after: Scaling) -> None:
        super().__init__()
        self.before, self.stages, self.after = before, stages, after

    def forward(self, x: Tensor) -> Tensor:
        """As SideBySide, of the standardised map of layer3."""
        return self.after(self.stages(self.before.undone(x)))


def normalised_outside(backbone: nn.Module) -> tuple[list[float], list[float]]:
    """Mean and std that the caller normalises images with from now on; the backbone is changed to expect that.

    A detector pads its images after normalising, so that the padding is the mean colour. Of a fusion the first
    member's are taken, and the others undo them: (x s0 + m0 - m) / s = (x - (m - m0) / s0) / (s / s0).
    """
    found = list(backbone.members) if isinstance(backbone, Fused | Standardised) else [backbone]
    members = [member for member in found if isinstance(member, Backbone)]
    if len(members) < len(found):
        raise InputError(f"{_name(backbone)} does not say how it normalises images, so no detector can be built on it")
    m0, s0 = members[0].mean.clone(), members[0].std.clone()
    for member in members:
        member.mean.copy_((member.mean - m0) / s0)
        member.std.copy_(member.std / s0)
    return m0.tolist(), s0.tolist()


def _name(backbone: nn.Module) -> str:
    return getattr(backbone, "spec", "") or getattr(backbone, "arch", type(backbone).__name__)
