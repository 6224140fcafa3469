"""Parts of sets and labels in file names: by-name, share, and classes in turns of sets that are no files."""

import numpy as np
import pytest
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.class_splits import splits_of


@pytest.fixture
def faces(tmp_path):
    for name in ("Ada_Lovelace_1.png", "Ada_Lovelace_12.png", "Bo_7.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


def test_the_class_is_what_comes_before_the_last_underscore(faces):
    (faces / "more").mkdir()
    Image.new("RGB", (8, 8)).save(faces / "more" / "Bo_8.png")
    images = open_images(f"by-name:{faces}")
    assert images.classes == ("Ada_Lovelace", "Bo") and images.labels.tolist() == [0, 0, 1]
    assert images[2].label == 1 and any("1 images in folders below" in note for note in images.notes)


def test_names_without_a_label_and_empty_folders_are_refused(faces, tmp_path_factory):
    with pytest.raises(InputError, match="no images in"):
        open_images(f"by-name:{tmp_path_factory.mktemp('empty')}")
    with pytest.raises(InputError, match="missing|no such|not exist"):
        open_images(f"by-name:{faces}/nowhere")
    Image.new("RGB", (8, 8)).save(faces / "bo.png")
    with pytest.raises(InputError, match="1 of the 4 images .* not called LABEL_NUMBER: bo.png"):
        open_images(f"by-name:{faces}")


def test_a_share_has_that_share_of_every_class():
    whole, part = open_images("scenes:400:3:16"), open_images("share:10:scenes:400:3:16")
    assert np.array_equal(
        np.bincount(part.labels, minlength=10), np.round(np.bincount(whole.labels, minlength=10) / 10)
    )
    assert part.fingerprint() == open_images("share:10:scenes:400:3:16").fingerprint() != whole.fingerprint()
    for wrong in ("share:0:scenes:400", "share:100:scenes:400", "share:ten:scenes:400", "share:10"):
        with pytest.raises(InputError, match=f"{wrong} is not share:PER_CENT:IMAGES"):
            open_images(wrong)


def test_classes_are_dealt_in_turns_without_a_list():
    whole, novel = open_images("scenes:200:3:16"), open_images("classes:scenes:200:3:16:turns:test")
    assert novel.classes == tuple(whole.classes[k] for k in (2, 5, 8))
    assert len(novel) == int(np.isin(whole.labels, (2, 5, 8)).sum())
    first = novel[0]
    assert novel.classes[first.label] == whole.classes[whole[int(novel.indices[0])].label]
    both = open_images("classes:scenes:200:3:16:turns:train+val")
    assert set(splits_of(both).values()) == {"train", "val"} and not set(both.classes) & set(novel.classes)
    assert both.fingerprint() != novel.fingerprint()
    with pytest.raises(InputError, match="unknown split of turns 'novel'"):
        open_images("classes:scenes:200:3:16:turns:novel")
