"""A backbone in two parts is the backbone: of every kind, and of a fusion of them."""

import pytest
import torch
from torch import nn

from whytransfer.backbones import build, fingerprint
from whytransfer.backbones.dense import Stage, last_stage, normalised_outside, split, stages_of
from whytransfer.backbones.foreign import TimmBackbone
from whytransfer.backbones.fused import Fused
from whytransfer.errors import InputError


def timm_resnet():
    timm = pytest.importorskip("timm")
    return TimmBackbone("resnet18", timm.create_model("resnet18", num_classes=0))


def other_normalisation():
    return build("resnet18-small").normalise_with((0.5, 0.4, 0.3), (0.3, 0.2, 0.5))


KINDS = {
    "resnet18-small": lambda: build("resnet18-small"),
    "timm": timm_resnet,
    "fusion": lambda: Fused([build("resnet18-small"), other_normalisation()]),
    "fusion of two strides": lambda: Fused([build("resnet18"), build("resnet18-small")]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_body_and_last_stage_make_the_backbone(kind):
    torch.manual_seed(0)
    backbone = KINDS[kind]().eval()
    images, before = torch.rand(1, 3, 64, 64), fingerprint(backbone)
    body, last = split(backbone)
    with torch.no_grad():
        whole, part = backbone(images).stages, body(images).stages
        torch.testing.assert_close(part["layer3"], whole["layer3"])
        if kind != "fusion of two strides":  # there the smaller member's map is enlarged before layer4 sees it
            torch.testing.assert_close(last(part["layer3"]), whole["layer4"])
        assert last(part["layer3"]).shape == whole["layer4"].shape
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(body) + count(last) == count(backbone) and count(last) > 0
    assert fingerprint(backbone) == before
    assert not {id(p) for p in backbone.parameters()} & {id(p) for m in (body, last) for p in m.parameters()}


def test_a_fusion_gives_each_member_its_own_channels():
    torch.manual_seed(0)
    backbone = KINDS["fusion"]().eval()
    members = backbone.members
    x = torch.randn(3, 512, 14, 14)
    with torch.no_grad():
        expected = torch.cat([members[0].layer4(x[:, :256]), members[1].layer4(x[:, 256:])], 1)
        torch.testing.assert_close(last_stage(backbone)(x), expected)


def test_channels_and_strides_and_nothing_moved():
    backbone = build("resnet18").train()
    backbone.layer2.eval()
    before = fingerprint(backbone)
    assert stages_of(backbone, ["layer1", "layer4"]) == {"layer1": Stage(64, 4), "layer4": Stage(512, 32)}
    assert stages_of(build("resnet18-small"), ["layer3"]) == {"layer3": Stage(256, 4)}
    assert fingerprint(backbone) == before and backbone.layer1.training and not backbone.layer2.training


def test_normalising_outside_changes_nothing():
    for kind in ("fusion", "resnet18-small"):
        torch.manual_seed(0)
        backbone = KINDS[kind]().eval()
        images = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            expected = backbone(images).map
            mean, std = (torch.tensor(x)[:, None, None] for x in normalised_outside(backbone))
            torch.testing.assert_close(backbone((images - mean) / std).map, expected, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_parted_is_refused():
    class Flat(nn.Module):
        arch = "flat"

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images):
            from whytransfer.records import Features

            return Features(images.mean((2, 3)), images, {"layer1": images})

    with pytest.raises(InputError, match="flat has no last stage that could run on regions"):
        split(Flat())
    with pytest.raises(InputError, match="flat has no stage layer3, layer4; its stages are layer1"):
        stages_of(Flat(), ["layer3", "layer4"])
    with pytest.raises(InputError, match="flat does not say how it normalises"):
        normalised_outside(Flat())
