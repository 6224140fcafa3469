"""Every synthetic transform against torchvision on PIL images, in both modes; the deformation against OpenCV."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from whytransfer.diagnosis import grids, transforms, warps
from whytransfer.errors import InputError

SIZE = 56  # of the view: the square is 64, lengths a quarter of the published ones
SCALE = SIZE / 224
NEAREST = ("rotation", "translation", "scale", "shear", "h_flip", "v_flip")
EXACT = ("posterize", "invert", "equalize", *NEAREST)


def picture(height=70, width=90, seed=0):
    """Smooth colours with some noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int64)
    return (smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)


def oracle(name, image, row, mode):
    """A PIL image after one transform, as the published code calls torchvision; lengths in pixels of the image."""
    stray = [float(mode == "paper"), 0.0]
    affine = lambda **given: tv.affine(image, **({"angle": 0, "translate": [0, 0], "scale": 1, "shear": stray} | given))  # noqa: E731
    length = 1 if mode == "paper" else SCALE
    taps = 1 + SIZE // 20 * 2
    switched = {
        "h_flip": tv.hflip,
        "v_flip": tv.vflip,
        "grayscale": lambda im: tv.rgb_to_grayscale(im, 3),
        "invert": tv.invert,
        "equalize": tv.equalize,
    }
    if name in switched:
        return switched[name](image) if row[0] else image
    return {
        "rotation": lambda: tv.rotate(image, row[0]),
        "translation": lambda: affine(translate=[length * t for t in row]),
        "scale": lambda: affine(scale=row[0]),
        "shear": lambda: affine(shear=list(row)),
        "resized_crop": lambda: tv.resized_crop(image, *(length * edge for edge in row), [SIZE, SIZE]),
        "brightness": lambda: tv.adjust_brightness(image, row[0]),
        "contrast": lambda: tv.adjust_contrast(image, row[0]),
        "saturation": lambda: tv.adjust_saturation(image, row[0]),
        "hue": lambda: tv.adjust_hue(image, row[0]),
        "sharpness": lambda: tv.adjust_sharpness(image, row[0]),
        "posterize": lambda: tv.posterize(image, int(row[0])),
        "blur": lambda: tv.gaussian_blur(image, [taps, taps], [max(length * row[0], 1e-5)] * 2),
    }[name]()


def levels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@pytest.mark.parametrize("mode", ["corrected", "paper"])
@pytest.mark.parametrize("name", [n for n in grids.NAMES if n != "deform"])
def test_each_transform_is_torchvisions(name, mode):
    values = grids.grid(name, mode)
    values = values[3::40] if len(values) > 99 else values  # at 3, 43, ... no scale has a source between two pixels
    images = transforms.pictures_of([picture()], SIZE, mode, "cpu")
    views = transforms.transformed(name, images, values, SIZE, mode)
    assert views.shape == (1, len(values), 3, SIZE, SIZE) and views.dtype == torch.float32
    source = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    for row, view in zip(values, views[0], strict=True):
        expected = oracle(name, source, row.tolist(), mode)
        if mode == "paper" and name != "resized_crop":
            expected = tv.resize(expected, 64)
        off = (255 * view - levels(tv.center_crop(expected, [SIZE, SIZE]))).abs()
        if name in NEAREST:  # a source on the edge of two pixels may fall to either
            assert float((off > 1.01).float().mean()) < 0.004, row
        elif name == "hue":  # PIL rounds hue and saturation to 8 bits
            assert float(off.max()) < 16 and float(off.mean()) < 1.5, row
        else:
            assert float(off.max()) < (0.01 if name in EXACT and mode == "corrected" else 2.01), row


def test_hue_is_turned_exactly():
    images, values = transforms.pictures_of([picture()], SIZE, "corrected", "cpu"), grids.grid("hue", most=7)
    views = transforms.transformed("hue", images, values, SIZE, "corrected")[0]
    clean = transforms.clean(images, SIZE, "corrected")[0]
    for (turns,), view in zip(values, views, strict=True):
        torch.testing.assert_close(view, tv.adjust_hue(clean, turns), rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["corrected", "paper"])
def test_a_batch_is_its_rows(mode):
    pixels = [picture(seed=k) for k in range(3)]
    images = transforms.pictures_of(pixels, SIZE, mode, "cpu")
    for name in grids.NAMES:
        values = grids.grid(name, mode, most=3)[:3]
        whole = transforms.transformed(name, images, values, SIZE, mode, seed=5)
        one = transforms.transformed(name, images[2:], values[-1:], SIZE, mode, seed=5)
        torch.testing.assert_close(whole[2:, -1:], one, rtol=0, atol=1e-4)


