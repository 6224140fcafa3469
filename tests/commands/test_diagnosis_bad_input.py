"""Bad input to every diagnosis, as people give it: a message that names what is wrong, exit code 2, nothing written."""

import json

import numpy as np
import pytest
import torch
from console import call
from PIL import Image

from whytransfer.backbones import build

IMAGES = "scenes:24:0:24"
GOOD = "random:resnet18-small:1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weight files of a ResNet that has collapsed (every feature is constant), and of one whose features overflow."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name, value in (("collapsed", 0.0), ("overflowing", 3e38)):
        module = build("resnet18-small")
        with torch.no_grad():
            for key, tensor in module.state_dict().items():
                if key.startswith("layer4") and "bn" in key and key.endswith("weight"):
                    tensor.fill_(value)
                if key.startswith("layer4.0.downsample") and tensor.ndim == 4:
                    tensor.fill_(value)
        torch.save(module.state_dict(), folder / f"{name}.pt")
    return folder


def refused(capsys, out, *arguments):
    """The message of a command that ends with code 2 and leaves no results."""
    assert call("diagnose", *arguments, f"--out={out}", "--device=cpu") == 2
    assert not (out / "results.jsonl").exists()
    return " ".join(capsys.readouterr().err.split())


INVARIANCE = ("--size=14", "--values=2", "--count=3", "--transforms", "hue")
COMPARED = ("--train", IMAGES, "--test", "scenes:16:1:24", "--size=14", "--backbone", GOOD)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("collapsed", "collapsed.pt, vector: all 512 features are the same in all 24 images: the backbone is broken"),
        ("overflowing", "24 of 24 images have features that are not finite"),
    ],
)
def test_broken_features_in_invariance(weights, capsys, tmp_path, name, message):
    given = ("invariance", "--backbone", weights / f"{name}.pt", "--images", IMAGES, *INVARIANCE)
    assert message in refused(capsys, tmp_path / "out", *given)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("collapsed", "collapsed.pt: all features are the same in all 16 images: the backbone is broken"),
        ("overflowing", "overflowing.pt: 16 of 16 images have features that are not finite"),
    ],
)
def test_broken_features_in_complementarity(weights, capsys, tmp_path, name, message):
    assert message in refused(capsys, tmp_path / "out", "complementarity", *COMPARED, weights / f"{name}.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("collapsed", "are those of an even grey picture"),
        ("overflowing", "the features of the last map are not finite"),
    ],
)
def test_broken_features_in_inversion(weights, capsys, tmp_path, name, message):
    given = ("inversion", "--backbone", weights / f"{name}.pt", "--images", IMAGES, "--size=32", "--count=1")
    assert message in refused(capsys, tmp_path / "out", *given, "--budget=0.001")


def test_few_images_for_a_covariance_are_said_and_one_is_refused(capsys, tmp_path):
    given = ("--backbone", GOOD, *INVARIANCE[:2], "--count=1", "--transforms", "hue", "--no-figures")
    code = call("diagnose", "invariance", "--images", IMAGES, *given, f"--out={tmp_path / 'few'}", "--device=cpu")
    assert code == 0
    assert "24 images do not determine the covariance of 512 features" in " ".join(capsys.readouterr().err.split())
    message = refused(capsys, tmp_path / "one", "invariance", "--images", "scenes:1:0:24", *given)
    assert "a covariance needs two images at least, got 1" in message


def test_few_images_for_complementarity(capsys, tmp_path):
    few = ("--train", IMAGES, "--test", "scenes:3:1:24", "--size=14", "--backbone", GOOD, "random:resnet18-small:2")
    assert "CKA needs features (N, D) of 4 images or more" in refused(capsys, tmp_path / "a", "complementarity", *few)
    one = ("--train", "scenes:4:1:24", *few[2:])
    message = refused(capsys, tmp_path / "b", "complementarity", *one)
    assert "none of 4 images can be put aside: scenes:4:1:24 has no class of two" in message


def test_groups_with_one_view(capsys, tmp_path):
    (tmp_path / "things" / "cup").mkdir(parents=True)
    picture = Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8))
    picture.save(tmp_path / "things" / "cup" / "1.png")
    given = ("invariance", "--backbone", GOOD, "--images", IMAGES, *INVARIANCE, "--groups", tmp_path / "things")
    message = "1 of 1 groups have one view, which compares with nothing: cup"
    assert message in refused(capsys, tmp_path / "out", *given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "77"),
        ({"category_id": 9}, "9"),
        ({"score": 1.5}, "has the score 1.5, outside [0, 1]. If scores are margins, of which only the order counts"),
        ({"score": float("nan")}, "score"),
        ({"bbox": None}, "bbox"),
    ],
)
def test_detections_that_do_not_fit_their_truth(capsys, tmp_path, change, message):
    truth, found = detections()
    found[0] = {key: value for key, value in {**found[0], **change}.items() if value is not None}
    assert message in errors_refused(capsys, tmp_path, truth, found)


def test_no_detections_and_no_objects(capsys, tmp_path):
    """A detector that finds nothing misses everything; a truth without objects has nothing to say."""
    truth, _ = detections()
    write(tmp_path, truth, [])
    given = ("diagnose", "errors", "--truth", tmp_path / "truth.json", "--detections", tmp_path / "found.json")
    assert call(*given, f"--out={tmp_path / 'out'}", "--draws=5", "--no-figures") == 0
    printed = capsys.readouterr()
    assert "has no detection at all: every object is missed" in " ".join(printed.err.split())
    assert "TIDE errors Miss" in printed.out
    assert "object" in errors_refused(capsys, tmp_path, {**truth, "annotations": []}, [])


def detections():
    """One object in each of two images, both found."""
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 40} for k in (1, 2)]
    boxes = [{"id": k, "image_id": k, "category_id": 1, "bbox": [2.0, 2.0, 9.0, 9.0], "iscrowd": 0} for k in (1, 2)]
    found = [{"image_id": k, "category_id": 1, "bbox": [2.0, 2.0, 9.0, 9.0], "score": 0.5} for k in (1, 2)]
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}, found


def write(folder, truth, found):
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))


def errors_refused(capsys, folder, truth, found):
    write(folder, truth, found)
    given = ("diagnose", "errors", "--truth", folder / "truth.json", "--detections", folder / "found.json")
    assert call(*given, f"--out={folder / 'refused'}", "--draws=5", "--no-figures") == 2
    assert not (folder / "refused" / "results.jsonl").exists()
    return " ".join(capsys.readouterr().err.split())


def test_a_picture_of_20_pixels(capsys, tmp_path):
    """As a view it is too small and says so; as a file it is enlarged and that is said."""
    given = ("inversion", "--backbone", GOOD, "--count=1", "--budget=0.001")
    message = refused(capsys, tmp_path / "a", *given, "--images", IMAGES, "--size=20")
    assert "an inversion of 20 px is too small" in message
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "tiny.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "tiny.png").rename(tmp_path / "pictures" / "tiny.png")
    out = tmp_path / "b"
    assert call("diagnose", *given, "--images", tmp_path / "pictures", "--size=32", f"--out={out}", "--device=cpu") == 0
    assert "enlarged" in capsys.readouterr().err
    assert (out / "results.jsonl").exists()
