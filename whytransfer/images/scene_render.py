"""Ray casting of small object scenes: every pixel's ray meets each object in closed form (the torus by marching).

World: x right, y up, z away from the camera, the floor at y = 0 and a wall at z = WALL_Z. The camera stands at
(0, CAMERA_HEIGHT, 0) and looks along z through a lens shifted down: an object at depth z projects to
u = 1/2 + FOCAL x / z and v = HORIZON + FOCAL (CAMERA_HEIGHT - y) / z, in image widths. Rays have direction
(dx, dy, 1), so the ray parameter t *is* the depth z. Constants that the kernels use live in this file, because
numba's cache notices a change of this file only. Letters: B scenes, K objects, S image side.
"""

from __future__ import annotations

from math import cos, floor, inf, sin, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

CAMERA_HEIGHT = 2.9
FOCAL = 1.35  # in image widths
HORIZON = 0.21  # where the camera's height projects to, in image heights from the top
WALL_Z = 11.0
ELLIPSOID, BOX, FRUSTUM, TORUS, PRISM = range(5)  # the primitives that parts are made of
PLAIN, STRIPES, CHECKER, DOTS, NOISE = range(5)  # textures
SWEEP, FLOOR, WALLPAPER, TILES, CLOUDS = range(5)  # backgrounds
TAU = 6.283185307179586

kernel = njit(cache=True, nogil=True, error_model="numpy")


class Layout(NamedTuple):
    """B scenes as the kernel reads them; object 0 is the main one, shape -1 means absent. Colours are linear RGB."""

    shape: np.ndarray  # (B, K) int64
    position: np.ndarray  # (B, K, 3)
    scale: np.ndarray  # (B, K) radius of the bounding sphere
    rotation: np.ndarray  # (B, K, 3, 3) object to world
    colour: np.ndarray  # (B, K, 2, 3) base and second tone
    texture: np.ndarray  # (B, K) int64
    pattern: np.ndarray  # (B, K, 4) frequency in cycles per radius, three phases in turns
    extent: np.ndarray  # (B, K, 4) u0, u1, v0, v1 of the bounding sphere, in image widths
    light: np.ndarray  # (B, 2, 3) direction towards the light, its colour
    room: np.ndarray  # (B, 3, 3) wall, wall's second tone, floor
    style: np.ndarray  # (B,) int64 background
    paper: np.ndarray  # (B, 4) frequency, phase, cos and sin of the pattern's slant
    parts: np.ndarray  # (C, P, 8) primitive (-1: none), axis, offset xyz, three sizes
    marks: np.ndarray  # (C, 5) a painted spot: xyz, radius; radius of the soft shadow


@kernel
def _turn(x, y, z, axis):
    """The coordinates in cyclic order with `axis` first; turning by (3 - axis) % 3 undoes it."""
    if axis == 0:
        return x, y, z
    if axis == 1:
        return y, z, x
    return z, x, y


@kernel
def _ellipsoid(ox, oy, oz, dx, dy, dz, a, b, c):
    """First hit: (t, normal, face); t is inf for a miss, the normal is not yet of unit length."""
    px, py, pz, qx, qy, qz = ox / a, oy / b, oz / c, dx / a, dy / b, dz / c
    qq, pq = qx * qx + qy * qy + qz * qz, px * qx + py * qy + pz * qz
    root = pq * pq - qq * (px * px + py * py + pz * pz - 1.0)
    if root < 0.0:
        return inf, 0.0, 0.0, 1.0, 0
    t = (-pq - sqrt(root)) / qq
    return t, (px + t * qx) / a, (py + t * qy) / b, (pz + t * qz) / c, 0


@kernel
def _slab(o, d, half):
    """Where the ray is between two parallel planes: (t_in, t_out)."""
    if abs(d) < 1e-12:
        return (-inf, inf) if abs(o) <= half else (inf, -inf)
    near, far = (-half - o) / d, (half - o) / d
    return min(near, far), max(near, far)


@kernel
def _box(ox, oy, oz, dx, dy, dz, a, b, c):
    x0, x1 = _slab(ox, dx, a)
    y0, y1 = _slab(oy, dy, b)
    z0, z1 = _slab(oz, dz, c)
    t = max(x0, y0, z0)
    if t > min(x1, y1, z1):
        return inf, 0.0, 0.0, 1.0, 0
    if t == x0:
        return t, -np.sign(dx), 0.0, 0.0, 1
    if t == y0:
        return t, 0.0, -np.sign(dy), 0.0, 2
    return t, 0.0, 0.0, -np.sign(dz), 3


