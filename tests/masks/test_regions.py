"""Regions check themselves; grid cells; engines by name."""

import numpy as np
import pytest
import torch

from whytransfer import masks
from whytransfer.errors import InputError
from whytransfer.masks.grid import Grid
from whytransfer.masks.regions import NO_REGION, Regions, largest, of_segments, pixels_of
from whytransfer.records import Sample


def sample_of(height: int, width: int) -> Sample:
    return Sample(torch.zeros((3, height, width), dtype=torch.uint8), "blank")


def test_areas_and_stack_of_a_label_map_and_of_a_stack():
    ids = np.array([[0, 0, 2], [255, 2, 2]], dtype=np.uint8)
    regions = Regions(ids)
    assert len(regions) == 3 and regions.size == (2, 3) and not regions.overlapping
    assert regions.areas().tolist() == [2, 0, 3]
    np.testing.assert_array_equal(regions.stack(), ids == np.arange(3)[:, None, None])
    stack = Regions(regions.stack())
    assert stack.overlapping and stack.areas().tolist() == [2, 0, 3] and len(stack) == 3
    assert len(Regions(np.full((2, 2), NO_REGION, np.uint8))) == 0
    assert len(Regions(ids, np.array([7, 8, 9, 9]))) == 4  # an id that does not occur may have a class


@pytest.mark.parametrize(
    "maps, labels, message",
    [
        (np.zeros((256, 2, 2), bool), None, "256 regions in one image: 255 at most"),
        (np.zeros((2, 2), np.int64), None, "a label map .H, W. uint8 or a stack of masks .R, H, W. bool, got"),
        (np.zeros((2, 2, 2), np.uint8), None, "uint8 or a stack"),
        (np.zeros((0, 2), np.uint8), None, "regions of an empty image"),
        (np.array([[0, 3]], np.uint8), np.zeros(3, np.int64), "4 regions, labels of shape .3,.: give one class"),
    ],
)
def test_what_is_no_regions_is_refused(maps, labels, message):
    with pytest.raises(InputError, match=message):
        Regions(maps, labels)


def test_of_more_than_255_segments_the_largest_stay_in_order():
    rng = np.random.default_rng(0)
    segments = np.sort(rng.integers(0, 300, 4000)).reshape(40, 100)
    regions = of_segments(segments)
    areas = np.bincount(segments.ravel())
    kept = largest(areas)
    assert regions.left_out == 45 and len(regions) == 255
    assert regions.areas().tolist() == areas[kept].tolist() == [a for i, a in enumerate(areas) if i in set(kept)]
    assert areas[kept].min() >= np.delete(areas, kept).max()
    assert (regions.maps == NO_REGION).sum() == np.delete(areas, kept).sum()
    assert of_segments(segments % 255).left_out == 0


@pytest.mark.parametrize("n, height, width", [(1, 7, 9), (2, 4, 4), (5, 37, 61), (15, 224, 200)])
def test_grid_cells_are_equal_to_within_a_pixel(n, height, width):
    regions = Grid(n)(sample_of(height, width))
    assert regions.size == (height, width) and len(regions) == n * n
    for k in range(n * n):
        rows, columns = np.nonzero(regions.maps == k)
        h, w = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == h * w and abs(h - height / n) < 1 and abs(w - width / n) < 1
    assert (regions.maps == np.sort(regions.maps, axis=1)).all()


def test_a_grid_finer_than_the_image_leaves_cells_out():
    assert len(np.unique(Grid(5)(sample_of(3, 3)).maps)) == 9


@pytest.mark.parametrize(
    "spec, message",
    [
        ("grid:16", "grid:16: give 1 to 15 cells"),
        ("grid:0", "grid:0: give 1 to 15"),
        ("grid:five", "grid:five: give a whole number"),
        ("gird:5", "unknown region engine 'gird'. Did you mean 'grid'"),
        ("felzenswalb", "Did you mean 'felzenszwalb'"),
        ("felzenszwalb:big", "felzenszwalb:big: give SCALE.:MIN_SIZE. in numbers"),
        ("felzenszwalb:-1", "give numbers above 0"),
        ("felzenszwalb:nan", "give numbers above 0"),
        ("felzenszwalb:100,200,300:10,20", "give one for all, or one per scale"),
        ("felzenszwalb:100:0", "of 1 px or more"),
        ("annotated:nowhere.json", "no such file or folder: nowhere.json"),
    ],
)
def test_engines_that_cannot_be_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        masks.open_engine(spec)


@pytest.mark.parametrize(
    "spec, recipe",
    [
        ("grid", "grid n=5"),
        ("grid:3", "grid n=3"),
        ("felzenszwalb", "felzenszwalb scale=1000 min_size=1000 sigma=0.8 by=whytransfer"),
        ("felzenszwalb:500:400", "felzenszwalb scale=500 min_size=400 sigma=0.8 by=whytransfer"),
        ("felzenszwalb-skimage:500,1000", "felzenszwalb scale=500,1000 min_size=1000,1000 sigma=0.8 by=scikit-image"),
        ("felzenszwalb-opencv:500,1000:20,30", "felzenszwalb scale=500,1000 min_size=20,30 sigma=0.8 by=opencv"),
        ("annotated", "annotated own"),
    ],
)
def test_a_recipe_says_all(spec, recipe):
    assert masks.open_engine(spec).recipe == recipe
    assert set(masks.ENGINES) >= {"grid", "felzenszwalb", "felzenszwalb-opencv", "mcg", "annotated"}


def test_pixels_of_a_sample_are_rows_of_colours():
    image = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    assert pixels_of(Sample(image, "x")).tolist() == image.permute(1, 2, 0).tolist()
