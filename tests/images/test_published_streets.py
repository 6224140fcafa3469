"""Street scenes: Cityscapes' 19 classes and objects, SYNTHIA's 16-bit classes, CamVid; label maps read as they are."""

import numpy as np
import pytest
import torch
from miniatures import SIZE, camvid, cityscapes, deep_png, label_map, picture, synthia, write
from PIL import Image
from torchvision import datasets, tv_tensors

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.published.cityscapes import CLASSES, IDS
from whytransfer.images.published.maps import read_deep_red, read_indices


def test_cityscapes_files_and_classes_are_those_of_torchvision(tmp_path):
    images = open_images(f"cityscapes:{cityscapes(tmp_path)}")
    reference = datasets.Cityscapes(str(tmp_path), "train", target_type=["semantic", "instance"])
    assert sorted(reference.images) == [str(images.root / name) for name in images.names]
    train_id = {c.id: c.train_id for c in datasets.Cityscapes.classes}
    things = {c.train_id - 11 for c in datasets.Cityscapes.classes if c.has_instances and not c.ignore_in_eval}
    assert things == set(range(8)) and len(images.semantic_classes) == 19 and len(images.box_classes) == 8
    for i in range(3):
        sample = images[i]
        _, (ids, instances) = reference[reference.images.index(str(images.root / images.names[i]))]
        expected = np.vectorize(train_id.get)(np.asarray(ids))
        assert np.array_equal(sample.semantic, np.where(expected < 0, 255, expected) % 256)
        numbers = [n for n in np.unique(instances).tolist() if n >= 1000 and train_id[n // 1000] not in (255, -1)]
        assert len(numbers) == len(sample.masks) == 3  # a person and two cars; neither the caravan nor the group
        for mask, label, number in zip(sample.masks, sample.box_labels, numbers, strict=True):
            assert np.array_equal(mask, np.asarray(instances) == number) and label + 11 == train_id[number // 1000]
    assert [images.box_classes[k] for k in sample.box_labels] == ["person", "car", "car"]
    assert sample.boxes.tolist() == [[6, 4, 7, 6], [3, 4, 5, 6], [0, 4, 2, 6]]
    assert isinstance(sample.semantic, tv_tensors.Mask) and sample.semantic.dtype == torch.uint8


def test_the_names_of_cityscapes_are_torchvisions():
    names = {c.train_id: c.name for c in datasets.Cityscapes.classes if 0 <= c.train_id < 255}
    assert tuple(names[k] for k in range(19)) == CLASSES
    ids = {c.train_id: c.id for c in datasets.Cityscapes.classes if 0 <= c.train_id < 255}
    assert tuple(ids[k] for k in range(19)) == IDS


def test_the_test_split_of_cityscapes_has_no_annotations(tmp_path):
    images = open_images(f"cityscapes:{cityscapes(tmp_path)}:test")
    assert images.labelled_with == () and images[0].semantic is None and images[0].boxes is None and len(images) == 1
    assert len(open_images(f"cityscapes:{tmp_path}:val")) == 1


def test_what_is_wrong_with_cityscapes_is_said(tmp_path):
    images = open_images(f"cityscapes:{cityscapes(tmp_path)}")
    path = tmp_path / "gtFine/train/bochum/bochum_000001_000019_gtFine_instanceIds.png"
    label_map(path, np.zeros((2, 2), np.uint16))
    with pytest.raises(InputError, match=rf"{path} is \(2, 2\), its labelIds \(6, 8\)"):
        images[2]
    label_map(path, np.full(SIZE, 50_001, np.uint16))
    with pytest.raises(InputError, match=f"{path} has pixels of value 50, which are no class"):
        images[2]
    path.unlink()
    with pytest.raises(
        InputError, match="1 of 6 label files, first bochum/bochum_000001_.*instanceIds.png, is missing in"
    ):
        open_images(f"cityscapes:{tmp_path}")
    with pytest.raises(
        InputError, match="cityscapes: leftImg8bit/train_extra is missing in .*, which holds gtFine, left"
    ):
        open_images(f"cityscapes:{tmp_path}:train_extra")
    (tmp_path / "leftImg8bit" / "train_extra" / "city").mkdir(parents=True)
    with pytest.raises(InputError, match="any image <city>/.*_leftImg8bit.png is missing in .*train_extra"):
        open_images(f"cityscapes:{tmp_path}:train_extra")


@pytest.mark.parametrize("inside", ["", "RAND_CITYSCAPES"])
def test_synthia_classes_come_from_the_low_byte_of_the_first_channel(tmp_path, inside):
    synthia(tmp_path / inside)
    images = open_images(f"synthia:{tmp_path}")
    values = np.arange(48).reshape(SIZE) % 23
    assert len(images) == 2 and np.array_equal(images[1].semantic, np.where(values == 0, 255, values - 1))
    assert images.semantic_classes[7] == "car" and len(images.semantic_classes) == 22


def test_what_is_wrong_with_synthia_is_said(tmp_path):
    images = open_images(f"synthia:{synthia(tmp_path)}")
    path = tmp_path / "GT" / "LABELS" / "0000001.png"
    for values, message in (
        (np.full((*SIZE, 3), 23, np.uint16), "has pixels of value 23, which are no class"),
        (
            np.full((*SIZE, 3), 256 + 5, np.uint16),
            "has pixels of value 261, which are no class",
        ),  # the high byte counts
    ):
        write(path, deep_png(values))
        with pytest.raises(InputError, match=f"{path} {message}"):
            images[1]
    picture(path)
    with pytest.raises(InputError, match=f"{path} is no 16-bit colour PNG .mode RGB.: take the original file"):
        images[1]
    write(path, deep_png(np.ones((*SIZE, 3), np.uint16))[:-30])
    with pytest.raises(InputError, match=f"{path} is damaged or cut short"):
        images[1]
    path.unlink()
    with pytest.raises(InputError, match="1 of 2 label maps are missing in .*LABELS, first 0000001.png"):
        open_images(f"synthia:{tmp_path}")


def test_deep_colours_are_read_as_opencv_reads_them(tmp_path):
    cv2 = pytest.importorskip("cv2")
    values = np.random.default_rng(0).integers(0, 65536, (37, 21, 4), dtype=np.uint16)
    values[5:30] = np.arange(21)[:, None] * 700  # something for the filters of PNG to do
    for channels in (3, 4):
        path = str(tmp_path / f"{channels}.png")
        cv2.imwrite(path, values[..., :channels])
        assert np.array_equal(read_deep_red(path), values[..., 2])  # OpenCV keeps blue first
    write(tmp_path / "mine.png", deep_png(values[..., :3]))
    assert np.array_equal(cv2.imread(str(tmp_path / "mine.png"), cv2.IMREAD_UNCHANGED)[..., ::-1], values[..., :3])
    assert np.array_equal(read_deep_red(str(tmp_path / "mine.png")), values[..., 0])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_positions_of_any_depth(tmp_path, bits):
    values = (np.arange(48).reshape(SIZE) % 2**bits).astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette([(91 * k) % 256 for k in range(768)])
    image.save(tmp_path / "x.png", bits=bits)
    assert np.array_equal(read_indices(str(tmp_path / "x.png")), values)


def test_grey_of_16_bits(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(SIZE) * 1001
    label_map(tmp_path / "x.png", values)
    assert np.array_equal(read_indices(str(tmp_path / "x.png")), values)


@pytest.mark.parametrize("inside", ["", "CamVid"])
def test_camvid(tmp_path, inside):
    camvid(tmp_path / inside)
    images = open_images(f"camvid:{tmp_path}:test")
    values = np.arange(48).reshape(SIZE) % 12
    assert np.array_equal(images[0].semantic, np.where(values == 11, 255, values)) and images.name == "camvid/test"
    assert images.semantic_classes[8] == "car" and images[0].masks is None
    with pytest.raises(InputError, match="camvid: trainannot is missing in .*, which holds train"):
        open_images(f"camvid:{make_without_labels(tmp_path / 'b')}")


def make_without_labels(root):
    picture(root / "train" / "a.png")
    return root


def test_real_camvid(real_data):
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        images = open_images(f"camvid:{real_data / 'camvid'}:{split}")
        assert len(images) == count and images.labelled_with == ("semantic",)
    sample = images[0]
    assert sample.semantic.shape == (360, 480) and set(np.unique(sample.semantic)) <= {*range(11), 255}
    assert (sample.semantic == 3).float().mean() > 0.05  # there is a road
