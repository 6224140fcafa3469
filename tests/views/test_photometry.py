"""Each colour step, in both implementations, against torchvision v2 or against a written-out formula."""

import colorsys

import numpy as np
import pytest
import torch
from oracle import CLOSE, IMPLEMENTATIONS, NO_STEPS, coloured, floats, pictures, step, window
from scipy.ndimage import correlate1d
from torchvision.transforms.v2 import functional as F

from whytransfer.views.parameters import STEP, Draw, Op
from whytransfer.views.photometry import apply_steps

pytestmark = pytest.mark.parametrize("render", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)


def every_kind_of_colour():
    """(40, 40, 3): noise, and grays, primaries, black, white and ties of two channels."""
    picture = pictures((40, 40))[0]
    values = np.array([0, 0, 0, 1, 127, 128, 254, 255], np.uint8)
    special = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(-1, 3)
    picture.reshape(-1, 3)[: len(special)] = special
    return picture


TORCHVISION = [
    (Op.BRIGHTNESS, F.adjust_brightness, (0.0, 0.6, 1.0, 1.4, 3.0)),
    (Op.CONTRAST, F.adjust_contrast, (0.0, 0.6, 1.0, 1.4, 3.0)),
    (Op.SATURATION, F.adjust_saturation, (0.0, 0.6, 1.0, 1.4, 3.0)),
    (Op.HUE, F.adjust_hue, (-0.5, -0.31, -0.1, 0.0, 0.05, 0.2, 0.5)),
    (Op.SOLARISE, F.solarize, (0.25, 0.5, 0.75)),
]


@pytest.mark.parametrize(("op", "oracle", "value"), [(op, f, v) for op, f, values in TORCHVISION for v in values])
def test_step_equals_torchvision(render, op, oracle, value):
    picture = every_kind_of_colour()
    torch.testing.assert_close(coloured(render, picture, step(op, value)), oracle(floats(picture), value), **CLOSE)


@pytest.mark.parametrize("turns", [-0.5, -0.31, -0.0371, 0.05, 0.1, 0.4, 1.3])
def test_hue_is_off_by_a_few_roundings_of_1(render, turns):
    """Against double precision (torchvision's hue is single precision whatever it is given, and off by 1e-6)."""
    picture, turns = pictures((150, 150))[0], float(np.float32(turns))
    expected = np.empty((150 * 150, 3))
    for k, (r, g, b) in enumerate(picture.reshape(-1, 3) / 255):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        expected[k] = colorsys.hsv_to_rgb((h + turns) % 1.0, s, v)
    expected = torch.from_numpy(expected.T.reshape(3, 150, 150))
    # absolute: a value is V - C drop, and the drop rounds like the hue, 1.2e-7 below 4 sixths of a turn and 2.4e-7
    # from there on, however small the value is; of 0.04 the bound is 1e-5
    torch.testing.assert_close(coloured(render, picture, step(Op.HUE, turns)).double(), expected, rtol=0, atol=5e-7)


def test_grayscale_equals_torchvision(render):
    picture = every_kind_of_colour()
    expected = F.rgb_to_grayscale(floats(picture), num_output_channels=3)
    torch.testing.assert_close(coloured(render, picture, step(Op.GRAYSCALE)), expected, **CLOSE)


@pytest.mark.parametrize(("sigma", "radius"), [(0.1, 1), (0.5, 2), (1.3, 4), (2.0, 6), (2.0, 11), (5.0, 39)])
def test_blur_equals_torchvision(render, sigma, radius):
    picture = every_kind_of_colour()
    expected = F.gaussian_blur(floats(picture), [2 * radius + 1] * 2, [sigma] * 2)
    torch.testing.assert_close(coloured(render, picture, step(Op.BLUR, sigma, radius)), expected, **CLOSE)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_blur_of_a_picture_smaller_than_its_kernel_mirrors_again_and_again(render, side):
    picture = pictures((side, side))[0]
    taps = torch.exp(-0.5 * (torch.arange(-6, 7) / 2.0) ** 2)
    expected = floats(picture).numpy()
    for axis in (1, 2):  # scipy's "mirror" is our border, for any extent
        expected = correlate1d(expected, (taps / taps.sum()).numpy(), axis=axis, mode="mirror")
    torch.testing.assert_close(coloured(render, picture, step(Op.BLUR, 2.0, 6)), torch.from_numpy(expected), **CLOSE)


