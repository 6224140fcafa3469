"""Supervised pretraining: cross-entropy, and a clear word where there are no labels."""

import pytest
import torch
import torch.nn.functional as F
from tiny import Tiny, views

from whytransfer.errors import InputError
from whytransfer.methods import build
from whytransfer.nn.schedules import build_optimizer
from whytransfer.records import Views


def test_is_cross_entropy_of_the_first_view():
    method, v = build("supervised", Tiny(), classes=3, images=9).double(), views(batch=9)
    logits = method.classifier(method.backbone(v.images[0]).vector)
    out = method.loss(v)
    torch.testing.assert_close(out["loss"], F.cross_entropy(logits, v.labels))
    assert float(out["accuracy"]) == pytest.approx(float((logits.argmax(1) == v.labels).double().mean()))
    assert method.needs == ("labels",) and method.views == 1 and method.recipe == "supervised"


def test_learns_colours():
    labels = torch.arange(24) % 3
    images = 0.2 * torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[torch.arange(24), labels] += 0.7
    method = build("supervised", Tiny(), classes=3, images=24).train()
    optimizer = build_optimizer(method.defaults, method)
    for _ in range(40):
        out = method.loss(Views((images,), torch.arange(24), labels))
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        method.after_step(out, 0.0)
    assert float(out["accuracy"]) == 1.0


@pytest.mark.parametrize(("classes", "found"), [(None, "found no labels"), (1, "found 1 class"), (0, "found 0 class")])
def test_refuses_to_go_without_classes(classes, found):
    with pytest.raises(InputError, match=f"at least 2 classes, {found}.*one folder per class.*moco-v2"):
        build("supervised", Tiny(), classes=classes, images=9)


def test_refuses_a_batch_of_one():
    with pytest.raises(InputError, match="at least 2 images per forward pass, got 1"):
        build("supervised", Tiny(), classes=3, images=9).check_batch(4, parts=4)
