"""detectron2's names both ways; BGR, 0 to 255 and the stride in the 1x1 convolution as its configurations have them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import features, images, trained, trunk
from torch import Tensor, nn

from whytransfer.backbones import build, load_backbone
from whytransfer.backbones.detectron2 import from_caffe, from_detectron2, to_detectron2
from whytransfer.errors import InputError

BGR = {"pixel_mean": [103.530, 116.280, 123.675], "pixel_std": [1.0, 1.0, 1.0]}
RGB = {"pixel_mean": [123.675, 116.280, 103.530], "pixel_std": [58.395, 57.120, 57.375]}


def named(net: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """torchvision's weights under detectron2's names, res5 where a C4 detector has it, without counters."""
    found = {}
    for key, value in trunk(net).items():
        if not key.endswith("num_batches_tracked"):
            name = to_detectron2(key)
            found[f"{'roi_heads.' if prefix and name.startswith('res5') else prefix}{name}"] = value
    return found


def pixels(values: dict[str, list[float]]) -> dict[str, Tensor]:
    return {k: torch.tensor(v).reshape(3, 1, 1) for k, v in values.items()}


def caffe_named(net: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """The blobs of MSRA's ResNet-50: affine layers without statistics, a stem bias that nobody uses, a classifier."""
    blobs = {"conv1_b": np.zeros(64, np.float32), "fc1000_w": np.zeros((1000, 2048), np.float32)}
    branches = {"downsample": "1", "1": "2a", "2": "2b", "3": "2c"}
    for key, value in trunk(net).items():
        if key.endswith(("num_batches_tracked", "running_mean", "running_var")):
            continue
        *where, part, leaf = key.replace("downsample.", "downsample").split(".")
        is_norm = part.startswith("bn") or part == "downsample1"
        branch = branches["downsample" if part.startswith("downsample") else part[-1]]
        stem = "res_conv1" if is_norm else "conv1"
        name = f"res{int(where[0][-1]) + 1}_{where[1]}_branch{branch}" if where else stem
        blobs[f"{name}_{f'bn_{leaf[0]}'.replace('bn_w', 'bn_s') if is_norm else 'w'}"] = value.numpy()
    return {**blobs, "conv1_w_momentum": blobs["conv1_w"]}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained(5)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_names_both_ways(arch: str):
    with torch.device("meta"):
        keys = list(build(arch).state_dict())
    there = [to_detectron2(k) for k in keys]
    assert [from_detectron2(k) for k in there] == keys and len(set(there)) == len(keys)
    assert [from_detectron2(f"backbone.bottom_up.{k}") for k in there] == keys
    pattern = r"(stem\.conv1|res[2-5]\.\d+\.(shortcut|conv[123]))(\.norm)?\.(weight|bias|running_(mean|var)|num_.*)"
    assert all(re.fullmatch(pattern, k) for k in there)
    assert to_detectron2("layer1.0.downsample.1.running_var") == "res2.0.shortcut.norm.running_var"
    assert to_detectron2("bn1.weight") == "stem.conv1.norm.weight"
    assert (
        from_detectron2("roi_heads.box_predictor.cls_score.weight") == from_detectron2("roi_heads.res5.norm.bias") == ""
    )


def test_caffes_names():
    known = {
        "conv1_w": "conv1.weight",
        "res_conv1_bn_s": "bn1.weight",
        "res_conv1_bn_riv": "bn1.running_var",
        "res2_0_branch1_w": "layer1.0.downsample.0.weight",
        "res2_0_branch1_bn_b": "layer1.0.downsample.1.bias",
        "res4_22_branch2c_bn_gamma": "layer3.22.bn3.weight",
        "res5_2_branch2a_bn_running_mean": "layer4.2.bn1.running_mean",
    }
    assert {k: from_caffe(k) for k in known} == known
    for other in ("conv1_b", "fc1000_w", "conv1_w_momentum", "res2_0_branch2a_w_momentum", "res_conv1_bn_x"):
        assert from_caffe(other) == ""


@pytest.mark.parametrize("author", ["torchvision", "MOCO"])
def test_converted_weights_in_a_pickle(author: str, net: nn.Module, tmp_path: Path):
    """As tools/convert-torchvision-to-d2.py and MoCo's converter write them."""
    model = {k: v.numpy() for k, v in named(net).items()}
    content = {"model": model, "__author__": author, "matching_heuristics": True}
    (tmp_path / "r18.pkl").write_bytes(pickle.dumps(content))
    for scheme in ("detectron2", "detectron2-rgb"):
        backbone = load_backbone(f"{scheme}:{tmp_path / 'r18.pkl'}")
        torch.testing.assert_close(backbone(images()).vector, features(net, images()), rtol=1e-4, atol=1e-4)
    assert backbone.note == "RGB weights, stride in the 3x3 convolution"


