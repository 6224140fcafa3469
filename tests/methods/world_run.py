"""A run of the loop on some processes, in small and in float64, for test_world_runs.py."""

import pytest
import torch
import torch.distributed as dist
from tiny import Tiny

SMALL = {"queue": 32, "splits": 4, "dim": 4, "hidden": 8}


def fit(rank, world, folder, name, killed_in=None):
    """5 steps of 16 images, 3 to an epoch; `killed_in` a step, what came since the step before it is lost.

    The method's state, the losses of the epochs and the images of each step, as this process has them.
    """
    from whytransfer import pretraining

    seen, make, step = [], pretraining.Pretraining._views, pretraining.Pretraining._step

    def noting(run, indices, epoch):
        seen.append(torch.from_numpy(indices.astype("int64")))
        return make(run, indices, epoch)

    def dying(run, *arguments):
        if run.state.step + 1 == killed_in:
            raise InterruptedError
        return step(run, *arguments)

    launched = {"TORCHELASTIC_RUN_ID": "a test", "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "_views", noting)
        patch.setattr(pretraining.Pretraining, "_step", dying)
        for key, value in launched.items() if world > 1 else []:
            patch.setenv(key, str(value))
        run, method = whole(folder, name, world)
        try:
            run.fit()
        except InterruptedError:
            return {}
    losses = [row["loss"] for row in run.run.load()["metrics"]]
    return {"state": dict(method.state_dict()), "losses": torch.tensor(losses), "seen": torch.stack(seen)}


def whole(folder, name, world):
    """The run's objects, put together as the command does."""
    from lightning_fabric import Fabric

    from whytransfer import pretraining
    from whytransfer.commands.method import views_for
    from whytransfer.images import open_images
    from whytransfer.images.cache import PixelCache
    from whytransfer.methods import METHODS, build, options_of
    from whytransfer.runs import RunFolder
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    kind = METHODS[name]
    options = {k: v for k, v in SMALL.items() if k in options_of(name)}
    method = build(name, Tiny(), classes=99, images=48, seed=1, **options).train().double()
    plan = pretraining.Plan(kind.defaults, epochs=2, batch=16, seed=0, save_minutes=0.0, iterations=5)
    viewer = Viewer(views_for(recipe(kind.recipe), kind.views), 12, 0, threads=1)
    fabric = Fabric(accelerator="cpu", devices=world, precision="64-true", strategy="ddp" if world > 1 else "auto")
    fabric.launch()
    if fabric.is_global_zero:
        RunFolder.open(folder, {"config": {}})
    if world > 1:
        dist.barrier()
    pixels, folder = PixelCache.open(open_images("scenes:48:0:16")), RunFolder.open(folder, {"config": {}})
    return pretraining.Pretraining(method, pixels, viewer, plan, folder, fabric, None), method
