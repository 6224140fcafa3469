"""Images in both sets are found by their pixels, whatever they are called."""

import shutil

import pytest
from PIL import Image

from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.duplicates import in_both


def cache(folder, where, max_bytes=10**9):
    return PixelCache.open(open_images(str(folder)), 16, where, max_bytes=max_bytes)


@pytest.fixture
def two(photos, tmp_path):
    other = tmp_path / "other" / "new"
    other.mkdir(parents=True)
    for value in (10, 200):
        Image.new("RGB", (20, 18), (value, 3, 4)).save(other / f"{value}.png")
    return photos, other.parent, other


def test_copies_under_other_names_are_counted(two, tmp_path):
    photos, other, new = two
    assert in_both(cache(photos, tmp_path / "c"), cache(other, tmp_path / "c")) == 0
    shutil.copy(photos / "cat" / "1.png", new / "a.png")
    shutil.copy(photos / "dog" / "2.jpg", new / "b.jpg")
    one, second = cache(photos, tmp_path / "c"), cache(other, tmp_path / "c")
    assert in_both(one, second) == 2 == in_both(second, one) and in_both(one, one) == len(one)


def test_equal_beginnings_are_no_copies(two, tmp_path):
    _, other, new = two
    picture = Image.open(new / "10.png")
    picture.putpixel((19, 17), (0, 0, 0))
    picture.save(tmp_path / "late.png")
    (tmp_path / "late" / "new").mkdir(parents=True)
    shutil.move(tmp_path / "late.png", tmp_path / "late" / "new" / "x.png")
    full = [PixelCache.open(open_images(str(f)), None, tmp_path / "c") for f in (other, tmp_path / "late")]
    assert in_both(*full) == 0


def test_what_would_have_to_be_decoded_is_not_compared(two, tmp_path):
    photos, _, _ = two
    whole, cut = cache(photos, tmp_path / "a"), cache(photos, tmp_path / "b", max_bytes=1000)
    assert cut.decodes and in_both(whole, cut) == 0 == in_both(cut, whole)
    assert in_both(open_images(str(photos)), whole) == 0
