"""Every method on one, two and four processes: losses, weights, batch norms, queues and banks are those of one."""

import pytest
import torch
import torch.distributed as dist
from tiny import Tiny, views
from worlds import in_processes

from whytransfer.methods import METHODS, build, options_of
from whytransfer.nn.joined_norm import average_statistics, join_batch_norm
from whytransfer.records import Views

BATCH, SIDE = 16, 16
SMALL = {"queue": 32, "splits": 4, "dim": 4, "negatives": 9, "draws": 5}
# in float64, but torchvision's matching of boxes works in float32
TIGHT, LOOSE = {"rtol": 1e-9, "atol": 1e-11}, {"rtol": 1e-4, "atol": 1e-5}


def placed(step, maps):
    """Views of pictures with regions, boxes in every third picture, and pixels without a class in the last ones."""
    v, half = views(batch=BATCH, seed=step, dtype=torch.float64), SIDE // 2
    images = tuple(x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in v.images)
    quarters = torch.arange(4, dtype=torch.uint8).view(2, 2).repeat_interleave(half, 0).repeat_interleave(half, 1)
    quarters = quarters.repeat(BATCH, 1, 1)
    quarters[-5:, :half] = 255 if maps else 3
    boxes = torch.tensor([[2.0, 2, half, SIDE - 2, 1]]).repeat(BATCH, 1, 1)
    boxes[torch.arange(BATCH) % 3 > 0] = -1
    return Views(images, v.index, v.labels, (quarters,) * 2, (boxes,) * 2)


def share_of(whole, rank, world):
    mine = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    parts = [tuple(x[mine] for x in several) for several in (whole.images, whole.regions, whole.boxes)]
    return Views(parts[0], whole.index[mine], whole.labels[mine], *parts[1:])


def three_steps(name, rank=0, world=1):
    """Losses (their mean over processes) and state of a method after three steps on the rank's share of each batch."""
    kind = METHODS[name]
    options = {k: v for k, v in {**SMALL, "hidden": 32}.items() if k in options_of(name)}
    method = build(name, Tiny(), classes=99 if kind.needs else None, images=24, seed=1, **options).train()
    method = method.float() if "boxes" in kind.needs else method.double()
    if world > 1:
        join_batch_norm(method)  # as the loop does
    method.check_batch(BATCH, world)
    trained, losses, keep = [p for p in method.parameters() if p.requires_grad], [], next(method.parameters()).dtype
    for step in range(3):
        whole = views(batch=BATCH, seed=step, count=kind.views)
        if {"regions", "boxes", "semantic"} & set(kind.needs):
            whole = placed(step, "semantic" in kind.needs)
        share = share_of(whole, rank, world)
        out = method.loss(Views(tuple(x.to(keep) for x in share.images), *list(vars(share).values())[1:]))
        found = torch.autograd.grad(out["loss"], trained, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g.clone() for g, p in zip(found, trained, strict=True)]
        losses.append(out["loss"].detach())
        for tensor in [*found, losses[-1]] if world > 1 else []:  # as DistributedDataParallel does
            dist.all_reduce(tensor)
            tensor /= world
        with torch.no_grad():
            for p, g in zip(trained, found, strict=True):
                p -= 0.1 * g
        average_statistics(method)
        method.after_step({k: x.detach() for k, x in out.items()}, step / 3)
    return {"losses": torch.stack(losses), **method.state_dict()}


def every_method(rank, world):
    return {name: three_steps(name, rank, world) for name in METHODS}


@pytest.fixture(scope="module")
def alone():
    return every_method(0, 1)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_are_one_with_the_joined_batch(world, alone, tmp_path):
    """Batch norm in four groups and in one, keys shuffled over all; queues and statistics are equal on all ranks."""
    ranks = in_processes(every_method, world, tmp_path)
    for name, expected in alone.items():
        assert len({float(x) for x in expected["losses"]}) == 3
        near = LOOSE if "boxes" in METHODS[name].needs else TIGHT
        for found in ranks:
            assert found[name].keys() == expected.keys()
            for key, tensor in expected.items():
                torch.testing.assert_close(
                    found[name][key], tensor, **near, msg=lambda m, k=key, n=name: f"{n}: {k}: {m}"
                )
