"""Weights out: a backbone as a folder that other programs read, written only if they would see the same features.

Each format is loaded back by its own reader (timm, torchvision, ONNX Runtime, our own for detectron2, which needs a
compiler to install), and shown 16 fixed images. What the reader does not know of (padding, a 3x3 stem) is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.detectron2 import to_detectron2
from whytransfer.backbones.foreign import TimmBackbone, TorchvisionBackbone
from whytransfer.backbones.geometry import geometry_of
from whytransfer.backbones.load import load_backbone
from whytransfer.backbones.recorded import compare, record
from whytransfer.backbones.resnet import STAGES, Arch, ResNet
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.files import full_disk_told, writable_folder

BOUND = 1e-4  # of the features' spread; float32 in another order makes 1e-6
COMPARED_PX = 64


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, how far its features are from the original's, and how to load it."""

    folder: Path
    format: str
    vector_difference: float  # largest one over 16 images, relative to the spread of the values
    map_difference: float
    load_it: str


@dataclass(frozen=True)
class Format:
    """`write` puts the files into a folder, `read` loads them as that format's users do: images -> (vector, map)."""

    write: Callable[[Backbone, Path, int], None]
    read: Callable[[Backbone, Path], nn.Module]
    load_it: str  # {folder}, {arch}


def export(backbone: Backbone, format: str, out: Path, card: Mapping[str, Any]) -> Exported:
    """Write a backbone (float32, on the processor, in eval mode) as a folder of one of FORMATS.

    The card of the folder is `card`, whose `size` is the side of the images in pixels, and what is known of the
    backbone; `load_backbone(out)` reads it, but for ONNX. Raises InputError where the format cannot hold this backbone
    or `out` is taken, and RunError, leaving nothing, where what was written gives other features.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {out} is taken: give the name of a new folder")
    writable_folder(out.parent)
    chosen, size_px = FORMATS[format], int(card["size"])
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        with full_disk_told(out / "weights", "Free some space and run the same command again."):
            chosen.write(backbone, aside, size_px)
            whole = {**card, **_known_of(backbone), "format": format}
            _write_card(aside, whole)  # one of the readers needs it
            seen = onnx_px(backbone, size_px) if format == "onnx" else seen_px(backbone)
            apart = compare(backbone, chosen.read(backbone, aside).eval(), seen)
            _refuse_other_features(format, apart)
            _write_card(aside, {**whole, "difference": list(apart)})
        _put_in_place(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(out, format, *apart, chosen.load_it.format(folder=out, arch=backbone.arch))


def seen_px(backbone: Backbone) -> int:
    """The side at which features are compared: a small one, unless the model takes only its own."""
    return int(backbone.model.pretrained_cfg["input_size"][-1]) if isinstance(backbone, TimmBackbone) else COMPARED_PX


def onnx_px(backbone: Backbone, size_px: int) -> int:
    """The side at which a graph is traced and compared: that of the card, where the graph will take no other."""
    return size_px if not _any_size(backbone) and not isinstance(backbone, TimmBackbone) else seen_px(backbone)


def _any_size(backbone: Backbone) -> bool:
    """Whether a graph can leave height and width open; SAME padding is computed from them while it is traced."""
    return isinstance(backbone, ResNet) and not geometry_of(backbone).told()


def _refuse_other_features(format: str, apart: tuple[float, float]) -> None:
    if not max(apart) <= BOUND:  # NaN too
        raise RunError(
            f"the export to {format} gives other features than the backbone: {apart[0]:.2g} of their spread apart in "
            f"the vector, {apart[1]:.2g} in the map (allowed: {BOUND:g}). Nothing was kept."
        )


def _known_of(backbone: Backbone) -> dict[str, Any]:
    collections: dict[type, str] = {TimmBackbone: "timm", TorchvisionBackbone: "torchvision"}
    known: dict[str, Any] = {"arch": backbone.arch, "finished": True}
    known |= {"mean": backbone.mean.tolist(), "std": backbone.std.tolist()}
    if type(backbone) in collections:
        known["collection"] = collections[type(backbone)]
    if isinstance(backbone, ResNet) and geometry_of(backbone).told():
        known["geometry"] = geometry_of(backbone).told()
    size_px = seen_px(backbone) if isinstance(backbone, TimmBackbone) else None
    return {**known, "recorded": record(backbone, size_px)}


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    (folder / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def _put_in_place(aside: Path, out: Path) -> None:
    """Rename the finished folder; it is readable by those whom the umask allows, which a temporary one is not."""
    mask = os.umask(0)
    os.umask(mask)
    aside.chmod(0o777 & ~mask)
    if out.exists():
        out.rmdir()
    os.replace(aside, out)


# --- safetensors and torchvision ------------------------------------------------------------------------------------


def _weights(backbone: Backbone) -> dict[str, Tensor]:
    return {key: value.detach().contiguous() for key, value in backbone.state_dict().items()}


def _resnet(backbone: Backbone, format: str) -> ResNet:
    if isinstance(backbone, ResNet):
        return backbone
    raise InputError(f"{format} holds ResNets of ours alone, and this is {backbone.arch}: export it as onnx")


def _plain(backbone: Backbone, format: str, stem: bool = True) -> None:
    """InputError for what the reader of a format would compute otherwise."""
    if not isinstance(backbone, ResNet):
        return
    told = geometry_of(backbone).told()
    if told:
        what = ", ".join(f"{key}={value}" for key, value in told.items())
        raise InputError(f"{format} cannot say how this backbone pads or strides ({what}): use safetensors or onnx")
    if stem and Arch.parse(backbone.arch).small:
        raise InputError(f"{format} has no 3x3 stem without max-pool ({backbone.arch}): use safetensors or onnx")


def _write_safetensors(backbone: Backbone, folder: Path, _: int) -> None:
    save_file(_weights(_resnet(backbone, "safetensors")), folder / "backbone.safetensors")


def _read_safetensors(_: Backbone, folder: Path) -> nn.Module:
    return load_backbone(folder)


def _write_torchvision(backbone: Backbone, folder: Path, _: int) -> None:
    if not isinstance(backbone, ResNet | TorchvisionBackbone):
        raise InputError(f"torchvision holds its own ResNets alone, and this is {backbone.arch}: export it as onnx")
    _plain(backbone, "torchvision")
    _theirs(backbone.arch)
    torch.save(_weights(backbone), folder / "model.pth")


def _read_torchvision(backbone: Backbone, folder: Path) -> nn.Module:
    model = _theirs(backbone.arch)
    model.load_state_dict(torch.load(folder / "model.pth", weights_only=True))
    return _Torchvision(backbone, model)


def _theirs(arch: str) -> Any:
    from torchvision.models import get_model

    try:
        model = get_model(arch, weights=None)
    except ValueError:
        raise InputError(f"torchvision has no {arch}: use safetensors or onnx") from None
    model.fc = nn.Identity()
    return model


class _Torchvision(nn.Module):
    """torchvision's own module without its classifier, behind the backbone's normalisation."""

    def __init__(self, backbone: Backbone, model: Any):
        super().__init__()
        self.normalise, self.model = backbone.normalise, model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = seen = self.normalise(images)
        for name in ("conv1", "bn1", "relu", "maxpool", *STAGES[1:]):
            x = self.model.get_submodule(name)(x)
        return self.model(seen), x


# --- timm and Hugging Face ------------------------------------------------------------------------------------------


def _in_timm(backbone: Backbone) -> str:
    """The name of a backbone in timm; InputError for widths that it does not build (its stem has 64 channels)."""
    if isinstance(backbone, ResNet) and Arch.parse(backbone.arch).width > 1:
        raise InputError(f"timm has no {backbone.arch}: use safetensors or onnx")
    return backbone.arch


def _timm_model(backbone: Backbone, format: str, size_px: int) -> Any:
    """The backbone as timm builds it, with its weights, mean and std."""
    if not isinstance(backbone, ResNet | TimmBackbone):
        raise InputError(f"{format} holds ResNets and timm's models, and this is {backbone.arch}: export it as onnx")
    _plain(backbone, format)
    timm = _extra("timm", "timm")
    model = timm.create_model(_in_timm(backbone), pretrained=False, num_classes=0)
    model.load_state_dict(backbone.state_dict() if isinstance(backbone, ResNet) else backbone.model.state_dict())
    mean, std = (tuple(float(str(v)) for v in values.numpy()) for values in (backbone.mean, backbone.std))  # 0.485
    if isinstance(backbone, ResNet):  # not timm's own weights of that name: nothing is said of their training
        plain = {"architecture": backbone.arch, "first_conv": "conv1", "classifier": "fc", "num_classes": 0}
        plain |= {"interpolation": "bilinear", "crop_pct": 0.875, "input_size": (3, size_px, size_px)}
        model.pretrained_cfg = plain
    model.pretrained_cfg.update(mean=mean, std=std)
    return model


def _write_timm(backbone: Backbone, folder: Path, size_px: int) -> None:
    model = _timm_model(backbone, "timm", size_px)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")


def _read_timm(backbone: Backbone, folder: Path) -> nn.Module:
    file = str(folder / "model.safetensors")
    model = _extra("timm", "timm").create_model(_in_timm(backbone), num_classes=0, checkpoint_path=file)
    return TimmBackbone(backbone.arch, model).normalise_with(backbone.mean.tolist(), backbone.std.tolist())


def _write_hf(backbone: Backbone, folder: Path, size_px: int) -> None:
    from timm.models import save_for_hf

    model = _timm_model(backbone, "hf", size_px)
    save_for_hf(model, str(folder), safe_serialization=True)


def _read_hf(backbone: Backbone, folder: Path) -> nn.Module:
    model = _extra("timm", "timm").create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
    return TimmBackbone(backbone.arch, model)  # mean and std from the folder's own config.json


# --- detectron2 -----------------------------------------------------------------------------------------------------


def _write_detectron2(backbone: Backbone, folder: Path, _: int) -> None:
    resnet = _resnet(backbone, "detectron2")
    strides = geometry_of(resnet)
    if set(strides.told()) - {"stride_in_1x1"} or Arch.parse(resnet.arch).small:
        _plain(backbone, "detectron2")
    arch = Arch.parse(resnet.arch)
    if arch.depth == 200:
        raise InputError("detectron2 builds ResNets of 18, 34, 50, 101 and 152 layers, not of 200: use onnx")
    if arch.width > 1 and not arch.bottleneck:
        raise InputError(f"detectron2 builds ResNet-18 and 34 of width 1 alone, and this is {arch}: use onnx")
    weights = {to_detectron2(k): v for k, v in _weights(resnet).items() if not k.endswith("num_batches_tracked")}
    mean, std = (255 * resnet.mean).reshape(3, 1, 1), (255 * resnet.std).reshape(3, 1, 1)
    weights |= {"pixel_mean": mean, "pixel_std": std}
    content = {"model": weights, "__author__": "whytransfer", "matching_heuristics": True}
    torch.save({**content, "stride_in_1x1": strides.stride_in_1x1}, folder / "model.pth")
    (folder / "config.yaml").write_text(_detectron2_config(resnet, strides.stride_in_1x1))


def _detectron2_config(resnet: ResNet, in_1x1: bool) -> str:
    """What a configuration of detectron2 must say for these weights; the rest is the detector's business."""
    arch = Arch.parse(resnet.arch)
    mean, std = ([round(255 * v, 3) for v in values.tolist()] for values in (resnet.mean, resnet.std))
    return (
        'INPUT:\n  FORMAT: "RGB"\nMODEL:\n  WEIGHTS: "model.pth"\n'
        f"  PIXEL_MEAN: {mean}\n  PIXEL_STD: {std}\n"
        f"  RESNETS:\n    DEPTH: {arch.depth}\n    STRIDE_IN_1X1: {in_1x1}\n"
        f"    STEM_OUT_CHANNELS: {64 * arch.width}\n    WIDTH_PER_GROUP: {64 * arch.width}\n"
        f"    RES2_OUT_CHANNELS: {64 * arch.width * (4 if arch.bottleneck else 1)}\n"
    )


