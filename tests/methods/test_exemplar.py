"""Exemplar: MoCo to the last bit where no labels are shared, and nothing but the positive where all are."""

import copy
import math

import pytest
import torch
from tiny import Tiny, views

from whytransfer.methods import METHODS, build, options_of
from whytransfer.nn.schedules import build_optimizer
from whytransfer.records import Views

SMALL = {"queue": 24, "dim": 4, "m": 0.9, "T": 0.2, "splits": 2}


def made(name, seed=3, **options):
    classes = 3 if "labels" in METHODS[name].needs else None
    return build(name, Tiny(), classes=classes, images=100, seed=seed, **options).double().train()


def trained(method, labels, steps=4):
    """The losses of a few steps, each with pictures of its own; labels(step) -> (8,)."""
    optimizer, losses = build_optimizer(method.defaults, method), []
    for step in range(steps):
        v = views(batch=8, seed=step)
        out = method.loss(Views(v.images, v.index, labels(step)))
        out["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step({k: x.detach() for k, x in out.items()}, step / steps)
        losses.append(out["loss"].detach())
    return losses


def unique(step):
    return torch.arange(8) + 8 * step


@pytest.mark.parametrize(
    ("name", "moco", "options"),
    [
        ("exemplar-v1", "moco-v1", SMALL),
        ("exemplar-v2", "moco-v2", SMALL),
        ("exemplar-small", "moco-v2-small", {"dim": 4, "hidden": 8}),
    ],
)
def test_unique_labels_are_moco_bit_for_bit(name, moco, options):
    exemplar, plain = made(name, **options), made(moco, **options)
    assert all(torch.equal(*pair) for pair in zip(trained(exemplar, unique), trained(plain, unique), strict=True))
    ours, theirs = exemplar.moco.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours if k != "queue.labels")


@pytest.mark.parametrize("name", ["exemplar-v1", "exemplar-v2"])
def test_one_label_for_all_leaves_only_the_positive(name):
    method = made(name, **SMALL)
    one = torch.zeros(8, dtype=torch.int64)
    losses = trained(method, lambda step: one, steps=5)
    assert all(float(loss) > 0 for loss in losses[:3])  # random keys of the start are everyone's negatives
    assert [float(loss) for loss in losses[3:]] == [0.0, 0.0]  # 24 keys of that label have replaced them


def test_the_loss_is_the_one_of_a_slow_loop():
    method = made("exemplar-v2", **SMALL)
    trained(method, lambda step: torch.arange(8) % 3, steps=2)  # 16 of 24 places are filled
    v, queue = views(batch=8, seed=9), method.moco.queue
    other = copy.deepcopy(method).requires_grad_(False)
    q, k, total = other.moco.encode_queries(v.images[0]), other.moco.encode_keys(v.images[1]), 0.0
    for i in range(8):  # [Zhao 2021, eq. 2]
        kept = [n for n, y in zip(queue.keys, queue.labels.tolist(), strict=True) if y != int(v.labels[i])]
        own = math.exp(q[i] @ k[i] / 0.2)
        total -= math.log(own / (own + sum(math.exp(q[i] @ n / 0.2) for n in kept))) / 8
    assert queue.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1] * 2 + [-1] * 8
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_labels_stay_with_their_keys_around_the_seam():
    method = made("exemplar-v2", **SMALL)
    trained(method, unique, steps=4)  # 32 keys through 24 places
    assert method.moco.queue.labels.tolist() == [*range(24, 32), *range(8, 24)]
    other = made("exemplar-v2", seed=3, **SMALL)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    again = [trained(m, lambda step: torch.arange(8) % 3, steps=1)[0] for m in (method, other)]
    assert torch.equal(*again)


@pytest.mark.parametrize(("name", "T", "moco"), [("exemplar-v1", 0.07, "moco-v1"), ("exemplar-v2", 0.1, "moco-v2")])
def test_settings(name, T, moco):
    assert options_of(name) == {"dim": 128, "queue": 2**20, "m": 0.999, "T": T, "splits": 8}
    assert METHODS[name].recipe == moco and METHODS[name].defaults == METHODS[moco].defaults
