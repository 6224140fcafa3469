"""Views on the CPU: one image at a time, compiled, in place, without the interpreter's lock.

The same arithmetic as `geometry` and `photometry`, which are the readable version. What makes it fast: pixels stay
bytes until the vertical pass, whose inner loop runs along a contiguous row; a resized row is finished while it is in
the first-level cache; colours change in place on planes, without branches, so that the compiler vectorises them.
Inner loops index slices from 0: an index that might be negative would cost a test per pixel.
Nothing here depends on the batch, the thread, the processor, or on whether the kernels were compiled or loaded: the
same image and parameters give the same bits.
"""

# mypy: ignore-errors
# (numba infers the types here, and refuses what does not fit)

from __future__ import annotations

import numpy as np
from numba import njit

from whytransfer.compiled import KEPT
from whytransfer.views.parameters import Op

# Only what leaves every result as it is: products and sums may be neither fused nor reordered, because the compiler
# then rounds one way in a fresh process and another way in one that loads the kept kernels.
_FAST = {"nnan", "ninf", "nsz"}
_jit = njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=KEPT)
_inline = njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=KEPT, inline="always")
_LANES = 16

_SKIP, _BRIGHTNESS, _CONTRAST, _SATURATION = int(Op.SKIP), int(Op.BRIGHTNESS), int(Op.CONTRAST), int(Op.SATURATION)
_HUE, _GRAYSCALE, _BLUR, _SOLARISE = int(Op.HUE), int(Op.GRAYSCALE), int(Op.BLUR), int(Op.SOLARISE)
_ADD_BRIGHTNESS, _CHANNEL_CONTRAST = int(Op.ADD_BRIGHTNESS), int(Op.CHANNEL_CONTRAST)
_HSV_SATURATION, _ZERO_BLUR = int(Op.HSV_SATURATION), int(Op.ZERO_BLUR)

_ZERO, _ONE, _TWO, _THREE, _SIX = (np.float32(v) for v in (0, 1, 2, 3, 6))
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_BYTE, _TINY = np.float32(1 / 255), np.float32(1e-6)


@_jit
def render(pixels, windows, before, after, i, cubic, out):
    """View i of a batch: pixels (H, W, 3) uint8 -> out[i] (3, S, S) float32 in [0, 1], by record i of a Draw."""
    window, view = windows[i], out[i]
    if _any_step(before[i]):
        planes = _planes(pixels)
        _colours(planes, before[i])
        _resample_planes(planes, window, cubic, view)
    else:
        _resample_bytes(pixels, window, cubic, view)
    _colours(view, after[i])


@_jit
def _any_step(steps):
    """Whether a row of steps does anything."""
    busy = False
    for step in steps:
        busy = busy or step.op != _SKIP
    return busy


@_jit
def _planes(pixels):
    """(H, W, 3) uint8 -> (3, H, W) float32 in [0, 1]."""
    planes = np.empty((3, pixels.shape[0], pixels.shape[1]), np.float32)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            for c in range(3):
                planes[c, y, x] = np.float32(pixels[y, x, c]) * _BYTE
    return planes


# ---------------------------------------------------------------- geometry


@_jit
def _taps(side, grid, start, n, cubic, mirror):
    """Which source pixels make each of n view pixels: first (n,), count (n,), weights (n, T).

    Nothing outside the region is read. Centres are in single precision, because torch rounds them so: at column 200
    that moves a weight by 1e-5.
    """
    scale = np.float32(side / grid)
    spread = 1.0 if cubic else max(scale, 1.0)
    reach = 2.0 if cubic else spread
    first, count = np.empty(n, np.int64), np.empty(n, np.int64)
    weights = np.zeros((n, int(2 * reach) + 2), np.float32)
    for k in range(n):
        x = n - 1 - k if mirror else k
        centre = np.float64(np.float32((start + k + 0.5) * np.float64(scale)))
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), side)
        total = 0.0
        for j in range(low, high):
            total += _kernel((j + 0.5 - centre) / spread, cubic)
        for j in range(low, high):
            weights[x, j - low] = _kernel((j + 0.5 - centre) / spread, cubic) / total
        first[x], count[x] = low, high - low
    return first, count, weights


@_jit
def _kernel(distance, cubic):
    """Triangle, or Keys' cubic with a = -1/2 [Keys 1981]."""
    d = abs(distance)
    if not cubic:
        return max(1.0 - d, 0.0)
    if d < 1.0:
        return (1.5 * d - 2.5) * d * d + 1.0
    return ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0 if d < 2.0 else 0.0


