"""How much of the labels colour alone, and pose alone, give away: measured on pixels, no backbone has a part in it.

colour: how often each of 64 colours occurs in the picture, and mean and spread of the three channels. Nothing of where
they are: moving the pixels about changes none of it.
pose: where the edges of the picture lie (mean, spread, and their product, across and down) and which way they run (8
directions), of the grey picture in units of its own contrast. Nothing of colour: light and the order of the channels
change none of it.

A readout of such numbers that beats "always the largest class" shows that labels go with colour (or pose) in these
pictures, so a backbone that ignores it gives something away. One that does not beat it shows little: labels may need
both together, or finer numbers than these. Letters: N pictures, S side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whytransfer.loading import pictures
from whytransfer.views.engine import eval_views

SIZE_PX = 48
LEVELS, DIRECTIONS = 4, 8


def colour_numbers(views: Tensor) -> Tensor:
    """(N, 3, S, S) in [0, 1] -> (N, 70): square roots of the shares of 64 colours, mean and spread of each channel."""
    levels = (views * LEVELS).long().clamp_(0, LEVELS - 1)
    cells = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]  # (N, S, S)
    shares = torch.zeros(len(views), LEVELS**3).scatter_add_(1, cells.flatten(1), torch.ones(cells.flatten(1).shape))
    flat = views.flatten(2)
    return torch.cat([(shares / cells[0].numel()).sqrt(), flat.mean(2), flat.std(2)], dim=1)


def pose_numbers(views: Tensor) -> Tensor:
    """(N, 3, S, S) in [0, 1] -> (N, 26): moments of where edges are, their shares in 8 directions; all squared too.

    A picture without any edge has the numbers of one whose edges are everywhere alike.
    """
    grey = views.mean(1)
    down, across = torch.gradient(grey, dim=(1, 2))
    energy = down.square() + across.square()
    energy = (
        energy + 1e-3 * energy.mean((1, 2), keepdim=True) + 1e-12
    )  # flat parts have some, in units of the picture's
    share = energy / energy.sum((1, 2), keepdim=True)  # (N, S, S), contrast leaves it
    at = torch.linspace(-1, 1, grey.shape[-1])
    x, y = at.expand_as(share), at[:, None].expand_as(share)
    mean = [(share * z).sum((1, 2)) for z in (x, y)]
    dx, dy = x - mean[0][:, None, None], y - mean[1][:, None, None]
    spread = [(share * z).sum((1, 2)) for z in (dx * dx, dy * dy, dx * dy)]
    turn = torch.atan2(down, across) / torch.pi * DIRECTIONS + 0.5  # upright and level edges in the middle of a bin
    bins = turn.floor().long().remainder(DIRECTIONS).flatten(1)  # an edge has no sign
    directions = torch.zeros(len(views), DIRECTIONS).scatter_add_(1, bins, share.flatten(1))
    numbers = torch.cat([torch.stack([*mean, *spread], dim=1), directions], dim=1)
    numbers = numbers.mul(1e4).round().div(1e4)  # a readout scales each number, and would read rounding from finer ones
    return torch.cat([numbers, numbers.square()], dim=1)


NUMBERS = {"spatial": pose_numbers, "appearance": colour_numbers}  # by the group of changes that would destroy them


def numbers_of(images: Any, batch: int = 256) -> dict[str, Tensor]:
    """{"spatial": (N, 26), "appearance": (N, 70)} of all pictures of a PixelCache, in views of 48 px."""
    parts: dict[str, list[Tensor]] = {group: [] for group in NUMBERS}
    for start in range(0, len(images), batch):
        views = eval_views(pictures(images, range(start, min(start + batch, len(images)))), SIZE_PX)
        for group, numbers in NUMBERS.items():
            parts[group].append(numbers(views))
    return {group: torch.cat(part) for group, part in parts.items()}


__all__ = ["NUMBERS", "colour_numbers", "numbers_of", "pose_numbers"]
