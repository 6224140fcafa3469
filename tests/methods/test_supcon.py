"""SupCon on a batch and on a queue, against loops over anchors and positives."""

import copy
import math

import pytest
import torch
from tiny import Tiny, views

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.nn import nt_xent
from whytransfer.records import Views


def made(name="supcon", **options):
    return build(name, Tiny(), classes=3, images=64, dim=4, **options).double().train()


def labelled(v, labels):
    return Views(v.images, v.index, torch.tensor(labels))


def term(z, i, positives, others, T):
    below = sum(math.exp(z[i] @ z[a] / T) for a in others)
    return -sum(math.log(math.exp(z[i] @ z[p] / T) / below) for p in positives) / len(positives)


@pytest.mark.parametrize("name", ["supcon", "supcon-small"])
def test_the_loss_is_the_one_of_a_slow_loop(name):
    method, v = made(name, T=0.3), labelled(views(batch=5), [0, 1, 0, 0, 2])  # classes 1 and 2 have one image
    other = copy.deepcopy(method).requires_grad_(False)
    z = other.projector(other.backbone(torch.cat(v.images)).vector)
    z, labels, total = [x / x.norm() for x in z], [0, 1, 0, 0, 2] * 2, 0.0
    for i in range(10):
        others = [a for a in range(10) if a != i]
        total += term(z, i, [a for a in others if labels[a] == labels[i]], others, 0.3) / 10
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_the_small_presets_vectors_do_not_lie_on_one_point():
    method, v = made("supcon-small"), views(batch=16)
    z = method.projector(method.backbone(v.images[0]).vector)
    torch.testing.assert_close(z.mean(0), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(4, dtype=torch.float64), rtol=0.05, atol=0)


def test_classes_of_one_image_each_leave_simclrs_loss():
    method, v = made(), labelled(views(batch=5), [0, 1, 2, 3, 4])
    other = copy.deepcopy(method).requires_grad_(False)
    z = other.projector(other.backbone(torch.cat(v.images)).vector).chunk(2)
    torch.testing.assert_close(method.loss(v)["loss"], nt_xent(*z, 0.1))


def queued(**options):
    return made("supcon-queue", queue=12, splits=1, m=0.9, **options)


def test_on_a_queue_classmates_of_earlier_steps_are_positives():
    method = queued(T=0.3)
    for step in range(2):  # 8 of 12 places are filled
        method.after_step(method.loss(labelled(views(batch=4, seed=step), [0, 1, 0, 2])), 0.0)
    queue = method.moco.queue
    assert queue.labels.tolist() == [0, 1, 0, 2] * 2 + [-1] * 4
    v = labelled(views(batch=4, seed=5), [0, 2, 5, 1])  # 5: no classmate anywhere
    q, k = (
        copy.deepcopy(method).requires_grad_(False).moco.encode_queries(v.images[0]),
        method.moco.encode_keys(v.images[1]),
    )
    total = 0.0
    for i, label in enumerate(v.labels.tolist()):
        z = [q[i], k[i], *queue.keys]
        positives = [1] + [2 + j for j, y in enumerate(queue.labels.tolist()) if y == label]
        total += term(z, 0, positives, range(1, len(z)), 0.3) / 4
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_the_queue_is_read_before_it_is_written():
    method, v = queued(), views(batch=4)
    before = method.moco.queue.keys.clone()
    out = method.loss(v)
    assert torch.equal(method.moco.queue.keys, before)
    method.after_step(out, 0.0)
    assert torch.equal(method.moco.queue.keys[:4], out["keys"]) and method.moco.queue.labels[:4].tolist() == [
        0,
        1,
        2,
        0,
    ]


def test_settings():
    assert options_of("supcon") == {"dim": 128, "T": 0.1} and METHODS["supcon"].needs == ("labels",)
    assert options_of("supcon-queue") == {"dim": 128, "queue": 65536, "m": 0.999, "T": 0.1, "splits": 8}


def test_batches_are_refused_before_anything_is_computed():
    made().check_batch(64, 2)
    with pytest.raises(InputError, match="SupCon compares the images.*8 images in 4 equal parts are too few"):
        made().check_batch(8, 4)
    with pytest.raises(InputError, match="a queue of 12 keys is not divisible by a batch of 5"):
        queued().check_batch(5)
