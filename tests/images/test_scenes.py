"""Generated scenes against closed forms and a slow ray marcher that knows only what is inside a primitive."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.images import scene_layout as layouts
from whytransfer.images import scene_render as r
from whytransfer.images.scenes import Scenes
from whytransfer.records import ImageSet

S = 64


def draw(scene: layouts.Layout, size_px: int = S) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (B, S, S, 3), objects and depth (B, S, S) of a layout."""
    one = (len(scene.objects), size_px, size_px)
    rgb, objects, depth = np.empty((*one, 3), np.uint8), np.empty(one, np.int8), np.empty(one, np.float32)
    r.render(scene.objects, scene.rooms, rgb, objects, depth)
    return rgb, objects, depth


def alone(shape: int, position: tuple[float, float, float], degrees: tuple[float, float, float]) -> layouts.Layout:
    """One object of a shape, in the room of scene 0."""
    scene = layouts.layout(0, np.array([0]))
    things = scene.objects[:, :1]
    things[0, 0, [r.SHAPE, r.SCALE]] = shape, 1.0
    things[0, 0, r.AT : r.AT + 3] = position
    things[0, 0, r.TURN : r.TURN + 9] = layouts.rotations(np.array(degrees)).reshape(-1)
    things[0, 0, r.EXTENT : r.EXTENT + 4] = layouts.extent(np.array(position), np.array(1.0))
    things[0, 0, r.SPOT :] = layouts.TABLE[shape]
    return layouts.Layout(things, scene.rooms)


def sphere(position: tuple[float, float, float], radius: float) -> layouts.Layout:
    scene = alone(0, position, (0.0, 0.0, 0.0))
    scene.objects[0, 0, r.PARTS : r.PARTS + 8] = r.ELLIPSOID, 0, 0, 0, 0, radius, radius, radius
    return scene


# Slow and independent: is a point inside? Coordinates turned so that the primitive's axis comes first.
INSIDE = {
    r.ELLIPSOID: lambda p, a, b, c: ((p / [a, b, c]) ** 2).sum(-1) <= 1,
    r.BOX: lambda p, a, b, c: (np.abs(p) <= [a, b, c]).all(-1),
    r.FRUSTUM: lambda p, low, high, half: (
        (np.abs(p[..., 0]) <= half)
        & (np.hypot(p[..., 1], p[..., 2]) <= low + (high - low) * (p[..., 0] + half) / (2 * half))
    ),
    r.TORUS: lambda p, ring, tube, _: np.hypot(np.hypot(p[..., 1], p[..., 2]) - ring, p[..., 0]) <= tube,
    r.PRISM: lambda p, radius, half, _: (
        (np.abs(p[..., 0]) <= half)
        & (p[..., 2] >= -radius / 2)
        & (p[..., 2] + np.sqrt(3) * np.abs(p[..., 1]) <= radius)
    ),
}


