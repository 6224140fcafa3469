"""Object candidates: one to four neighbouring regions of a hierarchy, joined [Pont-Tuset et al. 2017, section 5].

A hierarchy is explored from the top: each split of a region gives two new ones, and every connected set of up to four
regions of the partition that now stands, with one of the new ones in it, is a new candidate. Holes are filled, and of
candidates that are nearly the same (IoU of 0.95 or more) the first is kept.
Letters: S leaves, E arcs, N candidates, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.compiled import KEPT
from whytransfer.masks.hierarchy import Hierarchies, Tree

# How many singles, pairs, triplets and 4-tuples to take of the hierarchy of all scales, and of each single one. The
# published front has 33,190 of them for every object however small; these are for the few that an image is made of.
LIMITS = (300, 500, 500, 500)
SAME = 0.95  # IoU of near duplicates
FEATURES = (
    "end height", "start height", "area balance", "area", "perimeter", "contour", "mean contour", "compactness",
    "contour by size", "left", "top", "right", "bottom", "box area", "box fill", "aspect",
)  # fmt: skip

kernel = njit(cache=KEPT, nogil=True, error_model="numpy")


@dataclass(frozen=True)
class Candidates:
    """N overlapping candidates of one image as sets of leaves."""

    leaves: NDArray[np.int64]  # (H, W)
    members: NDArray[np.uint8]  # (N, S) 1: the leaf belongs to it
    areas: NDArray[np.float64]  # (S,) pixels of each leaf
    features: NDArray[np.float64]  # (N, F) as FEATURES names them

    def masks(self, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(R, H, W) the pixels of some candidates."""
        return self.members[chosen].astype(bool)[:, self.leaves]

    def overlaps(self, truth: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N, T) IoU with T masks (T, H, W); counts are whole numbers, so nothing depends on the order of sums."""
        flat = self.leaves.ravel()
        shared = np.stack([np.bincount(flat[mask.ravel()], minlength=len(self.areas)) for mask in truth], axis=1)
        both = self.members.astype(np.float64) @ shared.astype(np.float64)
        either = (self.members @ self.areas)[:, None] + truth.sum(axis=(1, 2)) - both
        return both / np.maximum(either, 1.0)


def candidates(found: Hierarchies) -> Candidates:
    """The candidates of one image, in the order in which the exploration meets them; the whole image is the first."""
    count = int(found.leaves.max()) + 1
    areas = np.bincount(found.leaves.ravel(), minlength=count)
    neighbours = adjacency(found.arcs, count)
    border = np.zeros(count, np.bool_)
    for side in (found.leaves[0], found.leaves[-1], found.leaves[:, 0], found.leaves[:, -1]):
        border[side] = True
    parts = [_of_tree(tree, neighbours, border, areas) for tree in found.trees]
    members = np.concatenate([part[0] for part in parts])
    heights = np.concatenate([part[1] for part in parts])
    kept = distinct(members, areas, SAME)
    members, heights = members[kept], heights[kept]
    return Candidates(found.leaves, members, areas.astype(np.float64), _features(found, members, heights, areas))


def adjacency(arcs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(E, 2) arcs -> the neighbours of leaf i are listed[first[i] : first[i + 1]]."""
    ends = np.concatenate([arcs, arcs[:, ::-1]])
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    return np.searchsorted(ends[:, 0], np.arange(count + 1)), np.ascontiguousarray(ends[:, 1])


