"""Finetuning: the paper's grid, a loop written out, the frozen backbone of the caller, exact resumption, one test."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whytransfer.backbones import fingerprint, load_backbone
from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.records import Features
from whytransfer.tasks import bicubic, finetune, fitting, predictions
from whytransfer.tasks.finetune import SCHEDULES, Classifier, Finetune, Grid, held_out
from whytransfer.tasks.fitting import Schedule


class Tiny(nn.Module):
    """One convolution and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6)
        self.spec, self.arch, self.width = "toy:tiny", "toy", 6

    def forward(self, images):
        last = torch.relu(self.norm(self.conv(images)))
        return Features(last.mean((2, 3)), last, {"layer1": last})


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Tiny().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return [PixelCache.open(open_images(f"scenes:{n}:{s}:16"), folder=folder) for n, s in ((60, 0), (40, 1))]


@pytest.fixture
def quick(monkeypatch):
    """A grid of four short fits, one of them too bold."""
    schedule = Schedule(6, 8, 0.1, "cosine", momentum=0.9, nesterov=True)
    monkeypatch.setitem(SCHEDULES, "quick", Grid(schedule, (0.1, 0.01), (0.0, 1e-3)))
    return "quick"


def test_the_grid_is_the_papers():
    grid = SCHEDULES["ssl-transfer"]
    assert grid.settings == [
        (lr, wd / lr) for lr in (0.1, 0.01, 0.001, 0.0001) for wd in (0, 1e-6, 1e-5, 1e-4, 1e-3)
    ]  # fmt: skip
    s = grid.schedule
    assert (s.iterations, s.batch, s.shape, s.momentum, s.nesterov) == (5000, 64, "cosine", 0.9, True)
    assert len(SCHEDULES["four-rates"].settings) == 4 and len(SCHEDULES["one-rate"].settings) == 1


def test_the_budget_scales_steps_and_the_batch_the_rate(scenes):
    task = Finetune(*scenes, size_px=8, budget=0.01, fit_batch=32)
    planned = task.planned(0.01, 0.1)
    assert (planned.iterations, planned.batch, planned.lr, planned.weight_decay) == (100, 32, 0.005, 0.1)


def test_a_fit_is_the_loop_written_out(scenes, backbone, monkeypatch):
    schedule = Schedule(4, 8, 0.05, "cosine", momentum=0.9, nesterov=True)
    monkeypatch.setitem(SCHEDULES, "one-rate", Grid(schedule, (0.05,), (1e-3,)))
    results = list(Finetune(*scenes, size_px=8, schedule="one-rate", draws=50).run(backbone, 3))
    model = Classifier(copy.deepcopy(backbone), len(scenes[0].classes), 3).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-3 / 0.05, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for t in range(4):
        index, epochs = fitting.batch_of(3, t, 60, 8)
        views = bicubic.crop_views([scenes[0].pixels(int(i)) for i in index], index, epochs, 8, 3)
        optimizer.zero_grad()
        F.cross_entropy(model(views), torch.from_numpy(scenes[0].labels[index])).backward()
        optimizer.step()
        scheduler.step()
    with torch.inference_mode():
        logits = model.eval()(bicubic.centre_views([scenes[1].pixels(i) for i in range(40)], 8))
    expected = 100 * (logits.argmax(1).numpy() == scenes[1].labels).mean()
    assert [r.metric for r in results] == ["top1", "mean_per_class"] and results[0].value == pytest.approx(expected)
    assert results[0].low <= results[0].value <= results[0].high and results[0].n == 40


def test_the_best_setting_is_fitted_again_and_tested_once(scenes, backbone, quick, tmp_path, monkeypatch, capsys):
    seen, original = [], finetune._Run._answer
    monkeypatch.setattr(
        finetune._Run, "_answer", lambda self, m, images: seen.append(len(images)) or original(self, m, images)
    )
    before = fingerprint(backbone)
    result = next(Finetune(*scenes, size_px=8, schedule=quick, folder=tmp_path, draws=50).run(backbone, 0))
    held = len(held_out(scenes[0].labels, 0)[1])
    assert seen == [held] * 4 + [40]  # the test images once, last
    told = result.provenance
    best = max(told["grid"], key=lambda row: row["validation"])
    assert (told["lr"], told["weight_decay"]) == (best["lr"], best["weight_decay"]) and len(told["grid"]) == 4
    assert fingerprint(backbone) == before == told["weights_sha256"] and told["frozen"] is False
    assert not any(p.requires_grad for p in backbone.parameters()) and not backbone.training
    kept = predictions.read(tmp_path, told["predictions"])
    assert 100 * (kept["predicted"] == kept["truth"]).mean() == pytest.approx(result.value)
    assert len(list(tmp_path.glob("finetune-*/score.json"))) == 4  # a folder for every setting, without its weights
    assert len(list(tmp_path.glob("finetune-*/checkpoint.pt"))) == 1 == len(list(tmp_path.glob("*/predictions.npz")))


def dying(calls):
    """bicubic.crop_views that dies at this call."""
    original, count = bicubic.crop_views, [0]

    def views(*arguments):
        count[0] += 1
        if count[0] == calls:
            raise RuntimeError("killed")
        return original(*arguments)

    return views