@kernel
def _frustum(ou, ov, ow, du, dv, dw, low, high, half):
    """A capped cone along u: radius `low` at u = -half, `high` at u = half; equal radii make a cylinder."""
    slope, middle = (high - low) / (2.0 * half), 0.5 * (low + high)
    start = middle + slope * ou
    a, b = dv * dv + dw * dw - slope * slope * du * du, ov * dv + ow * dw - slope * du * start
    root = b * b - a * (ov * ov + ow * ow - start * start)
    best, nu, nv, nw, face = inf, 0.0, 0.0, 1.0, 0
    if root >= 0.0 and abs(a) > 1e-12:
        for sign in (-1.0, 1.0):
            t = (-b + sign * sqrt(root)) / a
            u = ou + t * du
            if t < best and abs(u) <= half:
                best, nu, nv, nw = t, -slope * (middle + slope * u), ov + t * dv, ow + t * dw
    if abs(du) > 1e-12:
        u = -np.sign(du) * half  # the cap that faces the ray
        t = (u - ou) / du
        v, w, radius = ov + t * dv, ow + t * dw, middle + slope * u
        if t < best and v * v + w * w <= radius * radius:
            best, nu, nv, nw, face = t, np.sign(u), 0.0, 0.0, 1
    return best, nu, nv, nw, face


@kernel
def _torus(ou, ov, ow, du, dv, dw, ring, tube):
    """A ring around the axis u, met by sphere tracing its exact distance function."""
    length = sqrt(du * du + dv * dv + dw * dw)
    du, dv, dw = du / length, dv / length, dw / length
    along = ou * du + ov * dv + ow * dw
    outer = ring + tube
    root = along * along - (ou * ou + ov * ov + ow * ow - outer * outer)
    if root < 0.0:
        return inf, 0.0, 0.0, 1.0, 0
    t, end = -along - sqrt(root), -along + sqrt(root)
    for _ in range(96):
        u, v, w = ou + t * du, ov + t * dv, ow + t * dw
        radius = sqrt(v * v + w * w)
        distance = sqrt((radius - ring) ** 2 + u * u) - tube
        if distance < 1e-5:
            inward = 1.0 - ring / radius
            return t / length, u, v * inward, w * inward, 0
        t += distance
        if t > end:
            break
    return inf, 0.0, 0.0, 1.0, 0


@kernel
def _prism(ou, ov, ow, du, dv, dw, radius, half):
    """A regular triangle in (v, w), one corner up at w = radius, drawn out along u."""
    t, far = _slab(ou, du, half)
    nu, nv, nw, face = -np.sign(du), 0.0, 0.0, 1
    for side in range(3):
        mv = 0.8660254037844386 * (side - 1)
        mw = -1.0 if side == 1 else 0.5
        over, speed = ov * mv + ow * mw - 0.5 * radius, dv * mv + dw * mw
        cross = -over / speed if abs(speed) > 1e-12 else (inf if over > 0.0 else -inf)
        if speed > 0.0:
            far = min(far, cross)
        elif cross > t:
            t, nu, nv, nw, face = cross, 0.0, mv, mw, 2 + side
    if t > far:
        return inf, 0.0, 0.0, 1.0, 0
    return t, nu, nv, nw, face


@kernel
def hit_part(part, ox, oy, oz, dx, dy, dz):
    """First hit of a ray with one part of a shape, in object coordinates: (t, nx, ny, nz, face)."""
    axis = int(part[1])
    o0, o1, o2 = _turn(ox - part[2], oy - part[3], oz - part[4], axis)
    d0, d1, d2 = _turn(dx, dy, dz, axis)
    a, b, c = part[5], part[6], part[7]
    kind = int(part[0])
    if kind == ELLIPSOID:
        t, n0, n1, n2, face = _ellipsoid(o0, o1, o2, d0, d1, d2, a, b, c)
    elif kind == BOX:
        t, n0, n1, n2, face = _box(o0, o1, o2, d0, d1, d2, a, b, c)
    elif kind == FRUSTUM:
        t, n0, n1, n2, face = _frustum(o0, o1, o2, d0, d1, d2, a, b, c)
    elif kind == TORUS:
        t, n0, n1, n2, face = _torus(o0, o1, o2, d0, d1, d2, a, b)
    else:
        t, n0, n1, n2, face = _prism(o0, o1, o2, d0, d1, d2, a, b)
    nx, ny, nz = _turn(n0, n1, n2, (3 - axis) % 3)
    return t, nx, ny, nz, face