def _of_tree(
    tree: Tree,
    neighbours: tuple[NDArray[np.int64], NDArray[np.int64]],
    border: NDArray[np.bool_],
    areas: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Members (N, S) with holes filled, and (N, 3): end height, start height, area balance."""
    children, start, size, order = layout(tree.parents)
    nodes = explore(children, start, size, order, *neighbours, np.array(LIMITS))
    members = np.zeros((len(nodes), len(areas)), np.uint8)
    mark(nodes, start, size, order, members)
    fill_holes(members, *neighbours, border)
    total = np.concatenate([[0], np.cumsum(areas[order])])
    part = total[start + size] - total[start]  # (2 S - 1,) pixels of each node
    there = nodes >= 0
    most = np.where(there, part[nodes], 0).max(axis=1)
    least = np.where(there, part[nodes], most[:, None]).min(axis=1)
    parents = tree.parents[nodes]
    start_height = np.where(there, tree.heights[nodes], -np.inf).max(axis=1)
    end_height = np.where(there, tree.heights[parents], np.inf).min(axis=1)
    return members, np.stack([end_height, start_height, least / most], axis=1)


def _features(
    found: Hierarchies, members: NDArray[np.uint8], heights: NDArray[np.float64], areas: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, F) features, lengths in units of the square root of the image's area."""
    rows, columns = found.leaves.shape
    side = np.sqrt(rows * columns)
    boxes = leaf_boxes(found.leaves, len(areas))
    outline = outlines(members, found.arcs, found.lengths, found.strengths, boxes, rows, columns)
    perimeter, contour, box = outline[:, 0] / side, outline[:, 1] / side, outline[:, 2:]
    area = members @ areas.astype(np.float64) / (rows * columns)
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    box_area = width * height / (rows * columns)
    inner = np.maximum(outline[:, 1], 0) / np.maximum(outline[:, 0], 1)
    shape = (area, perimeter, contour, inner, perimeter**2 / area, contour / np.sqrt(area))
    place = (box[:, 0] / columns, box[:, 1] / rows, box[:, 2] / columns, box[:, 3] / rows)
    return np.column_stack([heights, *shape, *place, box_area, area / box_area, width / height])


@kernel
def layout(parents):
    """Children of each node, and its leaves as a range: order[start : start + size]."""
    nodes = len(parents)
    count = (nodes + 1) // 2
    children = np.full((nodes, 2), -1)
    start, size, order = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64), np.empty(count, np.int64)
    size[:count] = 1
    for node in range(nodes - 1):
        parent = parents[node]
        children[parent, 0 if children[parent, 0] < 0 else 1] = node
        size[parent] += size[node]
    for node in range(nodes - 1, count - 1, -1):
        first, second = children[node]
        start[first], start[second] = start[node], start[node] + size[first]
    for leaf in range(count):
        order[start[leaf]] = leaf
    return children, start, size, order


@kernel
def explore(children, start, size, order, first, listed, limits):
    """(N, 4) nodes of each candidate, -1 where it has fewer: the whole image, then what each split brings.

    Connected sets with the new region in them are enumerated without repetition [Wernicke 2006, ESU]: each step may add
    one of the neighbours still open, or a neighbour of the one just added that no earlier one has.
    """
    count, root = len(order), len(start) - 1
    splits = min(count - 1, max(limits))
    found = np.full((limits.sum(), 4), -1)
    near = np.zeros((splits + 1, splits + 1), np.bool_)  # between the slots of the regions that stand
    slot, standing = np.zeros(count, np.int64), np.full(splits + 1, -1)  # of each leaf; the node of each slot
    open_2, open_3 = np.empty(2 * splits + 2, np.int64), np.empty(3 * splits + 3, np.int64)
    standing[0], found[0, 0] = root, root
    total, used, left = 1, 1, limits.copy()
    left[0] -= 1
    for node in range(root, root - splits, -1):  # later merges are higher
        a, b = slot[order[start[node]]], used
        for side in range(2):
            child = children[node, side]
            standing[b if side else a] = child
            if left[0] > 0:
                left[0] -= 1
                found[total, 0] = child
                total += 1
        used += 1
        near[a, :used], near[:used, a] = False, False
        second = children[node, 1]
        for p in range(start[second], start[second] + size[second]):
            slot[order[p]] = b
        for p in range(start[node], start[node] + size[node]):
            for n in range(first[order[p]], first[order[p] + 1]):
                i, j = slot[order[p]], slot[listed[n]]
                if i != j:
                    near[i, j], near[j, i] = True, True
        for c, other in ((a, b), (b, a)):
            total = _sets_with(c, other, near, used, standing, open_2, open_3, left, found, total)
        if left.max() == 0:
            break
    return found[:total]


@njit(nogil=True, error_model="numpy")
def _sets_with(c, other, near, used, standing, open_2, open_3, left, found, total):
    """Append the connected sets of 2 to 4 slots that hold c and not its sibling."""
    direct = 0
    for q in range(used):
        if near[c, q] and q != other:
            open_2[direct] = q
            direct += 1
    for x in range(direct):
        q = open_2[x]
        if left[1] > 0:
            left[1] -= 1
            found[total, 0], found[total, 1] = standing[c], standing[q]
            total += 1
        if left[2] == 0 and left[3] == 0:
            continue
        many = 0
        for y in range(x + 1, direct):
            open_3[many] = open_2[y]
            many += 1
        for r in range(used):
            if near[q, r] and not near[c, r] and r != c and r != other:
                open_3[many] = r
                many += 1
        for y in range(many):
            r = open_3[y]
            if left[2] > 0:
                left[2] -= 1
                found[total, 0], found[total, 1], found[total, 2] = standing[c], standing[q], standing[r]
                total += 1
            for z in range(y + 1, many + used):
                t = open_3[z] if z < many else z - many
                if left[3] == 0:
                    break
                if z < many or (near[r, t] and not near[c, t] and not near[q, t] and t != c and t != q and t != other):
                    left[3] -= 1
                    found[total, 0], found[total, 1] = standing[c], standing[q]
                    found[total, 2], found[total, 3] = standing[r], standing[t]
                    total += 1
    return total