def test_zero_blur_counts_zeros_beyond_the_border(render):
    picture = every_kind_of_colour()
    taps = torch.exp(-0.5 * (torch.arange(-4, 5) / 1.5) ** 2)
    expected = floats(picture).numpy()
    for axis in (1, 2):
        expected = correlate1d(expected, (taps / taps.sum()).numpy(), axis=axis, mode="constant")
    made = coloured(render, picture, step(Op.ZERO_BLUR, 1.5, 4))
    torch.testing.assert_close(made, torch.from_numpy(expected), **CLOSE)


@pytest.mark.parametrize("delta", [-0.4, 0.0, 0.3])
def test_detcons_brightness_is_additive(render, delta):
    picture = every_kind_of_colour()
    expected = (floats(picture) + delta).clamp(0, 1)
    torch.testing.assert_close(coloured(render, picture, step(Op.ADD_BRIGHTNESS, delta)), expected, **CLOSE)


@pytest.mark.parametrize("factor", [0.2, 0.6, 1.8])
def test_detcons_contrast_is_about_each_channels_mean(render, factor):
    picture = every_kind_of_colour()
    image = floats(picture).double()
    mean = image.mean(dim=(1, 2), keepdim=True)
    expected = (factor * (image - mean) + mean).clamp(0, 1).float()
    torch.testing.assert_close(coloured(render, picture, step(Op.CHANNEL_CONTRAST, factor)), expected, **CLOSE)


@pytest.mark.parametrize("factor", [0.0, 0.8, 1.2, 1.8])
def test_detcons_saturation_scales_s_of_hsv(render, factor):
    picture = every_kind_of_colour()
    expected = np.empty((40 * 40, 3))
    for k, (r, g, b) in enumerate(picture.reshape(-1, 3) / 255):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        expected[k] = colorsys.hsv_to_rgb(h, min(s * factor, 1.0), v)
    expected = torch.from_numpy(expected.T.reshape(3, 40, 40)).float()
    torch.testing.assert_close(coloured(render, picture, step(Op.HSV_SATURATION, factor)), expected, **CLOSE)


def test_steps_are_applied_in_the_order_given(render):
    picture = every_kind_of_colour()
    brighten, contrast = (Op.BRIGHTNESS, F.adjust_brightness, 1.3), (Op.CONTRAST, F.adjust_contrast, 1.4)
    order = [contrast, (Op.HUE, F.adjust_hue, 0.1), brighten]
    results = []
    for sequence in (order, order[::-1]):
        expected = floats(picture)
        for _, oracle, value in sequence:
            expected = oracle(expected, value)
        results.append(coloured(render, picture, *(step(op, value) for op, _, value in sequence)))
        torch.testing.assert_close(results[-1], expected, **CLOSE)
    assert (results[0] - results[1]).abs().max() > 0.05


def test_colours_before_the_resize_act_on_the_whole_picture(render):
    picture = pictures((50, 80))[0]
    record = window(5, 10, 40, 60, 16, 16)
    blurred = F.gaussian_blur(F.adjust_contrast(floats(picture), 1.4), [13, 13], [2.0, 2.0])
    expected = F.resized_crop(blurred, 5, 10, 40, 60, [16, 16], antialias=True)
    steps = np.hstack([step(Op.CONTRAST, 1.4), step(Op.BLUR, 2.0, 6)])
    first = render(picture, Draw(record, steps, NO_STEPS), 16)
    torch.testing.assert_close(first, expected, **CLOSE)
    assert (first - render(picture, Draw(record, NO_STEPS, steps), 16)).abs().max() > 0.05


def test_a_batch_of_different_steps_equals_single_images(render):
    rng = np.random.default_rng(1)
    shown = pictures(*[(24, 24)] * 12)
    images = torch.stack([floats(p) for p in shown])
    steps = np.zeros((12, 3), STEP)
    steps["op"] = rng.integers(0, len(Op), (12, 3))
    steps["value"] = rng.uniform(0.1, 0.5, (12, 3))
    steps["radius_px"] = rng.integers(1, 6, (12, 3))
    single = torch.cat([apply_steps(images[i : i + 1], steps[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(apply_steps(images, steps), single, **CLOSE)
    each = torch.stack([coloured(render, p, row[None]) for p, row in zip(shown, steps, strict=True)])
    torch.testing.assert_close(each, single, **CLOSE)
