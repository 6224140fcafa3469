"""BYOL's and DetCon's Haiku dictionaries give Haiku's features, SAME padding and running averages included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import haiku_dictionary, haiku_features, images

from whytransfer.backbones import build, load_backbone
from whytransfer.backbones.geometry import Geometry
from whytransfer.backbones.haiku import our_name, read_haiku
from whytransfer.errors import InputError


@pytest.fixture(scope="module")
def weights():
    return haiku_dictionary()


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("haiku") / "resnet18_byol.npy"
    np.save(path, weights)
    return path


@pytest.mark.parametrize("size", [48, 45, 32])
def test_features_are_haikus(size: int, weights, file: Path):
    """Even and odd sides, where SAME pads unevenly and evenly."""
    backbone = load_backbone(f"byol:{file}")
    x = images(size)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x).vector, haiku_features(weights, x), rtol=1e-4, atol=1e-5)
    assert backbone.note == "left aside: classifier, projector"


def test_without_same_padding_they_would_be_others(weights, file: Path):
    trunk, _ = read_haiku(file)
    plain = build("resnet18").eval()
    plain.load_state_dict(trunk, strict=False)
    with torch.no_grad():
        off = (plain(images()).vector - haiku_features(weights, images())).abs().max()
    assert off > 0.1


def test_an_archive_of_arrays_and_detcons_names_of_norms(weights, tmp_path: Path):
    flat = {f"{module}/{k}": v for module, inner in weights.items() for k, v in inner.items()}
    np.savez(tmp_path / "byol.npz", **flat)
    renamed = haiku_dictionary(norm="norm")
    np.save(tmp_path / "detcon.npy", renamed)
    nested = {"online_params": weights, "online_state": {}, "target_params": haiku_dictionary(1), "step": np.int64(3)}
    np.save(tmp_path / "nested.npy", nested)
    wanted = haiku_features(weights, images())
    for spec in ("byol:byol.npz", "detcon:detcon.npy", "byol:nested.npy"):
        scheme, _, name = spec.partition(":")
        backbone = load_backbone(f"{scheme}:{tmp_path / name}")
        torch.testing.assert_close(backbone(images()).vector, wanted, rtol=1e-4, atol=1e-5)
    assert backbone.note == "left aside: online_params, step, target_params"  # its heads, and the target network


@pytest.mark.parametrize("arch", ["resnet50", "resnet200"])
def test_every_name_of_a_deep_one_is_known(arch: str):
    """From our keys to Haiku's by their definition, and back by `our_name`."""
    leaves = {"running_mean": "/~/mean_ema/average", "running_var": "/~/var_ema/average", "bias": "/offset"}
    with torch.device("meta"):
        wanted = [k for k in build(arch).state_dict() if not k.endswith("num_batches_tracked")]
    for key in wanted:
        *where, part, leaf = key.split(".")
        last = "/w" if part.startswith("conv") or key.split(".")[-3:-1] == ["downsample", "0"] else "/scale"
        suffix = leaves.get(leaf, last)
        if not where:
            name = f"initial_{'conv' if part == 'conv1' else 'batchnorm'}"
        else:
            group, block = int(where[0][-1]) - 1, where[1]
            inner = {"0": "shortcut_conv", "1": "shortcut_batchnorm"}.get(part) or (
                f"{'conv' if part.startswith('conv') else 'batchnorm'}_{int(part[-1]) - 1}"
            )
            name = f"block_group_{group}/~/block_{block}/~/{inner}"
        assert our_name(name + suffix) == key


def test_a_conversion_to_pytorch_pads_as_the_original(weights, file: Path, tmp_path: Path):
    torch.save({"state_dict": {**read_haiku(file)[0], "fc.weight": torch.zeros(1000, 512)}}, tmp_path / "byol.pth")
    backbone = load_backbone(f"byol:{tmp_path / 'byol.pth'}")
    torch.testing.assert_close(backbone(images()).vector, haiku_features(weights, images()), rtol=1e-4, atol=1e-5)
    assert "left aside: fc" in backbone.note


def test_refusals(weights, tmp_path: Path):
    conv = {"res_net50/~/initial_conv": {"w": np.zeros((7, 7, 3, 64), np.float32)}}
    cases = {
        "list.npy": ([1, 2], "holds no dictionary of weights but list"),
        "other.npy": ({"mlp/linear": {"w": np.ones(3)}}, "holds no ResNet of Haiku: .*Its first keys: mlp/linear/w"),
        "v2.npy": ({**conv, "res_net50/~/final_batchnorm": {"scale": np.ones(3)}}, "is a pre-activation ResNet"),
        "odd.npy": (
            {**conv, "res_net50/~/squeeze": {"w": np.ones(3)}},
            "holds res_net50/~/squeeze/w, which is no part",
        ),
        "two.npy": ({**conv, "b/res_net50/~/initial_conv": conv["res_net50/~/initial_conv"]}, "holds several networks"),
        "short.npy": (
            {k: v for k, v in weights.items() if "block_group_3/~/block_1/~/conv_1" not in k},
            "layer4.1.conv2.weight is missing",
        ),
    }
    for name, (content, message) in cases.items():
        np.save(tmp_path / name, np.array(content, dtype=object) if isinstance(content, dict) else {"x": 1})
        if isinstance(content, list):
            np.save(tmp_path / name, np.array([content, None], dtype=object)[:1].reshape(()))
        with pytest.raises(InputError, match=message):
            load_backbone(f"byol:{tmp_path / name}")
    with pytest.raises(InputError, match="no weight file at nowhere.npy"):
        load_backbone("detcon:nowhere.npy")


def test_geometry_is_data(file: Path):
    from whytransfer.backbones.geometry import geometry_of

    assert geometry_of(load_backbone(f"detcon:{file}")) == Geometry(same_convolutions=True, same_pool=True)
