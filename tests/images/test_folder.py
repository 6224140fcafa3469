"""A folder of pictures: the order and labels of torchvision's ImageFolder, and what differs from it."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from whytransfer.errors import InputError
from whytransfer.images import Folder, open_images
from whytransfer.images.index import Names
from whytransfer.records import ImageSet


def draw(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), colour).save(path)


def test_order_labels_and_pixels_are_those_of_torchvision(photos):
    for extra in ("cat/b/0.png", "cat/a-b/1.png", "cat/a/2.png", "cat/a/c/3.jpg", "dog/UPPER.JPEG", "Zebra/ä.webp"):
        draw(photos / extra)
    images, oracle = open_images(str(photos)), ImageFolder(str(photos))
    assert [str(photos / name) for name in images.names] == [path for path, _ in oracle.samples]
    assert images.labels.tolist() == oracle.targets and list(images.classes) == oracle.classes
    for i in (0, 5, len(images) - 1):
        assert np.array_equal(images[i].image.permute(1, 2, 0).numpy(), np.asarray(oracle[i][0]))
        assert images[i].label == oracle.targets[i] and images[i].name == images.names[i]


def test_it_is_an_image_set(photos):
    assert isinstance(open_images(str(photos)), ImageSet) and open_images(str(photos)).name == "photos"


def test_a_flat_folder_is_unlabelled(photos):
    images = Folder(photos / "cat")
    assert len(images) == 4 and images.classes == () and images.labels.tolist() == [-1] * 4 and images[0].label is None


def test_loose_images_beside_folders_make_it_unlabelled_and_say_so(photos):
    draw(photos / "loose.png")
    images = Folder(photos)
    assert len(images) == 13 and images.classes == () and set(images.labels.tolist()) == {-1}
    assert "1 images lie beside 3 image folders, so all are read as unlabelled" in images.notes[0]


def test_one_folder_around_all_is_passed_through(photos, tmp_path):
    plain = Folder(photos)
    shutil.copytree(photos, tmp_path / "outer" / "inner" / "photos")
    images = Folder(tmp_path / "outer")
    assert images.classes == ("cat", "dog", "fox") and images.encoded(5) == plain.encoded(5)
    assert images.fingerprint() == plain.fingerprint() and images.name == "outer"
    assert images.notes == ("all images lie in the folder inner/photos, so the classes are the folders in it",)
    assert images.root == tmp_path / "outer" / "inner" / "photos"


def test_other_and_hidden_files_are_left_out_and_counted(photos):
    (photos / "readme.txt").write_text("hello")
    (photos / "cat" / "notes.txt").write_text("hello")
    (photos / "cat" / "._0.jpg").write_bytes(b"macOS")
    draw(photos / ".thumbs" / "0.jpg")
    images = Folder(photos)
    assert len(images) == 12 and images.notes == ("3 other files left out (2 .txt, 1 .jpg)",)


def test_a_class_folder_without_images_is_no_class(photos):
    (photos / "bear").mkdir()
    assert Folder(photos).classes == ("cat", "dog", "fox")


def test_a_split_has_the_name_of_its_set_too(photos):
    shutil.copytree(photos, photos.parent / "pets" / "train")
    assert open_images(str(photos.parent / "pets" / "train")).name == "pets/train"


def test_links_are_followed_but_not_in_circles(photos):
    os.symlink(photos / "cat", photos / "puss")
    assert len(Folder(photos)) == 16
    os.symlink(photos, photos / "cat" / "again")
    with pytest.raises(InputError, match="again is a link back to .*photos, which holds it: remove the link"):
        Folder(photos)


def test_names_that_are_not_utf8_survive(photos):
    os.rename(photos / "cat" / "0.jpg", os.fsencode(photos) + b"/cat/\xff.jpg")
    images = Folder(photos)
    assert images[3].image.shape[0] == 3 and len(images) == 12


def test_the_fingerprint_follows_content_and_labels_not_the_place(photos, tmp_path):
    original = Folder(photos).fingerprint()
    copy = shutil.copytree(photos, tmp_path / "elsewhere" / "copy")
    assert Folder(copy).fingerprint() == original
    draw(copy / "cat" / "0.jpg", "blue")
    assert Folder(copy).fingerprint() != original
    shutil.copy(photos / "cat" / "0.jpg", copy / "cat" / "0.jpg")
    assert Folder(copy).fingerprint() == original
    os.rename(copy / "cat", copy / "mouse")
    assert Folder(copy).fingerprint() != original


def test_the_index_holds_a_few_bytes_per_image(tmp_path):
    for i in range(500):
        path = tmp_path / f"class{i % 5}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    images = Folder(tmp_path)
    assert images.nbytes / len(images) == pytest.approx(len("class0/000000.jpg") + 8 + 8, abs=0.1)


def test_opening_takes_less_than_a_minute_per_million_files(tmp_path):
    """Processor time of 4,000 files, extrapolated (benchmarks/startup.py measures more)."""
    for i in range(4000):
        if i < 8:
            draw(tmp_path / "many" / f"class{i}" / "first.png")
        else:
            os.link(tmp_path / "many" / f"class{i % 8}" / "first.png", tmp_path / "many" / f"class{i % 8}" / f"{i}.png")
    began = time.thread_time()
    images = open_images(str(tmp_path / "many"))
    images.stamp()
    assert len(images) == 4000 and (time.thread_time() - began) / 4000 * 1e6 < 60


def test_names_is_a_list_of_strings():
    names = Names(["a", "", "bé", "c/d"])
    assert list(names) == ["a", "", "bé", "c/d"] and names[-1] == "c/d" and len(names) == 4
    with pytest.raises(IndexError, match="name 4 of 4"):
        names[4]


def test_real_pictures(real_data):
    images = open_images(str(real_data / "coco128" / "images" / "train2017"))
    assert len(images) == 128 and images.classes == () and max(images[0].image.shape) <= 640
