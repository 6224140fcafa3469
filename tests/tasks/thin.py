"""A ResNet-shaped backbone of a few channels, and image sets with objects: detectors that train in milliseconds."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from whytransfer.backbones.backbone import Backbone
from whytransfer.images.scenes import Scenes
from whytransfer.records import Features, Sample


class Thin(Backbone):
    """Stages layer1 to layer4 of 4, 8, 8 and 16 channels and strides 2 to 16, with batch norm."""

    def __init__(self, seed: int = 0, width: int = 4) -> None:
        super().__init__("thin", 4 * width)
        channels = (3, width, 2 * width, 2 * width, 4 * width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for k in range(1, 5):
                block = nn.Conv2d(channels[k - 1], channels[k], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[k])
                self.add_module(f"layer{k}", nn.Sequential(*block, nn.ReLU()))
        self.spec = f"thin:{seed}"
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Features:
        x, stages = self.normalise(images), {}
        for k in range(1, 5):
            stages[f"layer{k}"] = x = self.get_submodule(f"layer{k}")(x)
        return Features(x.mean((2, 3)), x, stages)


class Changed:
    """A set of generated scenes after `change` (a function of a sample and its position)."""

    def __init__(self, count: int = 4, seed: int = 0, size: int = 64, change=lambda sample, i: sample) -> None:
        self.scenes, self.change = Scenes(count, seed, size), change
        self.name, self.classes, self.box_classes = "changed", (), self.scenes.box_classes
        self.labels, self.labelled_with = self.scenes.labels, ("boxes", "masks")

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, i: int) -> Sample:
        return self.change(self.scenes[i], i)

    def fingerprint(self) -> str:
        return "changed"


def with_boxes(sample: Sample, boxes: Tensor, **others) -> Sample:
    """The sample with other boxes, as the readers of files give them."""
    size = tuple(sample.image.shape[1:])
    return dataclasses.replace(sample, boxes=tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size), **others)
