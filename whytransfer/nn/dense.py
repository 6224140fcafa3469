"""What heads need to know of the stages they read: their channels, and how many pixels a cell stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whytransfer.errors import InputError

PROBE_PX = 64


@dataclass(frozen=True)
class Stage:
    """One stage of a backbone: a map (B, channels, ceil(S / stride_px), ...) of views (B, 3, S, S)."""

    name: str
    channels: int
    stride_px: int


def stages_of(backbone: Any, names: Sequence[str]) -> list[Stage]:
    """The stages of these names, seen by sending one empty picture through; changes nothing in the backbone.

    Raises InputError for a backbone without one of them.
    """
    was_training, parameter = backbone.training, next(backbone.parameters())
    with torch.no_grad():
        picture = torch.zeros(1, 3, PROBE_PX, PROBE_PX, dtype=parameter.dtype, device=parameter.device)
        maps = backbone.eval()(picture).stages
    backbone.train(was_training)
    if missing := [name for name in names if name not in maps]:
        raise InputError(f"this method reads the stages {', '.join(names)}; the backbone lacks {', '.join(missing)}")
    return [Stage(name, maps[name].shape[1], PROBE_PX // maps[name].shape[3]) for name in names]
