"""Backbones of other collections behind our contract: every torchvision ResNet, and timm's models (extra `timm`).

A plain ResNet becomes one of ours. Another kind keeps its own module inside an adapter that names its stages.
Weights are looked for on this machine first; a download says so on standard error, and fails clearly without a network.
"""

from __future__ import annotations

import difflib
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.checkpoints import find_trunk, left_aside, load_into, read_tensors, told
from whytransfer.backbones.resnet import STAGES, build
from whytransfer.errors import InputError, unknown_name
from whytransfer.records import Features


class TorchvisionBackbone(Backbone):
    """A torchvision ResNet of a kind that we do not build ourselves (wide, ResNeXt), with the usual key names."""

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module

    def __init__(self, name: str):
        from torchvision.models import get_model

        model = get_model(name, weights=None)
        super().__init__(name, width=model.fc.in_features)
        for child in ("conv1", "bn1", "relu", "maxpool", *STAGES[1:]):
            self.add_module(child, model.get_submodule(child))

    def forward(self, images: Tensor) -> Features:
        x = self.conv1(self.normalise(images))
        stages = {"stem": self.maxpool(self.relu(self.bn1(x)))}
        for before, name in zip(STAGES, STAGES[1:], strict=False):
            stages[name] = self.get_submodule(name)(stages[before])
        last = stages["layer4"]
        return Features(vector=last.mean((2, 3), dtype=torch.float32), map=last, stages=stages)


def torchvision_backbone(rest: str) -> Backbone:
    """torchvision:NAME:WEIGHTS or torchvision:NAME:FILE, e.g. torchvision:resnet50:IMAGENET1K_V2."""
    from torchvision.models import get_model_weights, list_models

    name, _, weights = rest.partition(":")
    known = [n for n in list_models() if n.startswith(("resnet", "resnext", "wide_resnet"))]
    if name not in known:
        raise unknown_name("torchvision ResNet", name, known)
    choices = get_model_weights(name).__members__
    if not weights:
        some = " or ".join(f"torchvision:{name}:{w}" for w in choices)
        raise InputError(f"torchvision:{name} says no weights: {some}; untrained weights are random:ARCH")
    backbone = build(name) if name.startswith("resnet") else TorchvisionBackbone(name)
    is_file = "/" in weights or "." in weights
    if not is_file and weights not in choices:
        raise unknown_name(f"weights of torchvision {name}", weights, choices)
    path = Path(weights) if is_file else _torchvision_file(choices[weights])
    tensors = read_tensors(path)
    prefix, trunk = find_trunk(tensors, path)
    load_into(backbone, trunk, path)
    backbone.note = told(prefix, left_aside(tensors, trunk, prefix), trunk)
    if not is_file:
        preset = choices[weights].transforms()
        backbone.normalise_with(preset.mean, preset.std)
    return backbone


