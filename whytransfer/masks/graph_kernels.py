"""Graph-based segmentation [Felzenszwalb & Huttenlocher 2004, IJCV 59(2)], compiled; the result is scikit-image's.

Pixels are nodes, the 8 neighbours of each are joined by edges whose cost is the distance of their smoothed colours.
Edges are taken by rising cost; one joins the two segments at its ends when it costs less than either's inner cost (the
dearest edge that built it) plus scale / its area. Then segments below a smallest area are joined the same way.

What is exactly as in scikit-image: smoothing in double precision along columns, then rows; costs in double, thresholds
in single precision; ids in the order of each segment's first pixel. Of edges that cost exactly the same the first in
its list (right, down, down-right, up-right; by rows) comes first here, always; scikit-image leaves that to an unstable
sort, whose answer depends on the processor. Photographs have no such edges that matter; drawn pictures do.

Shape letters: H x W pixels, N = H W, E edges.
"""

# mypy: ignore-errors
# (numba infers the types here)

from __future__ import annotations

import numpy as np
from numba import njit

from whytransfer.compiled import KEPT

_jit = njit(nogil=True, error_model="numpy", cache=KEPT)
_RIGHT, _DOWN, _DOWN_RIGHT = np.uint32(0), np.uint32(1), np.uint32(2)  # and 3: up-right, from the pixel on its left

# A sorting key has 24 bits: 6 of the exponent, for costs of 2^-62 to 2, and 18 of the mantissa.
_DIGIT = 12
_MANTISSA = 18
_SMALLEST = (1023 - 62) << _MANTISSA


@_jit
def smoothed(pixels, weights):
    """(H, W, 3) uint8 -> (H, W, 3) float64 in [0, 1], convolved with weights (r + 1,), the centre first; mirrored."""
    height, width = pixels.shape[:2]
    reach, row = len(weights) - 1, 3 * width
    bytes_ = pixels.reshape(height, row)
    one = 1.0 / 255
    rows = np.empty((height + 2 * reach, row))
    for y in range(height):
        line, target = bytes_[y], rows[y + reach]
        for x in range(row):
            target[x] = line[x] * one
    for k in range(reach):
        rows[reach - 1 - k] = rows[reach + _mirrored(k, height)]
        rows[height + reach + k] = rows[reach + height - 1 - _mirrored(k, height)]
    out = np.empty((height, row))
    line = np.empty(row + 6 * reach)
    middle = line[3 * reach : 3 * reach + row]
    for y in range(height):
        _weighted(rows[y : y + 2 * reach + 1], weights, middle)
        for k in range(reach):
            left, right = 3 * _mirrored(k, width), row - 3 - 3 * _mirrored(k, width)
            for c in range(3):
                line[3 * (reach - 1 - k) + c] = middle[left + c]
                line[3 * reach + row + 3 * k + c] = middle[right + c]
        _along(line, weights, out[y])
    return out.reshape(height, width, 3)


@_jit
def _mirrored(k, n):
    """Pixel that lies k + 1 before the first one, when n pixels are mirrored at their edges again and again."""
    k %= 2 * n
    return k if k < n else 2 * n - 1 - k


@_jit
def _weighted(rows, weights, out):
    reach = len(weights) - 1
    centre = rows[reach]
    for x in range(len(out)):
        out[x] = centre[x] * weights[0]
    for k in range(reach, 0, -1):  # from the far ends inwards, as SciPy adds them
        above, below, weight = rows[reach - k], rows[reach + k], weights[k]
        for x in range(len(out)):
            out[x] += (above[x] + below[x]) * weight


@_jit
def _along(line, weights, out):
    reach = len(weights) - 1
    centre = line[3 * reach :]
    for x in range(len(out)):
        out[x] = centre[x] * weights[0]
    for k in range(reach, 0, -1):
        before, after, weight = line[3 * (reach - k) :], line[3 * (reach + k) :], weights[k]
        for x in range(len(out)):
            out[x] += (before[x] + after[x]) * weight


@_jit
def edges(image):
    """(H, W, 3) float64 -> costs (E,) float64 and ends (E,) uint32: 4 x a pixel's number + the kind of edge."""
    height, width = image.shape[:2]
    total = height * (width - 1) + (height - 1) * width + 2 * (height - 1) * (width - 1)
    costs, ends = np.empty(total), np.empty(total, np.uint32)
    flat = image.reshape(-1)
    e = _edges_of(flat, 0, height, 0, width - 1, width, 1, _RIGHT, costs, ends, 0)
    e = _edges_of(flat, 0, height - 1, 0, width, width, width, _DOWN, costs, ends, e)
    e = _edges_of(flat, 0, height - 1, 0, width - 1, width, width + 1, _DOWN_RIGHT, costs, ends, e)
    _edges_of(flat, 0, height - 1, 1, width, width, width - 1, np.uint32(3), costs, ends, e)
    return costs, ends


