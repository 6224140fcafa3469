"""Regions as a few kilobytes: run lengths, then zlib; decoded straight to the size that is asked for.

A code is a header (kind, whether classes follow, R, H, W), then compressed: the classes (R,) int64; of a label map the
number of runs, their ids, their lengths; of a stack, for each mask in turn, run lengths that start with zeros. Runs go
along the rows and over their ends. A length is 7 bits per byte, the lowest first, the high bit saying that more follow.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.compiled import KEPT
from whytransfer.masks.regions import NO_REGION, Regions

HEADER = struct.Struct("<BBHII")
_MOST_PX = 178_956_970  # of an image (PIL's limit): a header that says more is not believed
_jit = njit(nogil=True, error_model="numpy", cache=KEPT)


def encode(regions: Regions) -> bytes:
    """The code of regions at their own size; `left_out` is not in it."""
    labels = b"" if regions.labels is None else np.asarray(regions.labels, np.int64).tobytes()
    header = HEADER.pack(regions.overlapping, regions.labels is not None, len(regions), *regions.size)
    if regions.overlapping:
        body = _stack_runs(regions.maps.reshape(-1), regions.size[0] * regions.size[1]).tobytes()
    else:
        ids, lengths = _map_runs(regions.maps.reshape(-1))
        body = struct.pack("<I", len(ids)) + ids.tobytes() + lengths.tobytes()
    return header + zlib.compress(labels + body, 6)


def size_of(code: bytes | memoryview) -> tuple[int, int]:
    """(H, W) of the regions in a code, undecoded; ValueError for what is none."""
    return _header(code)[3:]


def labels_of(code: bytes | memoryview) -> NDArray[np.int64] | None:
    """(R,) classes in a code, or None; ValueError for a damaged one."""
    _, has_labels, count, _, _ = _header(code)
    return np.frombuffer(_body(code).tobytes(), np.int64, count) if has_labels else None


def decode(code: bytes | memoryview, size: tuple[int, int] | None = None) -> Regions:
    """Regions at (height, width) `size`, nearest pixel centres, or at their own; only that many pixels are written.

    ValueError for a damaged code: what it says is checked before it is painted, as the kernels check nothing.
    """
    overlapping, has_labels, count, height, width = _header(code)
    body = _body(code)
    begin = 8 * count if has_labels else 0
    labels = body[:begin].view(np.int64).copy() if has_labels else None
    rows, columns = (_places(n, m) for n, m in zip((height, width), size or (height, width), strict=True))
    shape = int(rows[-1]), int(columns[-1])
    maps: NDArray
    if overlapping:
        _check(_fits(body[begin:], height * width, count, -1), "lengths of runs")
        maps = np.zeros((count, *shape), dtype=bool)
        _paint_stack(body[begin:], width, rows, columns, maps.view(np.uint8))
    else:
        _check(len(body) >= begin + 4, "number of runs")
        runs = int(body[begin : begin + 4].view(np.uint32)[0])
        ids, lengths = body[begin + 4 : begin + 4 + runs], body[begin + 4 + runs :]
        _check(len(ids) == runs and _fits(lengths, height * width, 1, runs), "lengths of runs")
        maps = np.full(shape, NO_REGION, dtype=np.uint8)
        _paint_map(ids, lengths, width, rows, columns, maps)
    return Regions(maps, labels)


def _header(code: bytes | memoryview) -> tuple[int, int, int, int, int]:
    """Kind, whether classes follow, R, H, W."""
    _check(len(code) > HEADER.size, "header")
    kind, has_labels, count, height, width = HEADER.unpack_from(code)
    _check(kind < 2 and has_labels < 2 and 0 < height * width <= _MOST_PX, "header")
    return kind, has_labels, count, height, width


def _body(code: bytes | memoryview) -> NDArray[np.uint8]:
    """What is compressed, of no more bytes than regions of this number and size can take."""
    kind, has_labels, count, height, width = _header(code)
    most = 8 * count * has_labels + (5 * (height * width + 1) * count if kind else 4 + 6 * height * width)
    packed = zlib.decompressobj()
    try:
        body = packed.decompress(code[HEADER.size :], most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    _check(packed.eof and 8 * count * has_labels <= len(body) <= most, "compressed content")
    return np.frombuffer(body, np.uint8)


def _check(fine: bool, part: str) -> None:
    if not fine:
        raise ValueError(f"its {part} cannot be right")


def _places(stored: int, asked: int) -> NDArray[np.int64]:
    """(stored + 1,): how many of the asked lines show an earlier stored line; a line shows what its middle falls on."""
    shown = (2 * np.arange(asked) + 1) * stored // (2 * asked)
    return np.searchsorted(shown, np.arange(stored + 1)).astype(np.int64)


@_jit
def _map_runs(ids):
    """(N,) uint8 -> id of each run, and their lengths as bytes."""
    count = 1
    for k in range(1, len(ids)):
        count += ids[k] != ids[k - 1]
    values, lengths = np.empty(count, np.uint8), np.empty(5 * count, np.uint8)
    run, place, begin = 0, 0, 0
    for k in range(1, len(ids) + 1):
        if k == len(ids) or ids[k] != ids[begin]:
            values[run] = ids[begin]
            place = _put(lengths, place, k - begin)
            run, begin = run + 1, k
    return values, lengths[:place].copy()


@_jit
def _stack_runs(bits, plane):
    """(R N,) bool, masks of N pixels -> run lengths of each mask as bytes, zeros first."""
    planes = len(bits) // plane
    count = 2 * planes
    for k in range(1, len(bits)):
        count += bits[k] != bits[k - 1]
    lengths, place = np.empty(5 * count, np.uint8), 0
    for r in range(planes):
        one = bits[r * plane : (r + 1) * plane]
        value, begin = False, 0
        for k in range(plane):
            if one[k] != value:
                place = _put(lengths, place, k - begin)
                value, begin = not value, k
        place = _put(lengths, place, plane - begin)
    return lengths[:place].copy()


@_jit
def _fits(lengths, plane, planes, runs):
    """Whether bytes are the lengths of `runs` runs (-1: of any number) that fill so many planes of pixels, no more."""
    place, found = 0, 0
    for _ in range(planes):
        pixel = np.int64(0)
        while pixel < plane:
            length, shift, more = np.int64(0), 0, True
            while more:
                if place >= len(lengths) or shift > 28:
                    return False
                length |= (np.int64(lengths[place]) & 127) << shift
                more = lengths[place] >= 128
                place, shift = place + 1, shift + 7
            pixel, found = pixel + length, found + 1
        if pixel != plane:
            return False
    return place == len(lengths) and (runs < 0 or found == runs)


@_jit
def _put(out, place, number):
    while number >= 128:
        out[place] = (number & 127) | 128
        place, number = place + 1, number >> 7
    out[place] = number
    return place + 1


@_jit
def _take(lengths, place):
    """A length and where the next one begins."""
    number, shift = 0, 0
    while lengths[place] >= 128:
        number |= (np.int64(lengths[place]) & 127) << shift  # type: ignore[assignment]
        place, shift = place + 1, shift + 7
    return number | (np.int64(lengths[place]) << shift), place + 1


@_jit
def _paint_map(ids, lengths, width, rows, columns, out):
    place, pixel = 0, 0
    for run in range(len(ids)):
        length, place = _take(lengths, place)
        if ids[run] != NO_REGION:
            _paint(pixel, pixel + length, width, rows, columns, ids[run], out)
        pixel += length


@_jit
def _paint_stack(lengths, width, rows, columns, out):
    place, total = 0, (len(rows) - 1) * width
    for r in range(len(out)):
        pixel, covered = 0, False
        while pixel < total:
            length, place = _take(lengths, place)
            if covered:
                _paint(pixel, pixel + length, width, rows, columns, np.uint8(1), out[r])
            pixel, covered = pixel + length, not covered


@_jit
def _paint(pixel, end, width, rows, columns, value, out):
    """Write pixels pixel ... end - 1 of the stored raster where the asked lines show them."""
    while pixel < end:
        y = pixel // width
        left = pixel - y * width
        right = min(width, left + end - pixel)
        for row in range(rows[y], rows[y + 1]):
            line = out[row, columns[left] : columns[right]]
            for column in range(len(line)):
                line[column] = value
        pixel += right - left
