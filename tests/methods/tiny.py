"""A backbone of two layers for tests: any precision, fast, with batch norm."""

import torch
from torch import nn

from whytransfer.records import Features, Views


class Tiny(nn.Module):
    """Convolution, batch norm, ReLU, mean over places: (B, 3, S, S) -> Features of width 6."""

    width = 6

    def __init__(self, seed=0):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        weights = torch.randn(self.conv.weight.shape, generator=torch.Generator().manual_seed(seed))
        self.conv.weight.data.copy_(weights / 3)

    def forward(self, images):
        x = self.relu(self.bn(self.conv(images)))
        return Features(vector=x.mean((2, 3)), map=x, stages={f"layer{k}": x for k in (1, 2, 3, 4)})


def views(batch=8, seed=0, count=2, dtype=torch.float64):
    """Random pictures in [0, 1], labelled 0, 1, 2, 0, ..."""
    g = torch.Generator().manual_seed(seed)
    images = tuple(torch.rand(batch, 3, 8, 8, generator=g, dtype=dtype) for _ in range(count))
    return Views(images, torch.arange(batch), torch.arange(batch) % 3)
