"""Crop, resize and flip against torchvision v2 fed the same windows, and against written-out formulas."""

import numpy as np
import pytest
import torch
from oracle import CLOSE, IMPLEMENTATIONS, NO_STEPS, floats, pictures, window
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from whytransfer.views import eval_views
from whytransfer.views.geometry import follow_boxes, nearest
from whytransfer.views.parameters import Draw

in_both = pytest.mark.parametrize("render", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)

CROPS = [  # top, left, height, width, side of the view; of a picture of 97 x 131
    (10, 20, 60, 80, 32),  # smaller
    (0, 0, 97, 131, 224),  # larger
    (5, 7, 31, 90, 64),  # one side each
    (90, 3, 1, 128, 16),  # one row
    (40, 50, 1, 1, 8),  # one pixel
    (0, 0, 97, 131, 1),  # to one pixel
]


def view(render, picture, record, size_px, resampling="bilinear"):
    return render(picture, Draw(record, NO_STEPS, NO_STEPS, resampling), size_px)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("top", "left", "height", "width", "size_px"), CROPS)
@in_both
def test_crop_equals_torchvision(render, top, left, height, width, size_px, flip):
    picture = pictures((97, 131))[0]
    expected = F.resized_crop(floats(picture), top, left, height, width, [size_px, size_px], antialias=True)
    expected = F.horizontal_flip(expected) if flip else expected
    made = view(render, picture, window(top, left, height, width, size_px, size_px, flip=flip), size_px)
    torch.testing.assert_close(made, expected, **CLOSE)


@in_both
def test_a_large_picture_too(render):
    picture = pictures((375, 500))[0]
    expected = F.resized_crop(floats(picture), 30, 21, 340, 460, [224, 224], antialias=True)
    torch.testing.assert_close(view(render, picture, window(30, 21, 340, 460, 224, 224), 224), expected, **CLOSE)


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (64, 64), (30, 301), (40, 25)])
@pytest.mark.parametrize(("resize_px", "size_px"), [(64, 64), (73, 64), (37, 32)])
@in_both
def test_eval_views_equal_torchvision(render, size, resize_px, size_px):
    picture = pictures(size)[0]
    expected = F.center_crop(F.resize(floats(picture), [resize_px], antialias=True), [size_px, size_px])
    torch.testing.assert_close(eval_views([picture], size_px, resize_px)[0], expected, **CLOSE)
    _, high, wide = F.resize(floats(picture), [resize_px]).shape
    corner = {"grid_top": round((high - size_px) / 2), "grid_left": round((wide - size_px) / 2)}
    made = view(render, picture, window(0, 0, *size, high, wide, **corner), size_px)
    torch.testing.assert_close(made, expected, **CLOSE)


def keys(distance):
    """The cubic of [Keys 1981] with a = -1/2."""
    d = abs(distance)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def bicubic(line, n):
    """(H, ...) -> (n, ...): TensorFlow's half-pixel bicubic, taps beyond the border dropped, the others scaled up."""
    made = []
    for i in range(n):
        at = (i + 0.5) * len(line) / n - 0.5
        taps = [(j, keys(at - j)) for j in range(len(line))]
        made.append(sum(w * line[j] for j, w in taps) / sum(w for _, w in taps))
    return torch.stack(made)


@pytest.mark.parametrize(("height", "width", "size_px"), [(19, 23, 8), (7, 9, 20), (1, 30, 6)])
@in_both
def test_bicubic_equals_the_formula(render, height, width, size_px):
    picture = pictures((25, 31))[0]
    region = floats(picture)[:, 3 : 3 + height, 1 : 1 + width].double().permute(1, 2, 0)  # (h, w, 3)
    expected = bicubic(bicubic(region, size_px).transpose(0, 1), size_px).permute(2, 1, 0).clamp(0, 1)
    made = view(render, picture, window(3, 1, height, width, size_px, size_px), size_px, "bicubic")
    torch.testing.assert_close(made, expected.float(), **CLOSE)


@in_both
def test_bicubic_upsampling_equals_torchs_antialiased_one(render):
    # enlarging, there is nothing to antialias and both are Keys' cubic with a = -1/2
    picture = pictures((17, 21))[0]
    expected = F.resize(floats(picture), [40, 40], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    torch.testing.assert_close(view(render, picture, window(0, 0, 17, 21, 40, 40), 40, "bicubic"), expected, **CLOSE)


@in_both
def test_a_constant_picture_stays_constant_and_a_view_stays_within_its_picture(render):
    flat = np.full((50, 70, 3), 100, np.uint8)
    for resampling in ("bilinear", "bicubic"):
        made = view(render, flat, window(3, 4, 33, 51, 24, 24), 24, resampling)
        torch.testing.assert_close(made, torch.full_like(made, 100 / 255), **CLOSE)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("top", "left", "height", "width", "size_px"), CROPS)
def test_masks_equal_torchvision_bit_for_bit(top, left, height, width, size_px, flip):
    stack = torch.arange(2 * 97 * 131).reshape(2, 97, 131)
    expected = F.resized_crop(tv_tensors.Mask(stack), top, left, height, width, [size_px, size_px])
    expected = (F.horizontal_flip(expected) if flip else expected).as_subclass(torch.Tensor)
    record = window(top, left, height, width, size_px, size_px, flip=flip)[0]
    assert torch.equal(nearest(stack, record, size_px), expected)
    assert torch.equal(nearest(stack[0], record, size_px), expected[0])


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_equal_torchvision(flip):
    boxes = torch.tensor([[30.0, 20, 60, 50], [0, 0, 131, 97], [100, 80, 130, 96], [25, 15, 26, 90]])
    made = follow_boxes(boxes, window(10, 20, 60, 80, 32, 32, flip=flip)[0], 32)
    typed = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(97, 131))
    expected = F.resized_crop(typed, 10, 20, 60, 80, [32, 32])
    expected = F.horizontal_flip(expected) if flip else expected
    torch.testing.assert_close(made, expected.as_subclass(torch.Tensor), **CLOSE)


@pytest.mark.parametrize("flip", [False, True])
@in_both
def test_a_box_stays_around_its_mask_and_its_pixels(render, flip):
    box = torch.tensor([[40.0, 30.0, 90.0, 70.0]])
    picture = np.zeros((97, 131, 3), np.uint8)
    picture[30:70, 40:90] = 255
    mask = torch.from_numpy(picture[..., 0] > 0)
    record = window(12, 9, 77, 110, 40, 40, flip=flip)
    x0, y0, x1, y1 = follow_boxes(box, record[0], 40)[0]
    for seen in (nearest(mask, record[0], 40), view(render, picture, record, 40)[0] > 0.5):
        rows, columns = torch.where(seen.any(1))[0], torch.where(seen.any(0))[0]
        found = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (found - torch.stack([x0, y0, x1, y1])).abs().max() <= 1.0  # pixels of the view
