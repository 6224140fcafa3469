"""torchvision's data sets from their folders, made here in small: the same images and labels as torchvision gives."""

import pickle

import numpy as np
import pytest
import torchvision.datasets as oracle
from PIL import Image
from scipy.io import savemat

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.records import ImageSet

RNG = np.random.default_rng(0)


@pytest.fixture
def unchecked(monkeypatch):
    """torchvision without its checksums, which the small files made here cannot have."""
    for module in (oracle.cifar, oracle.stl10, oracle.flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda *_: True)


def write_cifar(root, source, key, classes):
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    for name, _ in source.train_list + source.test_list:
        batch = {
            "data": RNG.integers(0, 256, (6, 3072), dtype=np.uint8),
            key: RNG.integers(0, len(classes), 6).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({source.meta["key"]: classes}))


def assert_same(images, reference):
    assert isinstance(images, ImageSet) and len(images) == len(reference)
    for i in range(len(images)):
        pixels, label = reference[i]
        assert np.array_equal(images[i].image.permute(1, 2, 0).numpy(), np.asarray(pixels.convert("RGB")))
        assert images.labels[i] == label and images[i].label == (None if label < 0 else label)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("kind", "source", "key"), [("cifar10", oracle.CIFAR10, "labels"), ("cifar100", oracle.CIFAR100, "fine_labels")]
)
def test_cifar(tmp_path, unchecked, kind, source, key, split):
    write_cifar(tmp_path, source, key, ["cat", "dog", "fox"])
    images = open_images(f"{kind}:{tmp_path}:{split}")
    assert_same(images, source(str(tmp_path), train=split == "train"))
    assert images.classes == ("cat", "dog", "fox") and images.name == f"{kind}/{split}"


def test_train_is_meant_when_no_split_is_named(tmp_path, unchecked):
    write_cifar(tmp_path, oracle.CIFAR10, "labels", ["cat", "dog"])
    assert open_images(f"cifar10:{tmp_path}").fingerprint() == open_images(f"cifar10:{tmp_path}:train").fingerprint()
    assert open_images(f"cifar10:{tmp_path}").fingerprint() != open_images(f"cifar10:{tmp_path}:test").fingerprint()


def test_an_array_is_cached_like_files(tmp_path, unchecked):
    write_cifar(tmp_path, oracle.CIFAR10, "labels", ["cat", "dog"])
    images = open_images(f"cifar10:{tmp_path}:test")
    cache = PixelCache.open(images, 16, tmp_path / "cache")
    assert cache.pixels(2).shape == (16, 16, 3) and cache.fingerprint == images.fingerprint()
    assert np.array_equal(PixelCache.open(images, None, tmp_path / "cache").pixels(5), images.data[5])


@pytest.mark.parametrize("split", ["train", "test", "unlabeled"])
def test_stl10(tmp_path, unchecked, split):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for part, count in (("train", 5), ("test", 4), ("unlabeled", 3)):
        RNG.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{part}_X.bin")
        RNG.integers(1, 3, count, dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    images = open_images(f"stl10:{tmp_path}:{split}")
    assert_same(images, oracle.STL10(str(tmp_path), split))
    assert images.classes == (() if split == "unlabeled" else ("airplane", "bird"))


def test_caltech101(tmp_path):
    for name in ("BACKGROUND_Google", "Faces", "airplanes", "Motorbikes"):
        folder = tmp_path / "caltech101" / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        for i in range(1, 4):
            Image.fromarray(RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(folder / f"image_{i:04d}.jpg")
    (tmp_path / "caltech101" / "Annotations").mkdir()
    images = open_images(f"caltech101:{tmp_path}")
    assert_same(images, oracle.Caltech101(str(tmp_path)))
    assert images.classes == ("Faces", "Motorbikes", "airplanes") and images.name == "caltech101"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_flowers102(tmp_path, unchecked, split):
    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for i in range(1, 10):
        Image.fromarray(RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(folder / "jpg" / f"image_{i:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 1, 102, 7, 7, 7, 2, 2, 2]])})
    savemat(folder / "setid.mat", {"trnid": [[3, 1]], "valid": [[2, 4, 9]], "tstid": [[8, 7, 6, 5]]})
    images = open_images(f"flowers102:{tmp_path}:{split}")
    assert_same(images, oracle.Flowers102(str(tmp_path), split))
    assert len(images.classes) == 102 and images.name == f"flowers102/{split}"


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        ("cifar10", r"data_batch_1, data_batch_2, .* missing in .*/cifar-10-batches-py"),
        ("cifar100", "train, test, meta missing in .*/cifar-100-python"),
        ("stl10", "train_X.bin, train_y.bin, class_names.txt missing in .*/stl10_binary"),
        ("caltech101", "101_ObjectCategories missing in .*/caltech101"),
        ("flowers102", "jpg, imagelabels.mat, setid.mat missing in .*/flowers-102"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_downloaded_or_made(tmp_path, spec, missing):
    with pytest.raises(InputError, match=rf"{spec}: {missing}. Nothing is downloaded here: .* ROOT being {tmp_path}"):
        open_images(f"{spec}:{tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_root_and_a_misspelt_split(tmp_path):
    with pytest.raises(InputError, match="no such file or folder: .*nowhere"):
        open_images(f"cifar10:{tmp_path}/nowhere")
    with pytest.raises(InputError, match="unknown cifar10 split 'tests'. Did you mean 'test'"):
        open_images(f"cifar10:{tmp_path}:tests")


def test_damaged_files_are_named(tmp_path):
    write_cifar(tmp_path, oracle.CIFAR10, "labels", ["cat"])
    with pytest.raises(
        InputError, match="cifar10: a file in .*cifar-10-batches-py has another checksum: copy it again"
    ):
        open_images(f"cifar10:{tmp_path}")
    (tmp_path / "stl10_binary").mkdir()
    (tmp_path / "stl10_binary" / "unlabeled_X.bin").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="stl10: unlabeled_X.bin in .* has 100 bytes, no multiple of 3 x 96 x 96"):
        open_images(f"stl10:{tmp_path}:unlabeled")
    (tmp_path / "flowers-102" / "jpg").mkdir(parents=True)
    for name in ("imagelabels.mat", "setid.mat"):
        (tmp_path / "flowers-102" / name).write_bytes(b"x" * 200)
    with pytest.raises(InputError, match="flowers102: setid.mat or imagelabels.mat in .* is damaged"):
        open_images(f"flowers102:{tmp_path}")
