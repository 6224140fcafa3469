"""Runs on regions: they reach the method with their views, a killed run goes on with them, and the card names them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import whytransfer
from whytransfer.commands.regions import check_masks, open_regions, say_how_coarse, say_how_many_are_bare
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.records import Views

SMALL = {
    "images": "scenes:24:0:36",
    "method": "detcon-b-small",
    "masks": "grid:3",
    "backbone": "resnet18",
    "size": 36,
    "epochs": 2,
    "batch": 8,
    "hidden": 16,
    "accelerator": "cpu",
}


def weights(folder):
    return load_file(folder / "backbone.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, whytransfer.pretrain(out=folder, monitor=False, **SMALL)


def test_the_card_names_the_regions_and_the_settings_can_be_read_again(uninterrupted):
    folder, summary = uninterrupted
    card = json.loads((folder / "card.json").read_text())
    assert card["regions"]["spec"] == "grid:3" and "n=3" in card["regions"]["recipe"]
    assert card["config"]["regions_recipe"] == card["regions"]["recipe"]
    assert card["config"]["regions_fingerprint"] == card["regions"]["fingerprint"] and "masks" not in card["config"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["masks"] == "grid:3"
    assert summary["loss"] > 0
    with pytest.raises(InputError, match="(?s)another configuration. Differing keys:.*regions_recipe"):
        whytransfer.pretrain(out=folder, monitor=False, **{**SMALL, "masks": "grid:2"})


@pytest.mark.slow
def test_killed_and_continued_it_ends_in_the_same_weights(uninterrupted, tmp_path):
    out = tmp_path / "killed"
    arguments = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    more = [f"--out={out}", "--save-minutes=0", "--no-monitor"]
    command = [sys.executable, "-m", "whytransfer.cli", "pretrain", *arguments, *more]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | threads)
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < 2 and process.poll() is None and time.monotonic() < deadline:
        if (out / "checkpoint.pt").exists():
            seen.add((out / "checkpoint.pt").stat().st_mtime_ns)
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was to be killed before its end"
    assert not (out / "backbone.safetensors").exists()
    whytransfer.pretrain(out=out, monitor=False, **SMALL)
    assert same(weights(out), weights(uninterrupted[0]))


class Stored:
    """Regions as a store hands them over: halves of the picture, named after its place in the set."""

    recipe, fingerprint = "halves", "0"

    def __init__(self, pixels):
        self.pixels = pixels

    def regions(self, i):
        high, wide = self.pixels.pixels(i).shape[:2]
        return (torch.arange(wide) * 2 // wide + 2 * i).to(torch.uint8).expand(high, wide)


class Recorder(torch.nn.Module):
    """A method that keeps what it sees."""

    views, needs = 2, ("regions",)

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Conv2d(3, 4, 3)
        self.backbone.width = 4
        self.seen = []

    def loss(self, views: Views):
        self.seen.append(views)
        return {"loss": self.backbone(views.images[0]).square().mean()}

    def after_step(self, out, progress):
        pass


def test_each_image_comes_with_its_own_regions_in_every_view(tmp_path):
    from lightning_fabric import Fabric

    from whytransfer.nn.schedules import Training
    from whytransfer.pretraining import Plan, Pretraining
    from whytransfer.runs import RunFolder
    from whytransfer.views import Viewer, recipe

    pixels = PixelCache.open(open_images("scenes:12:0:24"))
    method, viewer = Recorder(), Viewer(recipe("detcon-b"), 16, seed=0)
    run = RunFolder.open(tmp_path / "run", {"config": {}})
    plan = Plan(Training("sgd", lr_per_256=0.1), epochs=1, batch=4, seed=0, accumulate=2)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    Pretraining(method, pixels, viewer, plan, run, fabric, None, Stored(pixels)).fit()
    assert len(method.seen) == 6
    for views in method.seen:
        index = views.index.numpy()
        stored = [Stored(pixels).regions(int(i)) for i in index]
        again = viewer([pixels.pixels(int(i)) for i in index], index, np.zeros(2), 0, stored)
        for regions, expected in zip(views.regions, again.regions, strict=True):
            assert torch.equal(regions, expected) and torch.equal(regions.amin((1, 2)) // 2, views.index.byte())


def test_regions_that_lack_and_regions_that_would_be_ignored_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="--method detcon-s contrasts regions: give --masks .* grid:5"):
        whytransfer.pretrain(images="nowhere", method="detcon-s", out=tmp_path / "run")
    with pytest.raises(InputError, match="--masks grid:5: moco-v2 looks at whole images and would ignore them"):
        whytransfer.pretrain(images="nowhere", method="moco-v2", masks="grid:5", out=tmp_path / "run")
    for masks, said in (
        ("gird:5", "no folder of that name here, 'gird:5'. Did you mean 'grid'"),
        ("made/regions", "is no store of regions: it does not exist"),
        ("grid:0", "give 1 to 15 cells along a side"),
        ("annotated:nowhere.json", "no such file or folder: nowhere.json"),
        ("mcg:nofile", "ranking nofile: there is no such file"),
    ):
        with pytest.raises(InputError, match=said):
            whytransfer.pretrain(images="nowhere", method="detcon-s", masks=masks, out=tmp_path / "run")
    with pytest.raises(InputError, match="nowhere"):  # a ranking is not learnt for pictures that are not there
        whytransfer.pretrain(images="nowhere", method="detcon-s", masks="mcg", out=tmp_path / "run")
    check_masks("grid", "detcon-b", ("regions",))
    check_masks(None, "supervised", ("labels",))


def test_what_is_neither_a_store_nor_an_engine_is_refused(tmp_path, monkeypatch):
    pixels = PixelCache.open(open_images("scenes:4:0:24"))
    with pytest.raises(InputError, match="no folder of that name here, 'gird'. Did you mean 'grid'"):
        open_regions("gird", pixels)
    with pytest.raises(InputError, match="is no store of regions: it does not exist. Make one with"):
        open_regions(str(tmp_path / "made"), pixels)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    for folder in ("made", "made/"):
        with pytest.raises(InputError, match="made is no store of regions: it has no store.json. Make one with"):
            open_regions(folder, pixels)


def test_regions_are_made_once_and_belong_to_their_pictures(monkeypatch):
    pixels = PixelCache.open(open_images("scenes:6:1:24"), max_side_px=12)
    made = open_regions("grid:2", pixels)
    monkeypatch.setattr("whytransfer.masks.making.make", lambda *_: pytest.fail("made again"))
    again, part = open_regions("grid:2", pixels), open_regions("grid:2", pixels.subset(np.array([4, 1])))
    for i in range(6):
        assert made.regions(i).shape == pixels.pixels(i).shape[:2] and torch.equal(made.regions(i), again.regions(i))
    assert torch.equal(part.regions(0), made.regions(4)) and made.fingerprint == again.fingerprint != part.fingerprint


@pytest.mark.parametrize(
    ("backbone", "size", "said", "advice"),
    [
        ("resnet18", 64, "2 x 2", "larger --size (96 and more), or a backbone whose name ends in -small"),
        ("resnet50", 96, "", ""),
        ("resnet18-small", 64, "", ""),
        ("resnet18-small", 16, "2 x 2", "larger --size (24 and more).\n"),  # it is small already
    ],
)
def test_a_coarse_map_is_said(capsys, backbone, size, said, advice):
    say_how_coarse(backbone, size)
    words = capsys.readouterr().err
    assert (said in words and advice in words) if said else words == ""


def photos_with_masks(folder, drawn):
    """24 pictures in folder/pictures and label maps in folder/drawn, of which the first `drawn` have a region."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for part in ("pictures", "drawn"):
        (folder / part).mkdir(parents=True)
    for i in range(24):
        Image.fromarray(rng.integers(0, 255, (36, 36, 3), dtype=np.uint8)).save(folder / f"pictures/{i:02d}.png")
        label = np.full((36, 36), 255, np.uint8)
        label[:18] = 3 if i < drawn else 255
        Image.fromarray(label).save(folder / f"drawn/{i:02d}.png")
    return {"images": str(folder / "pictures"), "masks": f"annotated:{folder / 'drawn'}"}


