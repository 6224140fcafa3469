"""Pillow's bicubic views: torchvision on Pillow images as oracle, crops as everywhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor
from torchvision.transforms.functional import hflip, resized_crop, to_tensor

from whytransfer.tasks import bicubic
from whytransfer.views.operations import draw

RNG = np.random.default_rng(0)
PICTURES = [
    RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 61, 3), (33, 20, 3), (24, 24, 3), (90, 50, 3))
]


@pytest.mark.parametrize("size_px", [24, 31])
def test_the_whole_picture_is_that_of_torchvision_on_pillow(size_px):
    transform = Compose([Resize(size_px, InterpolationMode.BICUBIC), CenterCrop(size_px), ToTensor()])
    expected = torch.stack([transform(Image.fromarray(p)) for p in PICTURES])
    assert torch.equal(bicubic.centre_views(PICTURES, size_px), expected)


def test_crops_are_torchvisions_of_the_windows_drawn():
    index, epochs = np.array([5, 6, 7, 8]), np.array([3, 3, 4, 4])
    views = bicubic.crop_views(PICTURES, index, epochs, 16, seed=2)
    for i, picture in enumerate(PICTURES):
        sizes = np.array([picture.shape[:2]])
        (w,) = draw(bicubic.TRAIN, sizes, 16, 2, int(epochs[i]), index[i : i + 1], 0).windows
        place = [int(w[name]) for name in ("top", "left", "height", "width")]
        crop = resized_crop(Image.fromarray(picture), *place, [16, 16], InterpolationMode.BICUBIC)
        assert torch.equal(views[i], to_tensor(hflip(crop) if w["flip"] else crop))


def test_a_crop_belongs_to_seed_epoch_and_image_not_to_its_batch():
    index, epochs = np.arange(4), np.array([0, 0, 0, 1])
    whole = bicubic.crop_views(PICTURES, index, epochs, 12, seed=1)
    for i in range(4):
        alone = bicubic.crop_views(PICTURES[i : i + 1], index[i : i + 1], epochs[i : i + 1], 12, seed=1)
        assert torch.equal(whole[i], alone[0])
    assert not torch.equal(whole, bicubic.crop_views(PICTURES, index, epochs, 12, seed=2))
    assert not torch.equal(whole[0], bicubic.crop_views(PICTURES, index, epochs + 1, 12, seed=1)[0])
