"""Runs on boxes and on classes of pixels: from an image set to a backbone, killed and continued, and refused."""

import json

import pytest
import torch
from safetensors.torch import load_file

import whytransfer
from whytransfer import pretraining
from whytransfer.commands.regions import open_targets
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.targets import BoxTable
from whytransfer.records import Views

SMALL = {"images": "scenes:32:0:36", "backbone": "resnet18", "size": 32, "epochs": 2, "batch": 8, "accelerator": "cpu"}
SMALL |= {"lr": 0.02, "warmup_epochs": 0}
METHODS = {"supervised-boxes": {"hidden": 32}, "supervised-masks": {}}


def settings(name):
    return {**SMALL, "method": name, **METHODS[name]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One uninterrupted run of each method."""
    root = tmp_path_factory.mktemp("runs")
    return {
        name: (root / name, whytransfer.pretrain(out=root / name, monitor=False, **settings(name))) for name in METHODS
    }


@pytest.mark.parametrize("name", METHODS)
def test_the_backbone_comes_out_as_from_any_method(whole, name):
    folder, summary = whole[name]
    assert summary["loss"] > 0 and whytransfer.load_backbone(folder)(torch.rand(2, 3, 32, 32)).vector.shape == (2, 512)
    card = json.loads((folder / "card.json").read_text())
    assert card["recipe"] == "supervised" and card["config"]["batch"] == 8
    if name == "supervised-masks":
        assert card["regions"]["spec"] == "semantic"
        assert card["config"]["regions_recipe"].startswith("semantic own content=")


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls(whole, name):
    rows = [json.loads(line) for line in (whole[name][0] / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "epoch" in row]
    assert len(losses) == 2 and losses[1] < losses[0] - 0.02, losses


@pytest.mark.parametrize("name", METHODS)
def test_killed_and_continued_it_ends_in_the_same_weights(whole, name, tmp_path, monkeypatch):
    step = pretraining.Pretraining._step

    def dying(run, *arguments):
        if run.state.step + 1 == 7:
            raise SystemExit("killed")
        return step(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "_step", dying)
        with pytest.raises(SystemExit, match="killed"):
            whytransfer.pretrain(out=tmp_path / "run", monitor=False, save_minutes=0, **settings(name))
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    whytransfer.pretrain(out=tmp_path / "run", monitor=False, **settings(name))
    a, b = (load_file(folder / "backbone.safetensors") for folder in (tmp_path / "run", whole[name][0]))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Recorder(torch.nn.Module):
    """A method that keeps what it sees."""

    views = 1

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


def test_each_image_comes_with_its_own_boxes(tmp_path):
    from lightning_fabric import Fabric

    from whytransfer.nn.schedules import Training
    from whytransfer.pretraining import Plan, Pretraining
    from whytransfer.runs import RunFolder
    from whytransfer.views import Viewer, recipe

    pixels = PixelCache.open(open_images("scenes:12:0:24"))
    method, viewer, table = Recorder(), Viewer(recipe("supervised"), 16, seed=0), BoxTable.read(pixels)
    run = RunFolder.open(tmp_path / "run", {"config": {}})
    plan = Plan(Training("sgd", lr_per_256=0.1), epochs=1, batch=4, seed=0, accumulate=2)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    Pretraining(method, pixels, viewer, plan, run, fabric, None, boxes=table).fit()
    assert len(method.seen) == 6
    for views in method.seen:
        index = views.index.numpy()
        again = viewer(
            [pixels.pixels(int(i)) for i in index], index, [0, 0], 0, boxes=[table.boxes(int(i)) for i in index]
        )
        assert torch.equal(views.boxes[0], again.boxes[0]) and views.boxes[0].shape[:1] == (2,)


@pytest.mark.parametrize("name", METHODS)
def test_images_without_what_is_learned_are_refused(name, photos, tmp_path):
    words = {"supervised-boxes": "boxes", "supervised-masks": "label maps or masks"}[name]
    with pytest.raises(InputError, match=f"--method {name} needs {words}, and photos is labelled with class: choose"):
        whytransfer.pretrain(images=str(photos), method=name, batch=4, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_regions_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(InputError, match="--masks grid:3: supervised-masks learns the classes .* --engine semantic"):
        whytransfer.pretrain(**settings("supervised-masks"), masks="grid:3", out=tmp_path / "run")
    with pytest.raises(InputError, match="--masks semantic: supervised-boxes looks at whole images and would ignore"):
        whytransfer.pretrain(**settings("supervised-boxes"), masks="semantic", out=tmp_path / "run")


def test_a_folder_of_label_maps_is_taken_where_it_is_of_these_images(tmp_path):
    from types import SimpleNamespace

    for spec in ("scenes:6:0:24", "scenes:6:1:24"):
        _make(spec, tmp_path / spec.replace(":", "-"))
    pixels = PixelCache.open(open_images("scenes:6:0:24"))
    s = SimpleNamespace(masks="", images="scenes:6:0:24", skip_unreadable=False, method="supervised-masks")
    s.masks = str(tmp_path / "scenes-6-0-24")
    regions, boxes = open_targets(s, ("semantic",), pixels)
    assert boxes is None and regions.regions(0).shape == (24, 24)
    s.masks = str(tmp_path / "scenes-6-1-24")
    with pytest.raises(InputError, match="6 of the 6 images .* have no regions"):
        open_targets(s, ("semantic",), pixels)
    _make("scenes:6:0:24", tmp_path / "grid", "grid:2")
    s.masks = str(tmp_path / "grid")
    with pytest.raises(InputError, match="(?s)holds regions of another recipe.*there:  grid.*needed: semantic own"):
        open_targets(s, ("semantic",), pixels)


def _make(spec, folder, engine="semantic"):
    from whytransfer.masks import RegionStore, making, open_engine

    images, made = open_images(spec), open_engine(engine)
    making.make(images, made, RegionStore.create(folder, making.full_recipe(made, images), engine))


REAL = {
    "supervised-boxes coco": "coco:{}/coco128:val2017",
    "supervised-boxes voc": "voc:{}/voc100:trainval",
    "supervised-masks coco": "coco:{}/coco128:val2017",
    "supervised-masks camvid": "camvid:{}/camvid:val",
}


@pytest.mark.parametrize("case", REAL)
def test_on_real_sets(real_data, case, tmp_path):
    name = case.split()[0]
    more = {"iterations": 2, "batch": 8, "size": 64, "backbone": "resnet18", **METHODS[name]}
    made = whytransfer.pretrain(
        images=REAL[case].format(real_data), method=name, out=tmp_path / "run", monitor=False, cache_px=64, **more
    )
    assert 0 < made["loss"] < 20
