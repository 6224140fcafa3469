"""What a card records of a backbone is the same everywhere, and tells every change that matters."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from whytransfer.backbones import load_backbone
from whytransfer.backbones.geometry import Geometry
from whytransfer.backbones.recorded import (
    COUNT,
    SEED,
    SIZE_PX,
    TOLERANCE,
    directions,
    distance,
    fixed_images,
    record,
    verify,
)
from whytransfer.errors import InputError
from whytransfer.images.scenes import Scenes


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("random:resnet18:3")


@pytest.fixture(scope="module")
def recorded(backbone):
    return record(backbone)


def test_the_images_are_generated_scenes():
    pixels = Scenes(COUNT, SEED, SIZE_PX).render_many(range(COUNT))
    apart = np.abs(fixed_images().permute(0, 2, 3, 1).numpy() * 255 - pixels)
    assert apart.max() <= 1 and apart.mean() < 0.01, "rounding may differ between processors by a grey value"
    assert fixed_images(48).shape == (16, 3, 48, 48)


def test_a_record_is_mean_spread_and_projections(backbone, recorded):
    with torch.no_grad():
        features = backbone(fixed_images(recorded["size_px"])).vector.double().numpy()
    found = np.array(recorded["features"])
    np.testing.assert_allclose(found[:, 0], features.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], features.std(1), rtol=1e-6)
    signs = directions(512).numpy()
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 0.1
    centred = features - features.mean(1, keepdims=True)
    np.testing.assert_allclose(found[:, 2:], centred @ signs / math.sqrt(512), rtol=1e-5, atol=1e-9)
    assert len(json.dumps(recorded)) < 4000


def test_threads_layouts_and_modes_do_not_matter(backbone, recorded):
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            assert verify(backbone, recorded, "here") < 1e-5
    finally:
        torch.set_num_threads(threads)
    assert verify(copy.deepcopy(backbone).to(memory_format=torch.channels_last), recorded, "here") < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert verify(backbone, recorded, "here") < 1e-5
    training = copy.deepcopy(backbone).to(torch.bfloat16).float().train()
    found = np.array(record(training)["features"])
    assert distance(found, np.array(recorded["features"])) > TOLERANCE, "rounded weights"
    assert training.training and training.bn1.num_batches_tracked == 0, "the one that is recorded is left as it was"


CHANGES = {
    "another mean and std": lambda b: b.normalise_with((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "BGR": lambda b: b.conv1.weight.data.copy_(b.conv1.weight.data.flip(1)),
    "SAME padding": lambda b: Geometry(same_convolutions=True, same_pool=True).apply(b),
    "another epsilon": lambda b: Geometry(batch_norm_eps=1e-3).apply(b),
    "a statistic": lambda b: b.layer3[1].bn1.running_mean.add_(0.05),
    "one layer 1 % larger": lambda b: b.layer4[0].conv1.weight.data.mul_(1.01),
    "one filter of 128 empty": lambda b: b.layer2[0].conv1.weight.data[5].zero_(),
    "rounded to bfloat16": lambda b: [p.data.copy_(p.data.bfloat16().float()) for p in b.parameters()],
    "not a number": lambda b: b.layer1[0].bn1.running_var.fill_(math.nan),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_matters_is_told(change: str, backbone, recorded):
    other = copy.deepcopy(backbone)
    CHANGES[change](other)
    with pytest.raises(
        InputError, match=r"of runs/mine does not say what it said .* are ([\d.e+-]+|nan) of their spread"
    ):
        verify(other, recorded, "runs/mine")


@pytest.mark.parametrize(("arch", "size_px"), [("resnet18", 64), ("resnet18-small", 32)])
def test_every_tap_of_the_last_convolutions_counts(arch: str, size_px: int):
    """On a map of one place a 3x3 convolution is its middle tap: eight of nine weights could be anything."""
    backbone = load_backbone(f"random:{arch}:3")
    recorded = record(backbone)
    assert recorded["size_px"] == size_px
    features_alone = {k: v for k, v in recorded.items() if k != "weights_sha256"}
    for tap in range(9) if arch == "resnet18" else (0, 8):
        other = copy.deepcopy(backbone)
        other.layer4[1].conv2.weight.data[:, :, tap // 3, tap % 3].neg_()
        with pytest.raises(InputError, match="does not say what it said when it was saved"):
            verify(other, features_alone, "here")


def test_one_changed_number_is_refused_by_the_hash(backbone, recorded):
    """Too little for the features of 16 images, or for any image at all; a card from before the hash is as it was."""
    for change in (
        lambda b: b.layer3[1].conv2.weight.data[3, 4, 0, 0].add_(1e-6),
        lambda b: b.layer4[1].bn2.running_mean[7].add_(1e-6),
        lambda b: b.mean[0].add_(1e-6),
    ):
        other = copy.deepcopy(backbone)
        change(other)
        with pytest.raises(InputError, match=r"of runs/mine are not those that were saved: their SHA-256 .* bring a"):
            verify(other, recorded, "runs/mine")
        verify(other, {k: v for k, v in recorded.items() if k != "weights_sha256"}, "runs/mine")
    other.layer1[0].bn1.num_batches_tracked += 5
    other.mean.copy_(backbone.mean)
    assert verify(other, recorded, "runs/mine") == 0, "a counter says nothing of the network"


def folder_with(path: Path, backbone, card: dict[str, object]) -> Path:
    path.mkdir()
    save_file(backbone.state_dict(), path / "backbone.safetensors")
    (path / "card.json").write_text(json.dumps({"arch": "resnet18", "finished": True, "config": {}, **card}))
    return path


def test_a_run_folder_is_verified_when_it_is_loaded(backbone, recorded, tmp_path: Path):
    card = {"mean": backbone.mean.tolist(), "std": backbone.std.tolist(), "recorded": recorded}
    assert load_backbone(folder_with(tmp_path / "good", backbone, card)).note == ""
    changed = folder_with(tmp_path / "changed", backbone, {**card, "std": [0.25, 0.25, 0.25]})
    with pytest.raises(InputError, match="changed does not say what it said when it was saved.*bring a copy back"):
        load_backbone(changed)
    assert load_backbone(folder_with(tmp_path / "old", backbone, {"std": [0.2] * 3, "mean": [0.5] * 3})).note == ""


def test_a_record_that_cannot_be_used(backbone, recorded):
    for damage in ({**recorded, "features": [1, 2]}, {**recorded, "images": "scenes:1"}, {"features": 1}, 3):
        with pytest.raises(InputError, match="record of features in runs/mine cannot be used .*Delete its entry"):
            verify(backbone, damage, "runs/mine")
