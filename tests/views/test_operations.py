"""The laws by which parameters are drawn: torchvision's in distribution, and functions of their address alone."""

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop as Torchvisions

from whytransfer.views.operations import (
    BYOLJitter,
    CenterCrop,
    ColorJitter,
    Flip,
    GaussianBlur,
    Geometric,
    Grayscale,
    Photometric,
    RandomResizedCrop,
    Resize,
    SimCLRJitter,
    SingleTryCrop,
    Solarise,
    TenthBlur,
    draw,
)
from whytransfer.views.parameters import Op
from whytransfer.views.recipes import RECIPES, moco_v2, spatial

N = 3000


def drawn(pipeline, size=(300, 400), n=N, size_px=64, **address):
    address = {"seed": 0, "epoch": 0, "index": np.arange(n), "view": 0} | address
    return draw(pipeline, np.tile(size, (len(address["index"]), 1)), size_px, **address)


def torchvision_crops(size, scale, n=N):
    """(n, 4) top, left, height, width as torchvision draws them."""
    torch.manual_seed(0)
    picture = torch.empty(3, *size)
    return np.array([Torchvisions.get_params(picture, list(scale), [3 / 4, 4 / 3]) for _ in range(n)])


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0)])
@pytest.mark.parametrize("size", [(300, 400), (64, 64), (400, 100), (60, 900)])
def test_random_resized_crop_has_torchvisions_law(size, scale):
    windows = drawn((RandomResizedCrop(scale=scale),), size).windows
    ours = np.stack([windows[f] for f in ("top", "left", "height", "width")], axis=1).astype(float)
    theirs = torchvision_crops(size, scale).astype(float)
    assert (ours[:, 0] + ours[:, 2] <= size[0]).all() and (ours[:, 1] + ours[:, 3] <= size[1]).all()
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert ks_2samp(a, b, method="asymp").pvalue > 1e-3
    assert ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3], method="asymp").pvalue > 1e-3
    assert ks_2samp(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2], method="asymp").pvalue > 1e-3
    assert (windows["grid_height"] == 64).all() and (windows["grid_width"] == 64).all()


@pytest.mark.parametrize("size", [(30, 3000), (3000, 30)])
def test_a_picture_too_long_for_any_try_gets_the_widest_central_crop(size):
    windows = drawn((RandomResizedCrop(scale=(0.2, 1.0)),), size, n=50).windows
    top, left, height, width = torchvision_crops(size, (0.2, 1.0), n=1)[0]
    for field, value in (("top", top), ("left", left), ("height", height), ("width", width)):
        assert (windows[field] == value).all()


def test_detcons_crop_is_one_try_cut_to_the_picture():
    windows = drawn((SingleTryCrop(),), (100, 400)).windows
    high, wide = windows["height"].astype(float), windows["width"].astype(float)
    assert (high <= 100).all() and (wide <= 400).all() and (high == 100).mean() > 0.5
    uncut = high < 100
    share = (high * wide / 40_000)[uncut & (high * wide < 0.15 * 40_000)]  # areas that fit at any aspect stay uniform
    assert kstest(share, "uniform", (share.min(), np.ptp(share))).pvalue > 1e-3
    assert (windows["top"] + windows["height"] <= 100).all() and (windows["left"] + windows["width"] <= 400).all()


def test_jitter_draws_uniform_strengths_in_uniform_order():
    steps = drawn((RandomResizedCrop(), ColorJitter(0.4, 0.3, 0.2, 0.1, p=0.8))).after
    applied = steps[(steps["op"] != Op.SKIP).all(axis=1)]
    assert abs(len(applied) / N - 0.8) < 0.03 and len(applied) + (steps["op"] == Op.SKIP).all(axis=1).sum() == N
    ranges = {Op.BRIGHTNESS: (0.6, 0.8), Op.CONTRAST: (0.7, 0.6), Op.SATURATION: (0.8, 0.4), Op.HUE: (-0.1, 0.2)}
    for op, uniform in ranges.items():
        assert kstest(applied["value"][applied["op"] == op], "uniform", uniform).pvalue > 1e-3
    orders, counts = np.unique(applied["op"], axis=0, return_counts=True)
    assert len(orders) == 24 and counts.min() > 0.6 * len(applied) / 24
    assert set(np.unique(applied["op"])) == set(ranges)


def test_a_strength_of_zero_is_no_step_and_factors_stay_positive():
    steps = drawn((ColorJitter(2.0, 0.0, 0.4, 0.1),)).before
    assert Op.CONTRAST not in steps["op"]
    assert steps["value"][steps["op"] == Op.BRIGHTNESS].min() >= 0.0
    added = drawn((BYOLJitter(0.4, 0.4, 0.2, 0.1),)).before
    assert -0.4 <= added["value"][added["op"] == Op.ADD_BRIGHTNESS].min() < -0.35


@pytest.mark.parametrize(("jitter", "ops"), [
    (ColorJitter, {Op.BRIGHTNESS, Op.CONTRAST, Op.SATURATION, Op.HUE}),
    (SimCLRJitter, {Op.BRIGHTNESS, Op.CHANNEL_CONTRAST, Op.HSV_SATURATION, Op.HUE}),
    (BYOLJitter, {Op.ADD_BRIGHTNESS, Op.CHANNEL_CONTRAST, Op.HSV_SATURATION, Op.HUE}),
])  # fmt: skip
def test_each_jitter_has_the_arithmetic_of_its_papers_code(jitter, ops):
    assert set(np.unique(drawn((jitter(0.4, 0.4, 0.2, 0.1),)).before["op"])) == ops


