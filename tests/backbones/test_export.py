"""Every export, loaded by its own reader, gives the features of the original; what it cannot hold is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import trained, trunk
from torch import nn

from whytransfer.backbones import export as module
from whytransfer.backbones import fingerprint, load_backbone
from whytransfer.backbones.export import BOUND, FORMATS, export
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.geometry import Geometry, geometry_of
from whytransfer.backbones.recorded import fixed_images
from whytransfer.errors import InputError, RunError

CARD = {"size": 96, "source": "runs/mine", "note": ""}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory):
    """One with statistics that have moved and a normalisation of its own."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(trunk(trained(7)), path)
    return load_backbone(path).normalise_with((0.5, 0.45, 0.4), (0.2, 0.21, 0.22))


@pytest.fixture(scope="module")
def features(backbone):
    with torch.no_grad():
        return backbone(fixed_images(64))


@pytest.fixture(scope="module")
def exports(backbone, tmp_path_factory: pytest.TempPathFactory):
    """A function that exports each format once."""
    root, made = tmp_path_factory.mktemp("exports"), {}

    def of(format: str):
        if format not in made:
            made[format] = export(backbone, format, root / format, CARD)
        return made[format]

    return of


FILES = {
    "safetensors": {"backbone.safetensors"},
    "timm": {"model.safetensors"},
    "torchvision": {"model.pth"},
    "detectron2": {"model.pth", "config.yaml"},
    "onnx": {"model.onnx"},
    "hf": {"model.safetensors", "config.json"},
}
EXTRAS = {"timm": "timm", "hf": "timm", "onnx": "onnxruntime"}


@pytest.mark.parametrize("format", FILES)
def test_an_export_is_compared_and_loads_again(format: str, exports, backbone, features):
    if format in EXTRAS:
        pytest.importorskip(EXTRAS[format], reason=f"{EXTRAS[format]} is not installed")
    done = exports(format)
    assert {p.name for p in done.folder.iterdir()} == FILES[format] | {"card.json"}
    assert 0 <= done.vector_difference < BOUND and 0 <= done.map_difference < BOUND
    assert not list(done.folder.parent.glob(".*")), "nothing is left beside it"
    card = json.loads((done.folder / "card.json").read_text())
    assert card["format"] == format and card["size"] == 96 and card["source"] == "runs/mine"
    assert card["difference"] == [done.vector_difference, done.map_difference]
    if format == "onnx":
        with pytest.raises(InputError, match="is an export for ONNX, which runs but does not load"):
            load_backbone(done.folder)
        return
    again = load_backbone(done.folder)
    torch.testing.assert_close(again.mean, backbone.mean)
    torch.testing.assert_close(again(fixed_images(64)).vector, features.vector, rtol=1e-4, atol=1e-4)
    if format != "detectron2":  # which has no counters of batches
        assert fingerprint(again) == fingerprint(backbone)


def test_torchvision_as_its_users_load_it(exports, backbone, features):
    from torchvision.models import get_model

    model = get_model("resnet18", weights=None)
    model.fc = nn.Identity()
    model.load_state_dict(torch.load(exports("torchvision").folder / "model.pth", weights_only=True))
    card = json.loads((exports("torchvision").folder / "card.json").read_text())
    mean, std = (torch.tensor(card[k])[:, None, None] for k in ("mean", "std"))
    with torch.no_grad():
        found = model.eval()((fixed_images(64) - mean) / std)
    torch.testing.assert_close(found, features.vector, rtol=1e-5, atol=1e-5)


