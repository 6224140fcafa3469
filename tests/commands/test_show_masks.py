"""The sheet of regions as a file."""

import numpy as np
import pytest
from PIL import Image

import whytransfer
from whytransfer.commands.show_masks import ShowMasksSettings
from whytransfer.errors import InputError


def test_regions_of_ones_own_pictures_become_a_png(photos, tmp_path):
    out = tmp_path / "new" / "masks.png"
    given = {"images": str(photos), "masks": "grid:3", "size": 32, "cell_px": 8, "count": 2}
    assert whytransfer.show_masks(**given, out=out) == out
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 280 and np.asarray(sheet).std() > 10
    again = whytransfer.show_masks(**given, out=tmp_path / "again.png")
    assert again.read_bytes() == out.read_bytes()
    whytransfer.show_masks(**{**given, "masks": "grid:2"}, out=again)
    assert again.read_bytes() != out.read_bytes()


def test_requests_that_cannot_be_drawn_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="--recipe supervised has one view; matched regions need two"):
        whytransfer.show_masks(images="nowhere", masks="grid:3", recipe="supervised", out=tmp_path / "a.png")
    with pytest.raises(InputError, match=r"give the name of a file that ends in \.png"):
        whytransfer.show_masks(images="nowhere", masks="grid:3", out=tmp_path / "a.jpg")
    with pytest.raises(InputError, match="Did you mean 'detcon-s' or 'detcon-b'"):
        whytransfer.show_masks(images="nowhere", masks="grid:3", recipe="detcon-d", out=tmp_path / "a.png")
    assert ShowMasksSettings.model_fields["recipe"].default == "detcon-b"
