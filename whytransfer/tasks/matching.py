"""Which detection finds which object, and average precision over any weighting of the images.

One table of all detections, by class and image, scores falling. From it: COCO's matching (given its overlaps, per area
range and threshold) and VOC's, and the average precision of the table when image n counts weights[n] times. With
weights 1 that is the metric itself; with random counts it is one draw of a bootstrap, without matching anything again.

Shape letters: A area ranges, T overlap thresholds, K classes, N images, D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.compiled import KEPT

FALSE, TRUE, IGNORED = 0, 1, 2  # what a detection is, at a threshold and in an area range
_kernel = njit(cache=KEPT, nogil=True, error_model="numpy")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Detections and objects sorted by (class, image), detections then by falling score; ids are positions here.

    Group j holds the detections det_ends[j] to det_ends[j + 1] of one class in one image, and likewise its objects.
    """

    images: int
    classes: int
    det_image: Ints  # (D,)
    det_class: Ints
    det_score: Floats
    det_source: Ints  # position in the list of detections
    gt_image: Ints  # (G,)
    gt_class: Ints
    gt_source: Ints
    det_ends: Ints  # (J + 1,)
    gt_ends: Ints


def table_of(truth: dict[str, Any], found: list[dict[str, Any]], most: int | None = None) -> Table:
    """The table of detections and of all objects; `most` detections of an image and class at most, the best ones."""
    image = {number: n for n, number in enumerate(sorted(item["id"] for item in truth["images"]))}
    kind = {number: k for k, number in enumerate(sorted(item["id"] for item in truth["categories"]))}
    objects = truth["annotations"]
    det_image, gt_image = (np.array([image[x["image_id"]] for x in part], np.int64) for part in (found, objects))
    det_class, gt_class = (np.array([kind[x["category_id"]] for x in part], np.int64) for part in (found, objects))
    score = np.array([x["score"] for x in found], dtype=np.float64)
    order = np.lexsort((np.arange(len(score)), -score, det_image, det_class))
    groups = len(image) * len(kind)
    key = det_class[order] * len(image) + det_image[order]
    if most is not None:
        ends = np.searchsorted(key, np.arange(groups))
        kept = np.arange(len(key)) - ends[key] < most
        order, key = order[kept], key[kept]
    gt_order = np.argsort(gt_class * len(image) + gt_image, kind="stable")
    gt_key = (gt_class * len(image) + gt_image)[gt_order]
    there = np.union1d(key, gt_key)  # groups with anything in them
    bounds = np.append(there, groups)
    return Table(
        len(image), len(kind), det_image[order], det_class[order], score[order], order, gt_image[gt_order],
        gt_class[gt_order], gt_order, np.searchsorted(key, bounds), np.searchsorted(gt_key, bounds),
    )  # fmt: skip


def coco_states(
    table: Table, overlaps: list[Floats], det_area: Floats, gt_area: Floats, crowd: NDArray[np.bool_],
    ranges: Floats, thresholds: Floats,
) -> tuple[NDArray[np.uint8], Floats]:  # fmt: skip
    """COCO's matching: states (A, T, D) of detections and positives (A, K, N), objects that count.

    overlaps[j] (detections, objects) of group j, with no number where one of both is none; areas in the order of the
    table; a crowd takes any number of detections and counts for none.
    """
    sizes = np.array([o.size for o in overlaps], dtype=np.int64)
    flat = np.concatenate([*(np.asarray(o, np.float64).ravel() for o in overlaps), np.empty(0)])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    states = np.zeros((len(ranges), len(thresholds), len(det_area)), dtype=np.uint8)
    _match_coco(
        table.det_ends, table.gt_ends, starts, flat, det_area, gt_area, crowd, ranges,
        np.minimum(thresholds, 1 - 1e-10), states,
    )  # fmt: skip
    counted = ~crowd & (gt_area >= ranges[:, :1]) & (gt_area <= ranges[:, 1:])  # (A, G)
    return states, _positives(table, counted)


def voc_states(
    table: Table, det_boxes: Floats, gt_boxes: Floats, difficult: NDArray[np.bool_], thresholds: Floats
) -> tuple[NDArray[np.uint8], Floats]:
    """VOC's matching: states (1, T, D) and positives (1, K, N); boxes (D, 4) and (G, 4) are xyxy.

    A detection belongs to the object that it overlaps most, found before or not; it is ignored where that one is
    difficult [Everingham 2010, development kit].
    """
    states = np.zeros((1, len(thresholds), len(det_boxes)), dtype=np.uint8)
    _match_voc(table.det_ends, table.gt_ends, det_boxes, gt_boxes, difficult, thresholds, states[0])
    return states, _positives(table, ~difficult[None])


def _positives(table: Table, counted: NDArray[np.bool_]) -> Floats:
    """(A, G) whether an object counts -> (A, K, N) how many do."""
    cells = table.gt_class * table.images + table.gt_image
    size = table.classes * table.images
    rows = [np.bincount(cells[row], minlength=size).reshape(table.classes, table.images) for row in counted]
    return np.array(rows, dtype=np.float64)


