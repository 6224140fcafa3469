"""What heads know of a backbone's stages."""

import pytest
import torch

from whytransfer.backbones.resnet import build
from whytransfer.errors import InputError
from whytransfer.nn.dense import Stage, stages_of

NAMES = ("layer2", "layer4")


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("resnet18", [Stage("layer2", 128, 8), Stage("layer4", 512, 32)]),
        ("resnet18-small", [Stage("layer2", 128, 2), Stage("layer4", 512, 8)]),
        ("resnet18x2", [Stage("layer2", 256, 8), Stage("layer4", 1024, 32)]),
    ],
)
def test_channels_and_strides_of_resnets(arch, expected):
    assert stages_of(build(arch), NAMES) == expected


@pytest.mark.parametrize("training", [False, True])
def test_the_backbone_stays_as_it_was(training):
    backbone = build("resnet18").train(training)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    stages_of(backbone, NAMES)
    assert backbone.training is training and all(m.training is training for m in backbone.modules())
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_a_backbone_without_a_stage_is_refused():
    with pytest.raises(InputError, match="reads the stages layer2, layer9; the backbone lacks layer9"):
        stages_of(build("resnet18"), ("layer2", "layer9"))
