"""detectron2's ResNets, in and out: `stem.conv1.norm`, `res2.0.shortcut`, and Caffe's `res2_0_branch2a_bn_s`.

A file of detectron2 does not say how images are fed to it; its configuration does. BGR, means of 103.530, 116.280,
123.675 out of 255, std 1 and the stride in the 1x1 convolution go with MSRA's weights (the default of its
configurations); RGB, ImageNet's std and the stride in the 3x3 one with weights converted from torchvision
[tools/convert-torchvision-to-d2.py]. Read as the other, features are wrong without any message.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whytransfer.backbones.checkpoints import infer_arch, load_into, read_content, told, unfilled
from whytransfer.backbones.geometry import Geometry
from whytransfer.backbones.origins import CONVERTED, MSRA, Origin
from whytransfer.backbones.pickles import read_pickle
from whytransfer.backbones.resnet import ResNet
from whytransfer.errors import InputError

CONVERTERS = ("torchvision", "MOCO", "Yonglong", "whytransfer")  # what they write as `__author__`
SCHEMES: dict[str, Origin | None] = {"detectron2": None, "detectron2-msra": MSRA, "detectron2-rgb": CONVERTED}
_CAFFE_PARTS = {"1": "downsample", "2a": "1", "2b": "2", "2c": "3"}
_CAFFE_LEAVES = {"s": "weight", "gamma": "weight", "b": "bias", "bias": "bias", "beta": "bias"}
_CAFFE_LEAVES |= {"rm": "running_mean", "running_mean": "running_mean"}
_CAFFE_LEAVES |= {"riv": "running_var", "running_var": "running_var"}


def detectron2_backbone(scheme: str, file: str) -> ResNet:
    """A ResNet of detectron2 as an RGB one: a BGR stem is turned round, once, with its means.

    detectron2:FILE decides by the names in the file, its `pixel_mean` or its `__author__`, and raises InputError where
    none tells; detectron2-msra:FILE and detectron2-rgb:FILE say it.
    """
    path = Path(file)
    content = _content(path)
    weights, caffe = _weights(content, path)
    trunk, aside = _trunk(weights, caffe, path)
    facts, bgr = _facts(scheme, content, weights, caffe, path)
    if bgr:
        trunk["conv1.weight"] = trunk["conv1.weight"].flip(1)
    arch = infer_arch(trunk, path)
    backbone = facts.geometry.apply(unfilled(arch))
    if caffe and not any(key.endswith("running_mean") for key in trunk):
        trunk = _with_statistics(trunk, facts.geometry.batch_norm_eps)
    load_into(backbone, trunk, path)
    backbone.normalise_with(facts.mean, facts.std)
    strides = "1x1" if facts.geometry.stride_in_1x1 else "3x3"
    seen = f"{'BGR' if bgr else 'RGB'} weights, stride in the {strides} convolution"
    backbone.note = "; ".join(filter(None, [told("", aside, trunk), seen]))
    return backbone


def to_detectron2(key: str) -> str:
    """ "layer1.0.downsample.1.bias" -> "res2.0.shortcut.norm.bias", the name under which detectron2 looks for it."""
    key = key if key.startswith("layer") else f"stem.{key}"
    key = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", key)
    key = re.sub(r"bn(\d)\.", r"conv\1.norm.", key)
    return key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def from_detectron2(key: str) -> str:
    """The opposite of to_detectron2, whatever prefix a detector puts before it; "" for what is no part of a ResNet."""
    found = re.search(r"(?:^|\.)(stem|res([2-5])\.\d+)\.(conv(\d)|shortcut)\.(norm\.)?(\w+)$", key)
    if found is None:
        return ""
    where, stage, part, number, norm, leaf = found.groups()
    block = f"layer{int(stage) - 1}.{where.partition('.')[2]}." if stage else ""
    if part == "shortcut":
        return f"{block}downsample.{1 if norm else 0}.{leaf}"
    return f"{block}{'bn' if norm else 'conv'}{number}.{leaf}"


def from_caffe(key: str) -> str:
    """ "res2_0_branch2a_bn_s" -> "layer1.0.bn1.weight"; "" for what is no part of a ResNet, momenta too."""
    if key == "conv1_w":
        return "conv1.weight"
    if stem := re.fullmatch(r"res_conv1_bn_(\w+)", key):
        return f"bn1.{_CAFFE_LEAVES[stem[1]]}" if stem[1] in _CAFFE_LEAVES else ""
    found = re.fullmatch(r"res([2-5])_(\d+)_branch(1|2[abc])_(w|bn_(\w+))", key)
    if found is None or (found[5] and found[5] not in _CAFFE_LEAVES):
        return ""
    part = _CAFFE_PARTS[found[3]]
    leaf = _CAFFE_LEAVES[found[5]] if found[5] else "weight"
    block = f"layer{int(found[1]) - 1}.{found[2]}."
    if part == "downsample":
        return f"{block}downsample.{1 if found[5] else 0}.{leaf}"
    return f"{block}{'bn' if found[5] else 'conv'}{part}.{leaf}"


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"no weight file at {path}")
    content = read_pickle(path) if path.suffix == ".pkl" else read_content(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds no dictionary of weights but {type(content).__name__}")
    return dict(content)


def _weights(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], bool]:
    """The tensors of a file, and whether Caffe named them."""
    inner = content.get("model", content.get("blobs", content))
    weights = {}
    for key, value in inner.items() if isinstance(inner, Mapping) else ():
        if isinstance(value, np.ndarray):
            weights[str(key)] = torch.from_numpy(value)
        elif isinstance(value, Tensor):
            weights[str(key)] = value
    if not weights:
        raise InputError(f"{path} holds no weights: neither tensors nor arrays, also under 'model' and 'blobs'")
    return weights, "conv1_w" in weights


def _trunk(weights: Mapping[str, Tensor], caffe: bool, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    trunk, aside = dict[str, Tensor](), set[str]()
    for key, value in weights.items():
        name = from_caffe(key) if caffe else from_detectron2(key)
        if not name:
            aside.add(key if caffe else _owner(key))
        elif name in trunk:
            raise InputError(f"{path} holds several ResNets: {key} comes twice. Save the wanted one alone.")
        else:
            trunk[name] = value
    if "conv1.weight" not in trunk:
        some = ", ".join(list(weights)[:4])
        raise InputError(
            f"{path} holds no ResNet of detectron2: no stem.conv1.weight and no conv1_w. Its first keys: {some}"
        )
    return trunk, sorted(aside)


def _owner(key: str) -> str:
    """The part of a detector that a key belongs to: "roi_heads.box_predictor.bbox_pred.bias" -> "roi_heads"."""
    parts = key.split(".")
    return parts[1] if parts[0] == "backbone" and len(parts) > 1 else parts[0]


def _facts(
    scheme: str, content: Mapping[str, Any], weights: Mapping[str, Tensor], caffe: bool, path: Path
) -> tuple[Origin, bool]:
    """How the file's images are fed to it, and whether its stem expects BGR."""
    said = SCHEMES[scheme]
    found = _found(content, weights, caffe, said)
    if found is None and said is None:
        raise InputError(
            f"{path} does not say how it sees images: it has no pixel_mean and no known __author__ that tells. Say it: "
            "detectron2-msra:FILE (BGR, std 1, stride in the 1x1 convolution, detectron2's default) or "
            "detectron2-rgb:FILE (converted from torchvision's layout)."
        )
    if found is None:
        return (MSRA, True) if said is MSRA else (CONVERTED, False)
    if said and found[0].geometry != said.geometry:
        true = "detectron2-msra" if found[0].geometry.stride_in_1x1 else "detectron2-rgb"
        raise InputError(f"{path} is no {scheme}: its names or its pixel_std are those of {true}")
    return found


