"""Dilation for stride: torchvision's and timm's maps with the same weights; by definition, shifted undilated nets."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from whytransfer.backbones import build, fingerprint, load_backbone
from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.dilated import dilated
from whytransfer.backbones.foreign import TimmBackbone, TorchvisionBackbone
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.geometry import Geometry
from whytransfer.backbones.resnet import BasicBlock
from whytransfer.errors import InputError
from whytransfer.records import Features


def images(side: int = 96, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def moved(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with statistics and scales of its batch norms that are not those of a fresh one."""
    chance = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=chance))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=chance))
    return network.eval()


@pytest.fixture(scope="module")
def resnet50() -> Backbone:
    torch.manual_seed(3)
    return moved(build("resnet50"))


def torchvisions(backbone: nn.Module, replace: list[bool], block=resnet.Bottleneck, blocks=(3, 4, 6, 3), **options):
    model = resnet.ResNet(block, list(blocks), replace_stride_with_dilation=replace, **options)
    missing, unexpected = model.load_state_dict(backbone.state_dict(), strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
    return nn.Sequential(*list(model.children())[:-2]).eval()


@pytest.mark.parametrize(("stride", "replace"), [(16, [False, False, True]), (8, [False, True, True])])
def test_our_maps_are_torchvisions_with_the_same_weights(resnet50, stride, replace):
    before = fingerprint(resnet50)
    fine = dilated(resnet50, stride)
    with torch.inference_mode():
        expected = torchvisions(resnet50, replace)(resnet50.normalise(images()))
        features = fine(images())
    assert features.map.shape == (1, 2048, 96 // stride, 96 // stride)
    torch.testing.assert_close(features.map, expected, rtol=0, atol=0)
    assert fingerprint(fine) == fingerprint(resnet50) == before and resnet50.layer4[0].conv2.stride == (2, 2)
    assert features.stages["layer3"].shape[-1] == 96 // min(stride, 16)


def test_grouped_convolutions_of_torchvision_too():
    torch.manual_seed(0)
    backbone = TorchvisionBackbone("resnext50_32x4d").eval()
    expected = torchvisions(backbone, [False, False, True], groups=32, width_per_group=4)
    with torch.inference_mode():
        found = dilated(backbone, 16)(images(64)).map
        torch.testing.assert_close(found, expected(backbone.normalise(images(64))), rtol=0, atol=0)


class Narrow(Backbone):
    """A ResNet of basic blocks, 8 channels wide, in double precision: its differences are rounding alone."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__("narrow", 64)
        self.conv1, self.maxpool = nn.Conv2d(3, 8, 3, 2, 1), nn.MaxPool2d(3, 2, 1)
        channels = 8
        for k, name in enumerate(("layer1", "layer2", "layer3", "layer4")):
            made = []
            for i in range(blocks):
                made.append(BasicBlock(8 << k, channels, 2 if k and not i else 1, nn.BatchNorm2d))
                channels = 8 << k
            self.add_module(name, nn.Sequential(*made))
        self.double()

    def forward(self, x: torch.Tensor) -> Features:
        stages = {"stem": self.maxpool(self.conv1(x))}
        x = stages["stem"]
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = stages[name] = getattr(self, name)(x)
        return Features(x.mean((2, 3)), x, stages)


@pytest.mark.parametrize(("stride", "first"), [(16, "layer4"), (8, "layer3")])
def test_basic_blocks_are_the_undilated_net_at_shifted_inputs(stride, first):
    """The definition: the dilated stages on x, at places of one remainder, are the strided ones on x shifted by it."""
    torch.manual_seed(1)
    net = moved(Narrow())
    fine = dilated(net, stride)
    names = ["layer3", "layer4"][["layer3", "layer4"].index(first) :]
    steps = 2 ** len(names)
    side = 64
    x = torch.randn(1, net.get_submodule(first)[0].conv1.in_channels, side, side, dtype=torch.float64)

    def through(network: Backbone, x: torch.Tensor) -> torch.Tensor:
        for name in names:
            x = network.get_submodule(name)(x)
        return x

    reach = {1: 7, 2: 7 + 2 * 7}[len(names)]  # 3x3 convolutions see 1 + 2 + 2 + 2 places around, at each rate
    reach += -reach % steps
    with torch.inference_mode():
        dense = through(fine, x)
        assert dense.shape[2:] == (side, side)
        for dy in range(steps):
            for dx in range(steps):
                there = through(net, x[:, :, dy:, dx:])
                cells = (side - reach) // steps - 1
                inner = there[:, :, reach // steps : cells, reach // steps : cells]
                here = dense[:, :, dy::steps, dx::steps][:, :, reach // steps : cells, reach // steps : cells]
                assert inner.numel() > 500
                torch.testing.assert_close(here, inner, rtol=0, atol=1e-12)


def test_a_whole_resnet18_keeps_what_it_says_where_it_said_it():
    """Every second place of the finer map is a place of the original one, at the borders too (both see zeros there)."""
    backbone = moved(build("resnet18"))
    with torch.inference_mode():
        coarse, fine = backbone(images(512)).map, dilated(backbone, 16)(images(512)).map
    assert fine.shape[2:] == (32, 32)
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-4, atol=1e-4)


def test_a_net_that_is_fine_already_stays_as_it_is():
    backbone = build("resnet18-small").eval()
    x = images(32)
    with torch.inference_mode():
        for stride in (8, 16, 32):
            torch.testing.assert_close(dilated(backbone, stride)(x).map, backbone(x).map, rtol=0, atol=0)
        plain = build("resnet18").eval()
        torch.testing.assert_close(dilated(plain, 32)(images(64)).map, plain(images(64)).map, rtol=0, atol=0)


def test_a_fusion_is_dilated_member_by_member(resnet50):
    other = build("resnet18-small").eval()
    both = Fused([resnet50, other]).eval()
    both.spec = "a+b"
    with torch.inference_mode():
        found = dilated(both, 8)(images(64))
        assert found.map.shape == (1, 2048 + 512, 8, 8) and dilated(both, 8).spec == "a+b"
        torch.testing.assert_close(found.map[:, 2048:], other(images(64)).map, rtol=0, atol=0)
        torch.testing.assert_close(found.map[:, :2048], dilated(resnet50, 8)(images(64)).map, rtol=0, atol=0)


def test_timm_resnets_have_the_maps_of_torchvision(resnet50):
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet50", num_classes=0).eval()
    model.load_state_dict(resnet50.state_dict())
    backbone = TimmBackbone("resnet50", model).eval()
    backbone.requires_grad_(False)
    fine = dilated(backbone, 8)
    with torch.inference_mode():
        mine = dilated(resnet50, 8)(images(64))
        torch.testing.assert_close(fine(images(64)).map, mine.map, rtol=1e-4, atol=1e-4)
    assert list(fine(images(64)).stages) == list(mine.stages) and not any(p.requires_grad for p in fine.parameters())
    assert fingerprint(fine) == fingerprint(backbone) and not fine.training


def test_modes_and_gradients_are_copied(resnet50):
    training = copy.deepcopy(resnet50).train().requires_grad_(True)
    training.layer1.requires_grad_(False)
    fine = dilated(training, 8)
    assert fine.training and [p.requires_grad for p in fine.parameters()] == [
        p.requires_grad for p in training.parameters()
    ]
    fine.layer4[0].conv2.weight.data.zero_()
    assert training.layer4[0].conv2.weight.abs().sum() > 0


def test_what_cannot_be_dilated_is_refused():
    with pytest.raises(InputError, match="an output stride is one of 8, 16, 32, got 4"):
        dilated(load_backbone("random:resnet18"), 4)
    with pytest.raises(InputError, match="Linear cannot trade stride for dilation: it has no stages layer1 to layer4"):
        dilated(nn.Linear(1, 1), 8)
    timm = pytest.importorskip("timm")
    vit = TimmBackbone("vit_tiny_patch16_224", timm.create_model("vit_tiny_patch16_224", num_classes=0))
    with pytest.raises(InputError, match="vit_tiny_patch16_224 cannot trade stride for dilation: timm says: .*"):
        dilated(vit, 8)


@pytest.mark.parametrize("geometry", [Geometry(same_convolutions=True, same_pool=True), Geometry(stride_in_1x1=True)])
@pytest.mark.parametrize("size", [64, 90])  # maps of even and of odd sides
def test_other_geometries_keep_their_old_places(geometry: Geometry, size: int):
    """BYOL's and DetCon's SAME padding, MSRA's stride in the 1x1: the undilated map is every fourth place of ours."""
    torch.manual_seed(1)
    backbone = geometry.apply(build("resnet50")).eval()
    x = torch.rand(1, 3, size, size + 10, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        coarse = backbone(x).map
        for output_stride in (16, 8):
            step = 32 // output_stride
            fine = dilated(backbone, output_stride)(x).map
            assert fine.shape[2:] == tuple(-(-n // output_stride) for n in x.shape[2:])
            torch.testing.assert_close(fine[:, :, ::step, ::step], coarse, rtol=1e-3, atol=1e-3 * float(coarse.std()))
