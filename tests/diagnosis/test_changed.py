"""Changed test pictures: each view is the transform that was drawn for it, and nothing else."""

import numpy as np
import pytest
import torch

from whytransfer.backbones.load import load_backbone
from whytransfer.diagnosis.changed import STRENGTHS, changed_features, draw
from whytransfer.diagnosis.grids import GROUPS, grid
from whytransfer.diagnosis.transforms import pictures_of, transformed
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache


@pytest.mark.parametrize("group", GROUPS)
def test_draws_are_a_function_of_the_seed_and_spread_over_all_transforms(group):
    drawn, again, other = (draw(group, 200, 4, seed) for seed in (0, 0, 1))
    assert (drawn.transform == again.transform).all() and (drawn.strength == again.strength).all()
    assert (drawn.transform != other.transform).any()
    assert all(len(set(row)) == 4 for row in drawn.transform.tolist())  # no transform twice for a picture
    counts = np.bincount(drawn.transform.ravel(), minlength=len(GROUPS[group]))
    assert counts.min() > 0.6 * counts.mean()
    for t, name in enumerate(GROUPS[group]):
        rows = drawn.strength[drawn.transform == t]
        assert set(rows.tolist()) == set(range(len(grid(name, "corrected", STRENGTHS))))


def test_more_views_than_transforms_begin_again():
    drawn = draw("spatial", 3, 17, 0)
    assert all(np.bincount(row, minlength=8).max() == 3 for row in drawn.transform)


@pytest.mark.parametrize("group", GROUPS)
def test_every_view_is_the_one_that_was_drawn(group, tmp_path):
    backbone = load_backbone("random:resnet18")
    images = PixelCache.open(open_images("scenes:5:0:32"), folder=tmp_path)
    drawn = draw(group, 5, 3, 0)
    seen: list[int] = []
    found = changed_features(backbone, images, drawn, 24, seed=0, batch=2, tick=seen.append)
    assert found.shape == (5, 3, 512) and sum(seen) == 15
    for i, v in ((0, 0), (3, 1), (4, 2)):
        name = GROUPS[group][drawn.transform[i, v]]
        values = grid(name, "corrected", STRENGTHS)[drawn.strength[i, v]][None]
        picture = pictures_of([images.pixels(i)], 24, "corrected", "cpu")
        with torch.inference_mode():
            alone = backbone(transformed(name, picture, values, 24, "corrected", 0)[:, 0]).vector[0]
        assert torch.allclose(found[i, v], alone, rtol=1e-3, atol=1e-4)
