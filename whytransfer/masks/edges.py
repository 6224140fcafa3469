"""Where an image has boundaries, and which way they run: half-disc gradients of colour and texture at several scales.

At each pixel a disc is cut in two along K directions, and the histograms of its halves are compared by chi-squared
distance, in CIE L, a, b and a code of fine texture; a boundary is where halves differ [Martin et al. 2004, "Learning to
detect natural image boundaries using local brightness, color, and texture cues"; Arbelaez et al. 2011, section 3.1].
Nothing is learned and no file is needed. The structured forest of the published MCG can be used instead, when its
model file (OpenCV's format) is at hand.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image

from whytransfer.compiled import KEPT
from whytransfer.errors import InputError

DIRECTIONS = 8  # of the cut, evenly over half a turn
BINS = 16  # of each histogram
CHANNELS = 4  # L, a, b, texture
WEIGHTS = (0.35, 0.25, 0.25, 0.15)  # of the channels' distances
# (size of the image, radius of the disc in its pixels): finest first. The paper resizes to 2, 1 and 0.5; half the
# radius on the image itself sees what the doubled image would show, at a quarter of the work.
SCALES = ((1.0, 3), (1.0, 6), (0.5, 6))

kernel = njit(cache=KEPT, nogil=True, error_model="numpy")


@dataclass(frozen=True)
class Boundaries:
    """One scale's boundaries on the grid of the image."""

    strength: NDArray[np.float64]  # (H, W), 0 (none) to 1 (halves have nothing in common)
    across: NDArray[np.float64]  # (H, W) radians in [0, pi): direction across the boundary, from x (right) to y (down)


def boundaries(image: NDArray[np.uint8]) -> tuple[Boundaries, ...]:
    """(H, W, 3) uint8 RGB -> one Boundaries per scale, finest first, all on the image's grid."""
    return tuple(_at_scale(image, size, radius) for size, radius in SCALES)


