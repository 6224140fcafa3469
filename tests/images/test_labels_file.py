"""Labels from a CSV file: matched by path or file name, what does not match is said, what contradicts is refused."""

import numpy as np
import pytest
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.labels_file import labelled_by


@pytest.fixture
def photos(tmp_path):
    """a/1.png, a/2.png, b/1.png, b/3.png in different greys."""
    for value, name in enumerate(("a/1", "a/2", "b/1", "b/3")):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * value, np.uint8)).save(path)
    return open_images(str(tmp_path / "photos"))


def table(tmp_path, *lines, head="name,label"):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join((head, *lines)) + "\n")
    return path


def test_labels_replace_those_of_the_folders(photos, tmp_path):
    path = table(tmp_path, "a/1.png,dog", "3.png,cat", "b\\1.png,dog", "2.png,cat")
    made, notes = labelled_by(photos, path)
    assert made.classes == ("cat", "dog") and notes == ()
    assert list(made.names) == ["a/1.png", "a/2.png", "b/1.png", "b/3.png"]
    assert made.labels.tolist() == [1, 0, 1, 0] and made[0].label == 1
    cache = PixelCache.open(made, folder=tmp_path / "cache")
    assert cache.labels.tolist() == [1, 0, 1, 0] and cache.pixels(3)[0, 0, 0] == 120


def test_another_table_is_another_set(photos, tmp_path):
    one, _ = labelled_by(photos, table(tmp_path, "a/1.png,dog", "a/2.png,cat"))
    first = PixelCache.open(one, folder=tmp_path / "cache")
    two, _ = labelled_by(photos, table(tmp_path, "a/1.png,cat", "a/2.png,dog"))
    second = PixelCache.open(two, folder=tmp_path / "cache")
    assert one.fingerprint() != two.fingerprint() and one.stamp().files != two.stamp().files
    assert first.fingerprint == one.fingerprint() and second.fingerprint == two.fingerprint()


def test_what_does_not_match_is_said(photos, tmp_path):
    made, notes = labelled_by(photos, table(tmp_path, "a/2.png,x", "b/3.png,y", "gone.png,x", ""))
    assert len(made) == 2
    assert notes == (
        "2 of 4 pictures are not in labels.csv and are left out: a/1.png, b/1.png",
        "1 of 3 names in labels.csv are no picture: gone.png",
    )


def test_a_spreadsheets_byte_mark_and_further_columns_are_read(photos, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes("﻿Label,id,Name\r\ncat,7,a/2.png\r\n".encode())
    made, _ = labelled_by(photos, path)
    assert made.classes == ("cat",)


@pytest.mark.parametrize(
    ("lines", "head", "message"),
    [
        (("a/1.png,x",), "file,class", "needs a first line with the columns name and label .*; found file,class"),
        ((), "", "needs a first line with the columns name and label"),
        (("a/1.png",), "name,label", "line 2 of .* has no label: 'a/1.png'"),
        (("a/1.png,x", "a/1.png,y"), "name,label", "line 3 of .*: a/1.png has the labels 'x' and 'y'"),
        (("1.png,x",), "name,label", r"1.png is the name of 2 pictures \(a/1.png, b/1.png\): write their paths"),
        (("a/2.png,x", "2.png,y"), "name,label", "1 pictures have two labels: a/2.png"),
        (("c.png,x",), "name,label", "names no picture of photos: it has c.png; the pictures are a/1.png"),
    ],
)
def test_contradictions_are_refused(photos, tmp_path, lines, head, message):
    with pytest.raises(InputError, match=message):
        labelled_by(photos, table(tmp_path, *lines, head=head))


def test_a_missing_file_and_a_set_without_files_are_refused(photos, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        labelled_by(photos, tmp_path / "lables.csv")
    with pytest.raises(InputError, match="is a folder; a CSV file is needed"):
        labelled_by(photos, tmp_path)
    with pytest.raises(InputError, match="has no file names"):
        labelled_by(open_images("scenes:4:0:16"), table(tmp_path, "a,b"))