@pytest.mark.parametrize("prefix", ["backbone.", "backbone.bottom_up."])
def test_a_detector_of_the_default_configuration(prefix: str, net: nn.Module, tmp_path: Path):
    """BGR images from 0 to 255, less their means."""
    weights = {**named(net, prefix), **pixels(BGR), "roi_heads.box_predictor.bbox_pred.bias": torch.zeros(4)}
    torch.save({"model": weights, "optimizer": {}, "iteration": 9}, tmp_path / "model_final.pth")
    backbone = load_backbone(f"detectron2:{tmp_path / 'model_final.pth'}")
    bgr = 255 * images().flip(1)
    right = features(
        net, bgr, BGR["pixel_mean"], BGR["pixel_std"]
    )  # blocks of two convolutions have no 1x1 to stride in
    torch.testing.assert_close(backbone(images()).vector, right, rtol=1e-3, atol=1e-3)
    assert backbone.note == "left aside: pixel_mean, pixel_std, roi_heads; BGR weights, stride in the 1x1 convolution"


def test_rgb_by_its_pixel_mean(net: nn.Module, tmp_path: Path):
    torch.save({"model": {**named(net, "backbone."), **pixels(RGB)}}, tmp_path / "rgb.pth")
    backbone = load_backbone(f"detectron2:{tmp_path / 'rgb.pth'}")
    torch.testing.assert_close(backbone(images()).vector, features(net, images()), rtol=1e-4, atol=1e-4)
    with pytest.raises(
        InputError, match="is no detectron2-msra: its names or its pixel_std are those of detectron2-rgb"
    ):
        load_backbone(f"detectron2-msra:{tmp_path / 'rgb.pth'}")


def test_msras_resnet50_strides_in_its_1x1_convolution(tmp_path: Path):
    net = trained(6, "resnet50")
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(caffe_named(net), protocol=2))
    backbone = load_backbone(f"detectron2:{tmp_path / 'R-50.pkl'}")
    for block in (net.layer2[0], net.layer3[0], net.layer4[0]):
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # affine alone
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)
    right = features(net, 255 * images().flip(1), BGR["pixel_mean"], BGR["pixel_std"])
    apart = (backbone(images()).vector - right).abs().max() / right.std()
    assert apart < 1e-4, apart
    assert backbone.note == (
        "left aside: conv1_b, conv1_w_momentum, fc1000_w; BGR weights, stride in the 1x1 convolution"
    )


def test_refusals(net: nn.Module, tmp_path: Path):
    silent = {"model": named(net)}
    cases = {
        "silent.pth": (silent, "does not say how it sees images: it has no pixel_mean and no known __author__ that"),
        "none.pth": ({"model": {"conv.weight": torch.zeros(1)}}, "holds no ResNet of detectron2: no stem.conv1.weight"),
        "empty.pth": ({"model": {}}, "holds no weights: neither tensors nor arrays"),
        "two.pth": ({"model": {**named(net, "a."), **named(net, "b."), **pixels(RGB)}}, "holds several ResNets"),
        "short.pth": (
            {"model": {k: v for k, v in named(net).items() if k != "res3.0.conv1.norm.bias"} | pixels(RGB)},
            "layer2.0.bn1.bias is missing",
        ),
        "still.pth": (  # only Caffe's affine layers have none, and they have none anywhere
            {"model": {k: v for k, v in named(net).items() if k != "res3.0.conv1.norm.running_var"} | pixels(RGB)},
            "layer2.0.bn1.running_var is missing",
        ),
        "grey.pth": (
            {"model": named(net) | pixels({"pixel_mean": [127.5] * 3, "pixel_std": [58.0] * 3})},
            "does not say how it sees images: .* that tells. Say it",
        ),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match=message):
            load_backbone(f"detectron2:{tmp_path / name}")
    one, other = (load_backbone(f"detectron2-{way}:{tmp_path / 'silent.pth'}") for way in ("rgb", "msra"))
    assert (one(images()).vector - other(images()).vector).abs().max() > 0.1, "which it is matters"
    grey = load_backbone(f"detectron2-rgb:{tmp_path / 'grey.pth'}")
    torch.testing.assert_close(grey.mean, torch.full((3,), 0.5))
    assert grey.note.endswith("RGB weights, stride in the 3x3 convolution")
    with pytest.raises(InputError, match="no weight file at nowhere.pkl"):
        load_backbone("detectron2:nowhere.pkl")
