"""Several backbones side by side: `A+B+C` in a backbone string  [Ericsson 2022, §fusion: plain concatenation].

What differently invariant backbones know of an image is put next to each other, unscaled and unweighted; a readout
finds out what to use. Each member normalises the image for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.errors import InputError
from whytransfer.records import Features


class Fused(Backbone):
    """Features, maps and stages of two or more backbones, concatenated along their channels in the order given.

    Only stages that all members have are there. Maps of different sizes are enlarged bilinearly to the largest.
    """

    def __init__(self, members: Sequence[Backbone]):
        if len(members) < 2:
            raise InputError(f"a fusion takes two backbones or more, got {len(members)}")
        super().__init__("+".join(m.arch for m in members), width=sum(m.width for m in members))
        self.members = nn.ModuleList(members)
        self.note = "; ".join(f"{m.spec or m.arch}: {m.note}" for m in members if m.note)

    def forward(self, images: Tensor) -> Features:
        parts = [member(images) for member in self.members]
        shared = [name for name in parts[0].stages if all(name in p.stages for p in parts)]
        stages = {name: side_by_side(p.stages[name] for p in parts) for name in shared}
        return Features(torch.cat([p.vector for p in parts], dim=1), side_by_side(p.map for p in parts), stages)


def side_by_side(maps: Iterable[Tensor]) -> Tensor:
    """(B, C1, h1, w1), (B, C2, h2, w2), ... -> (B, C1 + C2 + ..., h, w) of the largest h and w."""
    maps = list(maps)
    size = max(m.shape[2] for m in maps), max(m.shape[3] for m in maps)
    return torch.cat([m if m.shape[2:] == size else _enlarged(m, size) for m in maps], dim=1)


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
