"""What every backbone is, wherever it comes from: images in [0, 1] in, Features out, normalisation inside.

Shape letters: B batch, H height, W width, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.records import Features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

B = TypeVar("B", bound="Backbone")


class Backbone(nn.Module):
    """A module that turns images (B, 3, H, W) in [0, 1] into Features.

    `.arch` is its architecture, `.width` the number D of features, `.spec` the string it was loaded by and `.note`
    what a reader of its numbers should know (left-over keys, an unfinished run). It normalises with `.mean` and `.std`
    (3,), which stay out of the state dict: they belong to the run card, and weight files of others have none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, arch: str, width: int):
        super().__init__()
        self.arch, self.width = arch, width
        self.spec = self.note = ""
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD), persistent=False)

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> Features:
        """Features of images in [0, 1]; ValueError on a processor for those that are plainly 0 to 255."""
        if not torch.compiler.is_compiling() and images.numel() and images.device.type == "cpu":
            largest = float(images.detach().amax())  # on a GPU the host would wait for it
            if largest > 10:  # images that a detector has normalised reach 3
                raise ValueError(f"a backbone takes images in [0, 1]; these reach {largest:g}: divide them by 255")
        return super().__call__(images)

    def normalise_with(self: B, mean: Sequence[float], std: Sequence[float]) -> B:
        """Use another mean and std; InputError unless both are three numbers and the stds are positive."""
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(f"normalisation needs three means and three positive stds; got mean {mean}, std {std}")
        self.mean.copy_(torch.as_tensor(mean, dtype=self.mean.dtype))
        self.std.copy_(torch.as_tensor(std, dtype=self.std.dtype))
        return self

    def normalise(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """(images - mean) / std in one pass over the pixels, keeping their memory format; ValueError for no images."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            found = f"{tuple(images.shape)} {images.dtype}"
            raise ValueError(f"a backbone takes images (B, 3, H, W), floating point in [0, 1]; got {found}")
        scale = (1 / self.std)[:, None, None]
        return torch.addcmul(-self.mean[:, None, None] * scale, images, scale)