@kernel
def _into(r, x, y, z):
    """World direction to object coordinates: the transposed rotation."""
    return (
        r[0, 0] * x + r[1, 0] * y + r[2, 0] * z,
        r[0, 1] * x + r[1, 1] * y + r[2, 1] * z,
        r[0, 2] * x + r[1, 2] * y + r[2, 2] * z,
    )


@kernel
def nearest(scene, b, u, v):
    """The first object that the ray through (u, v) meets: (object or -1, part * 8 + face, t, normal in object axes)."""
    dx, dy = (u - 0.5) / FOCAL, (HORIZON - v) / FOCAL
    found, key, best, nx, ny, nz = -1, 0, inf, 0.0, 0.0, 1.0
    for k in range(scene.shape.shape[1]):
        box = scene.extent[b, k]
        if scene.shape[b, k] < 0 or u < box[0] or u > box[1] or v < box[2] or v > box[3]:
            continue
        at, scale = scene.position[b, k], scene.scale[b, k]
        ox, oy, oz = _into(scene.rotation[b, k], -at[0] / scale, (CAMERA_HEIGHT - at[1]) / scale, -at[2] / scale)
        ex, ey, ez = _into(scene.rotation[b, k], dx / scale, dy / scale, 1.0 / scale)
        parts = scene.parts[scene.shape[b, k]]
        for p in range(len(parts)):
            if parts[p, 0] < 0:
                break
            t, mx, my, mz, face = hit_part(parts[p], ox, oy, oz, ex, ey, ez)
            if t < best:
                found, key, best, nx, ny, nz = k, p * 8 + face, t, mx, my, mz
    return found, key, best, nx, ny, nz


@kernel
def _lattice(i, j, k):
    """A number in [0, 1) for a point of the integer lattice."""
    h = np.uint32(np.int64(i) * 374761393 + np.int64(j) * 668265263 + np.int64(k) * 1274126177)
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1103515245))
    return float(np.uint32(h ^ (h >> np.uint32(16)))) / 4294967296.0


@kernel
def _noise(x, y, z):
    """Smooth value noise in [0, 1] with features of size one."""
    i, j, k = floor(x), floor(y), floor(z)
    x, y, z = x - i, y - j, z - k
    x, y, z = x * x * (3.0 - 2.0 * x), y * y * (3.0 - 2.0 * y), z * z * (3.0 - 2.0 * z)
    total = 0.0
    for c in range(8):
        a, b, d = c & 1, (c >> 1) & 1, c >> 2
        weight = (x if a else 1.0 - x) * (y if b else 1.0 - y) * (z if d else 1.0 - z)
        total += weight * _lattice(i + a, j + b, k + d)
    return total


@kernel
def _soft(wave, width):
    """A wave in [-1, 1] squared off to 0 or 1, with an edge as wide as one pixel."""
    return min(max(0.5 + wave / max(width, 0.02), 0.0), 1.0)


@kernel
def _texture(kind, x, y, z, pattern, pixel):
    """How much of the second tone the surface has at an object point; `pixel` is the pixel's size there."""
    if kind == PLAIN:
        return 0.0
    f = pattern[0] * TAU
    a, b, c = f * x + TAU * pattern[1], f * y + TAU * pattern[2], f * z + TAU * pattern[3]
    if kind == STRIPES:
        return _soft(sin(b), f * pixel)
    if kind == CHECKER:
        return _soft(sin(0.7 * a) * sin(0.7 * b) * sin(0.7 * c), 0.7 * f * pixel)
    if kind == DOTS:
        return _soft(cos(a) * cos(b) + cos(b) * cos(c) + cos(c) * cos(a) - 0.35, 1.5 * f * pixel)
    return _soft(_noise(0.35 * a, 0.35 * b, 0.35 * c) - 0.5, max(0.35 * f * pixel, 0.25))


