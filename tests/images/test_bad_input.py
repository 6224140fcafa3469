"""What a user can get wrong about pictures, and what each message must say."""

import builtins
import errno
import os

import numpy as np
import pytest
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images import Folder, holdout, match_classes, open_images, require_labels, subset
from whytransfer.images.cache import PixelCache


def test_an_empty_folder_names_path_and_suffixes(tmp_path):
    with pytest.raises(
        InputError, match=rf"no image below {tmp_path}: looked for .jpg, .jpeg, .png, .webp, .bmp, found no file at all"
    ):
        open_images(str(tmp_path))


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    for name in ("a.tif", "b.tif", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"found 2 .tif, 1 .txt\."):
        open_images(str(tmp_path))


def test_a_missing_path_gives_the_near_names(photos):
    with pytest.raises(InputError, match=rf"no such file or folder: {photos}s. Did you mean {photos}\?"):
        open_images(f"{photos}s")
    with pytest.raises(InputError, match=rf"Did you mean {photos}/cat\?"):
        open_images(f"{photos}/cats/deeper")
    with pytest.raises(InputError, match=rf"{photos} holds cat, dog, fox"):
        open_images(f"{photos}/zzzzzz")


def test_a_misspelt_source_gives_the_near_names():
    with pytest.raises(InputError, match="unknown image source 'cifar11'. Did you mean 'cifar10'"):
        open_images("cifar11:/data")


@pytest.mark.parametrize("spec", ["scenes:many", "scenes:1:2:3:4", "scenes:10:0:64px"])
def test_scenes_need_whole_numbers(spec):
    with pytest.raises(InputError, match=rf"{spec} is not scenes:COUNT\[:SEED\[:SIZE\]\] in whole numbers"):
        open_images(spec)


def test_a_folder_of_splits_must_be_pointed_into(photos):
    os.rename(photos / "cat", photos / "train2017")
    os.rename(photos / "dog", photos / "val")
    os.rename(photos / "fox", photos / "Test")
    with pytest.raises(
        InputError, match=r"holds splits \(Test, train2017, val\), not classes: choose one, for example .*/Test"
    ):
        open_images(str(photos))


def test_a_class_called_train_among_others_is_a_class(photos):
    os.rename(photos / "cat", photos / "train")
    assert Folder(photos).classes == ("dog", "fox", "train")


def test_one_picture_is_no_folder(photos):
    with pytest.raises(InputError, match="0.jpg is a file: a folder of images .* or a zip of one is needed"):
        Folder(photos / "cat" / "0.jpg")
    with pytest.raises(InputError, match="0.jpg is a file: a folder of images or a zip of one is needed"):
        open_images(str(photos / "cat" / "0.jpg"))


def test_a_folder_called_like_a_picture(photos):
    (photos / "cat" / "5.jpg").mkdir()
    with pytest.raises(InputError, match="5.jpg is a folder, though its name is that of an image: rename it"):
        open_images(str(photos))


def test_one_class_is_enough_for_contrast_but_not_for_labels(photos, tmp_path):
    (tmp_path / "one").mkdir()
    os.rename(photos / "cat", tmp_path / "one" / "cat")
    images = open_images(str(tmp_path / "one"))
    assert len(images) == 4 and images.classes == ("cat",)
    with pytest.raises(
        InputError, match="the readout needs at least two classes, and all 4 images of one are of class 'cat'"
    ):
        require_labels(images, "the readout")


def test_unlabelled_images_cannot_serve_who_needs_labels(photos):
    with pytest.raises(
        InputError,
        match="supervised needs labels, and 4 of the 4 images of cat have none: put the images into one folder",
    ):
        require_labels(open_images(str(photos / "cat")), "supervised")
    require_labels(open_images(str(photos)), "supervised")


BROKEN = [
    ("empty.jpg", b"", "the file is empty"),
    ("text.png", b"hello, not a picture", "not a JPEG, PNG, WebP or BMP image"),
    ("cut.jpg", None, "damaged or cut short .*truncated"),
]


def spoil(photos, name, content):
    whole = (photos / "dog" / "2.jpg").read_bytes()
    (photos / "dog" / name).write_bytes(whole[:-40] if content is None else content)


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN)
def test_an_unreadable_image_is_named_and_stops_unless_it_may_be_skipped(photos, tmp_path, name, content, reason):
    spoil(photos, name, content)
    with pytest.raises(
        InputError, match=rf"cannot read image dog/{name}: {reason}.*one of 13 images of photos.*--skip-unreadable"
    ):
        PixelCache.open(Folder(photos), None, tmp_path / "cache")
    assert list((tmp_path / "cache" / "entries").iterdir()) == [] == list((tmp_path / "cache" / "building").iterdir())


