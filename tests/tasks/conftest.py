"""A backbone whose features are known (mean colours) and image sets of plain colours."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whytransfer.records import Features


class MeanColour(nn.Module):
    """Features of an image: its mean colour times a weight, through a batch norm that would move in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm2d(3)
        self.spec, self.arch, self.width = "toy:mean-colour", "toy", 3

    def forward(self, images: Tensor) -> Features:
        last = self.norm(images) * self.scale[:, None, None]
        return Features(last.mean((2, 3)), last, {"layer1": 2 * last})


@dataclass
class Plain:
    """Images of one colour per class plus noise, as a PixelCache shows them."""

    labels: np.ndarray
    classes: tuple[str, ...]
    name: str = "plain"
    seed: int = 0
    noise: float = 25.0
    colours: np.ndarray = field(default_factory=lambda: np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]]))

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, i: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, i])
        colour = self.colours[["red", "green", "blue"].index(self.classes[self.labels[i]])]
        colour = colour + self.noise * rng.normal(size=3)
        return np.broadcast_to(colour.clip(0, 255), (12, 16, 3)).astype(np.uint8)

    def mean_colours(self) -> np.ndarray:
        """(N, 3) in [0, 1]: what MeanColour must find."""
        return np.stack([self.pixels(i)[0, 0] / 255 for i in range(len(self))])


@pytest.fixture
def toy() -> nn.Module:
    return MeanColour()


@pytest.fixture
def plain():
    return Plain
