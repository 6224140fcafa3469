"""Places by its three layouts and CelebA by identity: the same files and labels as torchvision gives, and refusals."""

import os

import pytest
import torchvision.datasets as oracle
from miniatures import celeba, places205, places365, places_folders, write

from whytransfer.errors import InputError
from whytransfer.images import open_images


def test_places205(tmp_path):
    images = open_images(f"places:{places205(tmp_path)}")
    assert images.classes == ("abbey", "apartment_building-outdoor", "bar") and images.labels.tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
    assert images.names[2] == "a/apartment_building/outdoor/gsun_train0.jpg" and images.name == "places205/train"
    assert images[5].label == 2 and len(open_images(f"places:{tmp_path}:val")) == 3


@pytest.mark.parametrize(("split", "theirs"), [("train", "train-standard"), ("val", "val")])
def test_places365_by_its_listings(tmp_path, monkeypatch, split, theirs):
    monkeypatch.setattr(oracle.places365, "check_integrity", lambda *_, **__: True)
    images = open_images(f"places:{places365(tmp_path)}:{split}")
    reference = oracle.Places365(str(tmp_path), theirs, small=True)
    assert [
        (str(images.root / name), label) for name, label in zip(images.names, images.labels, strict=True)
    ] == reference.imgs
    assert images.classes == ("airfield", "apartment_building-outdoor", "bar") and len(images) == 2
    assert images[0].image.shape == (3, 6, 8) and images.labelled_with == ("scene",)


@pytest.mark.parametrize("inside", ["", "places365_standard"])
def test_places365_in_category_folders(tmp_path, inside):
    places_folders(tmp_path / inside)
    images = open_images(f"places:{tmp_path}:val")
    assert len(images) == len(images.classes) == 365 and images.labelled_with == ("scene",)
    assert images.name == "places365/val" and images.labels.tolist() == list(range(365))


def test_class_folders_of_another_number_are_not_places(tmp_path):
    with pytest.raises(InputError, match=r"places: a folder for each of the 365 categories \(7 found\) is missing in"):
        open_images(f"places:{places_folders(tmp_path, 7)}")


def test_what_is_wrong_with_a_listing_of_places_is_said(tmp_path):
    listing = places205(tmp_path) / "trainvalsplit_places205" / "train_places205.csv"
    for text, message in (
        ("a/abbey/1.jpg zero\n", "line 1 of .*train_places205.csv should be NAME NUMBER, found 'a/abbey/1.jpg zero'"),
        ("../../x.jpg 0\n", "should be NAME NUMBER, found '../../x.jpg 0'"),
        (
            "a/abbey/1.jpg 0\n\nb/bar/1.jpg 0\n",
            "line 3 of .* should be an image of a/abbey, as others of 0 are, found 'b/b",
        ),
        ("a/abbey/1.jpg 1\n", "does not count its scenes from 0 without a gap"),
        ("a/abbey/none.jpg 0\n", "a/abbey/none.jpg, the first image of the listing, is missing in .*images256"),
        ("", "the listing of places205/train is empty"),
    ):
        write(listing, text)
        with pytest.raises(InputError, match=message):
            open_images(f"places:{tmp_path}")
    places365(tmp_path / "b")
    write(tmp_path / "b" / "places365_val.txt", "Places365_val_00000001.jpg 3\n")
    with pytest.raises(InputError, match="line 1 of .*places365_val.txt should be an image and a category below 3"):
        open_images(f"places:{tmp_path / 'b'}:val")
    (tmp_path / "b" / "categories_places365.txt").unlink()
    with pytest.raises(InputError, match="places: categories_places365.txt is missing in"):
        open_images(f"places:{tmp_path / 'b'}")


@pytest.mark.parametrize("split", ["train", "all"])  # torchvision cannot read a split of one image
def test_celeba_by_identity(tmp_path, monkeypatch, split):
    monkeypatch.setattr(oracle.CelebA, "_check_integrity", lambda _: True)
    celeba(tmp_path / "celeba")
    for name, columns in (
        ("list_bbox_celeba.txt", "a"),
        ("list_landmarks_align_celeba.txt", "a"),
        ("list_attr_celeba.txt", "a"),
    ):
        lines = "".join(f"{k:06d}.jpg 1\n" for k in range(1, 7))
        write(tmp_path / "celeba" / name, f"6\n{columns}\n{lines}")
    images = open_images(f"celeba:{tmp_path}:{split}")
    reference = oracle.CelebA(str(tmp_path), split, target_type="identity")
    assert list(images.names) == list(reference.filename)
    assert [int(images.classes[label]) for label in images.labels] == reference.identity[:, 0].tolist()
    assert images.labelled_with == ("identity",) and images.labels.max() == len(images.classes) - 1


def test_celeba_as_its_authors_and_as_kaggle_pack_it(tmp_path):
    plain = open_images(f"celeba:{celeba(tmp_path / 'a')}")
    packed = open_images(f"celeba:{celeba(tmp_path / 'b', 'Img', 'Anno', 'Eval')}")
    twice = open_images(f"celeba:{celeba(tmp_path / 'c', 'img_align_celeba')}")
    assert plain.fingerprint() == packed.fingerprint() == twice.fingerprint()
    assert plain.classes == ("17", "2880") and plain.labels.tolist() == [1, 0, 1, 0]


def test_what_is_wrong_with_celeba_is_said(tmp_path):
    celeba(tmp_path)
    write(tmp_path / "identity_CelebA.txt", "000001.jpg 2880\n000002.jpg\n")
    with pytest.raises(InputError, match="line 2 of .*identity_CelebA.txt should be FILE NUMBER, found '000002.jpg'"):
        open_images(f"celeba:{tmp_path}")
    write(tmp_path / "identity_CelebA.txt", "000001.jpg 2880\n")
    with pytest.raises(InputError, match="identity_CelebA.txt lacks 3 of them, first 000002.jpg"):
        open_images(f"celeba:{tmp_path}")
    (tmp_path / "identity_CelebA.txt").unlink()
    with pytest.raises(
        InputError, match="identity_CelebA.txt or Anno/identity_CelebA.txt is missing in .*, which holds img"
    ):
        open_images(f"celeba:{tmp_path}")
    os.unlink(celeba(tmp_path / "b") / "img_align_celeba" / "000003.jpg")
    with pytest.raises(
        InputError, match="1 of 4 images of the train split are missing in .*img_align_celeba, first 000003.jpg"
    ):
        open_images(f"celeba:{tmp_path / 'b'}")
    write(tmp_path / "b" / "list_eval_partition.txt", "000001.jpg 1\n")
    with pytest.raises(InputError, match="list_eval_partition.txt has no image of the train split"):
        open_images(f"celeba:{tmp_path / 'b'}")