def structured_boundaries(image: NDArray[np.uint8], model: Path) -> tuple[Boundaries, ...]:
    """The same from a structured forest [Dollar and Zitnick 2015] in OpenCV's model.yml.gz format, at 2, 1 and 0.5.

    Raises InputError when the file is missing or is no such model.
    """
    detector = _detector(str(model))
    found = []
    for size in (2.0, 1.0, 0.5):
        picture = np.asarray(_resized(Image.fromarray(image), size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
        edges = detector.detectEdges(picture)
        across = np.mod(detector.computeOrientation(edges).astype(np.float64), pi)
        found.append(_on_grid(edges.astype(np.float64), across, image.shape[:2]))
    return tuple(found)


@functools.lru_cache(maxsize=2)
def _detector(model: str) -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError("structured edges need OpenCV: pip install 'whytransfer[masks]'") from None
    if not Path(model).is_file():
        raise InputError(f"edge model {model}: there is no such file; give OpenCV's structured-edge model.yml.gz")
    try:
        return cv2.ximgproc.createStructuredEdgeDetection(model)
    except cv2.error as error:
        raise InputError(f"edge model {model}: OpenCV cannot read it ({error.err or error})") from None


def _at_scale(image: NDArray[np.uint8], size: float, radius: int) -> Boundaries:
    picture = np.asarray(_resized(Image.fromarray(image), size, Image.Resampling.BOX))
    codes = np.pad(channel_codes(picture), ((0, 0), (radius, radius), (radius, radius)), mode="symmetric")
    height, width = picture.shape[:2]
    best, strength = np.zeros((height, width), np.int64), np.full((height, width), -1.0)
    for k in range(DIRECTIONS):
        gradient = np.zeros((height, width))
        for channel in range(CHANNELS):
            smooth = channel < 3  # neighbouring bins of a colour are alike, those of texture are not
            half_disc_gradient(codes[channel], *_disc(radius, k), radius, smooth, WEIGHTS[channel], gradient)
        better = gradient > strength
        best[better], strength[better] = k, gradient[better]
    return _on_grid(strength, best * (pi / DIRECTIONS), image.shape[:2])


def _resized(picture: Image.Image, size: float, how: Image.Resampling) -> Image.Image:
    if size == 1.0:
        return picture
    return picture.resize((max(1, round(picture.width * size)), max(1, round(picture.height * size))), how)


def _on_grid(strength: NDArray[Any], across: NDArray[Any], shape: tuple[int, ...]) -> Boundaries:
    if strength.shape != shape:
        side = (shape[1], shape[0])
        smooth = Image.fromarray(strength.astype(np.float32)).resize(side, Image.Resampling.BILINEAR)
        near = Image.fromarray(across.astype(np.float32)).resize(side, Image.Resampling.NEAREST)
        strength, across = np.asarray(smooth, dtype=np.float64), np.asarray(near, dtype=np.float64)
    return Boundaries(strength, across)


@functools.lru_cache(maxsize=64)
def _disc(radius: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The disc cut in direction k, as lists of (dy, dx, change of difference, change of sum) per pixel.

    First what the disc holds, then what changes when it moves one pixel to the right. The cut runs across direction
    k * pi / K; pixels under it belong to neither half.
    """
    reach = radius + 1
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    ahead = dx * np.cos(k * pi / DIRECTIONS) + dy * np.sin(k * pi / DIRECTIONS)
    side = np.where(dx * dx + dy * dy <= (radius + 0.25) ** 2, np.sign(np.round(ahead, 6)), 0).astype(np.int64)
    before = np.zeros_like(side)  # the half that a pixel was in, one step earlier
    before[:, :-1] = side[:, 1:]

    def listed(difference: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.int64]:
        changed = (difference != 0) | (total != 0)
        return np.stack([dy[changed], dx[changed], difference[changed], total[changed]], axis=1)

    return listed(side, abs(side)), listed(side - before, abs(side) - abs(before))


def channel_codes(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB -> (4, H, W) uint8 bins of L, a, b and texture."""
    lab = cielab(np.ascontiguousarray(picture))
    codes = np.empty((CHANNELS, *picture.shape[:2]), np.uint8)
    codes[0] = np.clip(lab[..., 0] * (BINS / 100.0), 0, BINS - 1)
    codes[1:3] = np.clip((np.moveaxis(lab[..., 1:], 2, 0) + 48.0) * (BINS / 96.0), 0, BINS - 1)
    codes[3] = texture_codes(lab[..., 0])
    return codes


def texture_codes(lightness: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W) L -> (H, W) bins of fine texture: flat, or one of five directions at one of three contrasts."""
    from scipy.ndimage import gaussian_filter

    fine = gaussian_filter(lightness, 1.0)
    dx, dy = np.zeros_like(fine), np.zeros_like(fine)
    dx[:, 1:-1] = fine[:, 2:] - fine[:, :-2]
    dy[1:-1] = fine[2:] - fine[:-2]
    contrast = np.digitize(np.sqrt(dx * dx + dy * dy), (3.0, 8.0, 20.0))  # in units of L over two pixels
    turn = np.floor(np.mod(np.arctan2(dy, dx) / pi + 0.1, 1.0) * 5).astype(np.int64) % 5
    return np.where(contrast == 0, 0, 1 + 5 * (contrast - 1) + turn).astype(np.uint8)


@kernel
def cielab(picture):
    """(H, W, 3) uint8 sRGB -> (H, W, 3) CIE L, a, b under D65 [CIE 15:2004]."""
    linear = np.empty(256)
    for v in range(256):
        c = v / 255.0
        linear[v] = c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
    lab = np.empty(picture.shape)
    f = np.empty(3)
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            r, g, b = linear[picture[i, j, 0]], linear[picture[i, j, 1]], linear[picture[i, j, 2]]
            f[0] = (0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047
            f[1] = 0.212671 * r + 0.715160 * g + 0.072169 * b
            f[2] = (0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883
            for k in range(3):
                f[k] = f[k] ** (1.0 / 3.0) if f[k] > 0.008856 else 7.787 * f[k] + 16.0 / 116.0
            lab[i, j, 0] = 116.0 * f[1] - 16.0
            lab[i, j, 1] = 500.0 * (f[0] - f[1])
            lab[i, j, 2] = 200.0 * (f[1] - f[2])
    return lab


@kernel
def half_disc_gradient(codes, whole, step, radius, smooth, weight, out):
    """Add weight * chi-squared distance between the half discs around each pixel to out (H, W).

    codes (H + 2 r, W + 2 r) uint8 below 16; whole and step are lists of `_disc`. Histograms are kept as difference and
    sum of the halves and updated as the disc moves along a row.
    """
    difference, total = np.empty(BINS + 4), np.empty(BINS + 4)  # two empty bins at each end
    count = 0.0
    for n in range(len(whole)):
        count += whole[n, 3]
    scale = weight / max(count, 1.0)
    for i in range(out.shape[0]):
        difference[:] = 0.0
        total[:] = 0.0
        for n in range(len(whole)):
            code = codes[i + radius + whole[n, 0], radius + whole[n, 1]] + 2
            difference[code] += whole[n, 2]
            total[code] += whole[n, 3]
        for j in range(out.shape[1]):
            if j > 0:
                for n in range(len(step)):
                    code = codes[i + radius + step[n, 0], j + radius + step[n, 1]] + 2
                    difference[code] += step[n, 2]
                    total[code] += step[n, 3]
            distance = 0.0
            if smooth:
                for b in range(2, BINS + 2):
                    d = 6.0 * difference[b] + 4.0 * (difference[b - 1] + difference[b + 1])
                    d += difference[b - 2] + difference[b + 2]
                    s = 6.0 * total[b] + 4.0 * (total[b - 1] + total[b + 1]) + total[b - 2] + total[b + 2]
                    distance += d * d / (16.0 * s + 1e-9)
            else:
                for b in range(2, BINS + 2):
                    distance += difference[b] * difference[b] / (total[b] + 1e-9)
            out[i, j] += scale * distance
