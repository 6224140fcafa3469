"""The decoder of Laina et al. for depth: fast up-projections, four small convolutions instead of one on zeros.

Up-projection enlarges a map twofold by setting zeros between its values and convolving with 5x5. Three quarters of
those products are with zero; the four kinds of places (even or odd row, even or odd column) meet 3x3, 3x2, 2x3 and 2x2
of the 25 weights, so four convolutions of these shapes, interleaved, are the same map [Laina 2016, arXiv 1606.00373,
§3.2].
Shape letters: B batch, C channels, h and w height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (512, 256, 128, 64)
# (rows, columns) of the kernel, and what is padded around: left, right, top, bottom
_SHAPES = (((3, 3), (1, 1, 1, 1)), ((3, 2), (0, 1, 1, 1)), ((2, 3), (1, 1, 0, 1)), ((2, 2), (0, 1, 0, 1)))


class FastUnpool(nn.Module):
    """(B, C, h, w) -> (B, D, 2h, 2w): a 5x5 convolution of the map with zeros behind every row and column.

    Place (2i + a, 2j + b) comes from convolution 2a + b. No bias: batch norm follows.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels_in, channels_out, shape, bias=False) for shape, _ in _SHAPES)

    def forward(self, x: Tensor) -> Tensor:
        parts = [conv(F.pad(x, around)) for conv, (_, around) in zip(self.convs, _SHAPES, strict=True)]
        return F.pixel_shuffle(torch.stack(parts, dim=2).flatten(1, 2), 2)  # (B, D, 4, h, w) -> (B, 4 D, h, w)


class UpProjection(nn.Module):
    """A residual block that doubles the map: unpool, batch norm, ReLU, 3x3, batch norm, beside unpool, batch norm."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            FastUnpool(channels_in, channels_out),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Sequential(FastUnpool(channels_in, channels_out), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.shortcut(x))


def decoder(channels: int, widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """A map (B, C, h, w) -> depth (B, 1, 16 h, 16 w): an up-projection per width and a 3x3 convolution."""
    ends = (channels, *widths)
    blocks = [UpProjection(a, b) for a, b in zip(ends, ends[1:], strict=False)]
    return nn.Sequential(*blocks, nn.Conv2d(ends[-1], 1, 3, padding=1))
