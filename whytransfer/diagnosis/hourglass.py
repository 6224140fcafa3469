"""The generator of a deep image prior, N of them side by side: an hourglass from noise to a picture.

Six scales down and up, 16, 32, 64, 128, 128, 128 channels with kernels of 7, 7, 5, 5, 3, 3, a skip branch of 4 channels
at every scale [Ulyanov 2018, arXiv 1711.10925; as Zhao 2021, arXiv 2006.06606, appendix D and its code have it]:
  down  conv k and the mean of 2 x 2, norm, leaky ReLU, conv k, norm, leaky ReLU
  skip  conv 1 x 1, norm, leaky ReLU
  up    skip beside the nearest-neighbour doubling of what lies below, norm, conv k, norm, leaky ReLU, conv 1 x 1, norm,
        leaky ReLU
and a last conv 1 x 1 to three channels, without a sigmoid. Norms are batch norms over a batch of one image.

The function is the published one; the arithmetic is shorter. A convolution followed by a 2 x 2 mean is one convolution
of stride 2 with the kernel smoothed to k + 1; a convolution of a doubled map is a transposed one of stride 2 with the
same kernel; and a norm of a doubled map is the norm of the map. That is 2.4 times fewer multiplications.

Shape letters: N pictures (items), C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]

SLOPE = 0.2  # of the leaky ReLUs
NOISE_HIGH = 0.1  # the input is uniform in [0, 0.1)


@dataclass(frozen=True)
class Hourglass:
    """The layout of the generator; the defaults are the published ones (2,606,763 parameters per picture)."""

    channels: tuple[int, ...] = (16, 32, 64, 128, 128, 128)
    kernels: tuple[int, ...] = (7, 7, 5, 5, 3, 3)
    skip: int = 4
    noise: int = 32

    def side(self, size_px: int) -> int:
        """Side of the net's maps for pictures of size_px: the next multiple of 2^scales (224 -> 256, as published).

        At least twice that (64 -> 128): the deepest batch norm needs more than one place.
        """
        unit = 2 ** len(self.channels)
        return max(2, -(-size_px // unit)) * unit

    def convolutions(self) -> dict[str, tuple[int, int, int]]:
        """name -> (channels out, channels in, kernel) of every convolution."""
        found = {}
        below = (*self.channels[1:], self.channels[-1])  # what comes up to each scale
        for i, (c, k) in enumerate(zip(self.channels, self.kernels, strict=True)):
            source = self.channels[i - 1] if i else self.noise
            found[f"{i}_skip"] = self.skip, source, 1
            found[f"{i}_down"] = c, source, k
            found[f"{i}_inner"] = c, c, k
            found[f"{i}_up"] = c, self.skip + below[i], k
            found[f"{i}_mix"] = c, c, 1
        found["out"] = 3, self.channels[0], 1
        return found

    def norms(self) -> dict[str, int]:
        """name -> channels of every batch norm: one behind each convolution but the last, one on each joined map."""
        convolutions = self.convolutions()
        behind = {f"{name}_norm": out for name, (out, _, _) in convolutions.items() if name != "out"}
        joined = {f"{i}_joined_norm": convolutions[f"{i}_up"][1] for i in range(len(self.channels))}
        return {**behind, **joined}

    def start(self, seed: int) -> dict[str, Tensor]:
        """The initial weights of one picture's network, a function of the seed: PyTorch's defaults, as published.

        Convolutions and their biases are uniform within 1 / sqrt(fan in); norms start at 1 and 0.
        """
        chance = torch.Generator().manual_seed(seed)
        weights = {}
        for name, (out, into, k) in self.convolutions().items():
            bound = 1 / math.sqrt(into * k * k)
            for part, shape in (("weight", (out, into, k, k)), ("bias", (out,))):
                weights[f"{name}_{part}"] = torch.empty(shape).uniform_(-bound, bound, generator=chance)
        for name, channels in self.norms().items():
            weights[f"{name}_weight"], weights[f"{name}_bias"] = torch.ones(channels), torch.zeros(channels)
        return weights

    def noise_of(self, seed: int, size_px: int) -> Tensor:
        """(noise, S, S) the fixed input of one picture, uniform in [0, 0.1), a function of the seed."""
        side = self.side(size_px)
        return torch.rand((self.noise, side, side), generator=torch.Generator().manual_seed(seed)) * NOISE_HIGH

    def pictures(self, weights: Weights, noise: Tensor, together: int | None = None) -> Tensor:
        """(N, 3, S, S) from the weights of N networks, each (N, ...), and their inputs (N, noise, S, S).

        Networks run side by side as one of `together` groups (default: all of them on a GPU, on a processor one by
        one, whose maps fit its caches); no arithmetic crosses from picture to picture, norms included.
        """
        n = together or (len(noise) if noise.device.type == "cuda" else 1)
        parts = {name: values.split(n) for name, values in weights.items()}
        made = [
            _Pass({name: values[at] for name, values in parts.items()}, len(inputs)).run(inputs, len(self.channels))
            for at, inputs in enumerate(noise.split(n))
        ]
        return made[0] if len(made) == 1 else torch.cat(made)


class _Pass:
    """One forward pass of N networks as one of N groups: maps are (1, N C, H, W)."""

    def __init__(self, weights: Weights, n: int) -> None:
        self.weights, self.n = weights, n

    def run(self, noise: Tensor, scales: int) -> Tensor:
        """(N, 3, H, W) from the noise (N, noise, H, W)."""
        x = noise.reshape(1, -1, *noise.shape[2:]).contiguous(memory_format=torch.channels_last)
        skips = []
        for i in range(scales):
            skips.append(self.activated(self.convolved(x, f"{i}_skip"), f"{i}_skip_norm"))
            x = self.activated(self.halved(x, f"{i}_down"), f"{i}_down_norm")
            x = self.activated(self.convolved(x, f"{i}_inner"), f"{i}_inner_norm")
        for i in reversed(range(scales)):
            x = self.activated(self.risen(skips.pop(), x, i), f"{i}_up_norm")
            x = self.activated(self.convolved(x, f"{i}_mix"), f"{i}_mix_norm")
        return self.convolved(x, "out").unflatten(1, (self.n, 3))[0]

    def activated(self, x: Tensor, norm: str) -> Tensor:
        weight, bias = self.weights[f"{norm}_weight"], self.weights[f"{norm}_bias"]
        return F.leaky_relu_(_normed(x, weight, bias), SLOPE)

    def convolved(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
        k = weight.shape[-1]
        return F.conv2d(x, weight.flatten(0, 1), bias.flatten(), padding=k // 2, groups=self.n)

    def halved(self, x: Tensor, name: str) -> Tensor:
        """avg_pool2d(conv2d(x), 2) as one convolution of stride 2."""
        weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
        k = weight.shape[-1]
        smooth = _summed(weight.flatten(0, 1)) / 4
        return F.conv2d(x, smooth, bias.flatten(), stride=2, padding=k // 2, groups=self.n)

    def risen(self, skip: Tensor, below: Tensor, i: int) -> Tensor:
        """conv2d(norm(skip beside below doubled)) without the doubled map."""
        weight, bias = self.weights[f"{i}_up_weight"], self.weights[f"{i}_up_bias"]
        scale, shift = self.weights[f"{i}_joined_norm_weight"], self.weights[f"{i}_joined_norm_bias"]
        s, k = skip.shape[1] // self.n, weight.shape[-1]
        skip, below = _normed(skip, scale[:, :s], shift[:, :s]), _normed(below, scale[:, s:], shift[:, s:])
        kept = F.conv2d(skip, weight[:, :, :s].flatten(0, 1), bias.flatten(), padding=k // 2, groups=self.n)
        kernel = _summed(weight[:, :, s:].transpose(1, 2).flatten(0, 1).flip(2, 3))  # (N C in, C out, k + 1, k + 1)
        return kept + F.conv_transpose2d(below, kernel, stride=2, padding=k // 2, groups=self.n)


def _normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Batch norm over one picture: (1, N C, H, W) by its own mean and variance, then weight and bias (N, C)."""
    return F.batch_norm(x, None, None, weight.flatten(), bias.flatten(), training=True)


def _summed(kernel: Tensor) -> Tensor:
    """(..., k, k) -> (..., k + 1, k + 1): each entry is the sum of the 2 x 2 that it touches."""
    rows = F.pad(kernel, (0, 0, 0, 1)) + F.pad(kernel, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
