"""Numbers of colour alone and of pose alone: each is blind to the other, and finds what is planted."""

import numpy as np
import pytest
import torch
from PIL import Image

from whytransfer.diagnosis.nuisance import colour_numbers, numbers_of, pose_numbers
from whytransfer.diagnosis.out_of_fold import folds_for, out_of_fold
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache


def noise(n=6, side=16, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_colour_knows_nothing_of_places():
    views = noise()
    order = torch.randperm(256, generator=torch.Generator().manual_seed(1))
    moved = views.flatten(2)[..., order].view_as(views)
    assert torch.allclose(colour_numbers(views), colour_numbers(moved), atol=1e-6)
    assert not torch.allclose(colour_numbers(views), colour_numbers(views[:, [1, 2, 0]]), atol=1e-3)


def test_shares_of_colours_are_counted():
    views = torch.zeros(1, 3, 4, 4)
    views[:, 0, :, 0] = 0.9  # a quarter is red
    numbers = colour_numbers(views)[0]
    assert numbers[:64].square().sum() == pytest.approx(1)
    assert numbers[0] ** 2 == pytest.approx(0.75) and numbers[3 * 16] ** 2 == pytest.approx(0.25)
    assert numbers[64] == pytest.approx(0.225) and numbers.shape == (70,)


def test_pose_knows_nothing_of_light_and_the_order_of_channels():
    views = noise()
    for other in (views[:, [2, 0, 1]], 0.5 * views + 0.2):
        assert torch.allclose(pose_numbers(views), pose_numbers(other), atol=2e-4)


def test_pose_is_where_the_edges_are_and_which_way_they_run():
    picture = torch.zeros(1, 3, 33, 33)
    picture[..., 20:28, 4:10] = 1  # right of the middle it is not: left and below
    x, y, *_ = pose_numbers(picture)[0].tolist()
    assert x < -0.4 and y > 0.3
    mirrored = pose_numbers(picture.flip(3))[0]
    assert mirrored[0] == pytest.approx(-x, abs=1e-4) and mirrored[1] == pytest.approx(y, abs=1e-4)
    stripes = (torch.arange(33) % 4 < 2).float().expand(1, 3, 33, 33)  # they change across
    directions = pose_numbers(stripes)[0, 5:13]
    assert directions[0] == pytest.approx(1, abs=1e-3)
    assert pose_numbers(stripes.transpose(2, 3).contiguous())[0, 5 + 4] == pytest.approx(1, abs=3e-3)
    assert torch.isfinite(pose_numbers(torch.zeros(1, 3, 8, 8))).all()


@pytest.mark.parametrize(("planted", "blind"), [("appearance", "spatial"), ("spatial", "appearance")])
def test_what_is_planted_is_found_by_its_own_numbers_alone(planted, blind, tmp_path, monkeypatch):
    """Squares at a random place in a random colour; the label is the half of the colours, or of the places."""
    monkeypatch.setattr("whytransfer.diagnosis.out_of_fold.CS", (1e-4, 1e-2, 1.0, 100.0))
    chance = np.random.default_rng(0)
    n = 120
    place, hue, labels = chance.integers(0, 2, n), chance.integers(0, 2, n), np.zeros(n, np.int64)
    labels[:] = hue if planted == "appearance" else place
    for i in range(n):
        picture = np.full((48, 48, 3), 110, np.uint8)
        top, left = chance.integers(4, 34), chance.integers(2, 12) + 24 * place[i]
        picture[top : top + 10, left : left + 10] = [[200, 60, 60], [60, 60, 200]][hue[i]]
        (tmp_path / "set" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "set" / str(labels[i]) / f"{i}.png")
    images = PixelCache.open(open_images(str(tmp_path / "set")), folder=tmp_path / "cache")
    fold = folds_for(images.labels, 0) % 2
    right = {g: out_of_fold(x, images.labels, fold).correct().mean() for g, x in numbers_of(images).items()}
    assert right[planted] > 0.95 and right[blind] < 0.65
