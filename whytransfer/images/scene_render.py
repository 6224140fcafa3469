"""Ray casting of small object scenes: every pixel's ray meets each object in closed form (the torus by marching).

World: x right, y up, z away from the camera, the floor at y = 0 and a wall at z = WALL_Z. The camera stands at
(0, CAMERA_HEIGHT, 0) and looks along z through a lens shifted down: an object at depth z projects to
u = 1/2 + FOCAL x / z and v = HORIZON + FOCAL (CAMERA_HEIGHT - y) / z, in image widths. Rays have direction
(dx, dy, 1), so the ray parameter t *is* the depth z. Constants that the kernels use live in this file, because
numba's cache notices a change of this file only. Letters: B scenes, K objects, S image side.
"""

from __future__ import annotations

from math import cos, floor, inf, sin, sqrt

import numpy as np
from numba import njit

from whytransfer.compiled import KEPT

CAMERA_HEIGHT = 2.9
FOCAL = 1.5  # in image widths
HORIZON = 0.16  # where the camera's height projects to, in image heights from the top
WALL_Z = 11.0
ELLIPSOID, BOX, FRUSTUM, TORUS, PRISM = range(5)  # the primitives that parts are made of
PLAIN, STRIPES, CHECKER, DOTS, NOISE = range(5)  # textures
SWEEP, FLOOR, WALLPAPER, TILES, CLOUDS = range(5)  # backgrounds
TAU = 6.283185307179586

kernel = njit(cache=KEPT, nogil=True, error_model="numpy")  # called from Python
helper = njit(nogil=True, error_model="numpy", forceinline=True)  # calls that pass arrays cost more than the work

# Columns of an object: shape (-1: absent), position, radius of the bounding sphere, rotation to the world (row by row),
# base colour and second tone, texture, its cycles per radius and three phases in turns, u0 u1 v0 v1 of the bounding
# sphere in image widths, white spot (xyz, radius), height above which it is white, radius of the soft shadow, dark
# spot (xyz, radius), then the parts: primitive (-1: none), axis, offset xyz, three sizes.
SHAPE, AT, SCALE, TURN, BASE, TONE, TEXTURE, WAVE, EXTENT = 0, 1, 4, 5, 14, 17, 20, 21, 25
SPOT, CAP, SHADOW, HOLLOW, PARTS = 29, 33, 34, 35, 39
PART_COLUMNS, PARTS_PER_OBJECT = 8, 3
OBJECT_COLUMNS = PARTS + PART_COLUMNS * PARTS_PER_OBJECT
# Columns of a room: direction towards the light, its colour; wall, wall's second tone, floor; background, its
# frequency, phase, and cosine and sine of the pattern's slant.
LIGHT, TINT, WALL, PAPER, GROUND, STYLE, PRINT = 0, 3, 6, 9, 12, 15, 16
ROOM_COLUMNS = 20


@helper
def _turn(x, y, z, axis):
    """The coordinates in cyclic order with `axis` first; turning by (3 - axis) % 3 undoes it."""
    if axis == 0:
        return x, y, z
    return (y, z, x) if axis == 1 else (z, x, y)


@helper
def _ellipsoid(ox, oy, oz, dx, dy, dz, a, b, c):
    """First hit: (t, normal, face); t is inf for a miss, the normal is not yet of unit length."""
    px, py, pz, qx, qy, qz = ox / a, oy / b, oz / c, dx / a, dy / b, dz / c
    qq, pq = qx * qx + qy * qy + qz * qz, px * qx + py * qy + pz * qz
    root = pq * pq - qq * (px * px + py * py + pz * pz - 1.0)
    if root < 0.0:
        return inf, 0.0, 0.0, 1.0, 0
    t = (-pq - sqrt(root)) / qq
    return t, (px + t * qx) / a, (py + t * qy) / b, (pz + t * qz) / c, 0


@helper
def _slab(o, d, half):
    """Where the ray is between two parallel planes: (t_in, t_out)."""
    if abs(d) < 1e-12:
        return (-inf, inf) if abs(o) <= half else (inf, -inf)
    near, far = (-half - o) / d, (half - o) / d
    return min(near, far), max(near, far)


@helper
def _box(ox, oy, oz, dx, dy, dz, a, b, c):
    x0, x1 = _slab(ox, dx, a)
    y0, y1 = _slab(oy, dy, b)
    z0, z1 = _slab(oz, dz, c)
    t = max(x0, y0, z0)
    in_x, in_y, in_z = t == x0, t == y0, t == z0
    t = t if t <= min(x1, y1, z1) else inf
    return t, -np.sign(dx) * in_x, -np.sign(dy) * in_y, -np.sign(dz) * in_z, in_x + 2 * in_y + 3 * in_z


@helper
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


