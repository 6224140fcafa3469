"""BYOL: who predicts whom, who learns and who follows."""

import copy
import math

import pytest
import torch
from tiny import Tiny, views

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.records import Views


def made(name="byol", **options):
    return build(name, Tiny(), classes=None, images=64, dim=4, hidden=8, **options).double().train()


def test_each_prediction_meets_the_targets_view_of_the_other():
    method, v = made(), views(batch=6)
    other, total = copy.deepcopy(method).requires_grad_(False), 0.0
    predicted = [other.predictor(other.projector(other.backbone(x).vector)) for x in v.images]
    targets = [other.target_projector(other.target_backbone(x).vector) for x in v.images]
    for q, z in ((predicted[0], targets[1]), (predicted[1], targets[0])):
        for a, b in zip(q, z, strict=True):  # [Grill 2020, eq. 2], an image at a time
            total += float(((a / a.norm() - b / b.norm()) ** 2).sum()) / 6
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_the_order_of_the_views_does_not_matter():
    v = views()
    swapped = Views(v.images[::-1], v.index, v.labels)
    torch.testing.assert_close(made().loss(v)["loss"], made().loss(swapped)["loss"])


def test_the_online_network_learns_and_the_target_does_not():
    method = made()
    method.loss(views())["loss"].backward()
    for name, p in method.named_parameters():
        assert (p.grad is None) == name.startswith("target_"), name


def test_the_target_starts_from_other_weights_of_the_same_law():
    method = made()
    for online, target in ((method.backbone, method.target_backbone), (method.projector, method.target_projector)):
        for a, b in zip(online.parameters(), target.parameters(), strict=True):
            assert torch.equal(a.flatten().sort()[0], b.flatten().sort()[0])
            assert a.ndim == 1 or not torch.equal(a, b)


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.9), (0.25, 0.9 + 0.1 * (1 - math.sqrt(0.5)) / 2), (1.0, 1.0)])
def test_the_target_follows_ever_more_slowly(progress, tau):
    method = made(tau=0.9)
    before = [p.clone() for p in method.target_projector.parameters()]
    buffers = copy.deepcopy(dict(method.target_backbone.named_buffers()))
    method.after_step({}, progress)
    for old, target, online in zip(
        before, method.target_projector.parameters(), method.projector.parameters(), strict=True
    ):
        torch.testing.assert_close(target, tau * old + (1 - tau) * online)
    assert all(torch.equal(buffers[k], b) for k, b in method.target_backbone.named_buffers())  # its own statistics


def test_the_small_presets_target_starts_as_a_copy():
    method = made("byol-small")
    for online, target in ((method.backbone, method.target_backbone), (method.projector, method.target_projector)):
        for a, b in zip(online.parameters(), target.parameters(), strict=True):
            assert torch.equal(a, b) and not b.requires_grad


def test_the_small_presets_predictor_learns_ten_times_as_fast_as_the_rest():
    small, paper = made("byol-small"), made()
    paper.load_state_dict(small.state_dict())
    for method in (small, paper):
        method.loss(views())["loss"].backward()
    for (name, a), b in zip(small.named_parameters(), paper.parameters(), strict=True):
        if not name.startswith("target_"):
            torch.testing.assert_close(a.grad, b.grad * (10 if name.startswith("predictor.") else 1))


def test_settings():
    assert options_of("byol") == {"dim": 256, "hidden": 4096, "tau": 0.996} and METHODS["byol"].recipe == "byol"
    assert METHODS["byol"].defaults is METHODS["byol"].presets[1000][0]


def test_batches_without_statistics_are_refused():
    made().check_batch(64, 2)
    with pytest.raises(InputError, match="BYOL needs batch statistics: 8 images in 4 equal parts are too few"):
        made().check_batch(8, 4)