def test_timm_and_hugging_face_as_their_users_load_them(exports, features):
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    file = str(exports("timm").folder / "model.safetensors")
    one = timm.create_model("resnet18", num_classes=0, checkpoint_path=file).eval()
    other = timm.create_model(f"local-dir:{exports('hf').folder}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(other)
    assert config["mean"] == pytest.approx((0.5, 0.45, 0.4)) and config["input_size"] == (3, 96, 96)
    text = (exports("hf").folder / "config.json").read_text()
    assert "in1k" not in text and "288" not in text, "nothing of timm's own weights of that name"
    mean, std = (torch.tensor(config[k])[:, None, None] for k in ("mean", "std"))
    with torch.no_grad():
        for model in (one, other):
            found = model((fixed_images(64) - mean) / std)
            torch.testing.assert_close(found, features.vector, rtol=1e-5, atol=1e-5)


def test_onnx_takes_any_batch_and_size(exports, backbone):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    session = runtime.InferenceSession(str(exports("onnx").folder / "model.onnx"), providers=["CPUExecutionProvider"])
    x = fixed_images(80)[:3, :, :, :48].contiguous()
    vector, last = session.run(["vector", "map"], {"images": x.numpy()})
    with torch.no_grad():
        wanted = backbone(x)
    np.testing.assert_allclose(vector, wanted.vector.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(last, wanted.map.numpy(), rtol=1e-3, atol=1e-3)


def test_detectron2s_file_holds_tensors_under_its_names_and_its_settings(exports):
    content = torch.load(exports("detectron2").folder / "model.pth", weights_only=True)
    assert content["matching_heuristics"] is True and "res5.1.conv2.norm.running_var" in content["model"]
    assert {"stem.conv1.weight", "stem.conv1.norm.bias", "res3.0.shortcut.norm.weight"} <= set(content["model"])
    import yaml

    config = yaml.safe_load((exports("detectron2").folder / "config.yaml").read_text())
    assert config["INPUT"] == {"FORMAT": "RGB"} and config["MODEL"]["PIXEL_MEAN"] == [127.5, 114.75, 102.0]
    assert config["MODEL"]["RESNETS"] == {
        "DEPTH": 18,
        "STRIDE_IN_1X1": False,
        "STEM_OUT_CHANNELS": 64,
        "WIDTH_PER_GROUP": 64,
        "RES2_OUT_CHANNELS": 64,
    }


def test_geometry_goes_with_safetensors_and_nowhere_else(tmp_path: Path):
    backbone = Geometry(same_convolutions=True, same_pool=True).apply(load_backbone("random:resnet18:5"))
    done = export(backbone, "safetensors", tmp_path / "same", CARD)
    again = load_backbone(tmp_path / "same")
    assert geometry_of(again) == geometry_of(backbone) and done.vector_difference < 1e-6
    for format in ("timm", "torchvision", "detectron2", "hf"):
        with pytest.raises(InputError, match=rf"{format} cannot say how .* pads or strides \(same_convolutions=True"):
            export(backbone, format, tmp_path / format, CARD)
    for format in ("timm", "torchvision", "detectron2", "hf"):
        with pytest.raises(InputError, match=rf"{format} has no 3x3 stem without max-pool \(resnet18-small\)"):
            export(load_backbone("random:resnet18-small"), format, tmp_path / format, CARD)
    assert [p.name for p in tmp_path.iterdir()] == ["same"]


def test_a_wide_one_goes_to_detectron2_where_that_builds_it(tmp_path: Path):
    backbone = load_backbone("random:resnet18x2")
    for format in ("timm", "hf"):
        pytest.importorskip("timm", reason="the extra timm is not installed")
        with pytest.raises(InputError, match="timm has no resnet18x2: use safetensors or onnx"):
            export(backbone, format, tmp_path / format, CARD)
    with pytest.raises(InputError, match="detectron2 builds ResNet-18 and 34 of width 1 alone, and this is resnet18x2"):
        export(backbone, "detectron2", tmp_path / "d2", CARD)  # its own code asserts RES2_OUT_CHANNELS = 64
    with pytest.raises(InputError, match="torchvision has no resnet18x2: use safetensors or onnx"):
        export(backbone, "torchvision", tmp_path / "tv", CARD)
    backbone.arch = "resnet50x2"  # of which the configuration says as much
    config = module._detectron2_config(backbone, False)
    assert "STEM_OUT_CHANNELS: 128" in config and "RES2_OUT_CHANNELS: 512" in config


def test_models_of_other_collections(tmp_path: Path):
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", pretrained=False, num_classes=0)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    vit = load_backbone(f"timm:test_vit@{tmp_path / 'vit.pth'}")
    done = export(vit, "timm", tmp_path / "vit", {**CARD, "size": 160})
    assert done.vector_difference < BOUND and fingerprint(load_backbone(tmp_path / "vit")) == fingerprint(vit)
    with pytest.raises(InputError, match="torchvision holds its own ResNets alone, and this is test_vit"):
        export(vit, "torchvision", tmp_path / "tv", CARD)
    both = load_backbone("random:resnet18+random:resnet18:1")
    for format in ("safetensors", "timm", "detectron2"):
        with pytest.raises(InputError, match="and this is resnet18.resnet18: export it as onnx"):
            export(both, format, tmp_path / "both", CARD)


def test_a_std_of_one_grey_value_goes_to_hugging_face(tmp_path: Path):
    """detectron2's default; at six decimals 1/255 is one part in ten thousand off, which is no longer rounding."""
    pytest.importorskip("timm", reason="the extra timm is not installed")
    backbone = load_backbone("random:resnet18:3").normalise_with((0.485, 0.456, 0.406), (1 / 255,) * 3)
    done = export(backbone, "hf", tmp_path / "hf", CARD)
    assert done.vector_difference < BOUND
    config = json.loads((done.folder / "config.json").read_text())["pretrained_cfg"]
    assert config["mean"] == [0.485, 0.456, 0.406] and np.float32(config["std"][0]) == np.float32(1 / 255)


def test_other_features_leave_nothing(backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def wrong(folder: Path) -> nn.Module:
        other = load_backbone(folder)
        other.layer4[1].bn2.bias.data.add_(1e-3)
        return other

    monkeypatch.setitem(FORMATS, "safetensors", module.Format(FORMATS["safetensors"].write, lambda _, f: wrong(f), ""))
    with pytest.raises(RunError, match=r"to safetensors gives other features .* \(allowed: 0.0001\). Nothing was kept"):
        export(backbone, "safetensors", tmp_path / "out", CARD)
    assert list(tmp_path.iterdir()) == []


def test_refusals(backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("years of work")
    with pytest.raises(InputError, match="thesis is taken: give the name of a new folder"):
        export(backbone, "safetensors", tmp_path / "thesis", CARD)
    with pytest.raises(InputError, match="unknown format 'safetensor'. Did you mean 'safetensors'"):
        export(backbone, "safetensor", tmp_path / "out", CARD)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"this export needs onnxruntime: pip install 'whytransfer\[onnx\]'"):
        export(backbone, "onnx", tmp_path / "out", CARD)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


def test_onnx_holds_what_the_others_cannot(tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    same = Geometry(same_convolutions=True, same_pool=True).apply(load_backbone("random:resnet18:5"))
    both = Fused([same, load_backbone("random:resnet18:1")]).eval()
    done = export(both, "onnx", tmp_path / "onnx", CARD)
    assert done.vector_difference < BOUND and done.map_difference < BOUND


def test_a_graph_of_one_size_has_the_size_that_was_asked_for(tmp_path: Path):
    """Not the small one at which other formats are compared: SAME padding is a number in the graph."""
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    same = Geometry(same_convolutions=True, same_pool=True).apply(load_backbone("random:resnet18:5"))
    export(same, "onnx", tmp_path / "onnx", {**CARD, "size": 90})
    session = runtime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 90, 90]
    x = fixed_images(90)[:2]
    with torch.no_grad():
        wanted = same(x).vector.numpy()
    np.testing.assert_allclose(session.run(["vector"], {"images": x.numpy()})[0], wanted, rtol=1e-4, atol=1e-4)