@_jit
def _edges_of(flat, top, bottom, left, right, width, step, kind, costs, ends, e):
    """All edges of one kind, from pixel p to pixel p + step; of up-right edges the number is that of p - 1."""
    number = 1 if kind == 3 else 0
    for y in range(top, bottom):
        one, other = flat[3 * (y * width + left) :], flat[3 * (y * width + left + step) :]
        cost, end = costs[e : e + right - left], ends[e : e + right - left]
        first = np.uint32(4 * (y * width + left - number)) + kind
        for x in range(right - left):
            red = one[3 * x] - other[3 * x]
            green = one[3 * x + 1] - other[3 * x + 1]
            blue = one[3 * x + 2] - other[3 * x + 2]
            cost[x] = np.sqrt(red * red + green * green + blue * blue)
            end[x] = first + np.uint32(4 * x)
        e += right - left
    return e


@_jit
def ordered(costs, ends):
    """(costs, ends) by rising cost; equal costs keep their order. A radix sort on 24 bits, finished by insertion."""
    total = len(costs)
    bits = costs.view(np.int64)
    low, high = np.zeros(1 << _DIGIT, np.int64), np.zeros(1 << _DIGIT, np.int64)
    keys = np.empty(total, np.uint32)
    for e in range(total):
        key = min(max((bits[e] >> (52 - _MANTISSA)) - _SMALLEST, 0), (1 << 2 * _DIGIT) - 1)
        keys[e] = key
        low[key & ((1 << _DIGIT) - 1)] += 1
        high[key >> _DIGIT] += 1
    _to_begins(low)
    _to_begins(high)
    half = np.empty(total, np.uint32)  # positions by the lower digit
    for e in range(total):
        digit = keys[e] & ((1 << _DIGIT) - 1)
        half[low[digit]] = e
        low[digit] += 1
    costs_out, ends_out = np.empty(total), np.empty(total, np.uint32)
    for k in range(total):
        e = half[k]
        digit = keys[e] >> _DIGIT
        place = high[digit]
        costs_out[place], ends_out[place] = costs[e], ends[e]
        high[digit] = place + 1
    _finish(costs_out, ends_out)
    return costs_out, ends_out


@_jit
def _to_begins(counts):
    begin = 0
    for digit in range(len(counts)):
        begin, counts[digit] = begin + counts[digit], begin


@_jit
def _finish(costs, ends):
    """Costs of equal keys are next to each other and in their first order: sort these few."""
    for e in range(1, len(costs)):
        cost = costs[e]
        if cost < costs[e - 1]:
            end, place = ends[e], e
            while place > 0 and costs[place - 1] > cost:
                costs[place], ends[place] = costs[place - 1], ends[place - 1]
                place -= 1
            costs[place], ends[place] = cost, end


@_jit
def segments(costs, ends, height, width, scale, smallest):
    """Ordered edges -> ids (H, W) int32 from 0; scale as in the paper for colours of 0 ... 255, smallest in pixels."""
    nodes = height * width
    scale = scale / 255.0
    parent = np.arange(nodes).astype(np.int32)
    area = np.ones(nodes, np.int32)
    most = np.full(nodes, np.float32(scale), np.float32)  # the dearest edge that a segment takes
    apart, left = np.empty(len(costs), np.uint32), 0
    for e in range(len(costs)):
        one, other = _ends(ends[e], width)
        one, other = _root(parent, one), _root(parent, other)
        if one == other:
            continue
        cost = costs[e]
        if cost < most[one] and cost < most[other]:
            joined = _join(parent, area, one, other)
            most[joined] = np.float32(cost + scale / area[joined])
        else:
            apart[left] = ends[e]
            left += 1
    for e in range(left):
        one, other = _ends(apart[e], width)
        one, other = _root(parent, one), _root(parent, other)
        if one != other and (area[one] < smallest or area[other] < smallest):
            _join(parent, area, one, other)
    return _numbered(parent).reshape(height, width)


@_jit
def _ends(end, width):
    node, kind = np.int64(end >> np.uint32(2)), end & np.uint32(3)
    if kind == _RIGHT:
        return node, node + 1
    if kind == _DOWN:
        return node, node + width
    if kind == _DOWN_RIGHT:
        return node, node + width + 1
    return node + 1, node + width


@_jit
def _root(parent, node):
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = np.int64(parent[node])
    return node


@_jit
def _join(parent, area, one, other):
    if area[one] < area[other]:
        one, other = other, one
    parent[other] = one
    area[one] += area[other]
    return one


@_jit
def _numbered(parent):
    """The id of every pixel's tree, trees in the order of their first pixels."""
    number, found = np.full(len(parent), -1, np.int32), 0
    ids = np.empty(len(parent), np.int32)
    for node in range(len(parent)):
        root = _root(parent, node)
        if number[root] < 0:
            number[root] = found
            found += 1
        ids[node] = number[root]
    return ids
