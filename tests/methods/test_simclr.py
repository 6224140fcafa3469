"""SimCLR against a loop over its anchors, and its projector as published."""

import copy
import math

import pytest
import torch
from tiny import Tiny, views
from torch import nn

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.records import Views


def made(name="simclr", **options):
    return build(name, Tiny(), classes=None, images=64, dim=4, **options).double().train()


@pytest.mark.parametrize("name", ["simclr", "simclr-small"])
def test_the_loss_is_the_one_of_a_slow_loop(name):
    method, v = made(name, T=0.3), views(batch=5)
    other = copy.deepcopy(method).requires_grad_(False)
    z = other.projector(other.backbone(torch.cat(v.images)).vector)  # both views in one batch norm
    z, total = [x / x.norm() for x in z], 0.0
    for i in range(10):
        terms = [math.exp(z[i] @ z[k] / 0.3) for k in range(10) if k != i]
        total -= math.log(math.exp(z[i] @ z[(i + 5) % 10] / 0.3) / sum(terms)) / 10
    out = method.loss(v)
    assert float(out["loss"]) == pytest.approx(total, rel=1e-9)
    assert float(out["l_pos"]) == pytest.approx(sum(float(z[i] @ z[i + 5]) for i in range(5)) / 5, rel=1e-6)


def test_the_order_of_the_views_does_not_matter():
    v = views()
    swapped = Views(v.images[::-1], v.index, v.labels)
    torch.testing.assert_close(made().loss(v)["loss"], made().loss(swapped)["loss"])


def test_the_published_projector_ends_in_a_norm_without_shift():
    method = made()
    kinds = [type(layer) for layer in method.projector]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    assert method.projector[0].bias is None and method.projector[3].bias is None
    assert method.projector[0].out_features == Tiny.width and method.projector[3].out_features == 4
    method.loss(views())["loss"].backward()
    without = [name for name, p in method.named_parameters() if p.grad is None]
    assert without == ["projector.4.bias"] and not method.projector[4].bias.any()


def test_settings():
    assert options_of("simclr") == {"dim": 128, "T": 0.1} and METHODS["simclr"].recipe == "simclr"
    assert options_of("simclr-small") == {"dim": 128, "hidden": 512, "T": 0.1}


def test_batches_without_enough_to_tell_apart_are_refused():
    made().check_batch(64, 2)
    with pytest.raises(InputError, match="SimCLR tells the images.*8 images in 4 equal parts are too few"):
        made().check_batch(8, 4)
