"""The contact sheet: true to what a run sees."""

import numpy as np
import pytest
from oracle import pictures
from PIL import ImageFont

from whytransfer.errors import InputError
from whytransfer.views import RECIPES, Viewer, recipe
from whytransfer.views.sheet import _Sheet, caption, contact_sheet, describe, seen

PICTURES = pictures((60, 90), (90, 60), (3, 200))


@pytest.mark.parametrize("name", ["moco-v2", "appearance", "detcon-b", "supervised"])
def test_a_sheet_has_the_views_of_a_run_in_it(name):
    sheet = contact_sheet(PICTURES, recipe(name), 32, seed=3, index=[5, 6, 7], epochs=2)
    assert sheet.mode == "RGB"
    view = Viewer(recipe(name), 32, seed=3)(PICTURES[:1], np.array([5]), [0], epoch=0).images[0][0]
    shown = (view.permute(1, 2, 0) * 255).round().byte().numpy().repeat(5, axis=0).repeat(5, axis=1)  # 32 px fivefold
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(sheet)[:, :, 0], (1, 160))[:, :, 0]
    assert (windows == shown[80, :, 0]).all(axis=2).any()


def test_the_same_request_gives_the_same_sheet():
    one, two = (contact_sheet(PICTURES, recipe("byol"), 16, 0).tobytes() for _ in range(2))
    assert one == two


def test_captions_say_what_was_drawn():
    viewer = Viewer(recipe("moco-v2"), 32, seed=0)
    drawn = viewer.parameters(PICTURES, np.arange(3), epoch=0, view=0)
    drawn.windows[0] = (0, 0, 30, 90, 32, 32, 0, 0, 1)
    drawn.after[0] = [(7, 0.5, 0), (4, -0.1, 0), (0, 9, 9), (1, 1.25, 0), (5, 0, 0), (6, 1.3, 4)]
    box = seen(drawn.windows[0], 32)
    assert box == (0, 0, 90, 30)
    expected = ["crop 50%", "flip", "solarise from 0.5", "hue -36 deg", "bright x1.25", "gray", "blur 1.3 px"]
    assert caption(drawn, 0, box, (60, 90)) == expected


def test_what_is_written_under_a_view_does_not_run_into_the_next():
    sheet, long = _Sheet(recipe("detcon-s"), 64, columns=6), "blur 1.7 px (black outside)"
    assert sheet.font.getlength(long) > sheet.side + 12  # else this shows nothing
    lines = sheet.wrapped(["crop 45%", "hue +9 deg", long, "flip"], ", ", sheet.side)
    assert lines == ["crop 45%, hue +9 deg,", "blur 1.7 px (black", "outside), flip"]
    assert max(map(sheet.font.getlength, lines)) <= sheet.side
    assert sheet.wrapped(["crop 45%", long], ", ", 500) == [f"crop 45%, {long}"]


def test_what_is_seen_of_a_centre_crop():
    drawn = Viewer(recipe("appearance"), 30, seed=0).parameters(PICTURES, np.arange(3), epoch=0, view=0)
    assert seen(drawn.windows[0], 30) == pytest.approx((16, 0, 76, 60))  # 45 x 30, of which columns 8 to 38, at scale 2


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_described_in_letters_that_the_font_has(name):
    text = "".join(part for parts in describe(recipe(name)) for part in parts)
    assert text.isascii() and ImageFont.load_default(12).getlength(text) > 0
    assert len(describe(recipe(name))) == len(set(recipe(name).views))


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(InputError, match="contact sheet of no pictures"):
        contact_sheet([], recipe("byol"), 16, 0)
