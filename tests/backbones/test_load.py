"""One string names a backbone: every form of it, and every way in which it can be wrong."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from whytransfer.backbones import build, fingerprint, load_backbone, load_checkpoint
from whytransfer.backbones.checkpoints import infer_arch
from whytransfer.backbones.resnet import names
from whytransfer.errors import InputError


@pytest.fixture(scope="module")
def trained():
    """A torchvision resnet18 that no seed here would make: its batch-norm statistics have moved too."""
    torch.manual_seed(1234)
    model = get_model("resnet18", weights=None).train()
    model(torch.rand(4, 3, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def other():
    torch.manual_seed(99)
    return get_model("resnet18", weights=None)


def test_images_of_0_to_255_are_refused():
    backbone = load_backbone("random:resnet18-small")
    with pytest.raises(ValueError, match=r"images in \[0, 1\]; these reach 255: divide them by 255"):
        backbone(torch.full((1, 3, 16, 16), 255.0))
    assert backbone(torch.ones(1, 3, 16, 16)).vector.shape == (1, 512)


def prefixed(prefix: str, model: nn.Module, drop: tuple[str, ...] = ("fc.",)) -> dict[str, torch.Tensor]:
    return {prefix + k: v for k, v in model.state_dict().items() if not k.startswith(drop)}


def vector_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What torchvision's own module gives before `fc`, for images in [0, 1]."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    trunk = nn.Sequential(*list(model.children())[:-1])
    with torch.no_grad():
        return trunk((images - mean[:, None, None]) / std[:, None, None]).flatten(1)


def layouts(model: nn.Module, other: nn.Module) -> dict[str, object]:
    """The key layouts in which others publish a ResNet: name -> what they hand to torch.save."""
    head = {"weight": torch.zeros(128, 512), "bias": torch.zeros(128)}
    sequential = nn.Sequential(*list(model.children())[:-1])
    return {
        "torchvision": model.state_dict(),
        "data-parallel": {"epoch": 3, "arch": "resnet18", "state_dict": prefixed("module.", model, ())},
        "moco": {
            "epoch": 200,
            "arch": "resnet18",
            "state_dict": {
                **prefixed("module.encoder_q.", model),
                **{f"module.encoder_q.fc.0.{k}": v for k, v in head.items()},
                **prefixed("module.encoder_k.", other),
                "module.queue": torch.zeros(128, 64),
                "module.queue_ptr": torch.zeros(1, dtype=torch.long),
            },
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.03}]},
        },
        "solo-learn": {
            "state_dict": {
                **prefixed("backbone.", model),
                **prefixed("momentum_backbone.", other),
                "projector.0.weight": torch.zeros(2, 2),
            }
        },
        "lightly": {
            "state_dict": {
                **{f"backbone.{k}": v for k, v in sequential.state_dict().items()},
                "projection_head.layers.0.weight": torch.zeros(2, 2),
            }
        },
        "student-teacher": {"student": prefixed("module.", model), "teacher": prefixed("module.", other)},
        "byol": {**prefixed("online_encoder.net.", model), **prefixed("target_encoder.net.", other)},
        "vissl": {
            "classy_state_dict": {"base_model": {"model": {"trunk": prefixed("_feature_blocks.", model), "heads": {}}}}
        },
        "pycontrast": {"model": prefixed("module.encoder.", model), "opt": {}},
        "only-teacher": {"teacher": prefixed("backbone.", model)},
    }


@pytest.mark.parametrize("layout", sorted(layouts(nn.Sequential(nn.Identity()), nn.Identity())))
def test_foreign_layouts_give_the_trained_network(layout: str, trained, other, tmp_path: Path):
    path = tmp_path / f"{layout}.pth.tar"
    torch.save(layouts(trained, other)[layout], path)
    backbone = load_backbone(path)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(backbone(images).vector, vector_of(trained, images), rtol=1e-5, atol=1e-5)
    assert (backbone.arch, backbone.width, backbone.spec) == ("resnet18", 512, str(path))


def test_the_note_says_where_the_weights_were_and_what_was_left(trained, other, tmp_path: Path):
    torch.save(layouts(trained, other)["moco"], tmp_path / "moco.pth.tar")
    note = load_backbone(tmp_path / "moco.pth.tar").note
    assert (
        note == "weights under 'state_dict.module.encoder_q.'; left aside: encoder_k, fc, optimizer, queue, queue_ptr"
    )


def test_safetensors_half_precision_and_files_without_counters(trained, tmp_path: Path):
    weights = {k: v.half() for k, v in prefixed("", trained).items() if not k.endswith("num_batches_tracked")}
    save_file(weights, tmp_path / "half.safetensors")
    backbone = load_backbone(tmp_path / "half.safetensors")
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(backbone.conv1.weight, trained.conv1.weight, rtol=1e-3, atol=1e-3)
    assert backbone.bn1.num_batches_tracked.item() == 0 and backbone.note == "stored as float16"


@pytest.mark.parametrize("name", names())
def test_the_architecture_is_read_off_the_shapes(name: str):
    with torch.device("meta"):
        model = build(name)
    assert str(infer_arch(model.state_dict(), Path("weights.pt"))) == name


def test_a_file_of_our_own_comes_back_as_it_was(tmp_path: Path):
    model = build("resnet34-small")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    found = load_backbone(tmp_path / "weights.pt")
    assert found.arch == "resnet34-small" and fingerprint(found) == fingerprint(model)


def test_random_is_seeded_and_leaves_the_callers_chance_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first = load_backbone("random:resnet18-small")
    assert torch.equal(torch.rand(3), wanted)
    assert fingerprint(first) == fingerprint(load_backbone("random:resnet18-small:0"))
    assert fingerprint(first) != fingerprint(load_backbone("random:resnet18-small:1"))


def test_frozen_means_eval_mode_and_no_gradient():
    frozen = load_backbone("random:resnet18")
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
    free = load_backbone("random:resnet18", frozen=False)
    assert not free.training and all(p.requires_grad for p in free.parameters())


def test_fingerprint_sees_every_parameter_and_every_buffer():
    model = build("resnet18-small").eval()
    before = fingerprint(model)
    with torch.no_grad():
        model(torch.rand(2, 3, 8, 8))
    assert fingerprint(model) == before, "a forward pass in eval mode moves nothing"
    with torch.no_grad():
        model.train()(torch.rand(2, 3, 8, 8))
    assert fingerprint(model) != before, "batch-norm statistics have moved"
    for change in (lambda m: m.layer4[1].conv2.weight.data.view(-1)[7].add_(1e-6), lambda m: m.mean[0].add_(1e-3)):
        fresh = load_backbone("random:resnet18-small")
        before = fingerprint(fresh)
        change(fresh)
        assert fingerprint(fresh) != before


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return get_model(name, weights=None)


def run_folder(path: Path, finished: bool, **card: object) -> Path:
    path.mkdir()
    (path / "card.json").write_text(json.dumps({"config": {}, "finished": finished, **card}))
    return path


def test_a_run_folder(tmp_path: Path):
    model = build("resnet18-small")
    folder = run_folder(tmp_path / "run", True, arch="resnet18-small", mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])
    save_file(model.state_dict(), folder / "backbone.safetensors")
    backbone = load_backbone(folder)
    assert fingerprint(backbone) == fingerprint(model.normalise_with([0.5, 0.4, 0.3], [0.2, 0.2, 0.1]))
    assert backbone.note == "" and backbone.spec == str(folder)


@pytest.mark.parametrize("layout", ["backbone", "method"])
def test_an_unfinished_run_is_usable_and_says_so(layout: str, tmp_path: Path):
    model, keys = build("resnet18-small"), build("resnet18-small")
    folder = run_folder(tmp_path / "run", False)
    method = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    method |= {f"key_backbone.{k}": v for k, v in keys.state_dict().items()}
    state = {"backbone": model.state_dict()} if layout == "backbone" else {"method": method, "step": 3, "metrics": []}
    torch.save(state, folder / "checkpoint.pt")
    backbone = load_backbone(folder)
    assert fingerprint(backbone) == fingerprint(model)
    assert backbone.note.startswith("unfinished run")


def test_a_run_folder_that_cannot_be_used(tmp_path: Path):
    with pytest.raises(InputError, match=r"is no run folder: it holds no card\.json"):
        load_backbone(tmp_path)
    with pytest.raises(InputError, match="has saved no weights yet; repeat its command"):
        load_backbone(run_folder(tmp_path / "new", False, arch="resnet18"))
    folder = run_folder(tmp_path / "mixed", True, arch="resnet34")
    save_file(build("resnet18").state_dict(), folder / "backbone.safetensors")
    with pytest.raises(InputError, match=r"another architecture than resnet34: layer1\.2\.conv1\.weight is missing"):
        load_backbone(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"card\.json is damaged: Expecting property name"):
        load_backbone(folder)


def test_torchvision_weights_from_a_file_and_from_the_hub_cache(trained, tmp_path: Path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    torch.save(trained.state_dict(), tmp_path / "mine+yours.pth")
    torch.save(trained.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    images = torch.rand(2, 3, 64, 64)
    for weights in (tmp_path / "mine+yours.pth", "IMAGENET1K_V1", "DEFAULT"):
        backbone = load_backbone(f"torchvision:resnet18:{weights}")
        torch.testing.assert_close(backbone(images).vector, vector_of(trained, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnext50_32x4d"])
def test_other_torchvision_resnets_keep_their_own_module(name: str, tmp_path: Path):
    theirs = get_model(name, weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone(f"torchvision:{name}:{tmp_path / 'weights.pth'}")
    images = torch.rand(1, 3, 64, 64)
    features = backbone(images)
    theirs.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(features.vector, theirs(backbone.normalise(images)), rtol=1e-5, atol=1e-5)
    assert list(features.stages) == ["stem", "layer1", "layer2", "layer3", "layer4"]


def no_network(*_args: object, **_options: object):
    raise OSError("no network in this test")


def test_torchvision_errors(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    with pytest.raises(
        InputError, match=r"not on this machine and could not be downloaded \(no network.*Put the file of"
    ):
        load_backbone("torchvision:resnet50:IMAGENET1K_V2")
    assert "downloading https://" in capsys.readouterr().err
    assert not list((tmp_path / "checkpoints").iterdir()), "nothing half-written"
    with pytest.raises(InputError, match="says no weights: torchvision:resnet50:IMAGENET1K_V1 or .*untrained weights"):
        load_backbone("torchvision:resnet50")
    with pytest.raises(InputError, match="unknown torchvision ResNet 'resnt50'. Did you mean 'resnet50'"):
        load_backbone("torchvision:resnt50:DEFAULT")
    with pytest.raises(InputError, match="Did you mean 'IMAGENET1K_V1'"):
        load_backbone("torchvision:resnet18:IMAGENET1K_V9")
    with pytest.raises(InputError, match="no weight file at .*nowhere.pth"):
        load_backbone(f"torchvision:resnet18:{tmp_path}/nowhere.pth")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_timm_models_from_a_file(name: str, tmp_path: Path):
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    theirs = timm.create_model(name, pretrained=False, num_classes=10).eval()
    torch.save({"epoch": 1, "state_dict": theirs.state_dict()}, tmp_path / "weights.pth")
    backbone = load_backbone(f"timm:{name}@{tmp_path / 'weights.pth'}")
    images = torch.rand(1, 3, 224, 224)
    features = backbone(images)
    theirs.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(features.vector, theirs(backbone.normalise(images)))
    assert features.vector.shape == (1, backbone.width) and features.map.ndim == 4
    assert features.stages and all(stage.ndim == 4 for stage in features.stages.values())
    assert "left aside" in backbone.note
    wanted = theirs.pretrained_cfg["mean"]
    torch.testing.assert_close(backbone.mean, torch.tensor(wanted))


def test_timm_errors(tmp_path: Path, monkeypatch):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match="another architecture than timm:resnet34: Missing key.*layer1.2.conv1.weight"):
        load_backbone(f"timm:resnet34@{tmp_path / 'resnet18.pth'}")
    with pytest.raises(InputError, match="unknown timm model 'resnt18'. Did you mean 'resnet18'"):
        load_backbone("timm:resnt18")
    with pytest.raises(InputError, match="unknown timm model 'resnet18.a9'.*resnet18.a1_in1k"):
        load_backbone("timm:resnet18.a9")
    monkeypatch.setattr("whytransfer.backbones.foreign._reach", no_network)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(InputError, match=r"not on this machine and could not be downloaded \(no network.*@FILE"):
        load_backbone("timm:resnet18.a1_in1k")


def test_timm_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"need the timm extra: pip install 'whytransfer\[timm\]'"):
        load_backbone("timm:resnet18")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet18", "is an architecture; a backbone needs weights too: random:resnet18"),
        ("random:resnet81", "unknown backbone 'resnet81'. Did you mean 'resnet18'"),
        ("random:resnet18:one", r"the seed must be a whole number under 2\^64, got 'one'"),
        (f"random:resnet18:{2**64}", r"the seed must be a whole number under 2\^64, got '18446744073709551616'"),
        (f"random:resnet18:{'9' * 200}", r"the seed must be a whole number under 2\^64"),
        ("torchvison:resnet18", "unknown kind of backbone 'torchvison'. Did you mean 'torchvision'"),
        ("runs/nothing", "no backbone at runs/nothing: there is no such file or folder"),
        ("weights.pth", "no backbone at weights.pth"),
        ("random:resnet18+", "a part of the sum is empty"),
        ("random:resnet18+random:resnet35", "unknown backbone 'resnet35'"),
        ("something", "unknown backbone 'something': there is no file or folder of that name here"),
        ("something", r"It can be a run folder; a weight file .*random:ARCH\[:SEED\]"),
    ],
)
def test_specs_that_name_nothing(spec: str, message: str):
    with pytest.raises(InputError, match=message):
        load_backbone(spec)


def test_files_that_need_code_are_refused(tmp_path: Path):
    weights = get_model("resnet18").state_dict()
    torch.save({"made": datetime.date(2020, 1, 1), **weights}, tmp_path / "code.pth")
    with pytest.raises(InputError, match=r"more than tensors \(an object of datetime\.date\).*weights_only=True"):
        load_backbone(tmp_path / "code.pth")
    torch.save({"args": argparse.Namespace(lr=1), **weights}, tmp_path / "options.pth")
    assert load_backbone(tmp_path / "options.pth").arch == "resnet18", "options hold values and run nothing"


def test_damaged_files_are_named(trained, tmp_path: Path):
    torch.save(trained.state_dict(), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    damaged = {"half.pth": content[: len(content) // 2], "empty.pth": b"", "text.pth": b"hello", "one.pth": b"1"}
    damaged["x.safetensors"] = b"{}"
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            InputError, match=rf"{name} \({len(data):,} bytes\) is no readable weight file, or is damaged"
        ):
            load_backbone(tmp_path / name)


def test_files_without_a_resnet_of_ours(tmp_path: Path):
    cases = {
        "nothing": ({}, "holds no ResNet: .*first tensors: none at all"),
        "linear": (nn.Linear(2, 2).state_dict(), "holds no ResNet: .*first tensors: weight, bias"),
        "two": (
            {**prefixed("a.", build("resnet18")), **prefixed("b.", build("resnet18"))},
            r"holds 2 ResNets \(a\., b\.\)",
        ),
        "wide": (
            {k: torch.zeros(v.shape, dtype=torch.half) for k, v in on_meta("wide_resnet50_2").state_dict().items()},
            r"another architecture than resnet50: layer1\.0\.conv1\.weight is \(128, 64, 1, 1\), not \(64, 64, 1, 1\)",
        ),
        "short": (
            prefixed("", build("resnet18"), ("layer4.1",)),
            r"is no ResNet known here: basic blocks \(2, 2, 2, 1\)",
        ),
        "gap": (prefixed("", build("resnet18"), ("layer4.1.bn2.bias",)), r"layer4\.1\.bn2\.bias is missing$"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=message):
            load_backbone(tmp_path / f"{name}.pth")


def test_weights_for_a_given_backbone_must_fit_it_and_change_nothing_otherwise(trained, tmp_path: Path):
    torch.save(trained.state_dict(), tmp_path / "resnet18.pth")
    small = build("resnet18-small")
    before = fingerprint(small)
    with pytest.raises(InputError, match=r"than resnet18-small: conv1.weight is \(64, 3, 7, 7\), not \(64, 3, 3, 3\)$"):
        load_checkpoint(tmp_path / "resnet18.pth", small)
    assert fingerprint(small) == before
    fitting = build("resnet18")
    loaded, note = load_checkpoint(tmp_path / "resnet18.pth", fitting)
    assert loaded is fitting and note == "left aside: fc" and torch.equal(loaded.conv1.weight, trained.conv1.weight)


def test_importing_backbones_stays_light():
    code = "import sys, whytransfer.backbones.recorded as r; r.fixed_images(); "
    code += "print([m for m in ('timm', 'torchvision', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