@helper
def _torus(ou, ov, ow, du, dv, dw, ring, tube):
    """A ring around the axis u, met by sphere tracing its exact distance function."""
    length = sqrt(du * du + dv * dv + dw * dw)
    du, dv, dw = du / length, dv / length, dw / length
    along = ou * du + ov * dv + ow * dw
    root = along * along - (ou * ou + ov * ov + ow * ow - (ring + tube) ** 2)
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


@helper
def _prism(ou, ov, ow, du, dv, dw, radius, half):
    """A regular triangle in (v, w), one corner up at w = radius, drawn out along u."""
    t, far = _slab(ou, du, half)
    nu, nv, nw, face = -np.sign(du), 0.0, 0.0, 1
    for side in range(3):
        mv, mw = 0.8660254037844386 * (side - 1), -1.0 if side == 1 else 0.5
        over, speed = ov * mv + ow * mw - 0.5 * radius, dv * mv + dw * mw
        cross = -over / speed if abs(speed) > 1e-12 else over * inf
        if speed > 1e-12:
            far = min(far, cross)
        elif cross > t:
            t, nu, nv, nw, face = cross, 0.0, mv, mw, 2 + side
    return t if t <= far else inf, nu, nv, nw, face


@helper
def hit_part(things, k, p, ox, oy, oz, dx, dy, dz):
    """First hit of a ray with the part of object k that starts in column p, in object axes: (t, nx, ny, nz, face)."""
    kind, axis = int(things[k, p]), int(things[k, p + 1])
    o0, o1, o2 = _turn(ox - things[k, p + 2], oy - things[k, p + 3], oz - things[k, p + 4], axis)
    d0, d1, d2 = _turn(dx, dy, dz, axis)
    a, b, c = things[k, p + 5], things[k, p + 6], things[k, p + 7]
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


@helper
def _into(things, k, x, y, z):
    """World direction to the axes of object k, in units of its radius: the transposed rotation."""
    scale = 1.0 / things[k, SCALE]
    return (
        scale * (things[k, TURN] * x + things[k, TURN + 3] * y + things[k, TURN + 6] * z),
        scale * (things[k, TURN + 1] * x + things[k, TURN + 4] * y + things[k, TURN + 7] * z),
        scale * (things[k, TURN + 2] * x + things[k, TURN + 5] * y + things[k, TURN + 8] * z),
    )


@helper
def _out(things, k, x, y, z):
    """Direction in the axes of object k to the world, made a unit vector."""
    length = sqrt(x * x + y * y + z * z)
    return (
        (things[k, TURN] * x + things[k, TURN + 1] * y + things[k, TURN + 2] * z) / length,
        (things[k, TURN + 3] * x + things[k, TURN + 4] * y + things[k, TURN + 5] * z) / length,
        (things[k, TURN + 6] * x + things[k, TURN + 7] * y + things[k, TURN + 8] * z) / length,
    )


@kernel
def nearest(things, u, v):
    """The first of the objects (K, columns) that the ray through (u, v) meets.

    Returns (object or -1, its surface as part column * 8 + face, depth t, normal in object axes).
    """
    dx, dy = (u - 0.5) / FOCAL, (HORIZON - v) / FOCAL
    found, key, best, nx, ny, nz = -1, 0, inf, 0.0, 0.0, 1.0
    for k in range(len(things)):
        beside = u < things[k, EXTENT] or u > things[k, EXTENT + 1]
        if beside or v < things[k, EXTENT + 2] or v > things[k, EXTENT + 3] or things[k, SHAPE] < 0:
            continue
        ox, oy, oz = _into(things, k, -things[k, AT], CAMERA_HEIGHT - things[k, AT + 1], -things[k, AT + 2])
        ex, ey, ez = _into(things, k, dx, dy, 1.0)
        for p in range(PARTS, OBJECT_COLUMNS, PART_COLUMNS):
            if things[k, p] < 0:
                break
            t, mx, my, mz, face = hit_part(things, k, p, ox, oy, oz, ex, ey, ez)
            if t < best:
                found, key, best, nx, ny, nz = k, p * 8 + face, t, mx, my, mz
    return found, key, best, nx, ny, nz


@helper
def _lattice(i, j, k):
    """A number in [0, 1) for a point of the integer lattice."""
    h = np.uint32(np.int64(i) * 374761393 + np.int64(j) * 668265263 + np.int64(k) * 1274126177)
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1103515245))
    return float(np.uint32(h ^ (h >> np.uint32(16)))) / 4294967296.0


@helper
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


@helper
def _soft(wave, width):
    """A wave in [-1, 1] squared off to 0 or 1, with an edge as wide as one pixel."""
    return min(max(0.5 + wave / max(width, 0.02), 0.0), 1.0)