@kernel
def _lit(scene, b, skip, x, y, z, lx, ly, lz, hard):
    """Share of a light that reaches a point: objects cast the soft shadow of a sphere; `hard` sharpens the edge."""
    share = 1.0
    for k in range(scene.shape.shape[1]):
        if k == skip or scene.shape[b, k] < 0:
            continue
        at = scene.position[b, k]
        radius = scene.scale[b, k] * scene.marks[scene.shape[b, k], 4]
        cx, cy, cz = at[0] - x, at[1] - y, at[2] - z
        along = cx * lx + cy * ly + cz * lz
        if along > 0.0:
            away = sqrt(max(cx * cx + cy * cy + cz * cz - along * along, 0.0)) / radius
            blur = 0.35 + along * hard
            edge = min(max((1.0 + 0.5 * blur - away) / blur, 0.0), 1.0)
            share *= 1.0 - edge * edge * (3.0 - 2.0 * edge) / (1.0 + hard * along)
    return share


@kernel
def _object_colour(scene, b, k, dx, dy, t, normal, pixel, out):
    """Lambert, a sky of ambient light and a touch of Blinn-Phong gloss; `normal` in object axes."""
    r, at, scale = scene.rotation[b, k], scene.position[b, k], scene.scale[b, k]
    wx, wy, wz = dx * t, CAMERA_HEIGHT + dy * t, t
    x, y, z = _into(r, (wx - at[0]) / scale, (wy - at[1]) / scale, (wz - at[2]) / scale)
    length = sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    n0, n1, n2 = normal[0] / length, normal[1] / length, normal[2] / length
    nx = r[0, 0] * n0 + r[0, 1] * n1 + r[0, 2] * n2
    ny = r[1, 0] * n0 + r[1, 1] * n1 + r[1, 2] * n2
    nz = r[2, 0] * n0 + r[2, 1] * n1 + r[2, 2] * n2
    view = sqrt(dx * dx + dy * dy + 1.0)
    facing = max(-(nx * dx + ny * dy + nz) / view, 0.25)
    pixel = pixel * t / (FOCAL * scale * facing)
    second = _texture(scene.texture[b, k], x, y, z, scene.pattern[b, k], pixel)
    mark = scene.marks[scene.shape[b, k]]
    off = sqrt((x - mark[0]) ** 2 + (y - mark[1]) ** 2 + (z - mark[2]) ** 2)
    spot = min(max(0.5 + (mark[3] - off) / max(pixel, 0.02), 0.0), 1.0)
    light, tint = scene.light[b, 0], scene.light[b, 1]
    towards = max(nx * light[0] + ny * light[1] + nz * light[2], 0.0)
    hx, hy, hz = light[0] - dx / view, light[1] - dy / view, light[2] - 1.0 / view
    gloss = max((nx * hx + ny * hy + nz * hz) / sqrt(hx * hx + hy * hy + hz * hz), 0.0) ** 32 * 0.30
    share = _lit(scene, b, k, wx, wy, wz, light[0], light[1], light[2], 0.3)
    for c in range(3):
        paint = scene.colour[b, k, 0, c] * (1.0 - second) + scene.colour[b, k, 1, c] * second
        paint = paint * (1.0 - spot) + 0.92 * spot
        sky = 0.16 + 0.08 * ny + 0.05 * scene.room[b, 2, c] * (1.0 - ny)
        out[c] = paint * (sky + 0.95 * tint[c] * towards * share) + gloss * tint[c] * share


@kernel
def _paper(scene, b, style, is_floor, x, y, z, pixel):
    """How much of the wall's second tone the background has at a point; `pixel` is the pixel's size there."""
    f, phase, c, s = scene.paper[b, 0], scene.paper[b, 1], scene.paper[b, 2], scene.paper[b, 3]
    if style == WALLPAPER and not is_floor:
        return _soft(sin(TAU * (0.5 * f * (c * x + s * y) + phase)), TAU * 0.5 * f * pixel)
    if style == TILES and is_floor:
        waves = sin(TAU * 0.35 * f * (c * x + s * z) + TAU * phase) * sin(TAU * 0.35 * f * (c * z - s * x))
        return _soft(waves, TAU * 0.35 * f * pixel * 2.0)
    if style == CLOUDS:
        q = 1.1 * f
        return 0.65 * _noise(q * x + 50.0 * phase, q * y, q * z) + 0.35 * _noise(2.3 * q * x, 2.3 * q * y, 2.3 * q * z)
    return 0.0


