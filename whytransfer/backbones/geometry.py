"""Where a foreign ResNet pads and strides otherwise than ours: what a state dict does not say, and features depend on.

TensorFlow and JAX pad "SAME": just enough that the output has ceil(n / stride) places, the odd pixel behind. With a
stride of 2 and an even n that is 2 before and 3 after a 7x7 window, where PyTorch has 3 and 3: everything is seen one
pixel further on. BYOL's ResNet-50 falls from 74.6 to 70 % on ImageNet when this is overlooked
[github.com/google-deepmind/deepmind-research/issues/84].

Shape letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.backbones.resnet import Bottleneck, ResNet


@dataclass(frozen=True)
class Geometry:
    """How a ResNet is laid over the image; the defaults are those of torchvision and of `build`."""

    same_convolutions: bool = False  # strided convolutions pad "SAME"
    same_pool: bool = False  # the max-pool of the stem pads "SAME"
    stem_padding: int | None = None  # of the first convolution, where it is not half its size
    stem_relu: bool = True  # False: nothing between the first batch norm and layer1
    stride_in_1x1: bool = False  # a bottleneck strides in its first convolution, as MSRA's weights do
    batch_norm_eps: float = 1e-5

    def apply(self, backbone: ResNet) -> ResNet:
        """Change a ResNet of ours in place into one of this geometry; its state dict keeps its keys and shapes."""
        if self.same_convolutions:
            for parent in list(backbone.modules()):
                for name, child in list(parent.named_children()):
                    if type(child) is nn.Conv2d and child.stride != (1, 1) and child.kernel_size != (1, 1):
                        setattr(parent, name, _same(child))
        if self.same_pool and isinstance(backbone.maxpool, nn.MaxPool2d):
            backbone.maxpool = SameMaxPool2d(backbone.maxpool.kernel_size, backbone.maxpool.stride, padding=0)
        if self.stem_padding is not None:
            backbone.conv1.padding = (self.stem_padding, self.stem_padding)
        if not self.stem_relu:
            backbone.add_module("relu", nn.Identity())
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = self.batch_norm_eps
            if isinstance(module, Bottleneck) and self.stride_in_1x1:
                module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
        return backbone

    def told(self) -> dict[str, bool | int | float | None]:
        """What differs from torchvision's layout, by name; {} where nothing does. Geometry(**told) is this again."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v != getattr(PLAIN, k)}


PLAIN = Geometry()


def geometry_of(backbone: ResNet) -> Geometry:
    """The geometry of a ResNet of ours, read off its modules: whoever changed it, an export knows."""
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    blocks = [m for m in backbone.modules() if isinstance(m, Bottleneck)]
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    same = any(isinstance(m, SameConv2d) for m in convolutions)
    half = backbone.conv1.kernel_size[0] // 2
    padding = backbone.conv1.padding[0]
    return Geometry(
        same_convolutions=same,
        same_pool=isinstance(backbone.maxpool, SameMaxPool2d),
        stem_padding=None if same or padding == half else int(padding),
        stem_relu=not isinstance(backbone.relu, nn.Identity),
        stride_in_1x1=any(block.conv1.stride != (1, 1) for block in blocks),
        batch_norm_eps=norms[0].eps if norms else PLAIN.batch_norm_eps,
    )


class SameConv2d(nn.Conv2d):
    """A convolution that pads its input "SAME" with zeros, whatever its size.

    `given_up` is a stride that was traded for dilation (see dilated.py): its windows stay where that stride puts them.
    """

    given_up = 1

    def forward(self, x: Tensor) -> Tensor:
        if self.given_up == 1:
            return super().forward(pad_same(x, self.kernel_size, self.stride, 0.0))
        strides = (self.given_up, self.given_up)
        return super().forward(pad_same(x, self.kernel_size, strides, 0.0, rate=self.dilation[0]))

    def trade_stride(self, rate: int) -> None:
        """Take every place, `rate` apart, where a stride skipped them; each old place keeps its old window."""
        self.given_up, self.stride, self.dilation = self.stride[0], (1, 1), (rate, rate)


class SameMaxPool2d(nn.MaxPool2d):
    """A max-pool that pads its input "SAME"; what is outside never wins."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, _pair(self.kernel_size), _pair(self.stride), -math.inf))


def pad_same(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float, rate: int | None = None
) -> Tensor:
    """x (B, C, H, W) padded as TensorFlow's SAME: ceil(n / stride) places per side, the odd pixel at the end.

    With a `rate` x is `rate` times finer than the map that was strided over, and has a window for each of its places:
    as much before as SAME has there, and behind what is left of (kernel - 1) * rate.
    """
    sides = []
    for axis in (3, 2):
        n, k, s = -(-x.shape[axis] // (rate or 1)), kernel[axis - 2], stride[axis - 2]
        total = max((-(-n // s) - 1) * s + k - n, 0)
        before, after = total // 2, total - total // 2
        sides += [before, after] if rate is None else [before * rate, (k - 1 - before) * rate]
    return F.pad(x, sides, value=value)


def _same(conv: nn.Conv2d) -> SameConv2d:
    """Its twin with the same weights and SAME padding."""
    (kh, kw), (sh, sw), device = conv.kernel_size, conv.stride, conv.weight.device
    twin = SameConv2d(conv.in_channels, conv.out_channels, (kh, kw), (sh, sw), bias=False, device=device)
    twin.weight = conv.weight
    return twin


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else size
