"""The detector: torchvision's losses on our stages, and the views in which there is nothing to find."""

import math

import pytest
import torch
from tiny import Tiny
from torch import nn
from torchvision.models.detection import FCOS

from whytransfer.backbones.resnet import build as resnet
from whytransfer.errors import InputError
from whytransfer.methods import build, options_of
from whytransfer.methods.supervised_boxes import STAGES, target
from whytransfer.nn.schedules import build_optimizer
from whytransfer.records import Views

NONE = [0.0, 0, 0, 0, -1]
BOXES = torch.tensor(
    [
        [[3.0, 5, 30, 40, 2], [10, 10, 60, 64, 0], [0, 0, 64, 64, 1]],
        [[8.0, 8, 9, 60, 1], NONE, NONE],
        [NONE, NONE, NONE],
    ]
)


def made(backbone=None, **more):
    return build("supervised-boxes", backbone or resnet("resnet18"), classes=3, images=9, **{"hidden": 32, **more})


def views(boxes=BOXES, size_px=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    index = torch.arange(len(boxes))
    return Views((torch.rand(len(boxes), 3, size_px, size_px, generator=g),), index, index, (), (boxes,))


class AsTorchvisionWantsIt(nn.Module):
    """Pixels -> pyramid, for a whole detector of torchvision's around the same weights."""

    def __init__(self, method):
        super().__init__()
        self.method, self.out_channels = method, 32

    def forward(self, images):
        stages = self.method.backbone(images).stages
        return self.method.detector.backbone({name: stages[name] for name in STAGES})


def test_is_torchvisions_detector_fed_the_same_features():
    method, v = made().train(), views()
    whole = FCOS(
        AsTorchvisionWantsIt(method),
        num_classes=3,
        anchor_generator=method.detector.anchor_generator,
        head=method.detector.head,
        min_size=64,
        max_size=64,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    ).train()
    expected = whole(list(v.images[0]), [target(boxes) for boxes in BOXES])
    out = method.loss(v)
    assert expected.keys() == out.keys() - {"loss"} and len(expected) == 3
    for name, value in expected.items():
        torch.testing.assert_close(out[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out["loss"], sum(expected.values()))
    assert options_of("supervised-boxes") == {"hidden": 256} and method.needs == ("boxes",) and method.views == 1


@pytest.mark.parametrize(
    ("arch", "strides_px"), [("resnet18", [8, 16, 32, 64, 128]), ("resnet18-small", [2, 4, 8, 16, 32])]
)
def test_places_lie_a_stride_apart_in_views_of_any_size(arch, strides_px):
    method, size_px = made(resnet(arch)), 40  # no multiple of 32
    with torch.no_grad():
        stages = method.backbone(torch.rand(2, 3, size_px, size_px)).stages
        levels = list(method.detector.backbone({name: stages[name] for name in STAGES}).values())
    expected = []
    for px in strides_px:
        cells = range(math.ceil(size_px / px))
        expected += [[px * x - px / 2, px * y - px / 2, px * x + px / 2, px * y + px / 2] for y in cells for x in cells]
    assert torch.equal(method.places(levels), torch.tensor(expected))


def test_a_view_without_a_box_is_all_background():
    method = made().train()
    for empty in (torch.tensor([[NONE] * 2] * 3), torch.zeros(3, 0, 5)):
        out = method.loss(views(empty))
        assert out["bbox_regression"] == 0 and out["bbox_ctrness"] == 0 and out["classification"] > 0
        out["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_rows_of_no_box_change_nothing():
    method = made().eval()
    padded = torch.cat([BOXES, torch.tensor([[NONE] * 4] * 3)], dim=1)
    assert method.loss(views())["loss"] == method.loss(views(padded))["loss"]


def test_the_loss_falls():
    """Squares of two colours on black: where they are and which they are."""
    rows = torch.tensor([[8.0, 8, 40, 40, 0], [24, 24, 56, 56, 1], [32, 4, 64, 36, 0], [4, 28, 36, 60, 1]])
    boxes = rows.repeat(2, 1)[:, None]
    images = torch.zeros(8, 3, 64, 64)
    for image, (x0, y0, x1, y1, label) in zip(images, boxes[:, 0].int().tolist(), strict=True):
        image[label, y0:y1, x0:x1] = 1.0
    method = made().train()
    optimizer = build_optimizer(method.defaults, method)
    losses = []
    for _ in range(12):
        out = method.loss(Views((images,), torch.arange(8), torch.arange(8), (), (boxes,)))
        optimizer.zero_grad()
        out["loss"].backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        optimizer.step()
        method.after_step(out, 0.0)
        losses.append(out["loss"].item())
    assert losses[-1] < 0.8 * losses[0], losses


def test_half_precision_keeps_the_losses_in_full():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = made().train().loss(views())
    assert all(value.dtype == torch.float32 and value.isfinite() for value in out.values())


def test_initial_weights_of_the_detector_follow_the_seed():
    def first(seed):
        return made(Tiny(), seed=seed).detector.head.classification_head.conv[0].weight

    assert first(1).equal(first(1)) and not first(1).equal(first(2))


def test_refusals():
    with pytest.raises(InputError, match="needs boxes with classes, found none"):
        build("supervised-boxes", Tiny(), classes=None, images=9)
    with pytest.raises(InputError, match="hidden 48 is no multiple of 32"):
        made(Tiny(), hidden=48)
    with pytest.raises(InputError, match="at least 2 images per forward pass, got 1"):
        made(Tiny()).check_batch(4, parts=4)
    v = views()
    with pytest.raises(InputError, match="learns boxes and these views have none"):
        made(Tiny()).loss(Views(v.images, v.index, v.labels))
