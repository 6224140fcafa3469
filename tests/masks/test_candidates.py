"""Candidates against brute force over every partition, and their features against counts of pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from whytransfer.masks import candidates as grouping
from whytransfer.masks.candidates import FEATURES, candidates
from whytransfer.masks.edges import boundaries
from whytransfer.masks.hierarchy import Hierarchies, Tree, cut_after, hierarchies

ALL = (100_000, 100_000, 100_000, 100_000)


@pytest.fixture(scope="module")
def found() -> Hierarchies:
    colours = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return hierarchies(boundaries(colours.repeat(9, axis=0).repeat(9, axis=1)))


def random_tree(seed: int, count: int) -> tuple[Tree, np.ndarray]:
    """A random graph of leaves, and a merge tree of neighbours over it."""
    rng = np.random.default_rng(seed)
    arcs = {(int(rng.integers(0, i)), i) for i in range(1, count)}
    arcs |= {(min(p), max(p)) for p in rng.integers(0, count, (count, 2)).tolist() if p[0] != p[1]}
    top, parents = np.arange(count), np.arange(2 * count - 1)
    for node in range(count, 2 * count - 1):
        a, b = next((top[a], top[b]) for a, b in rng.permutation(sorted(arcs)) if top[a] != top[b])
        parents[[a, b]] = node
        top[(top == a) | (top == b)] = node
    return Tree(parents, np.r_[np.zeros(count), 1:count]), np.array(sorted(arcs))


def connected(nodes: tuple[int, ...], near: np.ndarray) -> bool:
    reached, todo = {nodes[0]}, [nodes[0]]
    while todo:
        i = todo.pop()
        new = {j for j in nodes if near[i, j]} - reached
        reached |= new
        todo += new
    return len(reached) == len(nodes)


def explored(tree: Tree, arcs: np.ndarray, limits: tuple[int, ...]) -> np.ndarray:
    count = (len(tree.parents) + 1) // 2
    layout = grouping.layout(tree.parents)
    return grouping.explore(*layout, *grouping.adjacency(arcs, count), np.array(limits))


@pytest.mark.parametrize("seed", range(4))
def test_exploration_finds_every_connected_set_of_every_partition(seed: int):
    count = 11
    tree, arcs = random_tree(seed, count)
    expected = set()
    for merges in range(count):
        regions = cut_after(tree.parents, merges)
        standing = regions.max() + 1
        near = np.zeros((standing, standing), bool)
        near[regions[arcs[:, 0]], regions[arcs[:, 1]]] = True
        near |= near.T
        members = [frozenset(np.flatnonzero(regions == r).tolist()) for r in range(standing)]
        for size in range(1, 5):
            for group in itertools.combinations(range(standing), size):
                if connected(group, near):
                    expected.add(frozenset().union(*(members[r] for r in group)))
    nodes = explored(tree, arcs, ALL)
    assert len({frozenset(row[row >= 0].tolist()) for row in nodes}) == len(nodes)  # each once
    _, start, size, order = grouping.layout(tree.parents)
    marked = np.zeros((len(nodes), count), np.uint8)
    grouping.mark(nodes, start, size, order, marked)
    assert {frozenset(np.flatnonzero(row).tolist()) for row in marked} == expected


def test_exploration_keeps_its_limits_and_starts_at_the_top():
    tree, arcs = random_tree(5, 30)
    limits = (9, 7, 5, 3)
    nodes = explored(tree, arcs, limits)
    sizes = (nodes >= 0).sum(axis=1)
    np.testing.assert_array_equal(np.bincount(sizes)[1:], limits)
    np.testing.assert_array_equal(nodes[0], [58, -1, -1, -1])
    singles = nodes[sizes == 1][:, 0]
    assert set(singles) == {58} | {n for n in range(58) if tree.parents[n] >= 55}


def test_holes_are_filled_as_in_the_image(found: Hierarchies):
    count = int(found.leaves.max()) + 1
    members = (np.random.default_rng(1).random((40, count)) < 0.7).astype(np.uint8)
    border = np.isin(
        np.arange(count), np.concatenate([found.leaves[[0, -1]].ravel(), found.leaves[:, [0, -1]].ravel()])
    )
    filled = members.copy()
    grouping.fill_holes(filled, *grouping.adjacency(found.arcs, count), border)
    changed = 0
    for before, after in zip(members, filled, strict=True):
        mask = before.astype(bool)[found.leaves]
        outside = ndimage.label(np.pad(~mask, 1, constant_values=True))[0]
        np.testing.assert_array_equal(after.astype(bool)[found.leaves], (outside != outside[0, 0])[1:-1, 1:-1])
        changed += (before != after).any()
    assert changed > 5


def test_of_near_duplicates_the_first_stays():
    rng = np.random.default_rng(2)
    areas = rng.integers(1, 60, 50)
    base = (rng.random((12, 50)) < 0.5).astype(np.uint8)
    members = base[rng.integers(0, 12, 300)] ^ (rng.random((300, 50)) < 0.02).astype(np.uint8)
    members[:, 0] = 1
    kept = grouping.distinct(members, areas, 0.95)
    both = (members * areas) @ members.T.astype(np.int64)
    sizes = members.astype(np.int64) @ areas
    iou = both / (sizes[:, None] + sizes - both)
    expected: list[int] = []
    for i in range(len(members)):
        if not expected or iou[i, expected].max() < 0.95:
            expected.append(i)
    np.testing.assert_array_equal(kept, expected)
    assert 12 <= len(kept) < 300


def test_masks_are_unions_of_leaves_and_features_count_their_pixels(found: Hierarchies):
    result = candidates(found)
    height, width = found.leaves.shape
    side = np.sqrt(height * width)
    chosen = np.arange(0, len(result.members), 7)
    masks = result.masks(chosen)
    assert len(np.unique(result.members, axis=0)) == len(result.members)
    for k, mask in zip(chosen, masks, strict=True):
        np.testing.assert_array_equal(mask, np.isin(found.leaves, np.flatnonzero(result.members[k])))
        assert ndimage.label(mask)[1] == 1
        named = dict(zip(FEATURES, result.features[k], strict=True))
        assert named["area"] == pytest.approx(mask.mean())
        inside = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
        assert named["perimeter"] == pytest.approx(inside / side)
        assert named["compactness"] == pytest.approx(named["perimeter"] ** 2 / named["area"])
        y, x = np.nonzero(mask)
        box = (x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height)
        assert tuple(named[n] for n in ("left", "top", "right", "bottom")) == pytest.approx(box)
        assert named["box area"] == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
        assert named["box fill"] == pytest.approx(named["area"] / named["box area"])
        assert named["aspect"] == pytest.approx((np.ptp(x) + 1) / (np.ptp(y) + 1))
        assert named["mean contour"] * named["perimeter"] == pytest.approx(named["contour"])
        assert 0 < named["area balance"] <= 1


def test_overlap_with_masks_is_the_iou_of_pixels(found: Hierarchies):
    result = candidates(found)
    truth = np.random.default_rng(3).random((3, *found.leaves.shape)) < 0.5
    masks = result.masks(np.arange(20))
    expected = (masks[:, None] & truth).sum(axis=(2, 3)) / (masks[:, None] | truth).sum(axis=(2, 3))
    np.testing.assert_allclose(result.overlaps(truth)[:20], expected, rtol=1e-6)


def test_an_image_without_boundaries_has_itself_as_its_only_candidate():
    result = candidates(hierarchies(boundaries(np.zeros((8, 8, 3), np.uint8))))
    np.testing.assert_array_equal(result.masks(np.array([0])), np.ones((1, 8, 8), bool))
    assert result.members.shape == (1, 1) and np.isfinite(result.features).all()
