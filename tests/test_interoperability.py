"""Other libraries' models diagnosed, our backbone in other libraries, their data sets and log readers: by running."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model

import whytransfer
from whytransfer.images import Folder

RUN = {"method": "moco-v2", "size": 24, "batch": 4, "epochs": 2, "queue": 8, "splits": 1, "accelerator": "cpu"}
ASKED = {"images": "scenes:24:0:48", "size": 32, "values": 2, "count": 4, "transforms": ("h_flip", "hue")}


def diagnosed(spec, tmp_path):
    """{metric: value} of a backbone on a few scenes."""
    rows = whytransfer.diagnose_invariance(backbone=spec, out=tmp_path / "why", figures=False, device="cpu", **ASKED)
    return {row.metric: row.value for row in rows}


@pytest.fixture(scope="module")
def model():
    """A torchvision ResNet-18 whose batch norms are no longer the initial ones, as somebody might have trained it."""
    torch.manual_seed(0)
    made = get_model("resnet18", weights=None)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    return made.eval()


@pytest.fixture
def expected(model, tmp_path):
    """What torchvision's own file of it is diagnosed with."""
    torch.save(model.state_dict(), tmp_path / "torchvision.pth")
    found = diagnosed(f"torchvision:resnet18:{tmp_path / 'torchvision.pth'}", tmp_path)
    assert {"h_flip similarity", "hue similarity"} <= found.keys() and len(set(found.values())) > 3
    return found


def test_a_timm_model_is_diagnosed_as_the_torchvision_model_with_its_weights(model, expected, tmp_path):
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    theirs = timm.create_model("resnet18", pretrained=False)
    theirs.load_state_dict(model.state_dict())
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    found = diagnosed(f"timm:resnet18@{tmp_path / 'timm.pth'}", tmp_path)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    torch.save(timm.create_model("convnext_atto", pretrained=False).state_dict(), tmp_path / "convnext.pth")
    other = diagnosed(f"timm:convnext_atto@{tmp_path / 'convnext.pth'}", tmp_path)
    assert other.keys() == expected.keys() and np.isfinite(list(other.values())).all()
    assert other != pytest.approx(expected, rel=1e-2)


def test_a_lightly_model_is_diagnosed_as_the_torchvision_model_with_its_weights(model, expected, tmp_path):
    modules = pytest.importorskip("lightly.models.modules", reason="the extra bench (lightly) is not installed")

    class SimCLR(nn.Module):
        """As in lightly's tutorial."""

        def __init__(self, resnet):
            super().__init__()
            self.backbone = nn.Sequential(*list(resnet.children())[:-1])
            self.projection_head = modules.SimCLRProjectionHead(512, 512, 128)

    torch.save(SimCLR(model).state_dict(), tmp_path / "lightly.ckpt")
    found = diagnosed(f"lightly:{tmp_path / 'lightly.ckpt'}", tmp_path)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of pictures and a run on it."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("interoperability"), np.random.default_rng(0)
    for i in range(12):
        path = folder / "photos" / "abc"[i // 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    whytransfer.pretrain(images=str(folder / "photos"), out=folder / "run", **RUN)
    return folder


def test_our_backbone_is_that_of_torchvisions_detector(run, tmp_path):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    whytransfer.export(backbone=str(run / "run"), format="torchvision", out=tmp_path / "exported")
    trunk = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    trunk.body.load_state_dict(torch.load(tmp_path / "exported" / "model.pth", weights_only=True))  # every key, no more
    card = json.loads((run / "run" / "card.json").read_text())
    detector = FasterRCNN(
        trunk, num_classes=3, image_mean=card["mean"], image_std=card["std"], min_size=64, max_size=96
    )
    images = [torch.rand(3, 64, 80), torch.rand(3, 64, 64)]
    with torch.no_grad():
        normalised = detector.eval().transform([images[1]])[0].tensors
        ours = whytransfer.load_backbone(str(run / "run"))(images[1][None]).stages
    for k, theirs in enumerate(trunk.body(normalised).values()):
        torch.testing.assert_close(theirs, ours[f"layer{k + 1}"], rtol=1e-4, atol=1e-4)
    boxes = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}
    loss = sum(detector.train()(images, [boxes, boxes]).values())
    loss.backward()
    assert loss.isfinite() and trunk.body.conv1.weight.grad.abs().sum() > 0


def test_our_backbone_gives_timm_its_stages(run, tmp_path):
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    whytransfer.export(backbone=str(run / "run"), format="hf", out=tmp_path / "exported")
    where = f"local-dir:{tmp_path / 'exported'}"
    stages = timm.create_model(where, pretrained=True, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    ours, images = whytransfer.load_backbone(str(run / "run")), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        theirs = stages(ours.normalise(images))
    for k, found in enumerate(theirs):
        torch.testing.assert_close(found, ours(images).stages[f"layer{k + 1}"], rtol=1e-4, atol=1e-4)


def test_a_hugging_face_dataset_is_pretrained_on_as_the_folder_it_was_made_of(run, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    folder = Folder(run / "photos")
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=folder.classes)})
    rows = {"image": [str(run / "photos" / name) for name in folder.names], "label": folder.labels.tolist()}
    datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(str(tmp_path / "saved"))
    whytransfer.pretrain(images=f"hf:{tmp_path / 'saved'}", out=tmp_path / "run", **RUN)
    ours, theirs = (load_file(place / "run" / "backbone.safetensors") for place in (run, tmp_path))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_tensorboard_reads_what_a_run_logs(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = EventAccumulator(str(run / "run" / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (run / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "knn", "images_per_second"):
        points = logs.Scalars(f"epoch/{name}")
        assert [point.value for point in points] == pytest.approx([row[name] for row in rows], rel=1e-6)
        assert [point.step for point in points] == [3, 6]
