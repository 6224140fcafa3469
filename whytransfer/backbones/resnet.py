"""ResNet-18/34/50/101/152/200 of any width, with a stem for photographs or for small images, showing every stage.

Post-activation ResNet with the stride in the 3x3 convolution of the bottleneck ("v1.5", as torchvision and the papers
of this field use it) [He 2016, arXiv 1512.03385]; state-dict names equal torchvision's without `fc`, so its files load
as they are. The width multiplier scales every channel, the stem's too: resnet50x3 has 6144 features
[Kolesnikov 2019, arXiv 1901.09005].

Shape letters: B batch, C channels, H height, W width, D feature width.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.errors import unknown_name
from whytransfer.records import Features

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")

Norm = Callable[[int], nn.Module]


@dataclasses.dataclass(frozen=True)
class Arch:
    """A ResNet by its three choices; its text form is the name used everywhere: "resnet50x3", "resnet18-small"."""

    depth: int
    width: int = 1
    small: bool = False

    @classmethod
    def parse(cls, name: str) -> Arch:
        """Read resnet{18|34|50|101|152|200}[x{width}][-small]; InputError with the near names for anything else."""
        match = re.fullmatch(r"resnet(\d+)(?:x([1-9]))?(-small)?", name)
        if match is None or int(match[1]) not in BLOCKS:
            raise unknown_name("backbone", name, names())
        return cls(int(match[1]), int(match[2] or 1), bool(match[3]))

    @property
    def bottleneck(self) -> bool:
        """Blocks of three convolutions (from depth 50) instead of two."""
        return self.depth >= 50

    def __str__(self) -> str:
        return f"resnet{self.depth}{f'x{self.width}' if self.width > 1 else ''}{'-small' if self.small else ''}"


def names() -> list[str]:
    """The usual architectures; widths up to x9 are understood too."""
    return [str(Arch(depth, width, small)) for depth in BLOCKS for width in (1, 2, 3) for small in (False, True)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inner: int, outer_in: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(outer_in, inner, 3, stride, padding=1, bias=False)
        self.bn1 = norm(inner)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = norm(inner)
        self.downsample = _shortcut(outer_in, inner, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (which carries the stride), 1x1 up, and a shortcut."""

    expansion = 4

    def __init__(self, inner: int, outer_in: int, stride: int, norm: Norm):
        super().__init__()
        outer = inner * self.expansion
        self.conv1 = nn.Conv2d(outer_in, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn3 = norm(outer)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(outer_in, outer, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def _shortcut(channels_in: int, channels_out: int, stride: int, norm: Norm) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), norm(channels_out))


class ResNet(Backbone):
    """Stem, four stages and the mean over places; the stage "stem" is what layer1 receives (after any max-pool)."""

    def __init__(self, arch: Arch, norm: Norm = nn.BatchNorm2d):
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck if arch.bottleneck else BasicBlock
        channels = 64 * arch.width
        super().__init__(str(arch), width=channels * 8 * block.expansion)
        kernel, stride = (3, 1) if arch.small else (7, 2)
        self.conv1 = nn.Conv2d(3, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if arch.small else nn.MaxPool2d(3, 2, padding=1)
        channels_in = channels
        for stage, count in enumerate(BLOCKS[arch.depth]):
            blocks = []
            for i in range(count):
                blocks.append(block(channels << stage, channels_in, 2 if stage and not i else 1, norm))
                channels_in = (channels << stage) * block.expansion
            self.add_module(STAGES[stage + 1], nn.Sequential(*blocks))
        # torchvision's law. The code of SimCLR, BYOL and DetCon starts the last norm of every block at 0 instead of 1,
        # that of BYOL and DetCon its convolutions with normals of deviation 1 / sqrt(inputs), cut at two deviations.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Features:
        x = self.normalise(images)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        stages = {"stem": x}
        for name in STAGES[1:]:
            stages[name] = x = self.get_submodule(name)(x)
        return Features(vector=x.mean((2, 3), dtype=torch.float32), map=x, stages=stages)


def build(arch: str, norm: Norm = nn.BatchNorm2d) -> ResNet:
    """A freshly initialised ResNet by name; `norm(channels)` makes its normalisation layers (MoCo hands a split one).

    build("resnet18-small")(torch.rand(2, 3, 32, 32)).vector has shape (2, 512).
    """
    return ResNet(Arch.parse(arch), norm)
