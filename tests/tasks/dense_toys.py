"""A ResNet of basic blocks 8 channels wide, and image sets of coloured blocks with their label map and depth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.resnet import BasicBlock
from whytransfer.records import Features, Sample

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])


class Narrow(Backbone):
    """Stride 32, 8 to 64 channels, with batch norm; fast enough to be trained in a test."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__("narrow", 64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            channels = 8
            for k in range(4):
                self.add_module(
                    f"layer{k + 1}", nn.Sequential(BasicBlock(8 << k, channels, 2 if k else 1, nn.BatchNorm2d))
                )
                channels = 8 << k
        self.spec = f"toy:narrow:{seed}"
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Features:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalise(images)))))
        stages = {"stem": x}
        for k in range(1, 5):
            stages[f"layer{k}"] = x = self.get_submodule(f"layer{k}")(x)
        return Features(x.mean((2, 3)), x, stages)


class Blocks:
    """Images of 2 x 2 blocks in three colours; the class of a pixel is its colour, its depth 1 + class metres.

    A border of one pixel has no class and no depth.
    """

    colours = COLOURS
    classes: tuple[str, ...] = ()
    labelled_with = ("semantic", "depth")

    def __init__(self, count: int = 12, seed: int = 0, size: tuple[int, int] = (48, 64), sizes_differ: bool = False):
        self.count, self.seed, self.size, self.sizes_differ = count, seed, size, sizes_differ
        self.name, self.labels = f"blocks:{count}:{seed}", np.full(count, -1)
        self.semantic_classes = ("red", "green", "blue")

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        return f"{self.name}:{self.size}:{self.sizes_differ}"

    def truth(self, i: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, i])
        height, width = self.size
        if self.sizes_differ and i % 3 == 2:
            height, width = height + 7, width - 5
        blocks = rng.integers(0, 3, (2, 2))
        return blocks[np.arange(height) * 2 // height][:, np.arange(width) * 2 // width].astype(np.uint8)

    def __getitem__(self, i: int) -> Sample:
        rng = np.random.default_rng([self.seed, i, 1])
        truth = self.truth(i)
        pixels = (self.colours[truth] + rng.normal(0, 15, (*truth.shape, 3))).clip(0, 255).astype(np.uint8)
        depth = 1 + truth.astype(np.float32)
        semantic = truth.copy()
        for part, void in ((semantic, 255), (depth, np.nan)):
            part[[0, -1]] = part[:, [0, -1]] = void
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return Sample(image, f"{i:03d}", semantic=torch.from_numpy(semantic), depth=torch.from_numpy(depth))


class Shades(Blocks):
    """Blocks of three greys: what the colours of the depth task leave as it is."""

    colours = np.array([[40] * 3, [120] * 3, [220] * 3])
