"""The segmenter: cross-entropy of every labelled pixel, a defined loss where there is none, all processes' pixels."""

import pytest
import torch
import torch.nn.functional as F
from tiny import Tiny

from whytransfer.backbones.resnet import build as resnet
from whytransfer.errors import InputError
from whytransfer.methods import build, options_of
from whytransfer.nn.schedules import build_optimizer
from whytransfer.records import Views


def made(backbone=None, **more):
    return build("supervised-masks", backbone or Tiny(), classes=4, images=9, **more)


def views(batch=3, size_px=8, seed=0, void=0.3):
    g = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (batch, size_px, size_px), generator=g, dtype=torch.uint8)
    classes[torch.rand(classes.shape, generator=g) < void] = 255
    index = torch.arange(batch)
    return Views((torch.rand(batch, 3, size_px, size_px, generator=g),), index, index, (classes,))


def test_is_the_mean_over_labelled_pixels():
    method, v = made().train(), views()
    log_p = method.logits(v.images[0]).log_softmax(1)
    terms, right = [], []
    for b in range(3):
        for y in range(8):
            for x in range(8):
                if (k := int(v.regions[0][b, y, x])) != 255:
                    terms.append(-log_p[b, k, y, x])
                    right.append(float(log_p[b, :, y, x].argmax() == k))
    out = method.loss(v)
    torch.testing.assert_close(out["loss"], torch.stack(terms).mean())
    assert float(out["pixel_accuracy"]) == pytest.approx(sum(right) / len(right))
    assert options_of("supervised-masks") == {} and method.needs == ("semantic",) and method.views == 1


def test_scores_of_three_stages_are_added_from_coarse_to_fine():
    method, images = made(resnet("resnet18")).eval(), torch.rand(2, 3, 48, 48)
    stages = method.backbone(images).stages
    s4, s3, s2 = (
        layer(stages[name]) for layer, name in zip(method.scores, ("layer4", "layer3", "layer2"), strict=True)
    )

    def to(x, side):
        return F.interpolate(x, (side, side), mode="bilinear")

    assert [s.shape[2] for s in (s4, s3, s2)] == [2, 3, 6]
    torch.testing.assert_close(method.logits(images), to(s2 + to(s3 + to(s4, 3), 6), 48))


@pytest.mark.parametrize("arch", ["tiny", "resnet18", "resnet18-small"])
def test_views_without_a_labelled_pixel(arch):
    """Alone they have loss 0 and gradients of 0; beside others they add nothing."""
    method = made(Tiny() if arch == "tiny" else resnet(arch)).train()
    v = views(size_px=32, void=1.0)
    out = method.loss(v)
    out["loss"].backward()
    assert out["loss"] == 0 and out["pixel_accuracy"] == 0
    assert all(p.grad is not None and (p.grad == 0).all() for p in method.parameters())
    method.eval()
    v = views(size_px=32)
    v.regions[0][1] = 255
    part = Views((v.images[0][[0, 2]],), v.index[:2], v.labels[:2], (v.regions[0][[0, 2]],))
    torch.testing.assert_close(method.loss(v)["loss"], method.loss(part)["loss"])


def test_the_mean_over_processes_is_that_of_their_joined_batch(monkeypatch):
    method, v = made().eval(), views(batch=4)
    v.regions[0][0, :6] = 255  # the first process has far fewer labelled pixels
    parts = [Views((v.images[0][s],), v.index[s], v.labels[s], (v.regions[0][s],)) for s in (slice(0, 2), slice(2, 4))]
    counts = torch.stack([(p.regions[0] != 255).sum() for p in parts])
    expected = method.loss(v)["loss"]
    monkeypatch.setattr("whytransfer.methods.supervised_masks.gather", lambda own: counts)
    shares = [method.loss(p)["loss"] for p in parts]
    torch.testing.assert_close(torch.stack(shares).mean(), expected)
    assert counts[0] < counts[1] and shares[0] < shares[1]


def test_learns_colours():
    classes = torch.randint(0, 3, (8, 4, 4), generator=torch.Generator().manual_seed(0))
    classes = classes.repeat_interleave(16, 1).repeat_interleave(16, 2)  # patches of 16 px
    images = 0.7 * F.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    method = build("supervised-masks", resnet("resnet18"), classes=3, images=8).train()
    optimizer = build_optimizer(method.defaults, method)
    losses = []
    for _ in range(8):
        out = method.loss(Views((images,), torch.arange(8), torch.arange(8), (classes.to(torch.uint8),)))
        optimizer.zero_grad()
        out["loss"].backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.02
        optimizer.step()
        method.after_step(out, 0.0)
        losses.append(out["loss"].item())
    assert losses[-1] < 0.6 * losses[0] and float(out["pixel_accuracy"]) > 0.7, losses


def test_half_precision_keeps_the_loss_in_full():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(resnet("resnet18")).train().loss(views(size_px=48))["loss"].dtype == torch.float32


@pytest.mark.parametrize(("classes", "found"), [(None, "none"), (1, "1"), (0, "none")])
def test_refuses_to_go_without_classes(classes, found):
    with pytest.raises(InputError, match=f"pixels of at least 2 classes, found {found}"):
        build("supervised-masks", Tiny(), classes=classes, images=9)


def test_refusals():
    with pytest.raises(InputError, match="at least 2 images per forward pass, got 1"):
        made().check_batch(4, parts=4)
    v = views()
    stack = torch.ones(3, 2, 8, 8, dtype=torch.bool)
    for regions in ((), (stack,)):
        with pytest.raises(InputError, match="learns the classes of pixels and these views have no label maps"):
            made().loss(Views(v.images, v.index, v.labels, regions))
