"""A fusion whose members have the same say: `standardised:A+B+C` in a backbone string, a variant of the plain one.

Plain concatenation, as published, leaves every member its own scale, so the member with the largest features decides
distances and the first steps of SGD. Here each member is centred and divided by one number, so that all members have
the same total variance over some images, and the variance of all features is 1 on average. What is inside a member
stays as it was: its features keep their sizes beside each other. Vector, map and every stage have numbers of their own.

Linear readouts of ours standardise every single feature, so they say the same of both fusions; neighbours, prototypes,
published protocols (raw features), heads on maps and finetuning may not.

Shape letters: B batch, C channels, D feature width, h and w places of a map, M members.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.fused import Fused
from whytransfer.errors import InputError
from whytransfer.records import Features

SCHEME = "standardised:"
LAST = ("vector", "map")


class Scaling(nn.Module):
    """x -> (x - mean) * scale, channel by channel; `undone` is the way back."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        mean, scale = (_beside(t, x) for t in (self.mean, self.scale))
        return (x - mean) * scale

    def undone(self, x: Tensor) -> Tensor:
        """x / scale + mean."""
        mean, scale = (_beside(t, x) for t in (self.mean, self.scale))
        return x / scale + mean


class Standardised(Backbone):
    """A Fused whose members are centred and scaled to equal variance; `measure(batches)` must come before its use."""

    def __init__(self, fused: Fused) -> None:
        super().__init__(fused.arch, fused.width)
        self.fused, self.note = fused, fused.note
        self.scalings = nn.ModuleDict()  # by output: "vector", "map", stages

    @property
    def members(self) -> nn.ModuleList:
        """The backbones that are fused."""
        return self.fused.members

    @property
    def is_measured(self) -> bool:
        """Whether the statistics of some images are there."""
        return len(self.scalings) > 0

    def measure(self, batches: Iterable[Tensor]) -> Standardised:
        """Take mean and variance of every member's outputs over batches of images (B, 3, H, W) in [0, 1].

        Raises InputError where there are fewer than two images, and for a member whose features are the same in all of
        them or not finite.
        """
        found = [_Moments(getattr(m, "spec", "") or f"member {k + 1}") for k, m in enumerate(self.members)]
        with torch.inference_mode():
            for images in batches:
                for member, moments in zip(self.members, found, strict=True):
                    moments.add(_outputs(member(images)))
        made = self._scalings(found)
        device = next(self.parameters()).device
        self.scalings = nn.ModuleDict({name: scaling.to(device) for name, scaling in made.items()})
        return self

    def _scalings(self, found: list[_Moments]) -> dict[str, Scaling]:
        shared = [name for name in found[0].sums if all(name in moments.sums for moments in found)]
        if not shared or found[0].images < 2:
            raise InputError(f"the statistics of a standardised fusion need two images, got {found[0].images}")
        made = {}
        for name in shared:
            parts = [moments.of(name) for moments in found]
            channels = sum(len(mean) for mean, _ in parts)
            scales = [math.sqrt(channels / len(parts) / total) for _, total in parts]
            scale = torch.cat([torch.full_like(mean, s) for (mean, _), s in zip(parts, scales, strict=True)])
            made[name] = Scaling(torch.cat([mean for mean, _ in parts]).float(), scale.float())
        return made

    def around(self, fused: Fused) -> Standardised:
        """The same statistics around another form of the same members (dilated)."""
        other = Standardised(fused)
        other.spec, other.scalings = self.spec, self.scalings
        return other.train(self.training)

    def end_with(self, stage: str) -> None:
        """What comes after a stage has become the identity: its outputs are scaled as those of the stage."""
        for name in (*LAST, "layer4"):
            self.scalings[name] = self.scalings[stage]

    def forward(self, images: Tensor) -> Features:
        if not self.is_measured:
            raise InputError(
                f"{self.spec or self.arch}: a standardised fusion needs the statistics of training images, which "
                "`whytransfer transfer` and `diagnose complementarity` take; elsewhere use the plain fusion A+B."
            )
        found = self.fused(images)
        stages = {name: self.scalings[name](found.stages[name]) for name in found.stages}
        return Features(self.scalings["vector"](found.vector), self.scalings["map"](found.map), stages)


class _Moments:
    """Sums over images and places of every output of one backbone, in double precision."""

    def __init__(self, name: str) -> None:
        self.name, self.images = name, 0
        self.sums: dict[str, tuple[int, Tensor, Tensor]] = {}  # output -> values per channel, their sum, of squares

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Take in the outputs of some images, each (B, C) or (B, C, h, w)."""
        for name, x in outputs.items():
            over = [axis for axis in range(x.ndim) if axis != 1]  # images, and places of a map
            count, total, squares = self.sums.get(name, (0, torch.zeros(()), torch.zeros(())))
            now = [values.sum(over, dtype=torch.float64).cpu() for values in (x, x.square())]
            self.sums[name] = count + x.numel() // x.shape[1], total + now[0], squares + now[1]
        self.images += len(outputs["vector"])

    def of(self, name: str) -> tuple[Tensor, float]:
        """Mean (C,) and total variance of an output."""
        count, total, squares = self.sums[name]
        mean = total / count
        variance = squares / count - mean.square()
        if not bool(torch.isfinite(variance).all()):
            raise InputError(f"{self.name}: features that are not finite ({name}): the backbone is broken")
        spread = float(variance.clamp(min=0).sum())
        if spread <= len(mean) * (1e-6 * float(mean.abs().max())) ** 2:
            raise InputError(
                f"{self.name}: its features ({name}) are the same in all {self.images:,} images: the backbone is "
                "broken (collapsed), or the images are equal"
            )
        return mean, spread


def _outputs(features: Features) -> dict[str, Tensor]:
    return {"vector": features.vector, "map": features.map, **features.stages}


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped to meet (B, C) or (B, C, h, w)."""
    return values if x.ndim == 2 else values[:, None, None]
