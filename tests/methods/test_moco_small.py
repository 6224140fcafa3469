"""The small-data preset against a loop written from its formula, and what must not depend on how it is computed."""

import copy
import dataclasses
import math

import pytest
import torch
from tiny import Tiny
from torch import nn

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.methods.moco_small import MoCoV2Small
from whytransfer.records import Views


def made(**options):
    torch.manual_seed(0)
    return build("moco-v2-small", Tiny(), classes=None, images=64, dim=4, hidden=8, **options).double().train()


def views(batch=6):
    generator = torch.Generator().manual_seed(1)
    images = tuple(torch.rand(batch, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return Views(images, torch.arange(batch), torch.full((batch,), -1))


def test_the_settings_are_those_of_the_published_results():
    """docs/results were made with them: with another value its numbers are no longer this preset's."""
    assert METHODS["moco-v2-small"] is MoCoV2Small and (MoCoV2Small.recipe, MoCoV2Small.views) == ("moco-v2", 2)
    assert dataclasses.asdict(MoCoV2Small.defaults) == {
        "optimizer": "sgd",
        "lr_per_256": 0.5,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decay_biases_and_norms": True,
        "schedule": "cosine",
        "changes_every": "step",
        "warmup_epochs": 1.0,
        "milestones": (0.6, 0.8),  # of step schedules only
        "drop": 0.1,
        "epochs": 15,
        "batch": 128,
    }
    assert options_of("moco-v2-small") == {"dim": 128, "hidden": 512, "m": 0.9, "m_end": 0.99, "T": 0.2}
    method = build("moco-v2-small", Tiny(), classes=None, images=64)
    assert (method.m, method.m_end, method.T) == (0.9, 0.99, 0.2)
    for projector in (method.projector, method.key_projector):
        assert [type(layer) for layer in projector] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
        assert [tuple(p.shape) for p in projector.parameters()] == [(512, 6), (512,), (512,), (128, 512), (128,)]


def test_the_loss_is_the_one_of_a_slow_loop():
    method, v = made(T=0.3), views()
    embed = lambda net, head, x: torch.nn.functional.normalize(head(net(x).vector), dim=1)  # noqa: E731
    total = 0.0
    for a, b in (v.images, v.images[::-1]):
        q = embed(copy.deepcopy(method.backbone), copy.deepcopy(method.projector), a)
        k = embed(copy.deepcopy(method.key_backbone), copy.deepcopy(method.key_projector), b)
        for i in range(len(q)):
            terms = [math.exp((q[i] @ k[j]).item() / 0.3) for j in range(len(k))]
            total -= math.log(terms[i] / sum(terms)) / len(q) / 2
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_the_order_of_the_views_does_not_matter():
    v = views()
    swapped = Views(v.images[::-1], v.index, v.labels)
    torch.testing.assert_close(made().loss(v)["loss"], made().loss(swapped)["loss"])


def test_gradients_reach_the_query_side_only():
    method = made()
    method.loss(views())["loss"].backward()
    assert all(p.grad is not None for p in method.backbone.parameters())
    assert all(p.grad is None for p in method.key_backbone.parameters())


@pytest.mark.parametrize(("progress", "m"), [(0.0, 0.9), (0.5, 0.945), (1.0, 0.99)])
def test_the_key_encoder_follows_along_half_a_cosine(progress, m):
    method = made()
    before = [p.clone() for p in method.key_backbone.parameters()]
    with torch.no_grad():
        for p in method.backbone.parameters():
            p.add_(1.0)
    method.after_step({}, progress)
    for old, key, query in zip(before, method.key_backbone.parameters(), method.backbone.parameters(), strict=True):
        torch.testing.assert_close(key, m * old + (1 - m) * query)


def test_the_momentum_never_falls():
    method = made(m=0.999)
    before = [p.clone() for p in method.key_backbone.parameters()]
    with torch.no_grad():
        for p in method.backbone.parameters():
            p.add_(1.0)
    method.after_step({}, 1.0)
    for old, key, query in zip(before, method.key_backbone.parameters(), method.backbone.parameters(), strict=True):
        torch.testing.assert_close(key, 0.999 * old + 0.001 * query)


def test_batches_without_enough_to_tell_apart_are_refused():
    made().check_batch(64, 2)
    with pytest.raises(InputError, match="8 images in 4 equal parts are too few"):
        made().check_batch(8, 4)