@_jit
def _resample_bytes(pixels, window, cubic, view):
    """Crop, resize, flip interleaved bytes: per view row a vertical pass into a row buffer, then a horizontal one."""
    size = view.shape[1]
    first_y, count_y, weight_y = _taps(window.height, window.grid_height, window.grid_top, size, cubic, False)
    first_x, count_x, weight_x = _taps(window.width, window.grid_width, window.grid_left, size, cubic, window.flip != 0)
    begin = first_x.min()
    n = 3 * ((first_x + count_x).max() - begin)
    lines = pixels.reshape(pixels.shape[0], 3 * pixels.shape[1])
    row = np.empty(n, np.float32)
    offset = 3 * (window.left + begin)
    for y in range(size):
        row[:] = _ZERO
        for t in range(count_y[y]):
            weight = weight_y[y, t] * _BYTE
            line = lines[window.top + first_y[y] + t, offset : offset + n]
            for k in range(n):
                row[k] += weight * np.float32(line[k])
        for x in range(size):
            red = green = blue = _ZERO
            weights, source = weight_x[x], row[3 * (first_x[x] - begin) :]
            for t in range(count_x[x]):
                red += weights[t] * source[3 * t]
                green += weights[t] * source[3 * t + 1]
                blue += weights[t] * source[3 * t + 2]
            view[0, y, x], view[1, y, x], view[2, y, x] = red, green, blue
    if cubic:
        _clamp(view.reshape(-1))


@_jit
def _resample_planes(planes, window, cubic, view):
    """The same for (3, H, W) float32."""
    size = view.shape[1]
    first_y, count_y, weight_y = _taps(window.height, window.grid_height, window.grid_top, size, cubic, False)
    first_x, count_x, weight_x = _taps(window.width, window.grid_width, window.grid_left, size, cubic, window.flip != 0)
    begin = first_x.min()
    n = (first_x + count_x).max() - begin
    row = np.empty(n, np.float32)
    offset = window.left + begin
    for c in range(3):
        for y in range(size):
            row[:] = _ZERO
            for t in range(count_y[y]):
                weight = weight_y[y, t]
                line = planes[c, window.top + first_y[y] + t, offset : offset + n]
                for k in range(n):
                    row[k] += weight * line[k]
            for x in range(size):
                total = _ZERO
                weights, source = weight_x[x], row[first_x[x] - begin :]
                for t in range(count_x[x]):
                    total += weights[t] * source[t]
                view[c, y, x] = total
    if cubic:
        _clamp(view.reshape(-1))


# ---------------------------------------------------------------- photometry, in place on planes (3, H, W) in [0, 1]


@_jit
def _colours(planes, steps):
    """Apply one image's steps in their order."""
    flat = planes.reshape(3, planes.shape[1] * planes.shape[2])
    for step in steps:
        op, value = step.op, np.float32(step.value)
        if op == _BRIGHTNESS:
            _affine(planes.reshape(-1), value, _ZERO)
        elif op == _ADD_BRIGHTNESS:
            _affine(planes.reshape(-1), _ONE, value)
        elif op == _CONTRAST:
            _affine(planes.reshape(-1), value, (_ONE - value) * _mean_gray(flat))
        elif op == _CHANNEL_CONTRAST:
            for c in range(3):
                _affine(flat[c], value, (_ONE - value) * _mean(flat[c]))
        elif op == _SATURATION:
            _blend_gray(flat, value)
        elif op == _GRAYSCALE:
            _blend_gray(flat, _ZERO)
        elif op == _HSV_SATURATION:
            _hsv_saturation(flat, value)
        elif op == _HUE:
            _hue(flat, value)
        elif op == _SOLARISE:
            _solarise(planes.reshape(-1), value)
        elif op in (_BLUR, _ZERO_BLUR):
            _blur(planes, value, step.radius_px, op == _BLUR)


@_inline
def _unit(x):
    """x within [0, 1]."""
    return min(max(x, _ZERO), _ONE)


@_jit
def _clamp(values):
    for k in range(values.shape[0]):
        values[k] = _unit(values[k])


@_jit
def _affine(values, factor, term):
    """f x + t, clamped: brightness and contrast."""
    for k in range(values.shape[0]):
        values[k] = _unit(factor * values[k] + term)


@_inline
def _luma(r, g, b):
    return _RED * r + _GREEN * g + _BLUE * b


@_jit
def _mean(values):
    """Mean of (N,): 16 sums side by side, which the compiler vectorises without changing their order."""
    sums, whole = np.zeros(_LANES, np.float32), values.shape[0] - values.shape[0] % _LANES
    total = 0.0
    for begin in range(0, whole, 64 * _LANES):
        sums[:] = _ZERO
        for k in range(begin, min(begin + 64 * _LANES, whole), _LANES):
            part = values[k : k + _LANES]
            for lane in range(_LANES):
                sums[lane] += part[lane]
        for lane in range(_LANES):
            total += sums[lane]
    for k in range(whole, values.shape[0]):
        total += values[k]
    return np.float32(total / values.shape[0])


@_jit
def _mean_gray(flat):
    """Mean luma of (3, N)."""
    return _luma(_mean(flat[0]), _mean(flat[1]), _mean(flat[2]))


