"""Every origin on a file of its true layout: its own network comes out, and a file of another origin does not pass."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import features, images, trained, trunk
from torch import Tensor, nn

from whytransfer.backbones import build, load_backbone
from whytransfer.backbones.importing import origin_backbone
from whytransfer.backbones.origins import ORIGINS, simclr_v2
from whytransfer.errors import InputError

FC = {"weight": torch.zeros(128, 512), "bias": torch.zeros(128)}
QUEUE = {"queue": torch.zeros(128)}


def head(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{k}": v for k, v in FC.items()}


def moco(net: nn.Module, other: nn.Module) -> Any:
    state = {**trunk(net, "module.encoder_q."), **head("module.encoder_q.fc.0."), **head("module.encoder_q.fc.2.")}
    state |= {**trunk(other, "module.encoder_k."), **head("module.encoder_k.fc.0.")}
    state |= {"module.queue": torch.zeros(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    momenta = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.03}]}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": momenta}


def pycontrast(net: nn.Module, other: nn.Module) -> Any:
    state = {**trunk(net, "module.encoder."), **head("module.head.0."), **head("module.head_jig.fc1.")}
    memory = {"memory": torch.zeros(10, 128), "params": torch.zeros(5)}
    return {"opt": argparse.Namespace(method="PIRL", lr=0.03), "model": state, "contrast": memory, "epoch": 200}


def instdisc(net: nn.Module, other: nn.Module) -> Any:
    content = pycontrast(net, other)
    content["model"] = {k: v for k, v in content["model"].items() if "head_jig" not in k}
    return content


def dino(net: nn.Module, other: nn.Module) -> Any:
    student = {**trunk(other, "module.backbone."), **head("module.head.mlp.0.")}
    teacher = {**trunk(net, "module.backbone."), **head("module.head.mlp.0.")}
    loss = {"center": torch.zeros(1, 8)}
    return {"student": student, "teacher": teacher, "args": argparse.Namespace(arch="resnet18"), "dino_loss": loss}


def vissl(net: nn.Module, other: nn.Module) -> Any:
    model = {"trunk": trunk(net, "_feature_blocks."), "heads": head("0.clf.0.")}
    return {"phase": 9, "classy_state_dict": {"base_model": {"model": model, "meta": {}}, "losses": {"queue": FC}}}


def sequential(net: nn.Module) -> dict[str, Tensor]:
    return {f"backbone.{k}": v for k, v in nn.Sequential(*list(net.children())[:-1]).state_dict().items()}


FILES: dict[str, tuple[str, Callable[[nn.Module, nn.Module], Any], str]] = {
    "moco": ("moco", moco, "left aside: encoder_k, fc, optimizer, queue, queue_ptr"),
    "exemplar by model": ("exemplar", lambda net, _: {"model": trunk(net, "module.")}, "weights under 'model.module.'"),
    "exemplar with fc": ("exemplar", lambda net, _: {"state_dict": net.state_dict()}, "left aside: fc"),
    "exemplar bare": ("exemplar", lambda net, _: trunk(net), ""),
    "instdisc": ("instdisc", instdisc, "left aside: contrast, head"),
    "lemniscate": (
        "instdisc",
        lambda net, _: {"epoch": 200, "state_dict": {**trunk(net, "module."), **head("module.fc.")}},
        "weights under 'state_dict.module.'; left aside: fc",
    ),
    "pirl": ("pirl", pycontrast, "left aside: contrast, head, head_jig"),
    "infomin": (
        "pirl",
        lambda net, other: {**pycontrast(net, other), "model_ema": trunk(other, "encoder.")},
        "left aside: contrast, head, head_jig, model_ema",
    ),
    "lemniscate, its state dict alone": (
        "instdisc",
        lambda net, _: {**trunk(net, "module."), **head("module.fc.")},
        "weights under 'module.'; left aside: fc",
    ),
    "swav": (
        "swav",
        lambda net, _: {**trunk(net, "module."), **head("module.projection_head.0."), **head("module.prototypes.")},
        "weights under 'module.'; left aside: projection_head, prototypes",
    ),
    "dino published": ("dino", lambda net, _: trunk(net), ""),
    "dino checkpoint": ("dino", dino, "weights under 'teacher.module.backbone.'; left aside: dino_loss, head, student"),
    "lightly": (
        "lightly",
        lambda net, other: {**trunk(net, "backbone."), **trunk(other, "backbone_momentum.")},
        "left aside: backbone_momentum",
    ),
    "lightly in a row": ("lightly", lambda net, _: {"state_dict": sequential(net)}, "under 'state_dict.backbone.'"),
    "lightly student": (
        "lightly",
        lambda net, other: {**trunk(net, "student_backbone."), **trunk(other, "teacher_backbone.")},
        "left aside: teacher_backbone",
    ),
    "lightly's benchmark of DINO": (  # backbone is the teacher there, and what its evaluation uses
        "lightly",
        lambda net, other: {
            "state_dict": {**trunk(net, "backbone."), **trunk(other, "student_backbone."), **head("projection_head.")},
            "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
            "hyper_parameters": {"batch_size_per_device": 128, "num_classes": 1000},
        },
        "weights under 'state_dict.backbone.'; left aside: optimizer_states, projection_head, student_backbone",
    ),
    "lightly's benchmark of MoCo": (
        "lightly",
        lambda net, other: {"state_dict": {**trunk(net, "backbone."), **trunk(other, "query_backbone.")}},
        "left aside: query_backbone",
    ),
    "solo-learn": (
        "solo-learn",
        lambda net, other: {"state_dict": {**trunk(net, "backbone."), **trunk(other, "momentum_backbone."), **QUEUE}},
        "left aside: momentum_backbone, queue",
    ),
    "vissl": ("vissl", vissl, "_feature_blocks.'; left aside: heads, losses"),
    "vissl converted": (
        "vissl",
        lambda net, _: {"model_state_dict": trunk(net, "_feature_blocks.")},
        "weights under 'model_state_dict._feature_blocks.'",
    ),
}


@pytest.fixture(scope="module")
def nets() -> tuple[nn.Module, nn.Module]:
    return trained(1), trained(2)


@pytest.fixture(scope="module")
def wanted(nets) -> Tensor:
    return features(nets[0], images())


@pytest.mark.parametrize("name", FILES)
def test_an_origin_gives_its_network(name: str, nets, wanted: Tensor, tmp_path: Path):
    scheme, made, note = FILES[name]
    torch.save(made(*nets), tmp_path / "a+b.pth.tar")
    backbone = load_backbone(f"{scheme}:{tmp_path / 'a+b.pth.tar'}")
    torch.testing.assert_close(backbone(images()).vector, wanted, rtol=1e-5, atol=1e-5)
    assert note in backbone.note and backbone.arch == "resnet18"


def test_every_origin_is_tested():
    assert set(ORIGINS) == {scheme for scheme, _, _ in FILES.values()} | {"simclr", "byol", "detcon"}


@pytest.mark.parametrize("layout", ["v1", "bare"])
def test_simclr_sees_images_as_they_are_and_pools_as_tensorflow(layout: str, nets, tmp_path: Path):
    content = {"state_dict": nets[0].state_dict()} if layout == "v1" else trunk(nets[0])
    torch.save(content, tmp_path / "simclr.pth")
    backbone = load_backbone(f"simclr:{tmp_path / 'simclr.pth'}")
    raw = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    right = features(nets[0], images(), **raw, same_pool=True)
    torch.testing.assert_close(backbone(images()).vector, right, rtol=1e-5, atol=1e-5)
    assert (features(nets[0], images(), **raw) - right).abs().max() > 0.01, "the pool matters"


def v2_names() -> dict[str, str]:
    """SimCLRv2-Pytorch's names of a ResNet-50 without selective kernels -> torchvision's, from its module tree."""
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"net.0.0.weight": "conv1.weight", **{f"net.0.1.0.{leaf}": f"bn1.{leaf}" for leaf in leaves}}
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for block in range(count):
            there, here = f"net.{stage}.blocks.{block}", f"layer{stage}.{block}"
            for i in range(3):  # convolution, (batch norm, ReLU), convolution, ...
                names[f"{there}.net.{2 * i}.weight"] = f"{here}.conv{i + 1}.weight"
                names |= {f"{there}.net.{2 * i + 1}.0.{leaf}": f"{here}.bn{i + 1}.{leaf}" for leaf in leaves}
            if block == 0:
                names[f"{there}.projection.shortcut.weight"] = f"{here}.downsample.0.weight"
                names |= {f"{there}.projection.bn.0.{leaf}": f"{here}.downsample.1.{leaf}" for leaf in leaves}
    return names


def test_simclr_v2_names(tmp_path: Path):
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in build("resnet50").state_dict().items()}
    names = v2_names()
    assert {k: simclr_v2(f"resnet.{k}") for k in names} == names and set(names.values()) == set(shapes)
    values = {there: torch.full(shapes[here], 0.01, dtype=torch.half) for there, here in names.items()}
    values["net.3.blocks.2.net.4.weight"][5, 7] = 0.5
    file = tmp_path / "r50_1x_sk0.pth"
    torch.save({"resnet": {**values, **head("fc.")}, "head": head("layers.0.")}, file)
    backbone = load_backbone(f"simclr:{file}")
    assert backbone.arch == "resnet50" and backbone.layer3[2].conv3.weight[5, 7].item() == 0.5
    assert backbone.note == "left aside: fc, head; stored as float16"
    selective = {**values, "net.0.2.weight": torch.zeros(64, 32, 3, 3)}
    torch.save({"resnet": selective, "head": head("layers.0.")}, file)
    with pytest.raises(InputError, match="holds what no simclr file does, beside its ResNet: net"):
        load_backbone(f"simclr:{file}")


def test_solo_learns_small_stem_pads_by_two_and_sees_cifar(tmp_path: Path):
    net = trained(4)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=2, bias=False), nn.Identity()
    torch.save({"state_dict": trunk(net, "backbone.")}, tmp_path / "cifar.ckpt")
    backbone = load_backbone(f"solo-learn:{tmp_path / 'cifar.ckpt'}")
    right = features(net, images(32), (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))
    torch.testing.assert_close(backbone(images(32)).vector, right, rtol=1e-5, atol=1e-5)
    assert backbone.arch == "resnet18-small" and "normalised for CIFAR-10" in backbone.note


@pytest.mark.parametrize("in_a_row", [False, True])
def test_lightlys_own_resnet(in_a_row: bool, tmp_path: Path):
    """In a row, as its CIFAR benchmark has it, it loses the ReLU that its forward pass would call."""
    models = pytest.importorskip("lightly.models", reason="lightly (extra bench) is not installed")
    torch.manual_seed(0)
    theirs = models.ResNetGenerator("resnet-18").eval()
    children = nn.Sequential(*list(theirs.children())[:-1], nn.AdaptiveAvgPool2d(1)).eval()
    module = children if in_a_row else theirs
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in module.state_dict().items()}}, tmp_path / "l.ckpt")
    backbone = load_backbone(f"lightly:{tmp_path / 'l.ckpt'}")
    theirs.linear = nn.Identity()
    with torch.no_grad():
        right = module(backbone.normalise(images(32))).flatten(1)
    torch.testing.assert_close(backbone(images(32)).vector, right, rtol=1e-4, atol=1e-5)


def test_a_file_of_another_origin_does_not_pass(nets, tmp_path: Path):
    torch.save(moco(*nets), tmp_path / "moco.pth")
    torch.save(trunk(nets[0]), tmp_path / "bare.pth")
    torch.save({**trunk(nets[0]), **head("prototypes.")}, tmp_path / "swav.pth")
    cases = {
        "pirl:moco.pth": r"no ResNet where pirl keeps it .*it has one under 'state_dict\.module\.encoder_q\.', 'state_",
        "moco:bare.pth": "holds no ResNet where moco keeps it .*it has one under ''",
        "exemplar:swav.pth": "holds what no exemplar file does, beside its ResNet: prototypes. exemplar: is Exemplar",
        "swav:nowhere.pth": "no weight file at .*nowhere.pth",
        "byol:swav.pth": "holds what no byol file does, beside its ResNet: prototypes",
    }
    for spec, message in cases.items():
        scheme, _, name = spec.partition(":")
        with pytest.raises(InputError, match=message):
            load_backbone(f"{scheme}:{tmp_path / name}")
    with pytest.raises(InputError, match="moco: needs a file: moco:FILE"):
        load_backbone("moco:")


def test_every_key_counts(nets, tmp_path: Path):
    whole = trunk(nets[0], "module.")
    changes = {
        "missing": (
            {k: v for k, v in whole.items() if k != "module.layer2.1.bn2.bias"},
            "layer2.1.bn2.bias is missing",
        ),
        "extra": ({**whole, "module.layer2.1.se.weight": FC["bias"]}, "layer2.1.se.weight .* is not part of it"),
        "shape": ({**whole, "module.bn1.weight": torch.ones(3)}, r"bn1.weight is \(3,\), not \(64,\)"),
    }
    for name, (content, message) in changes.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=message):
            origin_backbone("swav", str(tmp_path / f"{name}.pth"))


def test_several_networks_where_one_is_kept(nets, tmp_path: Path):
    torch.save({**trunk(nets[0], "backbone."), "state_dict": trunk(nets[1], "backbone.")}, tmp_path / "two.pth")
    with pytest.raises(InputError, match="holds 2 ResNets where lightly keeps one: 'backbone.', 'state_dict.backbone"):
        load_backbone(f"lightly:{tmp_path / 'two.pth'}")


def test_an_origin_in_a_fusion(nets, tmp_path: Path):
    torch.save(moco(*nets), tmp_path / "a+b.pth")
    both = load_backbone(f"moco:{tmp_path / 'a+b.pth'}+random:resnet18")
    assert both.width == 1024 and "encoder_q" in both.note


def test_torchvision_and_timm_report_what_they_leave(nets, tmp_path: Path):
    """A classifier, a stranger, the averaged weights of a training run: nothing is dropped without a word."""
    whole = {**nets[0].state_dict(), "strange.weight": torch.zeros(3)}
    torch.save(whole, tmp_path / "whole.pth")
    torch.save(moco(*nets), tmp_path / "moco.pth")
    assert load_backbone(f"torchvision:resnet18:{tmp_path / 'whole.pth'}").note == "left aside: fc, strange"
    note = load_backbone(f"torchvision:resnet18:{tmp_path / 'moco.pth'}").note
    assert note.startswith("weights under 'state_dict.module.encoder_q.'; left aside: encoder_k, fc,")
    pytest.importorskip("timm", reason="the extra timm is not installed")
    averaged = {k: v + 1 for k, v in nets[0].state_dict().items()}
    torch.save({"state_dict": nets[0].state_dict(), "state_dict_ema": averaged, "amp": QUEUE}, tmp_path / "timm.pth")
    assert load_backbone(f"timm:resnet18@{tmp_path / 'timm.pth'}").note == "left aside: amp, fc, state_dict_ema"


ODD = {
    "quantised": (lambda k, v: v.to(torch.int8) if v.ndim == 4 else v, r"has int8 values in conv1\.weight"),
    "complex": (lambda k, v: v.to(torch.complex64) if v.ndim == 4 else v, r"has complex64 values in conv1\.weight"),
    "sparse": (lambda k, v: v.to_sparse() if v.ndim == 4 else v, r"has a sparse tensor in conv1\.weight"),
    "meta": (lambda k, v: v.to("meta"), r"has no values at all in conv1\.weight"),
    "diverged": (
        lambda k, v: v * math.nan if k == "layer3.0.bn1.bias" else v,
        r"has NaN or infinity in layer3\.0\.bn1",
    ),
    "negative": (lambda k, v: -v if k == "bn1.running_var" else v, r"has negative variances in bn1\.running_var"),
}


@pytest.mark.filterwarnings("ignore:.*parse")
@pytest.mark.parametrize("name", ODD)
def test_weights_that_are_no_numbers(name: str, nets, tmp_path: Path):
    change, message = ODD[name]
    torch.save({k: change(k, v) for k, v in trunk(nets[0]).items()}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=message):
        load_backbone(f"swav:{tmp_path / 'odd.pth'}")


def test_half_precision_is_read_as_it_was_rounded_and_said(nets, tmp_path: Path):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in trunk(nets[0]).items()}, tmp_path / "half.pth")
    backbone = load_backbone(f"swav:{tmp_path / 'half.pth'}")
    assert backbone.conv1.weight.dtype == torch.float32 and backbone.note == "stored as float16"
    assert torch.equal(backbone.conv1.weight, nets[0].conv1.weight.half().float())


def test_lists_and_dictionaries_without_end(nets, tmp_path: Path):
    torch.save([trunk(nets[0]), trunk(nets[1])], tmp_path / "two.pth")
    with pytest.raises(InputError, match=r"holds 2 ResNets \(0\., 1\.\): save the wanted one alone"):
        load_backbone(tmp_path / "two.pth")
    endless: dict[str, Any] = {**trunk(nets[0])}
    endless["again"] = endless
    torch.save(endless, tmp_path / "endless.pth")
    with pytest.raises(InputError, match="is no readable weight file, or is damaged: a dictionary in it holds itself"):
        load_backbone(f"swav:{tmp_path / 'endless.pth'}")


class LinearAverage(nn.Module):
    """Stands for the memory that lemniscate.pytorch pickles into its checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(4, 128))


@pytest.mark.parametrize("zipped", [True, False])  # PyTorch's format since 1.6, and the one of that time
def test_lemniscates_own_checkpoint_is_refused_and_says_how_to_save_it(zipped: bool, nets, tmp_path: Path):
    """It keeps its memory as a whole module, so it cannot be read without code; its weights alone can."""
    state = {**trunk(nets[0], "module."), **head("module.fc.")}
    content = {"epoch": 200, "arch": "resnet18", "state_dict": state, "lemniscate": LinearAverage(), "best_prec1": 46.5}
    torch.save(content, tmp_path / "lemniscate.pth", _use_new_zipfile_serialization=zipped)
    message = r"more than tensors \(an object of \S*LinearAverage\).*torch.load\(FILE\)\['state_dict'\], NEW"
    with pytest.raises(InputError, match=message):
        load_backbone(f"instdisc:{tmp_path / 'lemniscate.pth'}")
