"""The contact sheet as a file."""

import numpy as np
import pytest
from PIL import Image

import whytransfer
from whytransfer.errors import InputError


def test_the_views_of_ones_own_pictures_become_a_png(photos, tmp_path):
    out = tmp_path / "new" / "views.png"
    assert whytransfer.show_views(images=str(photos), out=out, size=32, count=3) == out
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 3 * 32 and np.asarray(sheet).std() > 10
    again = tmp_path / "again.png"
    whytransfer.show_views(images=str(photos), out=again, size=32, count=3)
    assert again.read_bytes() == out.read_bytes()
    whytransfer.show_views(images=str(photos), out=again, size=32, count=3, seed=1)
    assert again.read_bytes() != out.read_bytes()


def test_more_pictures_than_there_are_means_all_of_them(photos, tmp_path):
    sheets = []
    for count in (12, 100):
        out = whytransfer.show_views(images=str(photos), out=tmp_path / f"{count}.png", size=16, count=count)
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1]


def test_a_misspelt_recipe_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'spatial'"):
        whytransfer.show_views(images="nowhere", recipe="spatail", out=tmp_path / "new" / "views.png")
    assert not (tmp_path / "new").exists()