@_jit
def _blend_gray(flat, factor):
    """f x + (1 - f) gray, clamped: saturation, and grayscale for f = 0."""
    red, green, blue = flat[0], flat[1], flat[2]
    rest = _ONE - factor
    for k in range(red.shape[0]):
        gray = rest * _luma(red[k], green[k], blue[k])
        red[k] = _unit(factor * red[k] + gray)
        green[k] = _unit(factor * green[k] + gray)
        blue[k] = _unit(factor * blue[k] + gray)


@_jit
def _hsv_saturation(flat, factor):
    """S -> min(f S, 1) at fixed H and V: distances to the largest channel grow by f, until the smallest is 0."""
    red, green, blue = flat[0], flat[1], flat[2]
    for k in range(red.shape[0]):
        r, g, b = red[k], green[k], blue[k]
        top = max(max(r, g), b)
        chroma = top - min(min(r, g), b)
        grow = min(factor * chroma, top) / (chroma if chroma > _ZERO else _ONE)
        red[k] = _unit(top - (top - r) * grow)
        green[k] = _unit(top - (top - g) * grow)
        blue[k] = _unit(top - (top - b) * grow)


@_jit
def _hue(flat, turns):
    """Shift the hue by a part of a turn; h and the way back to RGB as in `photometry.shift_hue`."""
    red, green, blue = flat[0], flat[1], flat[2]
    shift = _SIX * (turns - np.rint(turns))
    for k in range(red.shape[0]):
        r, g, b = red[k], green[k], blue[k]
        top = max(max(r, g), b)
        chroma = top - min(min(r, g), b)
        ahead, start = (b - r, _TWO) if top == g else (r - g, -_TWO)
        ahead, start = (g - b, _ZERO) if top == r else (ahead, start)
        h = ahead / (chroma if chroma > _ZERO else _ONE) + start + shift
        h -= _SIX if h > _THREE else _ZERO
        h += _SIX if h < -_THREE else _ZERO
        red[k] = top - chroma * _unit(abs(h) - _ONE)
        green[k] = top - chroma * _unit(_TWO - abs(h + _ONE))
        blue[k] = top - chroma * _unit(_TWO - abs(h - _ONE))


@_jit
def _solarise(values, threshold):
    """1 - x where x reaches the threshold."""
    for k in range(values.shape[0]):
        values[k] = _ONE - values[k] if values[k] >= threshold else values[k]


@_jit
def _mirror(k, n):
    """The index that stands for k beyond 0 ... n-1: ... 2 1 0 1 2 ..., again and again if need be."""
    if n == 1:
        return 0
    k = abs(k) % (2 * n - 2)
    return min(k, 2 * n - 2 - k)


@_jit
def _blur(planes, sigma, radius, mirrored):
    """Separable Gaussian of 2 radius + 1 taps; beyond the border the image is mirrored, or zero."""
    high, wide = planes.shape[1], planes.shape[2]
    half = _half_gaussian(sigma, radius)
    line, smooth = np.zeros(wide + 2 * radius, np.float32), np.zeros((high + 2 * radius, wide), np.float32)
    for c in range(3):
        for y in range(high):
            _copy(planes[c, y], line[radius:])
            if mirrored:
                for k in range(radius):
                    line[k] = planes[c, y, _mirror(k - radius, wide)]
                    line[radius + wide + k] = planes[c, y, _mirror(wide + k, wide)]
            _convolve(line, half, smooth[radius + y])
        if mirrored:
            for k in range(radius):
                _copy(smooth[radius + _mirror(k - radius, high)], smooth[k])
                _copy(smooth[radius + _mirror(high + k, high)], smooth[radius + high + k])
        for y in range(high):
            target = planes[c, y]
            _scale(smooth[radius + y], half[0], target)
            for t in range(1, radius + 1):
                _add_pair(smooth[radius + y - t], smooth[radius + y + t], half[t], target)


@_jit
def _half_gaussian(sigma, radius):
    """Taps 0 ... radius of a symmetric kernel that sums to 1."""
    half = np.empty(radius + 1, np.float32)
    total = 0.0
    for t in range(radius + 1):
        half[t] = np.exp(-0.5 * (t / max(sigma, _TINY)) ** 2)
        total += half[t] if t == 0 else 2 * half[t]
    for t in range(radius + 1):
        half[t] /= total
    return half


@_jit
def _convolve(line, half, target):
    """target[x] = sum of half[|t|] line[radius + x + t]."""
    radius, wide = half.shape[0] - 1, target.shape[0]
    _scale(line[radius : radius + wide], half[0], target)
    for t in range(1, radius + 1):
        _add_pair(line[radius - t : radius - t + wide], line[radius + t : radius + t + wide], half[t], target)


@_jit
def _copy(source, target):
    for x in range(source.shape[0]):
        target[x] = source[x]


@_inline
def _scale(source, weight, target):
    for x in range(target.shape[0]):
        target[x] = weight * source[x]


@_inline
def _add_pair(one, other, weight, target):
    for x in range(target.shape[0]):
        target[x] += weight * (one[x] + other[x])