@kernel
def mark(nodes, start, size, order, members):
    """Set members (N, S) to 1 where a leaf is under one of a candidate's nodes (N, 4)."""
    for i in range(len(nodes)):
        for k in range(4):
            node = nodes[i, k]
            if node >= 0:
                for p in range(start[node], start[node] + size[node]):
                    members[i, order[p]] = 1


@kernel
def fill_holes(members, first, listed, border):
    """Add to each candidate the leaves from which the border cannot be reached past it."""
    count = len(border)
    reached, stack = np.zeros(count, np.int64), np.empty(count, np.int64)
    for i in range(len(members)):
        mine, top = members[i], 0
        for leaf in range(count):
            if border[leaf] and mine[leaf] == 0:
                reached[leaf] = i + 1
                stack[top] = leaf
                top += 1
        while top > 0:
            top -= 1
            leaf = stack[top]
            for n in range(first[leaf], first[leaf + 1]):
                other = listed[n]
                if mine[other] == 0 and reached[other] != i + 1:
                    reached[other] = i + 1
                    stack[top] = other
                    top += 1
        for leaf in range(count):
            if reached[leaf] != i + 1:
                mine[leaf] = 1


@kernel
def distinct(members, areas, same):
    """Indices of the candidates to keep: of any two with an IoU of `same` or more the first.

    Kept ones lie in bins of the logarithm of their area, so that each is compared with those of three bins only.
    """
    width = -np.log(same)
    bins = int(np.log(areas.sum()) / width) + 3
    last, before = np.full(bins, -1), np.full(len(members), -1)
    total, kept, number = np.zeros(len(members), np.int64), np.empty(len(members), np.int64), 0
    for i in range(len(members)):
        for leaf in range(len(areas)):
            total[i] += members[i, leaf] * areas[leaf]
        at = int(np.log(max(total[i], 1)) / width) + 1
        new = True
        for b in range(max(at - 1, 0), at + 2):
            k = last[b]
            while k >= 0 and new:
                allowed = (total[i] + total[k]) * (1.0 - same) / (1.0 + same)  # pixels in one of them only
                apart = 0
                for leaf in range(len(areas)):
                    apart += areas[leaf] * (members[i, leaf] ^ members[k, leaf])
                    if apart > allowed:
                        break
                new = apart > allowed
                k = before[k]
        if new:
            before[i], last[at] = last[at], i
            kept[number] = i
            number += 1
    return kept[:number]


@kernel
def leaf_boxes(leaves, count):
    """(S, 4) left, top, right, bottom of each leaf in pixel edges."""
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = max(leaves.shape)
    for i in range(leaves.shape[0]):
        for j in range(leaves.shape[1]):
            box = boxes[leaves[i, j]]
            box[0], box[1] = min(box[0], j), min(box[1], i)
            box[2], box[3] = max(box[2], j + 1), max(box[3], i + 1)
    return boxes


@kernel
def outlines(members, arcs, lengths, strengths, boxes, rows, columns):
    """(N, 6) of each candidate: length of its boundary inside the image, strength summed along it, its box."""
    found = np.zeros((len(members), 6))
    found[:, 2], found[:, 3] = columns, rows
    for i in range(len(members)):
        mine = members[i]
        for e in range(len(arcs)):
            if mine[arcs[e, 0]] != mine[arcs[e, 1]]:
                found[i, 0] += lengths[e]
                found[i, 1] += lengths[e] * strengths[e]
        for leaf in range(len(boxes)):
            if mine[leaf]:
                found[i, 2], found[i, 3] = min(found[i, 2], boxes[leaf, 0]), min(found[i, 3], boxes[leaf, 1])
                found[i, 4], found[i, 5] = max(found[i, 4], boxes[leaf, 2]), max(found[i, 5], boxes[leaf, 3])
    return found
