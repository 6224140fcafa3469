"""Crops for dense tasks: torchvision's resizing, places as mmsegmentation draws them, colours by their formulas."""

import colorsys

import numpy as np
import pytest
import torch
from dense_toys import Blocks
from torchvision.transforms.v2 import functional as tv

from whytransfer.tasks import dense_views
from whytransfer.tasks.dense_views import (
    Window,
    balanced_window,
    centre_window,
    covering,
    draws,
    image_through,
    map_through,
    random_window,
    room_colours,
    street_colours,
    whole,
    whole_images,
)

GRAY = (0.5, 0.25, 0.125)


def picture(size=(21, 30), seed=0):
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("grid", [(10, 15), (21, 30), (21, 47), (40, 60), (13, 60)])
@pytest.mark.parametrize("flip", [False, True])
def test_an_image_and_its_map_go_through_a_window_as_through_torchvision(grid, flip):
    image, size = picture(), (8, 9)
    window = Window(grid, 2, 5, size, flip)
    resized = tv.resize_image(image.float() / 255, list(grid), antialias=True)[:, 2:10, 5:14]
    expected = resized.flip(2) if flip else resized
    torch.testing.assert_close(image_through(image, window, GRAY), expected, rtol=0, atol=2e-6)
    values = picture(seed=1)[0].numpy()
    nearest = tv.resize_mask(torch.from_numpy(values)[None], list(grid))[0, 2:10, 5:14]
    found = map_through(values, window, np.uint8(255))
    assert np.array_equal(found, nearest.flip(1) if flip else nearest) and found.dtype == np.uint8


def test_what_lies_outside_the_image_is_filled():
    image, window = picture((4, 6)), Window((4, 6), 1, 0, (5, 8), True)
    made, values = (
        image_through(image, window, GRAY),
        map_through(np.ones((4, 6), np.float32), window, np.float32("nan")),
    )
    torch.testing.assert_close(made[:, :3, 2:], (image[:, 1:] / 255).flip(2))
    assert (made[:, 3:] == torch.tensor(GRAY)[:, None, None]).all() and (made[:, :, :2] == made[:, 3:4, :1]).all()
    assert np.isnan(values[3:]).all() and np.isnan(values[:, :2]).all() and (values[:3, 2:] == 1).all()


def test_windows_are_functions_of_seed_epoch_and_image():
    draw = lambda seed, epoch, i: random_window((100, 200), (32, 64), (0.5, 2.0), seed, epoch, i)  # noqa: E731
    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0)}) == 4
    windows = [draw(0, 0, i) for i in range(2000)]
    scales = np.array([w.grid[0] / 100 for w in windows])
    assert 0.5 <= scales.min() < 0.52 and 1.98 < scales.max() <= 2 and abs(scales.mean() - 1.25) < 0.03
    assert all(0 <= w.top <= w.grid[0] - 32 and 0 <= w.left <= w.grid[1] - 64 for w in windows)
    places = np.array([w.left / (w.grid[1] - 64) for w in windows if w.grid[1] > 70])
    assert abs(places.mean() - 0.5) < 0.03 and abs(np.mean([w.flip for w in windows]) - 0.5) < 0.04
    small = random_window((20, 30), (32, 64), (0.5, 0.5), 0, 0, 0)
    assert small[:4] == ((10, 15), 0, 0, (32, 64))


def test_a_crop_of_one_class_is_drawn_again():
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 1
    shares = []
    for i in range(300):
        window = balanced_window(labels, random_window((40, 40), (10, 10), (1, 1), 0, 0, i), 0.75, 255, 0, 0, i)
        crop = map_through(labels, window, np.uint8(255))
        shares.append(max((crop == 0).mean(), (crop == 1).mean()))
    # a place is right with p = 5/31 (of 31 columns, 11 to 20 show both, 13 to 17 with at most 70 %): 1 - (26/31)^11
    assert 0.75 < np.mean(np.array(shares) < 0.75) < 0.93
    assert np.mean([0.75 > np.mean(labels[:, x : x + 10]) > 0.25 for x in range(31)]) == 5 / 31


