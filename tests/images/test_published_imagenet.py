"""ImageNet: torchvision's order, every way the classes of a flat val are listed, and parts that are always the same."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from miniatures import WNIDS, devkit, imagenet, picture, write
from torchvision.datasets import ImageFolder

from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.images.published import write_list
from whytransfer.images.published.imagenet_val import CLASSES


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("inside", ["", "ILSVRC/Data/CLS-LOC"])
def test_class_folders_are_as_torchvision_reads_them(tmp_path, split, inside):
    imagenet(tmp_path / inside)
    images, oracle = open_images(f"imagenet:{tmp_path}:{split}"), ImageFolder(str(tmp_path / inside / split))
    assert [str(tmp_path / inside / split / name) for name in images.names] == [path for path, _ in oracle.samples]
    assert images.labels.tolist() == oracle.targets and list(images.classes) == oracle.classes == WNIDS
    assert images.name == f"imagenet/{split}" and "12 of ImageNet's 1,000 classes are here" in images.notes


def test_a_flat_val_by_the_devkit(tmp_path):
    wnids = devkit(imagenet(tmp_path, flat_val=True))
    images = open_images(f"imagenet:{tmp_path}:val")
    assert [images.classes[label] for label in images.labels] == wnids and list(images.classes) == WNIDS
    assert images.names[3] == "ILSVRC2012_val_00000004.JPEG"


def test_a_flat_val_by_kaggles_table(tmp_path):
    imagenet(tmp_path / "ILSVRC/Data/CLS-LOC", flat_val=True)
    rows = [f"ILSVRC2012_val_{k + 1:08d},{w} 85 1 499 272 {w} 1 2 3 4" for k, w in enumerate(reversed(WNIDS))]
    write(tmp_path / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *rows[::-1]]))
    images = open_images(f"imagenet:{tmp_path}:val")
    assert [images.classes[label] for label in images.labels] == WNIDS[::-1]
    write(tmp_path / "LOC_val_solution.csv", "\n".join(rows[1:]))
    with pytest.raises(
        InputError, match="1 of 12 images of val are not in .*LOC_val_solution.csv: ILSVRC2012_val_0000000"
    ):
        open_images(f"imagenet:{tmp_path}:val")


def test_a_flat_val_by_val_txt_and_the_sorted_synsets(tmp_path):
    imagenet(tmp_path, flat_val=True)
    write(tmp_path / "val.txt", "".join(f"ILSVRC2012_val_{k + 1:08d}.JPEG {11 - k}\n" for k in range(12)))
    with pytest.raises(
        InputError, match="the list of classes that val.txt counts in, .*synset_words.txt .* is missing"
    ):
        open_images(f"imagenet:{tmp_path}:val")  # with 12 of the 1,000 class folders, 11 could be any class
    write(tmp_path / "synset_words.txt", "".join(f"{wnid} some, words\n" for wnid in WNIDS))
    images = open_images(f"imagenet:{tmp_path}:val")
    assert [images.classes[label] for label in images.labels] == WNIDS[::-1]
    write(tmp_path / "val.txt", "ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002.JPEG twelve\n")
    with pytest.raises(InputError, match="line 2 of .*val.txt should be FILE CLASS with a class below 12, found 'ILSV"):
        open_images(f"imagenet:{tmp_path}:val")


def test_what_is_wrong_with_an_imagenet_folder_is_said(tmp_path):
    imagenet(tmp_path, flat_val=True)
    with pytest.raises(
        InputError, match="the classes of val: .* devkit, LOC_val_solution.csv or val.txt is missing in"
    ):
        open_images(f"imagenet:{tmp_path}:val")
    devkit(tmp_path)
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    write(data / "ILSVRC2012_validation_ground_truth.txt", "1\n13\n")
    with pytest.raises(
        InputError, match="line 2 of .*ground_truth.txt should be a class number of meta.mat, found '13'"
    ):
        open_images(f"imagenet:{tmp_path}:val")
    whole = (data / "meta.mat").read_bytes()
    for damaged in (b"x" * 300, *(whole[: len(whole) * part // 8] for part in range(8)), whole[:200] + whole[201:]):
        write(data / "meta.mat", damaged)
        with pytest.raises(InputError, match="meta.mat is damaged"):
            open_images(f"imagenet:{tmp_path}:val")
    (data / "meta.mat").unlink()
    with pytest.raises(InputError, match="meta.mat, which says what the numbers .* is missing"):
        open_images(f"imagenet:{tmp_path}:val")
    picture(tmp_path / "train" / "cat" / "0.JPEG")
    with pytest.raises(
        InputError, match="train holds folders that are no wnids .*: cat. Give class folders of another"
    ):
        open_images(f"imagenet:{tmp_path}")


def test_a_tenth_is_a_tenth_of_every_class_always_the_same(tmp_path):
    sizes = {"n00000001": 100, "n00000002": 37, "n00000003": 4, "n00000004": 15}
    for wnid, size in sizes.items():
        imagenet(tmp_path, [wnid], size)
    images = open_images(f"imagenet-10pct:{tmp_path}")
    assert np.bincount(images.labels).tolist() == [10, 4, 1, 2] and images.name == "imagenet-10pct/train"
    assert list(images.names) == sorted(images.names, key=lambda n: (n.split("/")[0], n))
    whole = open_images(f"imagenet:{tmp_path}")
    assert set(images.names) < set(whole.names) and images.classes == whole.classes
    assert [n.split("_")[1].split(".")[0] for n in images.names if n[8] == "4"] == [
        "14",
        "4",
    ]  # nothing may change these
    chosen = set(images.names)
    for name in [n for n in whole.names if n not in chosen and n.startswith("n00000001")][:4]:
        os.unlink(tmp_path / "train" / name)  # of a class of 96 ten are taken still, and the same ones
    assert set(open_images(f"imagenet-10pct:{tmp_path}").names) == chosen
    assert len(open_images(f"imagenet-10pct:{tmp_path}:val")) == len(open_images(f"imagenet:{tmp_path}:val")) == 4


def test_a_tenth_by_list_and_its_list(tmp_path):
    imagenet(tmp_path / "in", per_class=20)
    images = open_images(f"imagenet-10pct:{tmp_path}/in:train")
    write_list(images, tmp_path / "list.txt")
    lines = (tmp_path / "list.txt").read_text().split()
    assert len(lines) == 24 and lines[0].startswith(f"{WNIDS[0]}_") and lines[0].endswith(".JPEG")
    again = open_images(f"imagenet-10pct:{tmp_path}/in:train:{tmp_path}/list.txt")
    unnamed = open_images(f"imagenet-10pct:{tmp_path}/in::{tmp_path}/list.txt")  # an empty split is the first
    assert (
        list(again.names) == list(unnamed.names) == list(images.names) and again.fingerprint() == images.fingerprint()
    )
    write(tmp_path / "list.txt", f"{WNIDS[1]}_3.JPEG\n{WNIDS[1]}/{WNIDS[1]}_4.JPEG\n\n{WNIDS[0]}_0.JPEG\n")
    mine = open_images(f"imagenet-10pct:{tmp_path}/in:train:{tmp_path}/list.txt")
    assert [n.split("/")[1] for n in mine.names] == [f"{WNIDS[0]}_0.JPEG", f"{WNIDS[1]}_3.JPEG", f"{WNIDS[1]}_4.JPEG"]
    assert mine.labels.tolist() == [0, 1, 1]
    write(tmp_path / "list.txt", f"{WNIDS[1]}_3.JPEG\n{WNIDS[1]}_99.JPEG\n")
    with pytest.raises(InputError, match=rf"1 images of .*list.txt are not in train: {WNIDS[1]}_99.JPEG \(line 2\)"):
        open_images(f"imagenet-10pct:{tmp_path}/in:train:{tmp_path}/list.txt")
    with pytest.raises(InputError, match="no such list: .*other.txt"):
        open_images(f"imagenet-10pct:{tmp_path}/in:train:{tmp_path}/other.txt")


def test_a_hundred_classes_are_the_same_in_train_and_val(tmp_path):
    wnids = [f"n{k:08d}" for k in range(1, 131)]
    imagenet(tmp_path / "in", wnids, per_class=2)
    train, val = (open_images(f"imagenet-100:{tmp_path}/in:{split}") for split in ("train", "val"))
    assert len(train.classes) == 100 and train.classes == val.classes and set(train.classes) < set(wnids)
    assert train.classes[:4] == ("n00000001", "n00000002", "n00000004", "n00000005")  # nothing may change these
    assert np.bincount(train.labels).tolist() == [2] * 100 and list(train.classes) == sorted(train.classes)
    write_list(train, tmp_path / "classes.txt")
    assert (tmp_path / "classes.txt").read_text().split() == list(train.classes)


def test_a_hundred_classes_by_list(tmp_path):
    wnids = [f"n{k:08d}" for k in range(1, 131)]
    imagenet(tmp_path / "in", wnids, per_class=1)
    write(tmp_path / "mine.txt", "".join(f"{wnid} any words\n" for wnid in wnids[:29:-1]))
    assert list(open_images(f"imagenet-100:{tmp_path}/in:val:{tmp_path}/mine.txt").classes) == wnids[30:]
    write(tmp_path / "mine.txt", "\n".join(wnids[:40]))
    with pytest.raises(InputError, match="mine.txt names 40 classes, 100 are needed"):
        open_images(f"imagenet-100:{tmp_path}/in:train:{tmp_path}/mine.txt")
    write(tmp_path / "mine.txt", "\n".join([*wnids[:99], "n99999999"]))
    with pytest.raises(InputError, match="1 classes of .*mine.txt are not there: n99999999"):
        open_images(f"imagenet-100:{tmp_path}/in:train:{tmp_path}/mine.txt")
    with pytest.raises(InputError, match="imagenet-100: 12 classes .* 100 are needed"):
        open_images(f"imagenet-100:{imagenet(tmp_path / 'few')}")


def test_a_hundred_classes_of_a_flat_val(tmp_path):
    wnids = [f"n{k:08d}" for k in range(1, 105)]
    of_image = devkit(imagenet(tmp_path, wnids, per_class=1, flat_val=True), wnids)
    val, train = open_images(f"imagenet-100:{tmp_path}:val"), open_images(f"imagenet-100:{tmp_path}")
    assert val.classes == train.classes and len(val) == 100
    assert [val.classes[k] for k in val.labels] == [wnid for wnid in of_image if wnid in set(train.classes)]


def test_the_hundred_classes_of_the_whole_imagenet_are_those_of_the_list(tmp_path):
    timm = find_spec("timm")
    if timm is None:
        pytest.skip("timm, which brings a list of the 1,000 wnids, is not installed")
    wnids = (Path(timm.origin).parent / "data" / "_info" / "imagenet_synsets.txt").read_text().split()
    assert len(wnids) == CLASSES
    for wnid in wnids:
        (tmp_path / "train" / wnid).mkdir(parents=True)
    listed = (Path(__file__).parents[2] / "docs" / "imagenet-100.txt").read_text().split()
    for wnid in listed:
        (tmp_path / "train" / wnid / "0.JPEG").touch()
    assert list(open_images(f"imagenet-100:{tmp_path}").classes) == listed


def test_a_list_needs_names(tmp_path):
    part = subset(open_images(f"imagenet:{imagenet(tmp_path)}"), [0])
    with pytest.raises(InputError, match="write_list: imagenet/train is no set of files"):
        write_list(part, tmp_path / "x")


def test_real_wnid_folders(real_data, tmp_path):
    import zipfile

    with zipfile.ZipFile(real_data / "tiny_imagenet_40" / "tiny_imagenet_40.zip") as archive:
        archive.extractall(
            tmp_path, [m for m in archive.namelist() if m.endswith(("_1.JPEG", "_22.JPEG", "val_3.JPEG"))]
        )
    images = open_images(f"imagenet:{tmp_path}")
    assert images.notes == ("40 of ImageNet's 1,000 classes are here",) and len(images.classes) == 40
    assert images[0].image.shape == (3, 64, 64) and images[0].label == 0