def _read_detectron2(_: Backbone, folder: Path) -> nn.Module:
    return load_backbone(f"detectron2:{folder / 'model.pth'}")


# --- ONNX -----------------------------------------------------------------------------------------------------------


class _Outputs(nn.Module):
    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return features.vector, features.map


def _write_onnx(backbone: Backbone, folder: Path, size_px: int) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        _extra(module, "onnx")
    size_px = onnx_px(backbone, size_px)
    axes = {0: "batch", 2: "height", 3: "width"} if _any_size(backbone) else {0: "batch"}
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["vector", "map"]}
    example = (torch.zeros(2, 3, size_px, size_px),)
    names["dynamic_shapes"] = {"images": axes}
    program: Any = torch.onnx.export(_Outputs(backbone).eval(), example, dynamo=True, verbose=False, **names)
    program.save(folder / "model.onnx")


def _read_onnx(_: Backbone, folder: Path) -> nn.Module:
    runtime = _extra("onnxruntime", "onnx")
    return _Session(runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"]))


class _Session(nn.Module):
    def __init__(self, session: Any):
        super().__init__()
        self.session = session

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        vector, feature_map = self.session.run(["vector", "map"], {"images": images.numpy()})
        return torch.from_numpy(vector), torch.from_numpy(feature_map)


def _extra(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"this export needs {module}: pip install 'whytransfer[{extra}]'") from None


FORMATS: dict[str, Format] = {
    "safetensors": Format(_write_safetensors, _read_safetensors, 'whytransfer.load_backbone("{folder}")'),
    "timm": Format(
        _write_timm,
        _read_timm,
        'timm.create_model("{arch}", num_classes=0, checkpoint_path="{folder}/model.safetensors")',
    ),
    "torchvision": Format(
        _write_torchvision,
        _read_torchvision,
        'model = torchvision.models.get_model("{arch}"); model.fc = torch.nn.Identity(); '
        'model.load_state_dict(torch.load("{folder}/model.pth", weights_only=True))',
    ),
    "detectron2": Format(
        _write_detectron2,
        _read_detectron2,
        "MODEL.WEIGHTS {folder}/model.pth, with the settings of {folder}/config.yaml",
    ),
    "onnx": Format(_write_onnx, _read_onnx, 'onnxruntime.InferenceSession("{folder}/model.onnx")'),
    "hf": Format(_write_hf, _read_hf, 'timm.create_model("local-dir:{folder}", pretrained=True, num_classes=0)'),
}
