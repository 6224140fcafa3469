"""LPIPS from local files: the perceptual distance that published inversions are scored by  [Zhang 2018, 1801.03924].

SqueezeNet 1.1 of torchvision (squeezenet1_1-*.pth) is looked at after seven of its parts; features are made unit length
at every place, and squared differences are averaged over places and added up. With the linear weights of the authors
(squeeze.pth of their version 0.1) channels are weighted: that is LPIPS, usually under 1. Without them it is the
uncalibrated distance, 0 to 14, which the magnitudes of Zhao 2021 (5.59 for MoCo, 6.43 for supervised) look like.

Shape letters: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from whytransfer.backbones.checkpoints import read_tensors
from whytransfer.errors import InputError

ENDS = (2, 5, 8, 10, 11, 12, 13)  # one past the last layer of each part of squeezenet1_1.features
WIDTHS = (64, 128, 256, 384, 384, 512, 512)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]


class Lpips:
    """Distance between pictures by the weights in one file, or two; InputError for files of something else."""

    def __init__(self, squeezenet: Path, linear: Path | None = None) -> None:
        from torchvision.models import squeezenet1_1

        with torch.random.fork_rng(devices=[]):
            features = squeezenet1_1(weights=None).features
        prefix = "features."
        tensors = {k.removeprefix(prefix): v for k, v in read_tensors(squeezenet).items() if k.startswith(prefix)}
        try:
            features.load_state_dict(tensors)
        except RuntimeError:
            raise InputError(
                f"{squeezenet} does not hold torchvision's squeezenet1_1 (features.0.weight and so on): give "
                "its weight file"
            ) from None
        self.features: nn.Module = features.eval().requires_grad_(False)
        self.linear = None if linear is None else _linear_weights(linear)
        self.name = "LPIPS (SqueezeNet)" if linear else "LPIPS (SqueezeNet, uncalibrated)"

    @torch.no_grad()
    def __call__(self, truth: Tensor, made: Tensor) -> Tensor:
        """(N,) float64 of pictures (N, 3, H, W) in [0, 1]."""
        shift, scale = (torch.tensor(v)[:, None, None] for v in (SHIFT, SCALE))
        x, y = ((2 * p.float().cpu() - 1 - shift) / scale for p in (truth, made))
        total, start = torch.zeros(len(x), dtype=torch.float64), 0
        for part, end in enumerate(ENDS):
            for layer in list(self.features.children())[start:end]:
                x, y = layer(x), layer(y)
            apart = (_unit(x) - _unit(y)).square()  # (N, C, h, w)
            apart = apart.sum(1) if self.linear is None else (apart * self.linear[part]).sum(1)
            total, start = total + apart.flatten(1).mean(1).double(), end
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-10)


def _linear_weights(path: Path) -> list[Tensor]:
    """(C, 1, 1) of each part."""
    tensors = read_tensors(path)
    found = [tensors.get(f"lin{part}.model.1.weight") for part in range(len(WIDTHS))]
    for part, (weight, width) in enumerate(zip(found, WIDTHS, strict=True)):
        if weight is None or weight.numel() != width:
            raise InputError(
                f"{path} does not hold the linear weights of LPIPS for SqueezeNet: lin{part}.model.1.weight with "
                f"{width} channels is not there"
            )
    return [weight.reshape(-1, 1, 1).float() for weight in found if weight is not None]
