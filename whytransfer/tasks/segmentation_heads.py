"""The heads of semantic segmentation: DeepLab-v3 and FCN, of torchvision's parts, for maps of any width.

Both stand on dilated maps (backbones.dilated).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from whytransfer.errors import InputError
from whytransfer.records import Features
from whytransfer.tasks.dense_net import Of


@dataclass(frozen=True)
class Architecture:
    """A head: the stride of its maps, the schedule that it is published with, how it is built for K classes.

    `rates` are the dilations of its convolutions at the schedule's crops.
    """

    output_stride: int
    schedule: str
    rates: tuple[int, ...]
    heads: Callable[[Features, int, tuple[int, ...]], tuple[nn.Module, nn.Module | None]]


def deeplab_heads(features: Features, classes: int, rates: tuple[int, ...]) -> tuple[nn.Module, nn.Module | None]:
    """torchvision's atrous spatial pyramid of 512 channels and its FCN head on layer3 as the auxiliary one.

    The five branches are joined by a 3x3 convolution, then dropout 0.1 and the classifier, as in mmsegmentation
    (torchvision itself joins by 1x1, dropout 0.5, and has another 3x3 behind).
    """
    from torchvision.models.segmentation.deeplabv3 import ASPP
    from torchvision.models.segmentation.fcn import FCNHead

    if "layer3" not in features.stages:
        raise InputError(f"deeplab's auxiliary head stands on layer3; this backbone has {', '.join(features.stages)}")
    width = 512
    pyramid = ASPP(features.map.shape[1], list(rates), width)
    join = nn.Conv2d((len(rates) + 2) * width, width, 3, padding=1, bias=False)
    pyramid.project = nn.Sequential(join, nn.BatchNorm2d(width), nn.ReLU())
    main = nn.Sequential(pyramid, nn.Dropout(0.1), nn.Conv2d(width, classes, 1))
    return Of("map", main), Of("layer3", FCNHead(features.stages["layer3"].shape[1], classes))


def fcn_heads(features: Features, classes: int, rates: tuple[int, ...]) -> tuple[nn.Module, nn.Module | None]:
    """Two 3x3 convolutions of 256 channels, dilated, each with batch norm and ReLU, and a 1x1 classifier."""
    layers: list[nn.Module] = []
    channels = features.map.shape[1]
    for rate in rates:
        layers += [nn.Conv2d(channels, 256, 3, padding=rate, dilation=rate, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        channels = 256
    return Of("map", nn.Sequential(*layers, nn.Conv2d(channels, classes, 1))), None


ARCHITECTURES = {
    "deeplab": Architecture(8, "cityscapes-40k", (12, 24, 36), deeplab_heads),
    "fcn": Architecture(16, "voc-30k", (6, 6), fcn_heads),
}
