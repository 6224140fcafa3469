"""What dense tasks look at before training: copies of training images by content, and every map in every file."""

import shutil

import numpy as np
import pytest
from dense_toys import Blocks, Narrow
from PIL import Image

from whytransfer import progress
from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.images.scenes import Scenes
from whytransfer.tasks.dense_survey import contents, survey
from whytransfer.tasks.segmentation import Segmentation

FEW = {"architecture": "fcn", "budget": 1e-9, "fit_batch": 2, "draws": 5}


def nothing(*_):
    return None


@pytest.fixture
def camvid(tmp_path):
    """Two training and three test images, the last of which is a training image under another name."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "ab"), ("test", "cd")):
        for name in names:
            for folder, shape, top in ((split, (24, 32, 3), 255), (f"{split}annot", (24, 32), 11)):
                (tmp_path / folder).mkdir(exist_ok=True)
                Image.fromarray(rng.integers(0, top, shape, dtype=np.uint8)).save(tmp_path / folder / f"{name}.png")
    for before, after in (("train", "test"), ("trainannot", "testannot")):
        shutil.copy(tmp_path / before / "a.png", tmp_path / after / "e.png")
    return tmp_path


def both(root):
    return [open_images(f"camvid:{root}:{split}") for split in ("train", "test")]


def test_copies_are_counted_and_said(camvid, monkeypatch):
    notes = []
    monkeypatch.setattr(progress, "say", notes.append)
    assert survey(*both(camvid), "semantic", nothing, nothing) == {"test_images_in_train": 1}
    assert notes == ["note: 1 of 3 test images are training images too: the scores flatter"]
    made, other = Scenes(6, 0, 32), Scenes(6, 1, 32)
    assert survey(made, subset(Scenes(9, 0, 32), [7, 2, 5]), "depth", nothing, nothing) == {"test_images_in_train": 2}
    assert survey(made, other, "depth", nothing, nothing) == {"test_images_in_train": 0}
    assert survey(made, made, "depth", nothing, nothing) == {"test_images_in_train": 6}
    assert contents(subset(made, [3, 1]), "depth", nothing, nothing) == [
        contents(made, "depth", nothing, nothing)[i] for i in (3, 1)
    ]


def test_a_result_says_how_many(camvid):
    results = list(Segmentation(*both(camvid), 32, **FEW).run(Narrow()))
    assert {r.provenance["test_images_in_train"] for r in results} == {1}


def test_a_test_map_that_cannot_be_used_is_found_before_training(camvid, monkeypatch):
    monkeypatch.setattr("whytransfer.tasks.segmentation.fit_dense", None)
    path = camvid / "testannot" / "d.png"
    values = np.array(Image.open(path))
    Image.fromarray(values[:20]).save(path)
    with pytest.raises(InputError, match="the annotation of d.png is for 32 x 20 px, the image has 32 x 24 px"):
        list(Segmentation(*both(camvid), 32, **FEW).run(Narrow()))
    values[3, 4] = 77
    Image.fromarray(values).save(path)
    with pytest.raises(InputError, match="d.png has pixels of value 77, which are no class of this data set"):
        list(Segmentation(*both(camvid), 32, **FEW).run(Narrow()))


def test_a_test_image_that_cannot_be_read_is_found_before_training(camvid, monkeypatch):
    monkeypatch.setattr("whytransfer.tasks.segmentation.fit_dense", None)
    path = camvid / "test" / "d.png"
    path.write_bytes(path.read_bytes()[:-300])  # its header is whole
    with pytest.raises(InputError, match="cannot read image d.png"):
        list(Segmentation(*both(camvid), 32, **FEW).run(Narrow()))


def test_every_map_is_shown_to_the_check():
    seen = []
    images = Blocks(5)
    contents(images, "semantic", lambda sample, where: seen.append((sample.name, where)), nothing)
    assert sorted(seen) == [(f"{i:03d}", images.name) for i in range(5)]