def test_skipped_images_are_counted_named_and_left_out(photos, tmp_path, caplog):
    for name, content, _ in BROKEN:
        spoil(photos, name, content)
    images = Folder(photos)
    cache = PixelCache.open(images, None, tmp_path / "cache", skip_unreadable=True)
    assert len(cache) == 12 and len(images) == 15 and cache.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert cache.dropped == ("dog/cut.jpg", "dog/empty.jpg", "dog/text.png")
    assert "photos: left out 3 of 15 images that cannot be read: dog/cut.jpg (damaged or cut short" in caplog.text
    kept = [i for i, name in enumerate(images.names) if name not in cache.dropped]
    assert all(np.array_equal(cache.pixels(i), images[kept[i]].image.permute(1, 2, 0).numpy()) for i in range(12))
    bounded = PixelCache.open(images, 16, tmp_path / "cache", max_bytes=0, skip_unreadable=True)
    assert bounded.cached == 0 and bounded.pixels(11).shape[0] == 16
    with pytest.raises(InputError, match="cannot read image dog/cut.jpg: .*one of 3 unreadable of 15"):
        PixelCache.open(images, None, tmp_path / "cache")


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="none of the 1 images of .* can be read; first a.jpg: not a JPEG"):
        PixelCache.open(Folder(tmp_path), None, tmp_path / "cache", skip_unreadable=True)


def test_a_file_that_is_gone_is_named(photos, tmp_path):
    images = Folder(photos)
    (photos / "cat" / "0.jpg").unlink()
    with pytest.raises(InputError, match="cat/0.jpg: No such file or directory"):
        PixelCache.open(images, None, tmp_path / "cache")


def test_a_link_to_nothing_is_named(photos, tmp_path):
    os.symlink(tmp_path / "nowhere", photos / "cat" / "9.jpg")
    with pytest.raises(InputError, match="cat/9.jpg: No such file or directory"):
        PixelCache.open(Folder(photos), None, tmp_path / "cache")


def denied(target, real):
    """Stands for missing permissions also where the tests run as root, whom nothing is denied."""

    def call(path, *arguments, **options):
        if str(path) == str(target):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    return call


def test_a_picture_without_permission(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "open", denied(photos / "cat" / "0.jpg", open))
    with pytest.raises(InputError, match=r"cat/0.jpg: permission denied; allow it with chmod \+r"):
        PixelCache.open(Folder(photos), None, tmp_path / "cache")


def test_a_folder_without_permission(photos, monkeypatch):
    monkeypatch.setattr(os, "scandir", denied(photos / "dog", os.scandir))
    with pytest.raises(InputError, match=rf"no permission to list {photos}/dog: allow it with chmod \+rx"):
        open_images(str(photos))


def test_odd_pictures_work(photos, tmp_path):
    grey16 = (np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)
    Image.new("RGB", (1, 1), "red").save(photos / "cat" / "a.png")
    Image.fromarray(grey16).save(photos / "cat" / "b.png")
    Image.new("CMYK", (9, 7), (0, 255, 255, 0)).save(photos / "cat" / "c.jpg")
    Image.new("RGBA", (9, 7), (0, 0, 0, 0)).save(photos / "cat" / "d.webp")
    cache = PixelCache.open(subset(Folder(photos), [4, 5, 6, 7]), 16, tmp_path / "cache")
    assert [cache.pixels(i).shape for i in range(4)] == [(1, 1, 3), (16, 24, 3), (7, 9, 3), (7, 9, 3)]
    assert cache.pixels(0)[0, 0].tolist() == [255, 0, 0] and cache.pixels(3).min() == 255
    assert 225 < cache.pixels(1).max() < 234 and np.abs(cache.pixels(2)[0, 0] - [254, 0, 0]).max() < 3


def test_classes_that_training_lacks(photos, tmp_path):
    images = Folder(photos)
    assert match_classes(images, ("fox", "ant", "dog", "cat")).tolist() == [3] * 4 + [2] * 4 + [0] * 4
    with pytest.raises(
        InputError, match="photos has 1 classes that the training set lacks: dog. The training set's classes: cat, fox"
    ):
        match_classes(images, ("cat", "fox"))


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5])
def test_a_holdout_of_nothing_or_all(photos, fraction):
    with pytest.raises(InputError, match="is not between 0 and 1"):
        holdout(Folder(photos), fraction, 0)


def test_positions_outside_the_set(photos):
    with pytest.raises(InputError, match="subset of photos: positions 0 to 12 asked, it has 0 to 11"):
        subset(Folder(photos), [0, 12])
