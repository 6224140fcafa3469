"""From boundaries to hierarchies of regions: oriented watershed, ultrametric contour maps, scales aligned and averaged.

Boundaries are cut into regions by a watershed, every arc between two of them weighs the boundary strength under it
(times |cos| of the angle between arc and boundary), and regions are merged by mean strength [Arbelaez et al. 2011,
section 4]. The hierarchy of each scale is projected onto the regions of the averaged scales, and the projections are
averaged, with a spectral term, into one more [Pont-Tuset et al. 2017, sections 3 and 4]. So all hierarchies share their
leaves, and a region is a set of leaves. Letters: S leaves, E arcs (pairs of neighbouring leaves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.masks.edges import Boundaries
from whytransfer.masks.spectral import spectral_contrast

SMALLEST = 0.001  # of the image's area: smaller regions join the neighbour behind their weakest boundary
AREA_POWER = 0.25  # how much the size of a region counts beside its contrast
SPECTRAL = 0.2  # weight of the spectral term beside the mean over scales


@dataclass(frozen=True)
class Tree:
    """A binary merge tree: nodes 0 ... S - 1 are the leaves, node S + i is the i-th merge, the last is the root."""

    parents: NDArray[np.int64]  # (2 S - 1,); the root is its own parent
    heights: NDArray[
        np.float64
    ]  # (2 S - 1,) boundary strength at the merge times a power of the smaller area; 0 at leaves

    def cut(self, height: float) -> NDArray[np.int64]:
        """(S,) which region each leaf is in, once all merges up to this height are done; the regions of a greater
        height are unions of those of a smaller one."""
        return cut_after(self.parents, int((self.heights[len(self.parents) // 2 + 1 :] <= height).sum()))


@dataclass(frozen=True)
class Hierarchies:
    """The hierarchies of one image over common leaves."""

    leaves: NDArray[np.int64]  # (H, W) leaf of each pixel, 0 ... S - 1, each connected
    arcs: NDArray[np.int64]  # (E, 2) neighbouring leaves
    lengths: NDArray[np.float64]  # (E,) pixel sides that the two share
    strengths: NDArray[np.float64]  # (E,) ultrametric boundary strength between them, the mean over scales
    trees: tuple[Tree, ...]  # first of all scales together, then of each from the finest on


def hierarchies(scales: Sequence[Boundaries]) -> Hierarchies:
    """Boundaries of one image at several scales -> its hierarchies."""
    hg = _higra()
    shape = scales[0].strength.shape
    if min(shape) * max(shape) == 1:
        return _single(shape)
    graph = hg.get_4_adjacency_graph(shape)
    leaves = _leaves(hg, graph, averaged(scales))
    if leaves.max() == 0:
        return _single(shape)
    aligned = hg.align_hierarchies(graph, leaves, [_mean_pb(hg, graph, scale) for scale in scales])
    rag = hg.make_region_adjacency_graph_from_labelisation(graph, leaves)
    lengths = hg.rag_accumulate_on_edges(rag, hg.Accumulators.counter, np.ones(graph.num_edges()))
    contours = [hg.rag_accumulate_on_edges(rag, hg.Accumulators.mean, saliency) for saliency in aligned]
    leaves = hg.CptRegionAdjacencyGraph.get_vertex_map(rag).reshape(shape).astype(np.int64)
    arcs = np.stack(rag.edge_list(), axis=1).astype(np.int64)
    strengths = np.mean(contours, axis=0)
    if SPECTRAL > 0:
        strengths = strengths + SPECTRAL * spectral_contrast(arcs, lengths, strengths, np.bincount(leaves.ravel()))
    trees = [_tree(hg, rag, each, lengths) for each in (strengths, *contours)]
    return Hierarchies(leaves, arcs, lengths, strengths, tuple(trees))


def averaged(scales: Sequence[Boundaries]) -> Boundaries:
    """The mean strength of all scales; the direction is that of the strongest."""
    strengths = np.stack([scale.strength for scale in scales])
    strongest = strengths.argmax(axis=0)[None]
    across = np.take_along_axis(np.stack([scale.across for scale in scales]), strongest, axis=0)[0]
    return Boundaries(strengths.mean(axis=0), across)


def cut_after(parents: NDArray[np.int64], merges: int) -> NDArray[np.int64]:
    """(S,) regions 0, 1, ... of the leaves after the first so many merges of a tree's (2 S - 1,) parents."""
    count = (len(parents) + 1) // 2
    top = np.arange(len(parents))
    for node in range(count + merges - 2, -1, -1):  # parents come after their children
        if parents[node] < count + merges:
            top[node] = top[parents[node]]
    return np.unique(top[:count], return_inverse=True)[1].reshape(-1)


def _mean_pb(hg: Any, graph: Any, scale: Boundaries) -> tuple[Any, NDArray[np.float64]]:
    """The merge tree over the regions of an oriented watershed, and the heights."""
    weights = hg.weight_graph(graph, scale.strength.ravel(), hg.WeightFunction.mean)
    return hg.mean_pb_hierarchy(graph, weights, scale.strength.shape, scale.across.ravel()[graph.edge_list()[0]])


def _leaves(hg: Any, graph: Any, boundaries: Boundaries) -> NDArray[np.int64]:
    """(H * W,) the regions of the oriented watershed, the small ones joined to others."""
    tree, heights = _mean_pb(hg, graph, boundaries)
    rag = hg.CptHierarchy.get_leaf_graph(tree)
    if rag.num_vertices() == 1:
        return np.zeros(graph.num_vertices(), np.int64)
    tree, heights = hg.filter_small_nodes_from_tree(
        tree, heights, SMALLEST * boundaries.strength.size, canonize_tree=False
    )
    small = int((heights[tree.num_leaves() :] == 0).sum())
    return cut_after(tree.parents().astype(np.int64), small)[hg.CptRegionAdjacencyGraph.get_vertex_map(rag)]


def _tree(hg: Any, rag: Any, strengths: NDArray[np.float64], lengths: NDArray[np.float64]) -> Tree:
    """The merge tree by mean strength, its merges then put in the order of strength times a power of the smaller area.

    By strength alone, specks of high contrast would be the last to merge and the first to be explored.
    """
    tree, heights = hg.binary_partition_tree_average_linkage(rag, strengths, lengths)
    tree, heights = hg.bpt_canonical(rag, hg.saliency(tree, heights, rag, handle_rag=False))
    leaves = tree.num_leaves()
    areas = hg.attribute_area(tree) / hg.attribute_area(tree)[-1]
    smaller = np.minimum(areas[tree.child(0)], areas[tree.child(1)])
    tree, heights = hg.bpt_canonical(hg.CptBinaryHierarchy.get_mst(tree), heights[leaves:] * smaller**AREA_POWER)
    return Tree(tree.parents().astype(np.int64), heights)


def _single(shape: tuple[int, ...]) -> Hierarchies:
    """An image without any boundary: one leaf, which is the root."""
    tree = Tree(np.zeros(1, np.int64), np.zeros(1))
    none = np.zeros(0)
    return Hierarchies(np.zeros(shape, np.int64), np.zeros((0, 2), np.int64), none, none, (tree,))


def _higra() -> Any:
    try:
        import higra
    except ImportError:
        raise InputError("mcg needs higra: pip install 'whytransfer[masks]'") from None
    return higra