@pytest.mark.parametrize("calls", [4, 9, 28])  # in the first setting, in the second, in the last fit
def test_a_killed_run_goes_on_to_the_same_end(calls, scenes, backbone, quick, tmp_path, monkeypatch):
    task = Finetune(*scenes, size_px=8, schedule=quick, folder=tmp_path / "killed", draws=50)
    whole = list(dataclasses.replace(task, folder=tmp_path / "whole").run(backbone, 1))
    monkeypatch.setattr(fitting, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(fitting.fit, "__kwdefaults__", {**fitting.fit.__kwdefaults__, "save_every_s": 0.0})
    with monkeypatch.context() as context, pytest.raises(RuntimeError, match="killed"):
        context.setattr(bicubic, "crop_views", dying(calls))
        list(task.run(backbone, 1))
    count, original = [0], bicubic.crop_views

    def counted(*arguments):
        count[0] += 1
        return original(*arguments)

    monkeypatch.setattr(bicubic, "crop_views", counted)
    again = list(task.run(backbone, 1))
    assert [r.value for r in again] == [r.value for r in whole] and count[0] == 30 - (calls - 1)
    assert again[0].provenance["grid"] == whole[0].provenance["grid"]
    states = [
        torch.load(next((tmp_path / part).glob("*/checkpoint.pt")), weights_only=True)["module"]
        for part in ("killed", "whole")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_setting_that_diverges_counts_as_nothing_and_is_told(scenes, backbone, monkeypatch, tmp_path, capsys):
    schedule = Schedule(12, 8, 0.1, "constant", momentum=0.9)
    monkeypatch.setitem(SCHEDULES, "bold", Grid(schedule, (1e25, 0.01), (0.0,)))
    task = Finetune(*scenes, size_px=8, schedule="bold", folder=tmp_path, draws=50)
    first = next(task.run(backbone, 0))
    assert [row["diverged"] for row in first.provenance["grid"]] == [True, False] and first.provenance["lr"] == 0.01
    assert "lr 1e+25 with weight decay 0 diverged and counts as 0 %" in capsys.readouterr().err
    assert next(task.run(backbone, 0)).provenance["grid"] == first.provenance["grid"]


def test_shares_of_labels_and_images_of_several_classes(scenes, backbone, quick):
    found = list(
        Finetune(*scenes, size_px=8, schedule=quick, labels=(50, 100), of="objects", draws=50).run(backbone, 0)
    )
    assert [r.metric for r in found] == ["mean_ap_area", "mean_ap_11_point"] * 2
    assert found[0].data == f"{scenes[0].name} (50 % of the labels) -> {scenes[1].name}"
    assert 25 <= found[0].provenance["train_images"] <= 40 and found[2].provenance["train_images"] == 60


def test_a_scaled_down_grid_says_so(scenes, backbone, quick, capsys):
    result = next(Finetune(*scenes, size_px=8, schedule=quick, budget=0.5, draws=50).run(backbone, 0))
    said = "3 iterations of 8 images, 50 % of the images of the full schedule"
    assert said in result.provenance["told"] and f"finetune, schedule quick: {said}" in capsys.readouterr().err
    assert result.provenance["schedule"]["iterations"] == 3 and result.provenance["schedule_name"] == "quick"


def test_every_member_of_a_fusion_is_trained():
    fusion = load_backbone("random:resnet18-small+random:resnet18-small:1")
    model = Classifier(fusion, 4, seed=0).train()
    F.cross_entropy(model(torch.rand(2, 3, 8, 8)), torch.tensor([0, 3])).backward()
    assert all(p.grad is not None for p in model.parameters()) and not any(p.requires_grad for p in fusion.parameters())


def test_the_held_out_part_is_a_fifth_of_every_class():
    strata = np.repeat([0, 1, 2], [50, 5, 1])
    rest, held = held_out(strata, 0)
    assert sorted([*rest, *held]) == list(range(56)) and np.bincount(strata[held], minlength=3).tolist() == [10, 1, 0]
    with pytest.raises(InputError, match="none of 3 training images can be put aside.*--schedule one-rate"):
        held_out(np.arange(3), 0)


def test_refusals(scenes, backbone, quick, tmp_path, monkeypatch):
    for settings, says in (
        ({"mode": "frozen"}, "finetune trains the backbone; for mode frozen use --task readout"),
        ({"schedule": "ssl-transfr"}, "unknown schedule of finetune 'ssl-transfr'. Did you mean 'ssl-transfer'"),
        ({"budget": 2.0}, "--budget is the share"),
        ({"labels": (0.0,)}, "over 0 and at most 100"),
    ):
        with pytest.raises(InputError, match=says):
            list(Finetune(*scenes, size_px=8, **{"schedule": quick, **settings}).run(backbone))
    with monkeypatch.context() as patch, pytest.raises(InputError, match="no class has two. Use more labels"):
        patch.setattr(fitting, "fit", None)  # 100 % comes first, and is not fitted in vain
        list(Finetune(*scenes, size_px=8, schedule=quick, labels=(100, 0.1)).run(backbone))
    with pytest.raises(InputError, match="the last map of one image of 4 px has one: give --fit-batch 2 or more"):
        list(Finetune(*scenes, size_px=4, schedule=quick, fit_batch=1).run(backbone))
    with pytest.raises(InputError, match="needs at least two classes"):
        Finetune(subset(scenes[0], np.flatnonzero(scenes[0].labels == 0)), scenes[1], size_px=8)
    list(Finetune(*scenes, size_px=8, schedule=quick, folder=tmp_path, draws=10).run(backbone, 0))
    path = next(tmp_path.glob("*/score.json"))
    assert set(json.loads(path.read_text())) == {"validation", "diverged"}
    path.write_text("{")
    with pytest.raises(InputError, match="score.json is damaged.*Delete it to fit this setting again"):
        list(Finetune(*scenes, size_px=8, schedule=quick, folder=tmp_path, draws=10).run(backbone, 0))