@kernel
def _room_colour(scene, b, dx, dy, pixel, out):
    """Floor or wall behind the ray, with shadows; returns (depth, is_floor)."""
    is_floor = dy < 0.0 and -CAMERA_HEIGHT / dy < WALL_Z
    t = -CAMERA_HEIGHT / dy if is_floor else WALL_Z
    x, y, z = dx * t, CAMERA_HEIGHT + dy * t, t
    light, tint, style = scene.light[b, 0], scene.light[b, 1], scene.style[b]
    pixel = pixel * t / FOCAL * (t / CAMERA_HEIGHT if is_floor else 1.0)
    second = _paper(scene, b, style, is_floor, x, y, z, pixel)
    towards = light[1] if is_floor else -light[2]
    if style == SWEEP:  # floor and wall run into each other
        towards = 0.72
    towards *= 1.0 + 0.10 * light[0] * x  # brighter on the light's side
    share = _lit(scene, b, -1, x, y, z, light[0], light[1], light[2], 0.12)
    below = _lit(scene, b, -1, x, y, z, 0.0, 1.0, 0.0, 0.9) if is_floor else 1.0
    first = scene.room[b, 2] if is_floor and style != SWEEP and style != CLOUDS else scene.room[b, 0]
    shade = 0.86 + 0.05 * y if not is_floor else 0.86 + 0.03 * (t - WALL_Z)
    for c in range(3):
        paint = first[c] * (1.0 - second) + scene.room[b, 1, c] * second
        out[c] = paint * shade * below * (0.25 + 0.85 * tint[c] * towards * (0.25 + 0.75 * share))
    return t, is_floor


@kernel
def _trace(scene, b, u, v, pixel, out):
    """Linear colour of the ray through (u, v): (object or -1, key of the surface, depth)."""
    k, key, t, nx, ny, nz = nearest(scene, b, u, v)
    dx, dy = (u - 0.5) / FOCAL, (HORIZON - v) / FOCAL
    if k >= 0:
        _object_colour(scene, b, k, dx, dy, t, (nx, ny, nz), pixel, out)
        return k, 64 * (k + 1) + key, t
    t, is_floor = _room_colour(scene, b, dx, dy, pixel, out)
    return -1, 1 if is_floor and scene.style[b] != SWEEP else 0, t


@kernel
def _store(colour, gain, out):
    """Linear colour to 8 bits with a gamma of two."""
    for c in range(3):
        out[c] = np.uint8(min(sqrt(colour[c] * gain), 1.0) * 255.0 + 0.5)


@kernel
def render(scene, rgb, objects, depth):
    """Fill rgb (B, S, S, 3) uint8; objects (b, S, S) int8 and depth (b, S, S) float32 take turns if b < B.

    Objects (-1: none) and depth belong to the ray through the pixel's centre; only pixels on an edge are sampled
    four more times, which is what smooths them.
    """
    side = rgb.shape[1]
    pixel, keys, colour, total = 1.0 / side, np.empty((side, side), np.int64), np.empty(3), np.empty(3)
    for b in range(len(rgb)):
        slot = b % len(depth)
        for i in range(side):
            for j in range(side):
                k, keys[i, j], t = _trace(scene, b, (j + 0.5) * pixel, (i + 0.5) * pixel, pixel, colour)
                objects[slot, i, j], depth[slot, i, j] = k, t
                _store(colour, 1.0, rgb[b, i, j])
        for i in range(side):
            for j in range(side):
                if not _on_edge(keys, depth[slot], i, j):
                    continue
                total[:] = 0.0
                for n in range(4):
                    u, v = (j + 0.25 + 0.5 * (n & 1)) * pixel, (i + 0.25 + 0.5 * (n >> 1)) * pixel
                    _trace(scene, b, u, v, pixel, colour)
                    total += colour
                _store(total, 0.25, rgb[b, i, j])


@kernel
def _on_edge(keys, depth, i, j):
    """Whether a neighbour shows another surface, or the same one behind a fold."""
    side = len(keys)
    for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = min(max(i + di, 0), side - 1), min(max(j + dj, 0), side - 1)
        if keys[y, x] != keys[i, j] or (keys[i, j] >= 64 and abs(depth[y, x] - depth[i, j]) > 0.25):
            return True
    return False
