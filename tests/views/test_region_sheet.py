"""The sheet of regions: what it calls a pair is a pair, in both views alike."""

import numpy as np
import pytest
import torch
from oracle import pictures

from whytransfer.errors import InputError
from whytransfer.masks.pooling import NO_REGION, owners
from whytransfer.views import Viewer, recipe
from whytransfer.views import region_sheet as module
from whytransfer.views.region_sheet import NOTE, _inside, _row, _tinted, _uncovered, colour, region_sheet

PICTURES = pictures((60, 90), (90, 60), (40, 700))


def maps():
    """Four columns of regions, and a part without."""
    made = []
    for picture in PICTURES:
        high, wide = picture.shape[:2]
        ids = (torch.arange(wide) * 4 // wide).expand(high, wide).to(torch.uint8).clone()
        ids[: high // 4] = 255
        made.append(ids)
    return made


def stacks():
    return [torch.stack([m == i for i in range(4)]) for m in maps()]


@pytest.mark.parametrize("regions", [maps(), stacks()])
def test_a_sheet_has_a_row_per_picture_and_is_the_same_each_time(regions):
    sheets = [region_sheet(PICTURES, regions, recipe("detcon-b"), 32, 0, range(3), cell_px=8) for _ in range(2)]
    assert sheets[0].mode == "RGB" and sheets[0].tobytes() == sheets[1].tobytes()
    assert sheets[0].height > 3 * 280 and np.asarray(sheets[0]).std() > 10
    other = region_sheet(PICTURES, regions, recipe("detcon-b"), 32, 1, range(3), cell_px=8)
    assert other.tobytes() != sheets[0].tobytes()


def test_pairs_are_the_regions_that_own_cells_in_both_views():
    viewer = Viewer(recipe("detcon-s"), 32, seed=0)
    index, regions = np.array([7]), maps()[:1]
    row = _row(viewer, PICTURES[0], regions[0], index, cells=4)
    views = viewer(PICTURES[:1], index, [0], 0, regions)
    there = [set(owners(v, (4, 4)).unique().tolist()) - {255} for v in views.regions]
    assert row.captions[1] == ["4 regions"] and row.positives == len(there[0] & there[1]) > 0
    for v in (0, 1):
        count = "1 region" if len(there[v]) == 1 else f"{len(there[v])} regions"
        assert row.captions[2 + v][0] == f"{count} on the grid, {len(there[0] & there[1])} in both views"
    row = _row(viewer, PICTURES[0], torch.zeros_like(regions[0]), index, cells=4)
    assert [words[0] for words in row.captions[1:]] == ["1 region", *["1 region on the grid, 1 in both views"] * 2]


def test_pictures_without_a_positive_pair_are_counted(monkeypatch):
    told = []
    monkeypatch.setattr(module, "_drawn", lambda rows, heading, notes: told.append(notes))
    nothing = [torch.full(p.shape[:2], NO_REGION, dtype=torch.uint8) for p in PICTURES]
    region_sheet(PICTURES, nothing, recipe("detcon-b"), 32, 0, range(3), cell_px=8, about="grid:5")
    assert told == [[*NOTE, "regions: grid:5", "3 of 3 pictures have no region in both views, so no positive pair"]]
    region_sheet(PICTURES, stacks(), recipe("detcon-b"), 32, 0, range(3), cell_px=8)
    assert told[1][len(NOTE)] == "regions overlap: small ones lie on top"


def test_a_region_keeps_its_colour_and_plain_ones_are_grey():
    gray = np.full((20, 20, 3), 128, dtype=np.uint8)
    masks = {3: np.zeros((20, 20), bool), 5: np.zeros((20, 20), bool)}
    masks[3][:8], masks[5][12:] = True, True
    shown = np.asarray(_tinted(gray, masks, {3: 1}, 2, plain={5}))
    assert tuple(shown[0, 0]) == colour(3) and tuple(shown[39, 0]) == (150, 150, 150)
    assert tuple(shown[20, 20]) == (128, 128, 128)
    assert len({colour(i) for i in range(60)}) == 60


def test_a_number_stands_inside_its_region():
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    assert ring[_inside(ring)]


def test_a_number_stands_where_its_region_is_wide_not_on_its_rim():
    snow = np.ones((40, 60), bool)
    snow[5:40, 15:40] = False  # a skier before it: the centre of mass is on him, the nearest snow at his rim
    y, x = _inside(snow)
    assert snow[y - 6 : y + 7, x - 6 : x + 7].sum() == 13 * 13
    y, x = _inside(np.ones((21, 41), bool))
    assert (y, x) == (10, 20)


def test_a_number_does_not_stand_on_a_smaller_region_that_lies_on_top():
    large, small, hidden = (np.zeros((40, 60), bool) for _ in range(3))
    large[:], small[10:30, 20:50], hidden[12:28, 22:48] = True, True, True
    parts = _uncovered({0: large, 1: small, 2: hidden}, [2, 0, 1])
    assert (parts[0] == large & ~small).all() and (parts[1] == small).all() and (parts[2] == hidden).all()
    y, x = _inside(parts[0])
    assert not small[y, x] and small[_inside(large)]
    plain = np.zeros((40, 60, 3), np.uint8)
    sheets = [np.asarray(_tinted(plain, {0: large, 1: small}, numbers, 1, frozenset())) for numbers in ({}, {0: 7})]
    changed = (sheets[0] != sheets[1]).any(axis=2)
    assert changed.any() and not changed[small].any()


def test_recipes_of_one_view_and_no_pictures_are_refused():
    with pytest.raises(InputError, match="needs pictures and two views; supervised has 1"):
        region_sheet(PICTURES, maps(), recipe("supervised"), 32, 0, range(3))
    with pytest.raises(InputError, match="needs pictures and two views"):
        region_sheet([], [], recipe("detcon-s"), 32, 0, [])
