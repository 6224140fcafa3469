"""The compiled segmentation is scikit-image's, pixel by pixel; graph_kernels' parts beside SciPy and NumPy."""

import numpy as np
import pytest
import torch
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images.scenes import Scenes
from whytransfer.masks import graph_kernels, open_engine
from whytransfer.masks.felzenszwalb import Felzenszwalb, gaussian, segment
from whytransfer.masks.regions import pixels_of
from whytransfer.records import Sample

skimage = pytest.importorskip("skimage.segmentation", reason="scikit-image is not installed (extra masks)")


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise with sharp borders and a little grain: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    borders = np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST))
    return ((smooth + borders) // 2 + rng.integers(-4, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


def reference(pixels: np.ndarray, scale: float, smallest: int, sigma: float = 0.8) -> np.ndarray:
    return skimage.felzenszwalb(pixels, scale=scale, sigma=sigma, min_size=smallest)


@pytest.mark.parametrize("scale, smallest", [(1000, 1000), (500, 500), (300, 60), (100, 20), (1, 1)])
@pytest.mark.parametrize("size", [(90, 140), (131, 77)])
def test_equal_to_scikit_image(scale, smallest, size):
    for seed in range(3):
        pixels = photo(*size, seed)
        np.testing.assert_array_equal(segment(pixels, [(scale, smallest)])[0], reference(pixels, scale, smallest))


@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.5, 1.7, 5.0])
def test_equal_at_other_smoothings_also_where_the_kernel_is_wider_than_the_image(sigma):
    for size in ((64, 80), (9, 70), (5, 5)):
        pixels = photo(*size)
        np.testing.assert_array_equal(segment(pixels, [(200, 10)], sigma)[0], reference(pixels, 200, 10, sigma))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (2, 30)])
def test_images_of_a_line_or_a_pixel(size):
    pixels = photo(*size)
    np.testing.assert_array_equal(segment(pixels, [(50, 3)])[0], reference(pixels, 50, 3))


def test_equal_on_photographs(real_data):
    files = sorted((real_data / "bsds500_subset" / "images" / "val").glob("*.jpg"))[::10]
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        np.testing.assert_array_equal(segment(pixels, [(1000, 1000)])[0], reference(pixels, 1000, 1000))


def test_of_equal_costs_the_first_edge_of_the_list_comes_first(monkeypatch):
    """Drawn pictures have many equal costs. scikit-image with a stable sort is then the reference."""
    unstable = np.argsort
    monkeypatch.setattr(np, "argsort", lambda a, *args, **kw: unstable(a, kind="stable"))
    rng = np.random.default_rng(0)
    drawn = [np.kron(rng.integers(0, 2, (9, 11, 3), dtype=np.uint8) * 200, np.ones((7, 7, 1), np.uint8))]
    drawn += [pixels_of(Scenes(4, size_px=64)[i]) for i in range(4)]
    drawn += [np.full((40, 50, 3), 77, np.uint8), rng.integers(0, 2, (50, 60, 3), dtype=np.uint8)]
    for pixels in drawn:
        for scale, smallest in ((1000, 100), (20, 5)):
            np.testing.assert_array_equal(segment(pixels, [(scale, smallest)])[0], reference(pixels, scale, smallest))


def test_smoothing_is_scipys_to_the_last_bit():
    from scipy.ndimage import gaussian_filter

    pixels = photo(37, 53)
    smoothed = graph_kernels.smoothed(pixels, gaussian(0.8))
    np.testing.assert_array_equal(smoothed, gaussian_filter(pixels * (1 / 255), [0.8, 0.8, 0]))


@pytest.mark.parametrize("distinct", [3, 50, 10**6])
def test_edges_are_sorted_as_by_a_stable_sort(distinct):
    rng = np.random.default_rng(distinct)
    values = np.concatenate([[0.0, 1e-300, 1e-17, 3**0.5], rng.random(distinct) ** 8])
    costs = values[rng.integers(0, len(values), 20_000)]
    sorted_, ends = graph_kernels.ordered(costs, np.arange(len(costs), dtype=np.uint32))
    order = np.argsort(costs, kind="stable")
    np.testing.assert_array_equal(ends, order)
    np.testing.assert_array_equal(sorted_, costs[order])


def test_several_scales_are_the_stack_of_each_and_one_scale_is_a_label_map():
    pixels = photo(60, 80)
    sample = Sample(torch.from_numpy(pixels).permute(2, 0, 1), "photo")
    single = [open_engine(f"felzenszwalb:{scale}:{smallest}")(sample) for scale, smallest in ((100, 30), (400, 60))]
    both = open_engine("felzenszwalb:100,400:30,60")(sample)
    assert both.overlapping and not single[0].overlapping
    np.testing.assert_array_equal(both.maps, np.concatenate([one.stack() for one in single]))


def test_beyond_255_segments_the_largest_are_kept_at_one_and_at_several_scales():
    sample = Sample(torch.from_numpy(photo(60, 80)).permute(2, 0, 1), "photo")
    fine = Felzenszwalb((1.0,), (1,))(sample)
    assert len(fine) == 255 and fine.left_out > 0
    several = Felzenszwalb((1.0, 400.0), (1, 60))(sample)
    assert len(several) == 255 and several.left_out > fine.left_out
    assert several.areas().max() > fine.areas().max()  # the coarse ones are among the largest


def test_opencv_finds_segments_of_the_same_kind():
    pytest.importorskip("cv2.ximgproc.segmentation", reason="OpenCV's contributed modules are not installed")
    sample = Sample(torch.from_numpy(photo(90, 120)).permute(2, 0, 1), "photo")
    fast, ours = open_engine("felzenszwalb-opencv:300:60")(sample), open_engine("felzenszwalb:300:60")(sample)
    assert fast.areas().sum() == 90 * 120 and fast.areas().min() >= 60
    assert len(ours) / 2 <= len(fast) <= 2 * len(ours)


@pytest.mark.parametrize("name, module", [("skimage", "skimage.segmentation"), ("opencv", "cv2.ximgproc.segmentation")])
def test_a_missing_library_is_named(monkeypatch, name, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'whytransfer\[masks\]'"):
        open_engine(f"felzenszwalb-{name}")(Sample(torch.zeros((3, 4, 4), dtype=torch.uint8), "x"))