def _found(
    content: Mapping[str, Any], weights: Mapping[str, Tensor], caffe: bool, said: Origin | None
) -> tuple[Origin, bool] | None:
    """What the file itself tells, with its own mean and std where it has them; None when it is silent."""
    author, mean, std = content.get("__author__"), _pixels(weights, "pixel_mean"), _pixels(weights, "pixel_std")
    if caffe:
        return MSRA, True
    if mean is None or std is None:
        return (CONVERTED, False) if author in CONVERTERS else None
    if author not in CONVERTERS and mean[0] == mean[2] and said is None:
        return None  # a grey mean, or none: it fits both orders
    # ImageNet's blue mean is the smallest, so blue comes first
    bgr = author not in CONVERTERS and (mean[0] < mean[2] or (mean[0] == mean[2] and said is MSRA))
    if bgr:
        mean, std = mean[::-1], std[::-1]
    in_1x1 = bool(content.get("stride_in_1x1")) if author == "whytransfer" else bool(np.allclose(std, 1))
    base = dataclasses.replace(CONVERTED, geometry=Geometry(stride_in_1x1=in_1x1))
    return dataclasses.replace(base, mean=tuple(v / 255 for v in mean), std=tuple(v / 255 for v in std)), bgr


def _pixels(weights: Mapping[str, Tensor], key: str) -> list[float] | None:
    value = weights.get(key)
    return None if value is None or value.numel() != 3 else [float(v) for v in value.flatten()]


def _with_statistics(trunk: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Caffe's affine layers have no running statistics: mean 0 and var + eps = 1, as detectron2 fills them."""
    filled = dict(trunk)
    for key, value in trunk.items():
        if re.search(r"(^|\.)(bn\d|downsample\.1)\.weight$", key):
            stem = key.removesuffix("weight")
            filled.setdefault(f"{stem}running_mean", torch.zeros_like(value))
            filled.setdefault(f"{stem}running_var", torch.full_like(value, 1 - eps))
    return filled