@helper
def _texture(things, k, x, y, z, pixel):
    """How much of the second tone the surface has at an object point; `pixel` is the pixel's size there."""
    kind, f = int(things[k, TEXTURE]), things[k, WAVE] * TAU
    if kind == PLAIN:
        return 0.0
    x, y, z = f * x + TAU * things[k, WAVE + 1], f * y + TAU * things[k, WAVE + 2], f * z + TAU * things[k, WAVE + 3]
    if kind == STRIPES:
        return _soft(sin(y), f * pixel)
    if kind == CHECKER:
        return _soft(sin(0.7 * x) * sin(0.7 * y) * sin(0.7 * z), 0.7 * f * pixel)
    if kind == DOTS:
        p, q, r = cos(x), cos(y), cos(z)
        return _soft(p * q + q * r + r * p - 0.35, 1.5 * f * pixel)
    return _soft(_noise(0.35 * x, 0.35 * y, 0.35 * z) - 0.5, max(0.35 * f * pixel, 0.25))


@helper
def _lit(things, skip, x, y, z, lx, ly, lz, hard):
    """Share of a light that reaches a point: objects cast the soft shadow of a sphere; `hard` sharpens the edge."""
    share = 1.0
    for k in range(len(things)):
        if k == skip or things[k, SHAPE] < 0:
            continue
        radius = things[k, SCALE] * things[k, SHADOW]
        cx, cy, cz = things[k, AT] - x, things[k, AT + 1] - y, things[k, AT + 2] - z
        along = cx * lx + cy * ly + cz * lz
        away = cx * cx + cy * cy + cz * cz - along * along
        blur = 0.35 + along * hard
        if along > 0.0 and away < (radius * (1.0 + 0.5 * blur)) ** 2:
            edge = min(max((1.0 + 0.5 * blur - sqrt(max(away, 0.0)) / radius) / blur, 0.0), 1.0)
            share *= 1.0 - edge * edge * (3.0 - 2.0 * edge) / (1.0 + hard * along)
    return share


@helper
def _spot(things, k, p, x, y, z, pixel):
    """How much of the painted spot in column p there is at an object point."""
    off = sqrt((x - things[k, p]) ** 2 + (y - things[k, p + 1]) ** 2 + (z - things[k, p + 2]) ** 2)
    return _soft(things[k, p + 3] - off, pixel)


@helper
def _object_colour(things, room, k, dx, dy, t, nx, ny, nz, pixel, out):
    """Lambert, a sky of ambient light and a touch of Blinn-Phong gloss; the normal is a unit vector of the world."""
    wx, wy, wz = dx * t, CAMERA_HEIGHT + dy * t, t
    x, y, z = _into(things, k, wx - things[k, AT], wy - things[k, AT + 1], wz - things[k, AT + 2])
    view = sqrt(dx * dx + dy * dy + 1.0)
    pixel = pixel * t / (FOCAL * things[k, SCALE] * max(-(nx * dx + ny * dy + nz) / view, 0.25))
    second = _texture(things, k, x, y, z, pixel)
    white, dark = _spot(things, k, SPOT, x, y, z, pixel), _spot(things, k, HOLLOW, x, y, z, pixel)
    shade = 1.0 - 0.7 * _soft(x, pixel) * (1.0 - white)  # the right half is dark
    white = max(white, _soft(y - things[k, CAP], pixel))
    lx, ly, lz = room[LIGHT], room[LIGHT + 1], room[LIGHT + 2]
    towards = max(nx * lx + ny * ly + nz * lz, 0.0)
    hx, hy, hz = lx - dx / view, ly - dy / view, lz - 1.0 / view
    gloss = max((nx * hx + ny * hy + nz * hz) / sqrt(hx * hx + hy * hy + hz * hz), 0.0)
    gloss = 0.3 * gloss**32
    share = _lit(things, k, wx, wy, wz, lx, ly, lz, 0.3)
    for c in range(3):
        paint = things[k, BASE + c] * (1.0 - second) + things[k, TONE + c] * second
        paint = (paint * (1.0 - white) + 0.92 * white) * shade * (1.0 - 0.85 * dark)
        sky = 0.16 + 0.08 * ny + 0.05 * room[GROUND + c] * (1.0 - ny)
        out[c] += paint * (sky + 0.95 * room[TINT + c] * towards * share) + gloss * room[TINT + c] * share


@helper
def _paper(room, style, is_floor, x, y, z, pixel):
    """How much of the wall's second tone the background has at a point; `pixel` is the pixel's size there."""
    f, phase, c, s = room[PRINT], room[PRINT + 1], room[PRINT + 2], room[PRINT + 3]
    if style == WALLPAPER and not is_floor:
        return _soft(sin(TAU * (0.5 * f * (c * x + s * y) + phase)), TAU * 0.5 * f * pixel)
    if style == TILES and is_floor:
        waves = sin(TAU * 0.35 * f * (c * x + s * z) + TAU * phase) * sin(TAU * 0.35 * f * (c * z - s * x))
        return _soft(waves, TAU * 0.35 * f * pixel * 2.0)
    if style == CLOUDS:
        q = 1.1 * f
        return 0.65 * _noise(q * x + 50.0 * phase, q * y, q * z) + 0.35 * _noise(2.3 * q * x, 2.3 * q * y, 2.3 * q * z)
    return 0.0


