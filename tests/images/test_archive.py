"""A zip of pictures is the folder it would unpack to, without unpacking, from any number of threads."""

import os
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from whytransfer.errors import InputError
from whytransfer.images import Archive, Folder, open_images
from whytransfer.images.decode import Unreadable


def pack(folder, target, method=zipfile.ZIP_STORED, prefix=""):
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return target


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_equals_its_folder(photos, method):
    folder, archive = Folder(photos), open_images(str(pack(photos, photos.parent / "photos.zip", method)))
    assert list(archive.names) == list(folder.names) and archive.labels.tolist() == folder.labels.tolist()
    assert archive.classes == folder.classes and archive.name == folder.name == "photos"
    assert all(archive.encoded(i) == folder.encoded(i) for i in range(len(folder)))
    assert archive.fingerprint() == folder.fingerprint()
    assert archive.stamp().sizes == folder.stamp().sizes


def test_a_folder_inside_a_zip(photos):
    target = pack(photos, photos.parent / "pets.zip", prefix="train/")
    images = open_images(f"{target}/train")
    assert images.classes == ("cat", "dog", "fox") and images.name == "pets/train"
    assert open_images(f"{target}/train/dog").classes == () and len(open_images(f"{target}/train/dog")) == 4
    assert images[0].image.shape[0] == 3 and images[0].label == 0


def test_the_entry_of_the_folder_itself_is_no_file_left_out(photos):
    """zip -r also lists folders: of "train/" nothing is left below "train/"."""
    target = pack(photos, photos.parent / "pets.zip", prefix="train/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("train/", b"")
    assert open_images(f"{target}/train").notes == ()
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("train/labels.csv", b"x")
    assert open_images(f"{target}/train").notes == ("1 other files left out (1 .csv)",)


@pytest.mark.parametrize("prefix", ["photos/", "home/me/photos/"])
def test_the_zip_of_a_folder_is_that_folder(photos, prefix):
    """zip -r photos.zip photos/ puts everything into one folder."""
    target, folder = pack(photos, photos.parent / "photos.zip", prefix=prefix), Folder(photos)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(f"__MACOSX/{prefix}cat/._0.jpg", b"x")
    images = open_images(str(target))
    assert images.classes == ("cat", "dog", "fox") and images.labels.tolist() == folder.labels.tolist()
    assert images.name == "photos" and images.fingerprint() == folder.fingerprint()
    assert images.notes[1] == f"all images lie in the folder {prefix[:-1]}, so the classes are the folders in it"
    assert images._member(0) == f"{target}/{prefix}cat/0.jpg"


def test_the_zip_of_a_folder_of_splits_must_be_pointed_into(photos):
    target = pack(photos, photos.parent / "pets.zip", prefix="pets/train/")
    with pytest.raises(
        InputError, match=r"pets.zip/pets holds splits \(train\).* choose one, for example .*pets.zip/pets/train"
    ):
        open_images(str(target))
    assert open_images(f"{target}/pets/train").classes == ("cat", "dog", "fox")


def test_a_zip_with_members_before_the_header_and_long_extras_is_read(photos):
    target = pack(photos, photos.parent / "photos.zip")
    shifted = photos.parent / "shifted.zip"
    shifted.write_bytes(b"#!/bin/sh\n" * 50 + target.read_bytes())  # self-extracting: all offsets are moved
    assert Archive(shifted).encoded(3) == Folder(photos).encoded(3)


def test_many_threads_read_the_same_bytes(photos):
    folder, archive = Folder(photos), Archive(pack(photos, photos.parent / "photos.zip", zipfile.ZIP_DEFLATED))
    order = [i % len(folder) for i in range(600)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(archive.encoded, order))
    assert read == [folder.encoded(i) for i in order]


def test_what_macos_adds_is_left_out_and_counted(photos):
    target = pack(photos, photos.parent / "photos.zip")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("__MACOSX/cat/._0.jpg", b"x")
        archive.writestr("cat/readme.txt", b"x")
    images = Archive(target)
    assert len(images) == 12 and images.classes == ("cat", "dog", "fox")
    assert images.notes == ("2 other files left out (1 .jpg, 1 .txt)",)


def test_splits_in_a_zip_must_be_chosen(photos):
    target = pack(photos, photos.parent / "pets.zip", prefix="train/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.write(photos / "cat" / "0.jpg", "val/cat/0.jpg")
    with pytest.raises(
        InputError, match=r"pets.zip holds splits \(train, val\), not classes: choose one, for example .*pets.zip/train"
    ):
        open_images(str(target))
    with pytest.raises(InputError, match="pets.zip has no folder 'test'; it holds train, val"):
        open_images(f"{target}/test")


def test_a_file_that_is_no_zip(photos):
    (photos / "x.zip").write_bytes(b"PK\3\4 but no more")
    with pytest.raises(InputError, match="x.zip is not a whole zip file .* copy or download it again"):
        open_images(str(photos / "x.zip"))


def test_a_zip_cut_short(photos):
    target = pack(photos, photos.parent / "photos.zip")
    target.write_bytes(target.read_bytes()[:-100])
    with pytest.raises(InputError, match="photos.zip is not a whole zip file"):
        open_images(str(target))


def test_a_damaged_member_is_named(photos):
    target = pack(photos, photos.parent / "photos.zip")
    content = bytearray(target.read_bytes())
    with zipfile.ZipFile(target) as archive:
        offset = archive.getinfo("cat/0.jpg").header_offset
    content[offset + 80] ^= 0xFF
    target.write_bytes(content)
    images = Archive(target)
    with pytest.raises(Unreadable, match=r"photos.zip/cat/0.jpg: the zip is damaged here \(wrong length or CRC-32\)"):
        images.encoded(0)
    assert images.encoded(1)


@pytest.mark.parametrize("name", ["/etc/x.jpg", "../x.jpg", "cat/../../x.jpg", "C:/x.jpg"])
def test_members_that_point_outside_are_refused(photos, name):
    target = pack(photos, photos.parent / "photos.zip")
    with zipfile.ZipFile(target, "a") as archive:
        archive.write(photos / "cat" / "0.jpg", "placeholder")
        archive.getinfo("placeholder").filename = name
    with pytest.raises(InputError, match="points outside the archive; this zip is unsafe"):
        open_images(str(target))


def test_encrypted_members_are_refused(photos):
    target = pack(photos, photos.parent / "photos.zip")
    content = bytearray(target.read_bytes())
    for entry in re.finditer(b"PK\1\2", bytes(content)):  # directory entries: the flag that says so is at byte 8
        content[entry.start() + 8] |= 1
    target.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted; unpack the zip with its password"):
        open_images(str(target))


def test_an_unknown_packing_is_refused(photos):
    target = pack(photos, photos.parent / "photos.zip", zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match="packed with bzip2; only stored and deflated are read. Unpack it"):
        open_images(str(target))


def test_the_file_is_closed_with_the_set(photos):
    images = Archive(pack(photos, photos.parent / "photos.zip"))
    number = images._file
    del images
    with pytest.raises(OSError):
        os.fstat(number)


def test_real_zip(real_data):
    images = open_images(str(real_data / "tiny_imagenet_40" / "tiny_imagenet_40.zip") + "/val")
    assert len(images) == 2000 and len(images.classes) == 40 and images[7].image.shape == (3, 64, 64)
    assert images.name == "tiny_imagenet_40/val"


def test_a_folder_that_is_called_zip(photos):
    shutil.move(photos, photos.parent / "pets.zip")
    assert len(open_images(str(photos.parent / "pets.zip"))) == 12