def test_pixels_of_no_class_do_not_count_and_the_last_place_is_kept():
    void = np.full((20, 20), 255, np.uint8)
    void[:, :2], void[:, 2:4] = 3, 4
    start = Window((20, 20), 0, 0, (20, 20))
    assert balanced_window(void, start, 0.75, 255, 0, 0, 0) == start  # half of what has a class is 3
    one = np.zeros((20, 20), np.uint8)
    first = random_window((20, 20), (4, 4), (1, 1), 5, 0, 7)
    places = draws(5, np.array([0]), np.array([7]), dense_views.PLACES, 20).reshape(10, 2)
    last = balanced_window(one, first, 0.75, 255, 5, 0, 7)
    assert (last.top, last.left) == tuple(int(17 * u) for u in places[-1])


def test_the_middle_of_an_image():
    assert centre_window((480, 640), (228, 304), (240, 320)) == Window((240, 320), 6, 8, (228, 304))
    assert centre_window((240, 320), (228, 304), (240, 320)) == Window((240, 320), 6, 8, (228, 304))
    assert covering((100, 300), (240, 320)) == (240, 720) and covering((300, 100), (240, 320)) == (960, 320)
    image = picture((24, 32))
    torch.testing.assert_close(image_through(image, whole((24, 32)), GRAY), image / 255)


def hsv(pixel, saturation=1.0, turns=0.0):
    h, s, v = colorsys.rgb_to_hsv(*pixel)
    return np.array(colorsys.hsv_to_rgb((h + turns) % 1, min(1, s * saturation), v))


def test_colours_of_streets_by_their_formulas():
    images = torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    index, epochs = np.arange(40) * 7, np.arange(40) % 3
    u = draws(9, epochs, index, dense_views.COLOURS, 9)
    made = street_colours(images, 9, epochs, index)
    for b in range(40):
        for y in range(2):
            for x in range(2):
                pixel = images[b, :, y, x].double().numpy()
                contrast = (lambda p, b=b: np.clip(p * (0.5 + u[b, 5]), 0, 1)) if u[b, 1] < 0.5 else lambda p: p
                if u[b, 0] < 0.5:
                    pixel = np.clip(pixel + (2 * u[b, 4] - 1) * 32 / 255, 0, 1)
                if u[b, 8] < 0.5:
                    pixel = contrast(pixel)
                if u[b, 2] < 0.5:
                    pixel = hsv(pixel, saturation=0.5 + u[b, 6])
                if u[b, 3] < 0.5:
                    pixel = hsv(pixel, turns=(2 * u[b, 7] - 1) * 0.1)
                if u[b, 8] >= 0.5:
                    pixel = contrast(pixel)
                np.testing.assert_allclose(made[b, :, y, x], pixel, atol=3e-6)
    torch.testing.assert_close(street_colours(images[5:6], 9, epochs[5:6], index[5:6]), made[5:6])


def test_colours_of_rooms_by_their_formulas():
    images = torch.rand(40, 3, 1, 2, generator=torch.Generator().manual_seed(1))
    index, epochs = np.arange(40), np.zeros(40, dtype=int)
    u, made = draws(2, epochs, index, dense_views.COLOURS, 4), room_colours(images, 2, epochs, index)
    grey = 0
    for b in range(40):
        for x in range(2):
            pixel = images[b, :, 0, x].double().numpy()
            if u[b, 0] < 0.3:
                pixel, grey = np.repeat(pixel @ [0.2989, 0.587, 0.114], 3), grey + 1
            pixel = np.clip(pixel + (2 * u[b, 1] - 1) * 0.1255, 0, 1)
            pixel = hsv(hsv(pixel, saturation=0.5 + u[b, 2]), turns=(2 * u[b, 3] - 1) * 0.2)
            np.testing.assert_allclose(made[b, :, 0, x], pixel, atol=3e-6)
    assert 10 < grey < 40


def test_whole_images_go_in_groups_of_one_size():
    images = Blocks(8, sizes_differ=True)
    groups = list(whole_images(images, 4))
    assert [len(g) for g in groups] == [2, 1, 2, 1, 2] and [s.name for g in groups for s in g] == [
        f"{i:03d}" for i in range(8)
    ]
    assert [len(g) for g in whole_images(Blocks(5), 4, pixels=2 * 48 * 64)] == [2, 2, 1]
    assert [len(g) for g in whole_images(Blocks(5), 4, pixels=1)] == [1] * 5
    assert [len(g) for g in whole_images(Blocks(5), 3)] == [3, 2]