@helper
def _room_colour(things, room, dx, dy, pixel, out):
    """Floor or wall behind the ray, with shadows; returns (depth, is_floor)."""
    is_floor = dy < 0.0 and -CAMERA_HEIGHT / dy < WALL_Z
    t = -CAMERA_HEIGHT / dy if is_floor else WALL_Z
    x, y, z = dx * t, CAMERA_HEIGHT + dy * t, t
    style = int(room[STYLE])
    pixel = pixel * t / FOCAL * (t / CAMERA_HEIGHT if is_floor else 1.0)
    second = _paper(room, style, is_floor, x, y, z, pixel)
    towards = room[LIGHT + 1] if is_floor else -room[LIGHT + 2]
    towards = 0.72 if style == SWEEP else towards  # floor and wall run into each other
    towards *= 1.0 + 0.10 * room[LIGHT] * x  # brighter on the light's side
    share = _lit(things, -1, x, y, z, room[LIGHT], room[LIGHT + 1], room[LIGHT + 2], 0.12)
    below = _lit(things, -1, x, y, z, 0.0, 1.0, 0.0, 0.9) if is_floor else 1.0
    first = GROUND if is_floor and style != SWEEP and style != CLOUDS else WALL
    shade = (0.86 + 0.03 * (t - WALL_Z) if is_floor else 0.86 + 0.05 * y) * below
    towards *= 0.85 * (0.25 + 0.75 * share)
    for c in range(3):
        paint = room[first + c] * (1.0 - second) + room[PAPER + c] * second
        out[c] += paint * shade * (0.25 + room[TINT + c] * towards)
    return t, is_floor


@helper
def _trace(things, room, u, v, pixel, out):
    """Add the linear colour of the ray through (u, v) to out; returns (object or -1, key of the surface, depth)."""
    k, key, t, nx, ny, nz = nearest(things, u, v)
    dx, dy = (u - 0.5) / FOCAL, (HORIZON - v) / FOCAL
    if k >= 0:
        nx, ny, nz = _out(things, k, nx, ny, nz)
        _object_colour(things, room, k, dx, dy, t, nx, ny, nz, pixel, out)
        return k, 512 * (k + 1) + key, t
    t, is_floor = _room_colour(things, room, dx, dy, pixel, out)
    return -1, 1 if is_floor and int(room[STYLE]) != SWEEP else 0, t


@helper
def _is_edge(keys, depth, i, j):
    """Whether a neighbour shows another surface, or the same one behind a fold."""
    for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = min(max(i + di, 0), len(keys) - 1), min(max(j + dj, 0), len(keys) - 1)
        fold = keys[i, j] >= 512 and abs(depth[y, x] - depth[i, j]) > 0.25
        if fold or keys[y, x] != keys[i, j]:
            return True
    return False


@helper
def _picture(things, room, rgb, objects, depth, keys):
    """One scene: a ray through each pixel's centre, then four rays for each pixel on an edge, to smooth it."""
    side, colour = len(rgb), np.empty(3)
    for smooth in range(2):
        for i in range(side):
            for j in range(side):
                if smooth and not _is_edge(keys, depth, i, j):
                    continue
                colour[:] = 0.0
                for n in range(4 if smooth else 1):
                    right, down = (0.25 + 0.5 * (n & 1), 0.25 + 0.5 * (n >> 1)) if smooth else (0.5, 0.5)
                    k, key, t = _trace(things, room, (j + right) / side, (i + down) / side, 1.0 / side, colour)
                for c in range(3):  # to 8 bits with a gamma of two
                    rgb[i, j, c] = np.uint8(min(sqrt(colour[c] * (0.25 if smooth else 1.0)), 1.0) * 255.0 + 0.5)
                if not smooth:
                    objects[i, j], depth[i, j], keys[i, j] = k, t, key


@kernel
def render(things, rooms, rgb, objects, depth):
    """Fill rgb (B, S, S, 3) uint8, objects (b, S, S) int8 (-1: none) and depth (b, S, S) float32.

    Objects and depth belong to the ray through the pixel's centre; where b < B, scenes take turns in them.
    """
    keys = np.empty(rgb.shape[1:3], np.int64)
    for b in range(len(rgb)):
        slot = b % len(depth)
        _picture(things[b], rooms[b], rgb[b], objects[slot], depth[slot], keys)
