"""NaN and infinity wherever they can enter a run, and what bfloat16 does to its curve."""

import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn

import whytransfer
from whytransfer.diagnosis.whitening import whiten
from whytransfer.errors import InputError, RunError
from whytransfer.nn.schedules import Training
from whytransfer.pretraining import Plan, Pretraining
from whytransfer.records import Views
from whytransfer.runs import RunFolder

AT = 5  # the step in which something goes wrong, of two epochs of four


class Poisoned(nn.Module):
    """Viewer and method in one; `value` gets into the images, the loss or a gradient of step AT."""

    def __init__(self, where: str, value: float):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.backbone.width = 4
        self.where, self.value, self.step = where, value, 0

    def view(self, pixels, indices, labels, epoch, regions, boxes):
        images = torch.from_numpy(np.stack(pixels)).movedim(3, 1).float() / 255
        if self.where == "images" and self.step == AT:
            images[0, 0, 0, 0] = self.value
        return Views((images,), torch.from_numpy(indices), torch.from_numpy(labels))

    def loss(self, views):
        loss = self.backbone(views.images[0]).mean()
        if self.step == AT and self.where == "loss":
            loss = loss + self.value
        if self.step == AT and self.where == "gradient":
            loss.register_hook(lambda gradient: gradient * self.value)
        return {"loss": loss}

    def after_step(self, out, progress):
        self.step += 1


class Pixels:
    labels = np.zeros(16, np.int64)

    def __len__(self):
        return 16

    def pixels(self, i):
        return np.full((6, 6, 3), 10 * i, dtype=np.uint8)


def trained(folder, where, value, save_minutes):
    method = Poisoned(where, value)
    plan = Plan(Training("sgd", lr_per_256=0.5), epochs=2, batch=4, seed=0, save_minutes=save_minutes)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    Pretraining(method, Pixels(), method.view, plan, RunFolder.open(folder, {"config": {}}), fabric, None).fit()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["images", "loss", "gradient"])
def test_what_is_no_number_stops_the_run_at_its_step_with_a_good_checkpoint(tmp_path, where, value):
    """Saved at each step, so that what was good is known to the step; a gradient is seen in what it does to weights."""
    told = rf"weights were found to be NaN, infinite or overflowing at step {AT + 1}"
    told = told if where == "gradient" else rf"the loss became -?(nan|inf) at step {AT} \(epoch 1\)"
    with pytest.raises(RunError, match=rf"{told}. Last good checkpoint: step {AT}, .*lower --lr"):
        trained(tmp_path / "run", where, value, save_minutes=0)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == AT and all(torch.isfinite(t).all() for t in state["method"].values())
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    assert not json.loads((tmp_path / "run" / "card.json").read_text())["finished"]


@pytest.mark.parametrize("where", ["images", "gradient"])
def test_between_saves_the_next_loss_tells(tmp_path, where):
    step = {"images": AT, "gradient": AT + 1}[where]
    with pytest.raises(
        RunError, match=rf"the loss became nan at step {step} \(epoch 1\). Last good checkpoint: step 4"
    ):
        trained(tmp_path / "run", where, math.nan, save_minutes=1e9)


def test_without_poison_the_same_run_ends(tmp_path):
    trained(tmp_path / "run", "nowhere", math.nan, save_minutes=0)
    assert json.loads((tmp_path / "run" / "card.json").read_text())["finished"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_no_numbers_are_refused(value):
    features = torch.randn(20, 4)
    features[3, 1] = value
    with pytest.raises(InputError, match="1 of 20 images have features that are not finite, in 1 of 4"):
        whiten(features)


def losses(folder, images, precision):
    whytransfer.pretrain(
        images=images, out=folder, method="supervised", size=32, batch=16, epochs=3, precision=precision, monitor=False,
        accelerator="cpu", backbone="resnet18", threads=1,
    )  # fmt: skip
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_bfloat16_learns_as_float32_does_and_each_repeats_itself(real_data, tmp_path):
    """Photographs of four classes: the first losses agree to some per cent, and fall; weights stay float32."""
    images = tmp_path / "photos"
    with zipfile.ZipFile(real_data / "tiny_imagenet_40" / "tiny_imagenet_40.zip") as archive:
        names = [name for name in archive.namelist() if re.search(r"train/n0.*\.JPEG$", name)]
        for kind in sorted({Path(name).parts[-2] for name in names})[:4]:
            for name in sorted(name for name in names if f"/{kind}/" in name)[:16]:
                (images / kind).mkdir(parents=True, exist_ok=True)
                (images / kind / Path(name).name).write_bytes(archive.read(name))
    full, half = losses(tmp_path / "32", str(images), "32"), losses(tmp_path / "bf16", str(images), "bf16")
    again = losses(tmp_path / "again", str(images), "bf16")
    assert half == again and half != full
    np.testing.assert_allclose(half[:2], full[:2], rtol=0.1)  # in the third, 64 pictures are learnt by heart: chaos
    assert full[-1] < full[0] and half[-1] < half[0]
    weights = load_file(tmp_path / "bf16" / "backbone.safetensors")
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float32}
