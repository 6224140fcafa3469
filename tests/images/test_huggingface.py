"""Local Hugging Face datasets: the same pictures and labels as the library gives, one clear error for anything else."""

import builtins
import sys

import numpy as np
import pytest

hf = pytest.importorskip("datasets", reason="the extra hf is not installed")

from whytransfer.errors import InputError  # noqa: E402
from whytransfer.images import Folder, holdout, open_images  # noqa: E402
from whytransfer.images.cache import PixelCache  # noqa: E402
from whytransfer.images.content import Encoded  # noqa: E402
from whytransfer.images.huggingface import HuggingFace  # noqa: E402


@pytest.fixture
def rows(photos):
    files = [str(photos / name) for name in Folder(photos).names]
    features = hf.Features(
        {"image": hf.Image(), "label": hf.ClassLabel(names=["cat", "dog", "fox"]), "n": hf.Value("int32")}
    )
    labels = Folder(photos).labels.tolist()
    with open(files[0], "rb") as file:  # one picture as bytes, the others as paths
        pictures = [{"bytes": file.read(), "path": None}, *({"bytes": None, "path": path} for path in files[1:])]
    return hf.Dataset.from_dict({"image": pictures, "label": labels, "n": list(range(12))}, features=features)


def test_a_saved_dataset_is_an_image_set(rows, photos, tmp_path):
    rows.save_to_disk(str(tmp_path / "saved"))
    images, folder = open_images(f"hf:{tmp_path / 'saved'}"), Folder(photos)
    assert isinstance(images, Encoded) and images.classes == folder.classes and images.name == "saved"
    assert images.labels.tolist() == folder.labels.tolist() and images[0].name == "row 0"
    for i in range(12):
        assert np.array_equal(images[i].image.numpy(), folder[i].image.numpy()) and images[i].label == folder[i].label
        assert np.array_equal(images[i].image.permute(1, 2, 0).numpy(), np.asarray(rows[i]["image"].convert("RGB")))


def test_its_cache_and_its_parts(rows, tmp_path):
    rows.save_to_disk(str(tmp_path / "saved"))
    images = open_images(f"hf:{tmp_path / 'saved'}")
    cache = PixelCache.open(images, None, tmp_path / "cache")
    assert np.array_equal(cache.pixels(5), images[5].image.permute(1, 2, 0).numpy())
    assert cache.fingerprint == images.fingerprint() == open_images(f"hf:{tmp_path / 'saved'}").fingerprint()
    assert [len(part) for part in holdout(images, 0.25, 0)] == [9, 3]


def test_splits_must_be_named_when_there_are_several(rows, tmp_path):
    hf.DatasetDict({"train": rows, "val": rows.select(range(4))}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(InputError, match="holds the splits train, val: choose one, such as hf:.*saved:train"):
        open_images(f"hf:{tmp_path / 'saved'}")
    with pytest.raises(InputError, match="unknown split of .*saved 'vall'. Did you mean 'val'"):
        open_images(f"hf:{tmp_path / 'saved'}:vall")
    assert len(open_images(f"hf:{tmp_path / 'saved'}:val")) == 4
    assert open_images(f"hf:{tmp_path / 'saved'}:val").name == "saved/val"


def test_a_dataset_without_splits_has_none_to_choose(rows, tmp_path):
    rows.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(InputError, match="has no splits, so 'train' cannot be chosen"):
        open_images(f"hf:{tmp_path / 'saved'}:train")


def test_a_folder_of_parquet_files(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(hf.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "table").mkdir()
    rows.to_parquet(str(tmp_path / "table" / "train.parquet"))
    assert open_images(f"hf:{tmp_path / 'table'}").labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_labels_of_several_kinds(rows):
    assert HuggingFace(rows.remove_columns("label"), "x").classes == ()
    plain = rows.remove_columns("label").add_column("label", [7, 7, 3, None] * 3)
    images = HuggingFace(plain, "x")
    assert images.classes == ("3", "7") and images.labels.tolist() == [1, 1, 0, -1] * 3
    assert HuggingFace(rows, "x", label="n").classes[:3] == ("0", "1", "2")
    texts = HuggingFace(rows.remove_columns("label").add_column("label", ["owl", "ant", "", None] * 3), "x")
    assert texts.classes == ("ant", "owl") and texts.labels.tolist() == [1, 0, -1, -1] * 3
    coarse = rows.add_column("coarse", [0] * 12).cast_column("coarse", hf.ClassLabel(names=["animal"]))
    assert HuggingFace(coarse, "x").classes == ("cat", "dog", "fox")
    with pytest.raises(
        InputError, match=r"2 columns could be meant \(kind, coarse\): name one. Columns: image \(Image\)"
    ):
        HuggingFace(coarse.rename_column("label", "kind"), "x")


def test_rows_selected_or_changed_have_other_stamps(rows):
    assert (
        HuggingFace(rows, "x").stamp() != HuggingFace(rows.select([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), "x").stamp()
    )
    assert HuggingFace(rows.select([5, 2]), "x").labels.tolist() == [1, 0]


def test_an_empty_cell_is_named(rows, tmp_path):
    holed = hf.Dataset.from_dict({"image": [*rows.cast_column("image", hf.Image(decode=False))["image"][:2], None]})
    images = HuggingFace(holed.cast_column("image", hf.Image()), "holed")
    with pytest.raises(InputError, match="cannot read image holed row 2: the cell is empty"):
        PixelCache.open(images, None, tmp_path / "cache")


def test_no_pictures_and_no_dataset(rows, tmp_path):
    with pytest.raises(InputError, match=r"no column holds images. Columns: label \(ClassLabel\), n \(Value\)"):
        HuggingFace(rows.remove_columns("image"), "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="hf: .*empty holds no dataset that the library datasets can read"):
        open_images(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(InputError, match="no such file or folder: .*nowhere"):
        open_images(f"hf:{tmp_path / 'nowhere'}")


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "datasets")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'whytransfer\[hf\]'"):
        open_images(f"hf:{tmp_path}")
