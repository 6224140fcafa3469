"""The small-data preset against a loop written from its formula, and what must not depend on how it is computed."""

import copy
import math

import pytest
import torch
from tiny import Tiny

from whytransfer.errors import InputError
from whytransfer.methods import build
from whytransfer.records import Views


def made(**options):
    torch.manual_seed(0)
    return build("moco-v2-small", Tiny(), classes=None, images=64, dim=4, hidden=8, **options).double().train()


def views(batch=6):
    generator = torch.Generator().manual_seed(1)
    images = tuple(torch.rand(batch, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return Views(images, torch.arange(batch), torch.full((batch,), -1))


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
