"""The doctor keeps its word: every promised figure, and a forecast that follows from the ceilings."""

import os

import numpy as np
import pytest

import whytransfer
from whytransfer.backbones.resnet import build as resnet
from whytransfer.commands.doctor import forecast, machine, on_a_grid
from whytransfer.methods import build
from whytransfer.views import Viewer, recipe

CEILINGS = {"reading": 1000.0, "views": 200.0, "step": 100.0}  # 5 ms of data, 1 of them reading; 10 ms of step


def test_on_a_processor_the_parts_take_turns():
    found = forecast(CEILINGS, "cpu", images=5000)
    assert found["expected_images_per_second"] == pytest.approx(1 / 0.015)
    assert found["waiting_for_data"] == pytest.approx(5 / 15)
    assert found["eta_seconds"] == pytest.approx(75)
    assert "the step is the limit" in found["advice"]


@pytest.mark.parametrize(("step", "rate", "waiting", "limit"), [(100.0, 100, 0, "step"), (1000.0, 200, 4 / 5, "data")])
def test_beside_a_gpu_they_overlap(step, rate, waiting, limit):
    found = forecast({**CEILINGS, "step": step}, "cuda", images=5000)
    assert found["expected_images_per_second"] == pytest.approx(rate)
    assert found["waiting_for_data"] == pytest.approx(waiting)
    assert found["eta_seconds"] == pytest.approx(5000 / rate)
    assert f"{limit} is the limit" in found["advice"]


def test_methods_on_regions_are_measured_with_a_grid():
    viewer = on_a_grid(Viewer(recipe("detcon-s"), 16, seed=0), {"regions"})
    views = viewer([np.zeros((20, 30, 3), np.uint8)] * 2, np.arange(2), [0, 0], 0)
    assert len(views.regions) == 2 and views.regions[0].shape == (2, 16, 16) and int(views.regions[0].max()) <= 24
    assert len(views.regions[0].unique()) > 1


def test_a_measured_machine_has_every_promised_figure(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = whytransfer.doctor(images="scenes:72:0:24", size=24, batch=16, epochs=3, seconds=0.2)
    rates = {name: found[f"{name}_images_per_second"] for name in CEILINGS}
    assert min(rates.values()) > 0
    assert (found["images"], found["epochs"], found["batch"], found["decoded_share"]) == (72, 3, 16, 1.0)
    expected = forecast(rates, "cpu", images=64 * 3)  # four batches of 16, the rest is left out of an epoch
    assert {k: found[k] for k in expected} == expected
    assert found["cores"] == len(os.sched_getaffinity(0)) and found["memory_gb"] > found["peak_memory_gb"] > 0.05
    assert 11 < found["parameters_millions"] < 30 and found["gpu"] == "none"
    assert found["bfloat16"].startswith(("yes", "no")) and "jpeg" in found["jpeg_decoder"] and found["torch"]


def test_of_a_large_set_a_sample_is_decoded(monkeypatch):
    from whytransfer.images.scenes import Scenes

    decoded = []
    draw = Scenes.__getitem__
    monkeypatch.setattr(Scenes, "__getitem__", lambda self, i: decoded.append(i) or draw(self, i))
    monkeypatch.setattr("whytransfer.commands.doctor.SAMPLE", 40)
    found = whytransfer.doctor(images="scenes:100000:5:24", size=24, batch=16, epochs=1, seconds=0.1, cache_gb=0.01)
    assert found["images"] == 100_000 and 40 <= len(set(decoded)) <= 40 + 256 and max(decoded) == 99_999
    assert found["decoded_share"] == pytest.approx(1e7 / (100_000 * 24 * 24 * 3))
    rates = {k: found[f"{k}_images_per_second"] for k in (*CEILINGS, "views_of_undecoded")}
    expected = forecast(rates, "cpu", 16 * (100_000 // 16), found["decoded_share"])
    assert {k: found[k] for k in expected} == expected and "larger --cache-gb" in found["advice"]


def test_what_does_not_fit_is_decoded_at_each_use():
    found = forecast({**CEILINGS, "views_of_undecoded": 50.0}, "cpu", images=100, decoded_share=0.25)
    data = 0.25 / 200 + 0.75 / 50
    assert found["expected_images_per_second"] == pytest.approx(1 / (data + 0.01))
    assert found["waiting_for_data"] == pytest.approx(data / (data + 0.01))
    assert "75 % of the pictures do not fit" in found["advice"] and found["advice"].startswith("data is the limit")


def test_cores_are_counted_as_everywhere_else(monkeypatch):
    monkeypatch.setattr("whytransfer.memory.usable_cores", lambda: 3)
    assert machine()["cores"] == 3


@pytest.mark.parametrize("name", ["supervised-boxes", "supervised-masks"])
def test_detectors_and_segmenters_are_measured_with_one_class(name):
    method = build(name, resnet("resnet18"), classes=2, images=4)
    viewer = on_a_grid(Viewer(recipe(method.recipe), 32, seed=0), method.needs)
    views = viewer([np.zeros((40, 50, 3), np.uint8)] * 2, np.arange(2), [0, 0], 0)
    assert (len(views.boxes), len(views.regions)) == ((1, 0) if name == "supervised-boxes" else (0, 1))
    assert method.loss(views)["loss"] > 0
