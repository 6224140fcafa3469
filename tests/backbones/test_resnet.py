"""Our ResNets: equal to torchvision's with the same weights, of the papers' sizes, and showing every stage."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from whytransfer.backbones import Backbone, build
from whytransfer.backbones.resnet import Arch
from whytransfer.errors import InputError

TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(name).parameters())


@pytest.mark.parametrize("name", TORCHVISION)
def test_equals_torchvision_with_the_same_weights(name: str):
    torch.manual_seed(0)
    theirs = get_model(name, weights=None)
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours = build(name).normalise_with((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    ours.load_state_dict(weights, strict=True)
    assert list(ours.state_dict()) == list(weights)
    nodes = {"maxpool": "stem", "flatten": "vector", **{f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)}}
    extract = create_feature_extractor(theirs, train_return_nodes=dict(nodes), eval_return_nodes=dict(nodes))
    images = torch.rand(2, 3, 64, 64)
    for training in (True, False):
        with torch.no_grad():
            wanted, found = extract.train(training)(images), ours.train(training)(images)
        torch.testing.assert_close(found.vector, wanted["vector"], rtol=1e-5, atol=1e-5)
        for stage, features in found.stages.items():
            torch.testing.assert_close(features, wanted[stage], rtol=1e-5, atol=1e-5)
        assert found.map is found.stages["layer4"]


def test_initialisation_has_the_spread_of_kaiming_fan_out():
    torch.manual_seed(0)
    weight = build("resnet50").layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert torch.equal(build("resnet50").layer4[2].bn3.weight, torch.ones(2048)), "no zero-initialised residual"


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet50", 23.51), ("resnet101", 42.50), ("resnet152", 58.14), ("resnet200", 62.62), ("resnet50x3", 211.2)],
)
def test_parameter_counts_are_the_papers(name: str, millions: float):
    assert parameters(name) / 1e6 == pytest.approx(millions, abs=0.05 if millions > 100 else 0.005)


def test_three_fused_networks_are_smaller_than_one_three_times_as_wide():
    assert parameters("resnet50x3") > 2.9 * 3 * parameters("resnet50")


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("small", [False, True])
def test_stage_shapes(depth: int, width: int, small: bool):
    name = str(Arch(depth, width, small))
    with torch.device("meta"):
        model = build(name)
        features = model(torch.empty(2, 3, 64, 64))
    expansion, side = (4 if depth >= 50 else 1), (64 if small else 16)
    assert features.stages["stem"].shape == (2, 64 * width, side, side)
    for i in range(4):
        channels = (64 << i) * expansion * width
        assert features.stages[f"layer{i + 1}"].shape == (2, channels, side >> i, side >> i)
    assert features.vector.shape == (2, model.width) and model.width == 512 * expansion * width
    assert model.arch == name == str(Arch.parse(name))


def test_normalisation_belongs_to_the_backbone():
    model = build("resnet18-small").eval()
    images = torch.rand(2, 3, 16, 16)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    by_hand = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(model.normalise_with(mean, std).normalise(images), by_hand)
    inside = model(images).vector
    outside = model.normalise_with((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(by_hand).vector
    torch.testing.assert_close(inside, outside)
    assert not {"mean", "std"} & set(model.state_dict())


def test_gradient_reaches_the_images_and_every_parameter():
    model, images = build("resnet18"), torch.rand(2, 3, 48, 48, requires_grad=True)
    model(images).vector.square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_batch_of_one_equals_its_row_in_a_batch():
    model = build("resnet18-small").eval()
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(images[1:2]).vector, model(images).vector[1:2], rtol=1e-4, atol=1e-5)


def test_channels_last_and_bf16_autocast():
    model = build("resnet18").eval().to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(images)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in exact.stages.values())
    assert rough.map.dtype == torch.bfloat16 and rough.vector.dtype == torch.float32
    torch.testing.assert_close(rough.vector, exact.vector, rtol=0.1, atol=0.03)


def test_the_normalisation_layer_is_the_callers():
    seen = []
    model = build("resnet50", norm=lambda channels: seen.append(channels) or nn.GroupNorm(8, channels))
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(seen) == len([n for n in get_model("resnet50").modules() if isinstance(n, nn.BatchNorm2d)])


@pytest.mark.parametrize("name", ["resnet81", "resnet18-smal", "resnet50x0", "resnet50x", "Resnet50", "vit"])
def test_an_unknown_architecture_lists_near_names(name: str):
    with pytest.raises(InputError, match=f"unknown backbone '{name}'.*Known: .*resnet18.*resnet50x3"):
        build(name)


def test_a_misspelt_architecture_gets_the_near_name_first():
    with pytest.raises(InputError, match="Did you mean 'resnet18-small'"):
        build("resnet18-smal")


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.rand(3, 8, 8), torch.rand(2, 8, 8, 3)]
)
def test_what_is_no_batch_of_images_is_refused(images: torch.Tensor):
    with pytest.raises(ValueError, match=r"takes images \(B, 3, H, W\), floating point in \[0, 1\]; got"):
        inspect.unwrap(Backbone.normalise)(build("resnet18"), images)  # past the shape checks of the test run


def test_normalisation_values_are_checked():
    with pytest.raises(InputError, match="three means and three positive stds; got"):
        build("resnet18").normalise_with((0.5, 0.5, 0.5), (0.2, 0.0, 0.2))
