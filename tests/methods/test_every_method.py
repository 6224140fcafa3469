"""What holds for every method: any width and depth, and a killed run's weights. Several processes: test_worlds.py."""

import pytest
import torch
from tiny import Tiny, views

from whytransfer.methods import METHODS, build, options_of
from whytransfer.records import Views

NAMES = [name for name in METHODS if set(METHODS[name].needs) <= {"labels"}]  # others need regions, boxes, maps
SMALL = {"queue": 16, "splits": 1, "dim": 4, "hidden": 8, "negatives": 9}


def made(name, backbone, images=24):
    options = {k: v for k, v in SMALL.items() if k in options_of(name)}
    classes = 99 if "labels" in METHODS[name].needs else None
    return build(name, backbone, classes=classes, images=images, seed=1, **options).train()


@pytest.fixture(scope="module", params=["resnet18x2", "resnet101"])
def large(request):
    from whytransfer.backbones.resnet import build as resnet

    return resnet(request.param)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("-small") or "m" in options_of(n)])
def test_wide_and_deep_backbones_fit(name, large):
    method, v = made(name, large), views(batch=4, count=METHODS[name].views, dtype=torch.float32)
    loss = method.loss(v)["loss"]
    assert loss.isfinite() and loss.requires_grad and method.backbone.width in (1024, 2048)


def placed(batch=4, side=96):
    """Two views of pictures in which four quarters are regions and classes of pixels, with a box each."""
    v, half = views(batch=batch, dtype=torch.float32), side // 2
    images = tuple(x.repeat(1, 1, side // 8, side // 8) for x in v.images)
    quarters = torch.arange(4, dtype=torch.uint8).view(2, 2).repeat_interleave(half, 0).repeat_interleave(half, 1)
    boxes = torch.tensor([[4.0, 4, half, side - 4, 1]]).expand(batch, 1, 5)
    return Views(images, v.index, v.labels, (quarters.expand(batch, side, side),) * 2, (boxes, boxes))


@pytest.mark.parametrize("name", [n for n in METHODS if n not in NAMES and not n.endswith("-small")])
def test_wide_and_deep_backbones_fit_methods_of_places_too(name, large):
    options = {k: v for k, v in {"dim": 4, "hidden": 32}.items() if k in options_of(name)}
    method = build(name, large, classes=4, images=24, seed=1, **options).train()
    out = method.loss(placed())
    assert out["loss"].isfinite() and out["loss"].requires_grad and out["loss"] > 0
    assert method.backbone.width in (1024, 2048)


@pytest.fixture(scope="module")
def pixels():
    from whytransfer.images import open_images
    from whytransfer.images.cache import PixelCache

    return PixelCache.open(open_images("scenes:24:0:16"))


def fit(name, folder, pixels, killed_in=None):
    """5 steps of 8 images, 3 to an epoch; `killed_in` a step, everything since the step before it is lost."""
    from lightning_fabric import Fabric

    from whytransfer import pretraining
    from whytransfer.commands.method import views_for
    from whytransfer.runs import RunFolder
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    kind, step = METHODS[name], pretraining.Pretraining._step

    def dying(run, *arguments):
        if run.state.step + 1 == killed_in:
            raise SystemExit("killed")
        return step(run, *arguments)

    plan = pretraining.Plan(kind.defaults, epochs=2, batch=8, seed=0, save_minutes=0.0, iterations=5)
    viewer = Viewer(views_for(recipe(kind.recipe), kind.views), 12, 0, threads=1)
    fabric, run = Fabric(accelerator="cpu", devices=1, precision="32-true"), RunFolder.open(folder, {"config": {}})
    method = made(name, Tiny(), images=len(pixels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "_step", dying)
        pretraining.Pretraining(method, pixels, viewer, plan, run, fabric, None).fit()
    return method.state_dict(), [row["loss"] for row in run.load()["metrics"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_to_the_same_weights(name, tmp_path, pixels):
    whole, losses = fit(name, tmp_path / "whole", pixels)
    with pytest.raises(SystemExit, match="killed"):
        fit(name, tmp_path / "killed", pixels, killed_in=5)  # in the last epoch, which ends early
    state, again = fit(name, tmp_path / "killed", pixels)
    assert again == losses and len(losses) == 2
    assert whole.keys() == state.keys() and all(torch.equal(whole[k], state[k]) for k in whole)


def test_presets_for_small_data_are_trained_as_small_data_allows():
    for name in (n for n in NAMES if n.endswith("-small")):
        training = METHODS[name].defaults
        assert training.optimizer == "sgd" and 64 <= training.batch <= 256 and training.warmup_epochs > 0
