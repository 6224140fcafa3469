"""Features of a set: right values and order, every stage, and the proof that the backbone stayed frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whytransfer.backbones import fingerprint, load_backbone
from whytransfer.errors import InputError, RunError
from whytransfer.tasks.features import extract


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_features_are_those_of_each_image_in_order(toy, plain, batch: int):
    images = plain(np.arange(10) % 3, ("red", "green", "blue"))
    seen = []
    table = extract(toy, images, 8, batch, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(table.vectors.numpy() * np.sqrt(1 + 1e-5), images.mean_colours(), atol=1e-3)
    assert table.vectors.dtype == torch.float32 and (table.labels.numpy() == images.labels).all()
    assert seen[-1] == (10, 10) and not table.vectors.is_inference()


def test_a_stage_is_averaged_over_positions(toy, plain):
    images = plain(np.arange(6) % 3, ("red", "green", "blue"))
    vector, stage = (extract(toy, images, 8, stage=s).vectors for s in ("vector", "layer1"))
    torch.testing.assert_close(stage, 2 * vector)
    positions = extract(toy, images, 8, stage="layer1:map").vectors
    torch.testing.assert_close(positions.view(6, 3, 64).mean(2), stage)


def test_weights_and_statistics_stay_and_the_mode_is_given_back(toy, plain):
    toy.train()
    before = fingerprint(toy)
    table = extract(toy, plain(np.arange(6) % 3, ("red", "green", "blue")), 8)
    assert table.weights_sha256 == before == fingerprint(toy) and toy.training


def test_a_backbone_that_moves_is_caught(toy, plain):
    def drift(module, inputs):
        module.norm.running_mean.add_(0.01)

    toy.register_forward_pre_hook(drift)
    with pytest.raises(RunError, match="frozen backbone changed while its features were taken"):
        extract(toy, plain(np.arange(3), ("red", "green", "blue")), 8)


def test_a_resnet_gives_the_same_features_in_any_batch(plain):
    images = plain(np.arange(5) % 3, ("red", "green", "blue"))
    backbone = load_backbone("random:resnet18-small")
    whole, single = (extract(backbone, images, 16, batch).vectors for batch in (5, 1))
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-5)


def test_errors(toy, plain):
    images = plain(np.arange(3), ("red", "green", "blue"))
    with pytest.raises(InputError, match="unknown feature stage 'layer9'. Did you mean 'layer1'"):
        extract(toy, images, 8, stage="layer9")
    with pytest.raises(InputError, match="unknown feature stage 'layer1:mean'"):
        extract(toy, images, 8, stage="layer1:mean")
    with pytest.raises(InputError, match="at least one image"):
        extract(toy, plain(np.zeros(0, dtype=int), ("red",)), 8)