def _torchvision_file(weights: Any) -> Path:
    """The file of published weights in torch's cache folder; downloaded, and its hash checked, when it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not path.is_file():
        print(f"downloading {weights.url} to {path}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(path), path.stem.rpartition("-")[2], progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: its hash is wrong
            raise InputError(
                f"the weights {weights} are not on this machine and could not be downloaded ({error}). Put the file of "
                f"{weights.url} at {path}, or name one: torchvision:NAME:FILE"
            ) from None
    return path


class TimmBackbone(Backbone):
    """A timm model; its stages carry timm's module names, except that a ResNet's `act1` is called "stem"."""

    def __init__(self, name: str, model: Any):
        super().__init__(name, width=model.head_hidden_size)
        self.model = model
        self._names = ["stem" if info["module"] == "act1" else info["module"] for info in model.feature_info]
        self.normalise_with(model.pretrained_cfg["mean"], model.pretrained_cfg["std"])

    def forward(self, images: Tensor) -> Features:
        final, stages = self.model.forward_intermediates(self.normalise(images), output_fmt="NCHW")
        vector = self.model.forward_head(final, pre_logits=True).float()
        return Features(vector, self._as_map(final, stages[-1]), dict(zip(self._names, stages, strict=True)))

    def _as_map(self, final: Tensor, last: Tensor) -> Tensor:
        """The output before pooling as (B, C, h, w): token sequences lose their prefix tokens, channels come first."""
        if final.ndim == 3:
            places = final[:, -last.shape[2] * last.shape[3] :]
            return places.transpose(1, 2).unflatten(2, last.shape[2:])
        return final.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else final


def timm_backbone(rest: str) -> Backbone:
    """timm:NAME with timm's published weights, or timm:NAME@FILE with those of a file (timm's key layout)."""
    timm = _timm()
    name, at, file = rest.partition("@")
    if not timm.is_model(name.partition(".")[0]) or ("." in name and name not in timm.list_pretrained()):
        known = timm.list_models() + timm.list_pretrained()
        near = difflib.get_close_matches(name, known, n=10, cutoff=0.5) or timm.list_models("resnet*")[:20]
        raise unknown_name("timm model", name, near)
    path = Path(file) if at else _timm_file(name)
    config = timm.get_pretrained_cfg(name)
    heads = config.classifier or () if config else ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    everything = read_tensors(path)
    tensors = _unwrapped(everything, f"{config.first_conv}.weight" if config else "")
    body = {k: v for k, v in tensors.items() if k.rpartition(".")[0] not in heads}
    # no classes, here and in the configuration: timm then loads strictly, after its own translation of old layouts
    overlay = {"state_dict": body, "num_classes": 0, "label_offset": 0}
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    except RuntimeError as error:
        lines = [textwrap.shorten(line, 160, placeholder=" ...") for line in str(error).splitlines()[1:3]]
        raise InputError(
            f"{path} is a checkpoint of another architecture than timm:{name}: {' '.join(lines)}"
        ) from None
    model.pretrained_cfg.pop("state_dict", None)
    if not hasattr(model, "forward_intermediates"):
        raise InputError(f"timm:{name} does not show its stages (no forward_intermediates in timm {timm.__version__})")
    backbone = TimmBackbone(name, model)
    used = {id(tensor) for tensor in tensors.values()}
    beside = {key.partition(".")[0] for key, tensor in everything.items() if id(tensor) not in used}
    backbone.note = told("", sorted({*(heads if len(body) < len(tensors) else ()), *beside}), body)
    return backbone


def _unwrapped(tensors: Mapping[str, Tensor], landmark: str) -> dict[str, Tensor]:
    """The tensors under the shortest prefix that leads to a known key ("state_dict." ...); all when there is none."""
    prefixes = [k.removesuffix(landmark) for k in tensors if k == landmark or k.endswith(f".{landmark}")]
    prefix = min(prefixes, key=len, default="")
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _timm_file(name: str) -> Path:
    """timm's published file in the Hugging Face cache, downloaded when it is not there."""
    import huggingface_hub as hub

    source = _timm().get_pretrained_cfg(name)
    if source is None or not source.hf_hub_id:
        raise InputError(f"timm publishes no weights for {name}; name a file: timm:{name}@FILE")
    files = [source.hf_hub_filename] if source.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for file in files:
        cached = hub.try_to_load_from_cache(source.hf_hub_id, file)
        if isinstance(cached, str):
            return Path(cached)
    reason: Exception
    try:
        _reach(hub.constants.ENDPOINT)  # the hub's client would retry for a minute
        print(f"downloading {source.hf_hub_id} from {hub.constants.ENDPOINT}", file=sys.stderr)
        for file in files:
            try:
                return Path(hub.hf_hub_download(source.hf_hub_id, file))
            except hub.errors.RemoteEntryNotFoundError as error:
                reason = error
    except OSError as error:
        reason = error
    raise InputError(
        f"the weights of timm:{name} ({source.hf_hub_id}) are not on this machine and could not be downloaded "
        f"({reason}). Name a file instead: timm:{name}@FILE"
    )


def _reach(url: str) -> None:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # it answered


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise InputError("timm: backbones need the timm extra: pip install 'whytransfer[timm]'") from None
    return timm