@pytest.mark.parametrize(("operation", "op", "p"), [
    (Grayscale(p=0.2), Op.GRAYSCALE, 0.2),
    (GaussianBlur(p=0.5), Op.BLUR, 0.5),
    (TenthBlur(p=1.0), Op.ZERO_BLUR, 1.0),
    (TenthBlur(p=0.1), Op.ZERO_BLUR, 0.1),
    (Solarise(p=0.2), Op.SOLARISE, 0.2),
])  # fmt: skip
def test_coins(operation, op, p):
    steps = drawn((RandomResizedCrop(), operation)).after
    assert abs((steps["op"] == op).mean() - p) < 0.03
    assert set(np.unique(steps["op"])) <= {Op.SKIP, op}


def test_blur_widths():
    steps = drawn((GaussianBlur(p=1.0, sigma_px=(0.1, 2.0)),)).before
    assert kstest(steps["value"][:, 0], "uniform", (0.1, 1.9)).pvalue > 1e-3
    assert (steps["radius_px"] >= 3 * steps["value"]).all() and steps["radius_px"].max() == 6
    radius = {side: drawn((TenthBlur(p=1.0),), size_px=side).before["radius_px"][0, 0] for side in (224, 96, 64, 16)}
    assert radius == {224: 11, 96: 4, 64: 3, 16: 0}  # kernels of 23, 9, 7 and 1 px


def test_flip_is_a_fair_coin():
    assert abs(drawn((Flip(),)).windows["flip"].mean() - 0.5) < 0.03


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_depend_on_their_address_alone(name):
    index = np.array([7, 2**33 + 1, 0, 3])
    sizes = np.array([[30, 40], [64, 64], [100, 20], [5, 5]])
    batch = draw(RECIPES[name].views[0], sizes, 32, seed=5, epoch=3, index=index, view=0)
    for row in range(4):
        alone = draw(RECIPES[name].views[0], sizes[[row]], 32, seed=5, epoch=3, index=index[[row]], view=0)
        for field in ("windows", "before", "after"):
            assert np.array_equal(getattr(batch, field)[[row]], getattr(alone, field))


FAMILIES = [  # operations of one family stand for each other: the same draws
    {RandomResizedCrop, SingleTryCrop},
    {Resize},
    {CenterCrop},
    {Flip},
    {ColorJitter, SimCLRJitter, BYOLJitter},
    {Grayscale},
    {GaussianBlur, TenthBlur},
    {Solarise},
]


def kinds(operation):
    """An operation and those made from it."""
    return {operation}.union(*(kinds(made) for made in operation.__subclasses__()))


def test_each_family_of_operations_has_an_address_of_its_own():
    assert set().union(*FAMILIES) == set().union(*map(kinds, get_args(Geometric | Photometric)))
    addresses = [{operation.address for operation in family} for family in FAMILIES]
    assert addresses == [{0}, {1}, {2}, {3}, {8}, {9}, {10}, {11}]  # moving one changes every run that is replayed


def chances(n=4000, **address):
    """What chance decides in a view, by (operation, what), each (n,), with fair coins so that none is hidden.

    Strengths and their order come from a jitter that is always on: the draws do not depend on p.
    """
    fair = (RandomResizedCrop(), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), Grayscale(0.5), GaussianBlur(0.5))
    view = drawn((*fair, Solarise(0.5), Flip(0.5)), n=n, **address)
    always = drawn((ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0),), n=n, **address).before
    seen = {("flip", "coin"): view.windows["flip"]}
    seen |= {("crop", field): view.windows[field] for field in ("top", "left", "height", "width")}
    coins = {"jitter coin": 0, "gray": 4, "blur": 5, "solarise": 6}
    seen |= {(name, "coin"): view.after["op"][:, column] != Op.SKIP for name, column in coins.items()}
    seen["sigma", "px"] = view.after["value"][:, coins["blur"]]
    for op in ColorJitter.ops:
        place = (always["op"] == op).argmax(axis=1)
        seen["order", op.name] = place
        seen[op.name, "strength"] = np.take_along_axis(always["value"], place[:, None], axis=1)[:, 0]
    return seen


def test_the_operations_of_a_view_are_drawn_independently():
    """A correlation of 4,000 independent draws has a standard deviation of 0.016."""
    seen = chances()
    found = np.abs(np.corrcoef(np.stack([*seen.values()]).astype(float)))
    for i, one in enumerate(seen):
        for k, other in enumerate(seen):
            if one[0] != other[0]:  # the four numbers of a crop depend on each other, and so do the four places
                assert found[i, k] < 0.06, f"{one} and {other}: {found[i, k]:.3f}"


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"view": 1}, {"index": np.arange(4000) + 4000}])
def test_another_address_gives_independent_draws(other):
    one, two = chances(), chances(**other)
    both = np.stack([*one.values(), *two.values()]).astype(float)
    assert np.abs(np.corrcoef(both)[: len(one), len(one) :]).max() < 0.07


def test_recipes_share_the_draws_of_shared_operations():
    assert np.array_equal(drawn(moco_v2).windows, drawn(spatial).windows)
    assert np.array_equal(drawn(moco_v2).after, drawn(RECIPES["appearance"].views[0]).before)