class Curves:
    """The average precision of every class, threshold and area range, for any weights of the images."""

    def __init__(self, table: Table, states: NDArray[np.uint8], positives: Floats) -> None:
        order = np.lexsort((-table.det_score, table.det_class))  # stable: of equal scores the earlier image comes first
        self.image = table.det_image[order]
        self.states = np.ascontiguousarray(states[:, :, order])
        self.ends = np.searchsorted(table.det_class[order], np.arange(table.classes + 1)).astype(np.int64)
        self.positives = positives

    def average_precision(self, recalls: Floats | None, weights: Floats | None = None) -> Floats:
        """(A, T, K) in [0, 1], nan for a class without objects; image n counts weights[n] times (N,), once if None.

        Precision at a recall is the best of that recall or a higher one, averaged over `recalls` (R,); with None, the
        area under that curve.
        """
        images = self.positives.shape[2]
        counts = np.ones(images) if weights is None else weights
        values = np.empty((*self.states.shape[:2], len(self.ends) - 1))
        points = np.empty(0) if recalls is None else recalls
        _average(self.states, self.image, self.ends, self.positives @ counts, counts, points, values)
        return values


@_kernel
def _match_coco(det_ends, gt_ends, starts, overlaps, det_area, gt_area, crowd, ranges, thresholds, states):
    for j in range(len(det_ends) - 1):
        d0, d1, g0, g1 = det_ends[j], det_ends[j + 1], gt_ends[j], gt_ends[j + 1]
        count = g1 - g0
        for a in range(len(ranges)):
            low, high = ranges[a, 0], ranges[a, 1]
            order, ignored, n = np.empty(count, np.int64), np.zeros(count, np.bool_), 0
            for g in range(count):
                area = gt_area[g0 + g]
                ignored[g] = crowd[g0 + g] or area < low or area > high
            for last in (False, True):  # objects that count are offered first
                for g in range(count):
                    if ignored[g] == last:
                        order[n] = g
                        n += 1
            for t in range(len(thresholds)):
                taken = np.zeros(count, np.bool_)
                for d in range(d0, d1):
                    best, m = thresholds[t], -1
                    for k in range(count):
                        g = order[k]
                        if taken[g] and not crowd[g0 + g]:
                            continue
                        if m > -1 and not ignored[m] and ignored[g]:
                            break
                        overlap = overlaps[starts[j] + (d - d0) * count + g]
                        if overlap >= best:
                            best, m = overlap, g
                    if m > -1:
                        taken[m] = True
                        states[a, t, d] = 2 if ignored[m] else 1
                    elif det_area[d] < low or det_area[d] > high:
                        states[a, t, d] = 2


@_kernel
def _match_voc(det_ends, gt_ends, det_boxes, gt_boxes, difficult, thresholds, states):
    for j in range(len(det_ends) - 1):
        g0, g1 = gt_ends[j], gt_ends[j + 1]
        taken = np.zeros((len(thresholds), g1 - g0), np.bool_)
        for d in range(det_ends[j], det_ends[j + 1]):
            best, m = -1.0, -1
            for g in range(g0, g1):
                overlap = _overlap(det_boxes[d], gt_boxes[g])
                if overlap > best:
                    best, m = overlap, g
            for t in range(len(thresholds)):
                if m < 0 or best <= thresholds[t]:
                    continue
                if difficult[m]:
                    states[t, d] = 2
                elif not taken[t, m - g0]:
                    taken[t, m - g0] = True
                    states[t, d] = 1


@_kernel
def _overlap(one, other):
    """Intersection over union of two boxes xyxy; 0 where neither has an area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (areas - width * height)


@_kernel
def _average(states, image, ends, positives, weights, recalls, values):
    """values (A, T, K). Only true detections raise the recall, so the curve is kept at those alone."""
    longest = 0
    for k in range(len(ends) - 1):
        longest = max(longest, ends[k + 1] - ends[k])
    recall, precision = np.empty(longest), np.empty(longest)
    for a in range(states.shape[0]):
        for t in range(states.shape[1]):
            for k in range(len(ends) - 1):
                if positives[a, k] <= 0:
                    values[a, t, k] = np.nan
                    continue
                true, false, n = 0.0, 0.0, 0
                for d in range(ends[k], ends[k + 1]):
                    weight, state = weights[image[d]], states[a, t, d]
                    if weight == 0 or state == 2:
                        continue
                    if state == 0:
                        false += weight
                        continue
                    true += weight
                    recall[n], precision[n] = true / positives[a, k], true / (true + false)
                    n += 1
                for i in range(n - 2, -1, -1):
                    precision[i] = max(precision[i], precision[i + 1])
                values[a, t, k] = _under(recall[:n], precision[:n], recalls)


@_kernel
def _under(recall, precision, recalls):
    """Mean of the falling precision at `recalls`, or the area under it when there are none."""
    total, before, i = 0.0, 0.0, 0
    if len(recalls) == 0:
        for i in range(len(recall)):
            total += (recall[i] - before) * precision[i]
            before = recall[i]
        return total
    for r in recalls:
        while i < len(recall) and recall[i] < r:
            i += 1
        if i == len(recall):
            break
        total += precision[i]
    return total / len(recalls)