def test_values_that_change_nothing_leave_the_clean_view():
    images = transforms.pictures_of([picture()], SIZE, "corrected", "cpu")
    clean = transforms.clean(images, SIZE, "corrected")
    for name, unchanged in grids.NO_CHANGE.items():
        view = transforms.transformed(name, images, np.array([unchanged], dtype=float), SIZE, "corrected")[:, 0]
        torch.testing.assert_close(view, clean, rtol=0, atol=2e-6 if name in ("hue", "blur") else 0)
        grid = grids.grid(name)
        assert not (grid == np.array(unchanged)).all(1).any()


def test_the_clean_view_is_resize_and_centre_crop():
    expected = levels(tv.center_crop(tv.resize(Image.fromarray(picture()), 64), [SIZE, SIZE]))
    for mode in ("corrected", "paper"):
        images = transforms.pictures_of([picture()], SIZE, mode, "cpu")
        assert float((255 * transforms.clean(images, SIZE, mode)[0] - expected).abs().max()) < 1.01


def test_a_deformation_is_albumentations_up_to_one_interpolation():
    cv2 = pytest.importorskip("cv2")
    image, smoothness, number = picture(64, 64), 21.0, 11
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    whole = warps.Window(0, 0, 64, 64)
    ours = warps.deformed(images, np.array([[smoothness, number]]), 1.0, 3, whole)[0, 0]
    rng = np.random.default_rng([3, number])
    centre, arm = np.float32((64, 64)) // 2, 64 // 3
    points = np.float32([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm])
    matrix = cv2.getAffineTransform(points, points + rng.uniform(-50, 50, points.shape).astype(np.float32))
    noise = rng.random((2, 64, 64), dtype=np.float32) * 2 - 1
    dx, dy = (cv2.GaussianBlur(field, (17, 17), smoothness) for field in noise)
    mirrored = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    warped = cv2.warpAffine(image, matrix, (64, 64), **mirrored)
    x, y = np.meshgrid(np.arange(64, dtype=np.float32), np.arange(64, dtype=np.float32))
    expected = cv2.remap(warped, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    off = (ours - levels(expected)).abs()
    assert float(off.mean()) < 3 and float((off > 20).float().mean()) < 0.02
    assert float((levels(image) - levels(expected)).abs().mean()) > 20  # it does something


def test_deformations_are_a_function_of_seed_and_number():
    images = transforms.pictures_of([picture()], SIZE, "corrected", "cpu")
    make = lambda seed, rows: transforms.transformed("deform", images, rows, SIZE, "corrected", seed)  # noqa: E731
    rows = grids.grid("deform", most=4)
    assert torch.equal(make(1, rows)[:, 2:], make(1, rows[2:]))
    assert not torch.equal(make(1, rows), make(2, rows))


def test_the_grids_are_the_published_ones():
    lengths = {name: len(grids.grid(name, "paper")) for name in grids.NAMES}
    assert len(lengths) == 18
    assert {name for name, n in lengths.items() if n == 2} == set(grids.SWITCHED) and lengths["posterize"] == 7
    assert {n for name, n in lengths.items() if name not in (*grids.SWITCHED, "posterize")} == {256}
    paper = {name: grids.grid(name, "paper") for name in grids.NAMES}
    assert paper["rotation"][:3, 0].tolist() == [0, 1.40625, 2.8125]
    assert paper["translation"][:2].tolist() == [[-16, -16], [-16, -14]] and paper["translation"].max() == 14
    assert paper["shear"].min() == -160 and paper["shear"].max() == 140
    assert paper["brightness"][40, 0] == pytest.approx(0.9951, abs=1e-4)
    np.testing.assert_allclose(paper["resized_crop"][1], [0, 0, 192, 149.33], atol=0.01)
    assert paper["deform"][:9, 0].tolist() == [10, 15, 21, 27, 32, 38, 44, 50, 10]
    assert paper["blur"][0, 0] == 1e-5 and paper["sharpness"][-1, 0] == 30


def test_thinned_grids_cover_both_ends_and_every_column():
    assert grids.grid("rotation", most=3)[:, 0].tolist() == [1.40625, pytest.approx(180, abs=1.5), 358.59375]
    translation = grids.grid("translation", most=16)
    assert len(translation) == 16 and len(np.unique(translation[:, 0])) == len(np.unique(translation[:, 1])) == 4
    assert len(grids.grid("resized_crop", most=4)) == 16 and len(grids.grid("posterize", most=16)) == 7
    assert len(grids.grid("deform", most=16)) == 16 and len(np.unique(grids.grid("deform", most=16)[:, 0])) == 8
    for wrong in (lambda: grids.grid("rotate"), lambda: grids.chosen(("spatal",))):
        with pytest.raises(InputError, match="unknown transform.*Did you mean"):
            wrong()
    with pytest.raises(InputError, match="two values of its parameter"):
        grids.grid("hue", most=1)
    with pytest.raises(InputError, match="unknown mode 'papr'"):
        grids.grid("hue", "papr")
    assert grids.chosen(("hue", "spatial"))[-2:] == ("deform", "hue") and grids.chosen(("all",)) == grids.NAMES