def test_a_run_on_pictures_without_any_region_is_refused_and_leaves_nothing(tmp_path):
    """Its loss would be 0 from the first step to the last."""
    with pytest.raises(InputError, match="none of the 24 pictures has a region .annotated .*nothing to learn"):
        whytransfer.pretrain(out=tmp_path / "run", monitor=False, **SMALL | photos_with_masks(tmp_path, drawn=0))
    assert not (tmp_path / "run").exists()


def test_pictures_without_a_region_are_counted(tmp_path, capsys):
    given = photos_with_masks(tmp_path, drawn=9)
    pixels = PixelCache.open(open_images(given["images"]))
    regions = open_regions(given["masks"], pixels)
    say_how_many_are_bare(regions)
    assert "note: 15 of the 24 pictures have no region: they count as pictures seen" in capsys.readouterr().err
    assert regions.bare(most=3) == (2, 3)  # pictures 0, 11 and 23
    say_how_many_are_bare(open_regions("grid:2", pixels))
    assert capsys.readouterr().err.count("no region") == 0


def test_what_a_method_says_of_itself_is_kept_beside_its_loss(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    whytransfer.pretrain(out=out, monitor=False, **SMALL | {"epochs": 4})  # 12 steps, the tenth is kept
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    (matched,), (loss,) = events.Scalars("matched"), events.Scalars("loss")
    assert matched.step == loss.step == 10 and 0 < matched.value <= 1 and loss.value > 0