def inside(thing: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether world points (..., 3) are inside an object (columns,)."""
    own = (points - thing[r.AT : r.AT + 3]) @ thing[r.TURN : r.TURN + 9].reshape(3, 3) / thing[r.SCALE]
    hit = np.zeros(points.shape[:-1], dtype=bool)
    for kind, axis, x, y, z, *sizes in thing[r.PARTS :].reshape(-1, 8):
        if kind >= 0:
            hit |= INSIDE[int(kind)](np.roll(own - [x, y, z], -int(axis), axis=-1), *sizes)
    return hit


def march(things: np.ndarray, side: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Objects and depths (side, side) found by walking along every pixel's ray."""
    v, u = (np.indices((side, side)) + 0.5) / side
    t = np.arange(2.5, 9.5, step)
    rays = np.stack([(u - 0.5) / r.FOCAL, (r.HORIZON - v) / r.FOCAL, np.ones_like(u)], axis=-1)
    points = rays[:, :, None] * t[:, None] + [0, r.CAMERA_HEIGHT, 0]
    found, depth = np.full((side, side), -1), np.full((side, side), np.inf)
    for k, thing in enumerate(things):
        if thing[r.SHAPE] >= 0:
            hit = inside(thing, points)
            first = np.where(hit.any(-1), t[hit.argmax(-1)], np.inf)
            found, depth = np.where(first < depth, k, found), np.minimum(first, depth)
    return found, depth


@pytest.mark.parametrize("shape", range(len(layouts.CLASSES)), ids=layouts.CLASSES)
def test_every_shape_agrees_with_a_ray_marcher(shape):
    step, side = 0.004, 24
    chosen = np.flatnonzero(Scenes(200, seed=5).labels == shape)[:2]
    scene = layouts.layout(5, chosen)
    _, objects, depth = draw(scene, side)
    for b in range(len(chosen)):
        found, marched = march(scene.objects[b], side, step)
        same = found == objects[b]
        assert (found == 0).sum() > 15
        assert same.mean() > 0.99, "only rays that graze an edge may differ"
        both = same & (found >= 0)
        gap = marched[both] - depth[b][both]  # the walker stops up to one step behind the surface
        assert np.mean((gap > -1e-5) & (gap < step + 1e-5)) > 0.99


@pytest.mark.parametrize("position", [(0.0, 2.0, 6.0), (0.7, 1.2, 4.8), (-0.6, 2.2, 6.4)])
def test_sphere_projects_to_the_ellipse_of_the_closed_form(position):
    radius, side = 0.8, 256
    _, objects, depth = draw(sphere(position, radius), side)
    mask = objects[0] == 0
    x, y, z = position
    off = r.CAMERA_HEIGHT - y
    slope = z / (z * z - radius * radius)  # the ellipse's middle in the plane z = 1, per unit of x and off
    distance2 = x * x + off * off + z * z
    area = np.pi * radius**2 * np.sqrt(distance2 - radius**2) / (z * z - radius**2) ** 1.5 * (r.FOCAL * side) ** 2
    rows, columns = np.nonzero(mask)
    assert mask.sum() == pytest.approx(area, rel=0.005)
    assert columns.mean() + 0.5 == pytest.approx(side * (0.5 + r.FOCAL * x * slope), abs=0.2)
    assert rows.mean() + 0.5 == pytest.approx(side * (r.HORIZON + r.FOCAL * off * slope), abs=0.2)
    assert depth[0][mask].min() == pytest.approx(z - radius, abs=1e-3)
    rays = np.stack([(columns + 0.5) / side - 0.5, r.HORIZON - (rows + 0.5) / side], axis=-1) / r.FOCAL
    points = np.concatenate([rays, np.ones((len(rays), 1))], axis=-1) * depth[0][mask][:, None].astype(float)
    distance = np.linalg.norm(points - [x, y - r.CAMERA_HEIGHT, z], axis=-1)
    np.testing.assert_allclose(distance, radius, atol=2e-5)


def test_background_depth_is_the_floor_or_the_wall():
    scene = layouts.layout(0, np.arange(3))
    scene.objects[..., r.SHAPE] = -1
    _, objects, depth = draw(scene)
    v = (np.arange(S) + 0.5) / S
    with np.errstate(divide="ignore"):
        floor = np.where(v > r.HORIZON, r.FOCAL * r.CAMERA_HEIGHT / (v - r.HORIZON), np.inf)
    expected = np.broadcast_to(np.minimum(floor, r.WALL_Z)[:, None], (S, S))
    for b in range(3):
        np.testing.assert_allclose(depth[b], expected, rtol=1e-6)
    assert (objects == -1).all()


@pytest.mark.parametrize("axis, image_axis, sign", [(0, 1, 1), (1, 0, -1)])
def test_moving_the_object_moves_its_mask(axis, image_axis, sign):
    middles = []
    for shift in (0.0, 0.3):
        position = np.array([0.0, 1.6, 5.5])
        position[axis] += shift
        _, objects, _ = draw(alone(1, tuple(position), (20.0, 10.0, 15.0)))
        middles.append(np.mean(np.nonzero(objects[0] == 0), axis=1)[image_axis])
    assert middles[1] - middles[0] == pytest.approx(sign * 0.3 * r.FOCAL * S / 5.5, rel=0.1)


def test_roll_turns_the_picture_and_azimuth_the_front():
    corner = layouts.CLASSES.index("corner")
    middle = (0.0, r.CAMERA_HEIGHT, 5.5)  # seen straight on
    for degrees, expected in (((0, 0, 90), (-1, 0)), ((0, 0, -90), (1, 0)), ((0, 0, 0), (0, -1))):
        points = layouts.keypoints(alone(corner, middle, degrees))[0, 0]
        top = layouts.project(points)[1] - layouts.project(np.array(middle))
        assert np.sign(np.round(top, 1)).tolist()[np.argmax(np.abs(expected))] == sum(expected)
    cylinder = layouts.CLASSES.index("cylinder")
    spots = [layouts.keypoints(alone(cylinder, middle, (a, 0, 0)))[0, 0, 0] for a in (-40, 40)]
    assert spots[0][0] == pytest.approx(-spots[1][0]) and abs(spots[0][0]) == pytest.approx(
        0.5 * np.sin(np.radians(40))
    )


def test_rotations_are_rotations():
    turn = layouts.rotations(np.random.default_rng(0).uniform(-60, 60, (20, 3)))
    np.testing.assert_allclose(turn @ turn.swapaxes(1, 2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turn), 1.0)


def test_shapes_fit_the_unit_sphere_and_keypoints_lie_on_them():
    generator = np.random.default_rng(0)
    shell = generator.normal(size=(4000, 3))
    shell /= np.linalg.norm(shell, axis=1, keepdims=True)
    for c, name in enumerate(layouts.CLASSES):
        thing = alone(c, (0.0, 0.0, 5.0), (0.0, 0.0, 0.0)).objects[0, 0]
        thing[r.AT : r.AT + 3] = 0.0
        assert not inside(thing, 1.0001 * shell).any(), name
        near = layouts.KEYPOINTS[c][:, None] + 0.01 * shell  # a small ball around each keypoint
        share = inside(thing, near).mean(axis=1)
        assert ((share > 0.005) & (share < 0.995)).all(), (name, share)


def test_bit_equal_in_any_batch_order_thread_count_and_set_size():
    scenes = Scenes(90, seed=3, size_px=32)
    images = scenes.render_many(np.arange(90), threads=1)
    assert images.shape == (90, 32, 32, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, scenes.render_many(range(90), threads=3))
    np.testing.assert_array_equal(images[::-1], scenes.render_many(np.arange(90)[::-1]))
    larger = Scenes(100_000, seed=3, size_px=32)
    np.testing.assert_array_equal(images[[7, 7, 41]], larger.render_many([7, 7, 41]))
    np.testing.assert_array_equal(images[41].transpose(2, 0, 1), pickle.loads(pickle.dumps(scenes))[41].image)
    np.testing.assert_array_equal(scenes.labels, larger.labels[:90])
    np.testing.assert_array_equal(scenes.factor_table()[:90], larger.factor_table()[:90])
    assert (images != Scenes(90, seed=4, size_px=32).render_many(range(90))).any()
    assert len({image.tobytes() for image in images}) == 90


@pytest.mark.parametrize("size_px", [16, 64, 130])
def test_annotations_agree_with_each_other(size_px):
    scenes = Scenes(40, seed=1, size_px=size_px)
    table = scenes.factor_table()
    for i in range(40):
        sample = scenes[i]
        count = len(sample.masks)
        assert 1 <= count <= layouts.OBJECTS and sample.masks.dtype == torch.bool
        assert sample.masks.sum(0).max() <= 1 and sample.masks.flatten(1).any(1).all()
        for mask, box in zip(sample.masks.numpy(), sample.boxes.tolist(), strict=True):
            rows, columns = np.nonzero(mask)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert sample.label == scenes.labels[i] == sample.box_labels[0]
        assert sample.depth.dtype == torch.float32 and sample.depth.shape == (size_px, size_px)
        assert torch.isfinite(sample.depth).all() and sample.depth.min() > 1.0 and sample.depth.max() <= r.WALL_Z
        assert sample.keypoints.shape == (count, layouts.KEYPOINTS.shape[1], 2)
        assert list(sample.factors.values()) == table[i].tolist()
        assert tuple(sample.factors) == scenes.factor_names


def test_visible_keypoints_are_on_the_object_and_hidden_ones_behind_something():
    scenes = Scenes(60, seed=2, size_px=128)
    shown = []
    for i in range(60):
        sample, visible = scenes[i], scenes.keypoints_visible(i)
        assert visible.shape == sample.keypoints.shape[:2]
        shown.append(visible[0])
        for mask, points, seen in zip(sample.masks.numpy(), sample.keypoints.numpy(), visible, strict=True):
            ys, xs = np.nonzero(mask)
            for x, y in points[seen]:
                assert np.hypot(xs + 0.5 - x, ys + 0.5 - y).min() < 2.5
    rate = np.mean(shown, axis=0)
    assert rate[0] > 0.9, "the white spot faces the camera"
    assert (rate[1:] < 0.8).all() and (rate[1:] > 0.2).all()


def test_factors_are_uniform_and_independent_of_each_other_and_of_the_class():
    scenes = Scenes(20_000, seed=0)
    table = scenes.factor_table()
    low, high = np.array(list(layouts.RANGES.values())).T
    assert table.shape == (20_000, len(scenes.factor_names)) and table.dtype == np.float64
    unit = (table - low) / (high - low)
    assert unit.min() >= 0 and unit.max() < 1
    np.testing.assert_allclose(unit.mean(0), 0.5, atol=0.012)
    np.testing.assert_allclose(unit.std(0), np.sqrt(1 / 12), atol=0.008)
    assert np.abs(np.corrcoef(unit.T) - np.eye(unit.shape[1])).max() < 0.035
    counts = np.bincount(scenes.labels, minlength=len(scenes.classes))
    np.testing.assert_allclose(counts, 2000, atol=5 * np.sqrt(2000))
    for c in range(len(scenes.classes)):
        np.testing.assert_allclose(unit[scenes.labels == c].mean(0), 0.5, atol=0.033)


def painter_hue(linear: np.ndarray) -> np.ndarray:
    """(N, 3) linear colours -> our hue, by way of HSV."""
    rgb = np.sqrt(linear)
    high, low = rgb.max(1), rgb.min(1)
    red, green, blue = ((high - c) / (high - low) for c in rgb.T)
    sixth = np.select([rgb[:, 0] == high, rgb[:, 1] == high], [blue - green, 2 + red - blue], 4 + green - red)
    turn = sixth / 6 % 1
    return np.interp(np.where(turn > 0.9, turn - 1, turn), layouts.WHEEL, np.linspace(0, 1, len(layouts.WHEEL)))


def test_hues_can_be_read_from_the_mean_colours():
    scenes = Scenes(300, seed=7)
    scene = layouts.layout(7, np.arange(300))
    rgb, objects, _ = draw(scene)
    linear = (rgb / 255.0) ** 2
    names = list(scenes.factor_names)
    cases = [("background_hue", -1, 0.0, 0.95), ("object_hue", 0, 0.0, 0.8), ("object_hue", 0, 0.5, 0.95)]
    for name, which, quantile, least in cases:  # the mean of all pixels, or without the white paint
        colour = []
        for image, mask in zip(linear, objects == which, strict=True):
            saturation = 1 - image[mask].min(1) / image[mask].max(1).clip(1e-6)
            colour.append(image[mask][saturation >= np.quantile(saturation, quantile)].mean(0))
        truth = scenes.factor_table()[:, names.index(name)]
        assert np.corrcoef(painter_hue(np.array(colour)), truth)[0, 1] > least


def test_light_angle_moves_the_brightness():
    """Two rooms that differ in the light's side only: the object's lit side changes sides."""
    scene = sphere((0.0, 1.8, 5.5), 0.9)
    scene.objects[0, 0, r.TEXTURE] = r.PLAIN
    scene.objects[0, 0, r.SPOT + 3] = 0.0
    left_minus_right = []
    for x in (-0.7, 0.7):
        scene.rooms[0, r.LIGHT : r.LIGHT + 3] = x, 0.5, -np.sqrt(1 - x * x - 0.25)
        rgb, objects, _ = draw(scene)
        mask, grey = objects[0] == 0, rgb[0].mean(-1)
        left_minus_right.append(
            grey[:, : S // 2][mask[:, : S // 2]].mean() - grey[:, S // 2 :][mask[:, S // 2 :]].mean()
        )
    assert left_minus_right[0] - left_minus_right[1] > 40, "whatever the paint: its right half is dark"


def test_fingerprint_and_contract():
    scenes = Scenes(12, seed=1, size_px=32)
    assert isinstance(scenes, ImageSet) and len(scenes) == 12 and scenes.name == "scenes:12:1:32"
    assert scenes.fingerprint() == Scenes(12, seed=1, size_px=32).fingerprint()
    others = [Scenes(13, 1, 32), Scenes(12, 2, 32), Scenes(12, 1, 48)]
    assert len({scenes.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert len(scenes.classes) >= 8 and scenes.labels.dtype == np.int64
    assert len(list(scenes)) == 12, "iteration ends with IndexError"


def test_errors_say_what_was_asked():
    with pytest.raises(InputError, match="at least 1, got 0"):
        Scenes(0)
    for size_px in (15, 513):
        with pytest.raises(InputError, match=f"16 to 512 pixels, got {size_px}"):
            Scenes(3, size_px=size_px)
    with pytest.raises(IndexError, match=r"3\.\.3 is outside 0\.\.2"):
        Scenes(3)[3]
    assert Scenes(3).render_many([]).shape == (0, 64, 64, 3)


def test_rendering_is_fast():
    scenes = Scenes(256)
    scenes.render_many([0], threads=1)
    scene = layouts.layout(0, np.arange(256))
    start = time.thread_time()
    draw(scene)
    assert 256 / (time.thread_time() - start) > 250, "images per second of one core; benchmarks/scenes.py asks for more"
