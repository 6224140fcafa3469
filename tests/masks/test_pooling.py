"""Regions on a grid against the published steps written out; which regions are drawn, how often, and when none is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from whytransfer.errors import InputError
from whytransfer.masks.pooling import chances, draw, mean_features, owners, pool


def label_maps(batch=3, height=64, width=64, ids=6, seed=0, blocks=7):
    """Random rectangles of ids, borders anywhere."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, ids, (batch, 1, blocks, blocks), generator=g).float()
    return F.interpolate(coarse, (height, width), mode="nearest")[:, 0].to(torch.uint8)


def published(maps, grid):
    """Steps 1-3: one plane per id, mean over each cell, the largest (first of equals) takes the cell."""
    planes = F.one_hot(maps.long(), 256).permute(0, 3, 1, 2).double()  # (B, 256, H, W)
    fractions = F.avg_pool2d(planes, (maps.shape[1] // grid[0], maps.shape[2] // grid[1]))
    winner = fractions.flatten(2).argmax(dim=1)  # (B, h w)
    return F.one_hot(winner, 256).transpose(1, 2).float()


@pytest.mark.parametrize(("sides", "grid"), [((64, 64), (2, 2)), ((96, 64), (3, 4)), ((64, 64), (64, 64))])
def test_a_label_map_is_pooled_as_published(sides, grid):
    maps = label_maps(height=sides[0], width=sides[1])
    found = pool(maps, grid)
    assert found.shape == (3, int(maps.max()) + 1, grid[0] * grid[1]) and found.dtype == torch.float32
    assert torch.equal(found, published(maps, grid)[:, : found.shape[1]])
    assert torch.equal(pool(maps.long(), grid), found)


@pytest.mark.parametrize(
    ("sides", "grid"), [((80, 80), (3, 3)), ((72, 50), (5, 4)), ((7, 9), (3, 2)), ((2, 3), (4, 5))]
)
def test_sides_that_are_no_multiple_of_the_grid_count_by_area(sides, grid):
    """Every pixel repeated until the grid divides the side."""
    maps = label_maps(height=sides[0], width=sides[1], blocks=4)
    finer = maps.repeat_interleave(grid[0], 1).repeat_interleave(grid[1], 2)
    expected = published(finer, grid)
    found = pool(maps, grid)
    assert torch.equal(found, expected[:, : found.shape[1]])
    stack = torch.stack([maps == i for i in range(found.shape[1])], 1)
    fractions = F.avg_pool2d(finer[:, None].eq(torch.arange(found.shape[1])[:, None, None]).double(), sides)
    torch.testing.assert_close(pool(stack, grid), fractions.flatten(2).float())


def test_of_equals_the_lowest_id_takes_the_cell():
    maps = torch.tensor([[[7, 3], [3, 7]]], dtype=torch.uint8)
    assert owners(maps, (1, 1)).tolist() == [[3]] and owners(maps, (2, 2)).tolist() == [[7, 3, 3, 7]]
    assert owners(torch.tensor([[[9, 9], [255, 255]]]), (1, 1)).tolist() == [[9]]


def test_no_region_is_nobodys_row_but_may_take_a_cell():
    maps = torch.tensor([[[1, 255, 255, 255], [1, 1, 255, 1]]], dtype=torch.uint8)
    assert owners(maps, (1, 2)).tolist() == [[1, 255]]
    assert pool(maps, (1, 2)).tolist() == [[[0, 0], [1, 0]]]
    assert pool(torch.full((2, 4, 4), 255, dtype=torch.uint8), (2, 2)).shape == (2, 0, 4)


def test_a_stack_keeps_overlaps_and_shares():
    stack = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    stack[0, 0, :, :2], stack[0, 1, 1:, 1:] = True, True
    assert pool(stack, (2, 2))[0].tolist() == [[1, 0, 1, 0], [0.25, 0.5, 0.5, 1]]


def test_what_is_no_label_map_is_refused():
    with pytest.raises(InputError, match="ids 0 to 254 and 255 for no region, found 0 to 300"):
        pool(torch.tensor([[[0, 300]]]), (1, 1))
    with pytest.raises(InputError, match="found -1 to 0"):
        pool(torch.tensor([[[0, -1]]]), (1, 1))
    with pytest.raises(InputError, match=r"regions \(4, 4\) on a grid of \(2, 2\) cells: give label maps"):
        pool(torch.zeros(4, 4), (2, 2))
    with pytest.raises(InputError, match="at least one cell"):
        pool(torch.zeros(1, 4, 4), (0, 2))


def drawn(regions, grid=(4, 4), count=16, step=5, view=0, index=None, seed=1):
    index = torch.arange(len(regions)) if index is None else index
    return draw(regions, grid, chances(count, seed, step, index, view))


def test_only_regions_that_own_a_cell_are_drawn_and_come_with_their_cells():
    maps = label_maps()
    maps[:, :3, :3] = 77  # too small to win a cell
    pooled, (ids, cells) = pool(maps, (4, 4)), drawn(maps)
    assert ids.shape == (3, 16) and cells.shape == (3, 16, 16)
    for b, m in np.ndindex(3, 16):
        assert pooled[b, ids[b, m]].sum() > 0 and torch.equal(cells[b, m], pooled[b, ids[b, m]])


def test_regions_are_drawn_evenly_whatever_their_size():
    maps = torch.zeros(400, 8, 8, dtype=torch.uint8)
    maps[:, 0, :2], maps[:, 7, 7] = 9, 254  # 2 cells and 1 cell beside 61
    ids, _ = drawn(maps, (8, 8))
    counts = [int((ids == i).sum()) for i in (0, 9, 254)]
    assert sum(counts) == 6400 and all(abs(c - 6400 / 3) < 4 * (6400 * 2 / 9) ** 0.5 for c in counts)
    assert len(torch.unique(ids, dim=0)) > 390  # each image has draws of its own


def test_draws_belong_to_seed_step_image_and_view_and_to_nothing_else():
    maps = label_maps(batch=6)
    whole = drawn(maps)
    part = drawn(maps[[4, 1]], index=torch.tensor([4, 1]))
    assert torch.equal(part.ids, whole.ids[[4, 1]]) and torch.equal(part.cells, whole.cells[[4, 1]])
    assert torch.equal(drawn(maps).ids, whole.ids)
    for other in ({"step": 6}, {"view": 1}, {"seed": 2}, {"index": torch.arange(6) + 6}):
        assert not torch.equal(drawn(maps, **other).ids, whole.ids)
    assert torch.equal(drawn(maps, count=8).ids, whole.ids[:, :8])


@pytest.mark.parametrize(
    "regions", [torch.full((2, 8, 8), 255, dtype=torch.uint8), torch.zeros(2, 3, 8, 8), torch.zeros(2, 0, 8, 8)]
)
def test_a_view_without_regions_draws_none_and_pools_the_whole_view(regions):
    ids, cells = drawn(regions, (2, 2))
    assert (ids == -1).all() and (cells == 1).all()
    features = torch.rand(2, 5, 2, 2)
    torch.testing.assert_close(mean_features(features, cells), features.mean((2, 3))[:, None].expand(2, 16, 5))


def test_a_stack_is_drawn_from_the_planes_that_are_not_empty():
    stack = torch.zeros(3, 4, 64, 64, dtype=torch.bool)
    stack[0, 1, :10, :10] = stack[0, 3, :30] = True
    stack[1, 2, 5, 5] = True  # 1 pixel in 32 x 32 is less than a thousandth of a cell
    stack[2, 2, 5, 5:7] = True
    ids, cells = drawn(stack, (2, 2))
    assert set(ids[0].tolist()) == {1, 3} and set(ids[1].tolist()) == {-1} and set(ids[2].tolist()) == {2}
    torch.testing.assert_close(cells[0, ids[0] == 1][0], torch.tensor([100 / 1024, 0, 0, 0]))


def test_mean_features_are_those_of_a_loop():
    features, maps = torch.rand(3, 6, 4, 4, dtype=torch.float64), label_maps()
    cells = pool(maps, (4, 4)).double()
    cells[:, 0, 0] = 0.3  # a share
    means = mean_features(features, cells)
    for b, r in np.ndindex(3, cells.shape[1]):
        weight = cells[b, r].view(4, 4)
        expected = (features[b] * weight).sum((1, 2)) / weight.sum()
        torch.testing.assert_close(means[b, r], expected, equal_nan=True)
    half = mean_features(features.bfloat16().to(memory_format=torch.channels_last), cells.float())
    torch.testing.assert_close(half.double(), means, rtol=0.02, atol=0.02, equal_nan=True)
