"""Hierarchies on made images: what is merged when is known; cuts are nested closed partitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from whytransfer.masks import hierarchy
from whytransfer.masks.edges import Boundaries, boundaries
from whytransfer.masks.hierarchy import cut_after, hierarchies


def blocks(seed: int, cells: int = 5, side: int = 8) -> np.ndarray:
    """A patchwork of plain squares."""
    colours = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return colours.repeat(side, axis=0).repeat(side, axis=1)


def lines(across: float) -> tuple[Boundaries]:
    """Two vertical lines on 12 x 30 pixels, of strength 0.8 and 0.4, whose stated direction is `across`."""
    strength = np.zeros((12, 30))
    strength[:, 9:11], strength[:, 19:21] = 0.8, 0.4
    return (Boundaries(strength, np.full((12, 30), across)),)


@pytest.fixture
def by_strength_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchy, "AREA_POWER", 0)
    monkeypatch.setattr(hierarchy, "SPECTRAL", 0)


@pytest.mark.usefixtures("by_strength_alone")
def test_two_lines_make_three_regions_merged_by_strength():
    found = hierarchies(lines(0.0))
    assert [found.leaves[5, j] for j in (0, 15, 29)] == [0, 1, 2]
    assert (found.leaves == found.leaves[:1]).all()
    np.testing.assert_allclose(found.strengths, [0.8, 0.4], atol=1e-9)
    np.testing.assert_array_equal(found.lengths, [12, 12])
    for tree in found.trees:
        np.testing.assert_array_equal(tree.parents, [4, 3, 3, 4, 4])
        np.testing.assert_allclose(tree.heights, [0, 0, 0, 0.4, 0.8], atol=1e-9)


def test_a_merge_counts_by_the_size_of_its_smaller_region(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hierarchy, "SPECTRAL", 0)
    heights = hierarchies(lines(0.0)).trees[0].heights
    np.testing.assert_allclose(heights[3:], np.array([0.4, 0.8]) * (1 / 3) ** hierarchy.AREA_POWER, atol=1e-9)


@pytest.mark.usefixtures("by_strength_alone")
@pytest.mark.parametrize("degrees", [30, 60])
def test_an_arc_weighs_the_cosine_of_its_angle_to_the_boundary(degrees: float):
    heights = hierarchies(lines(np.radians(degrees))).trees[0].heights
    np.testing.assert_allclose(heights[3:], np.cos(np.radians(degrees)) * np.array([0.4, 0.8]), atol=1e-9)


def test_the_scales_are_averaged_over_common_leaves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hierarchy, "AREA_POWER", 0)
    first = lines(0.0)[0]
    second = Boundaries(np.where(first.strength == 0.8, 0.2, first.strength), first.across)
    found = hierarchies((first, second))
    assert len(found.trees) == 3
    np.testing.assert_allclose([tree.heights[3:] for tree in found.trees[1:]], [[0.4, 0.8], [0.2, 0.4]], atol=1e-9)
    spectral = found.strengths - np.array([(0.8 + 0.2) / 2, 0.4])
    assert (spectral >= -1e-9).all() and spectral.max() == pytest.approx(hierarchy.SPECTRAL, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_cuts_are_nested_partitions_into_connected_regions(seed: int):
    found = hierarchies(boundaries(blocks(seed)))
    count = int(found.leaves.max()) + 1
    assert count > 20
    for tree in found.trees:
        assert (np.diff(tree.heights[count:]) >= 0).all() and tree.heights[:count].max() == 0
        assert (tree.parents[:-1] > np.arange(2 * count - 2)).all()
        before = np.arange(count)
        for height in np.quantile(tree.heights[count:], [0, 0.3, 0.6, 0.9, 1]):
            regions = tree.cut(height)
            assert len(np.unique(np.stack([before, regions]), axis=1).T) == before.max() + 1  # each lies in one
            for region in range(regions.max() + 1):
                assert ndimage.label(regions[found.leaves] == region)[1] == 1
            before = regions
        assert before.max() == 0


def test_the_contour_map_is_an_ultrametric():
    found = hierarchies(boundaries(blocks(2)))
    count, tree = int(found.leaves.max()) + 1, found.trees[0]
    apart = np.zeros((count, count))
    for merges in range(count - 1, -1, -1):  # the height at which two leaves meet
        regions = cut_after(tree.parents, merges)
        apart[regions[:, None] != regions] = np.maximum(
            apart[regions[:, None] != regions], tree.heights[count + merges] if merges < count - 1 else 0
        )
    for middle in range(count):
        assert (apart <= np.maximum(apart[:, middle][:, None], apart[middle][None]) + 1e-12).all()


def test_squares_are_found_again_and_small_regions_are_not_kept():
    found = hierarchies(boundaries(blocks(3, side=16)))
    cells = np.arange(5).repeat(16)
    truth = cells[:, None] * 5 + cells
    sizes = np.bincount(found.leaves.ravel())
    assert sizes.min() >= hierarchy.SMALLEST * truth.size
    majority = [np.bincount(truth[found.leaves == leaf]).max() for leaf in range(len(sizes))]
    assert sum(majority) / truth.size > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 8), (30, 20)])
def test_a_plain_image_is_one_region(shape: tuple[int, int]):
    found = hierarchies(boundaries(np.full((*shape, 3), 200, np.uint8)))
    assert found.leaves.shape == shape and found.leaves.max() == 0
    assert len(found.trees) == 1 and len(found.arcs) == 0
