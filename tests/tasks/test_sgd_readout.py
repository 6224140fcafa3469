"""MoCo's readout on features that its learning rate does not suit."""

import pytest
import torch

from whytransfer.tasks import sgd_readout


@pytest.mark.parametrize(("noise", "fitted"), [(0.1, True), (30.0, False)])
def test_a_fit_that_is_worse_than_guessing_is_said_and_recorded(noise, fitted, capsys):
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    x = torch.eye(8)[labels] + noise * torch.randn(120, 8, generator=chance)
    _, provenance = sgd_readout.predict(x, labels, x, 3, seed=0)
    assert provenance["fitted"] is fitted and (provenance["train_loss"] < 1.0987) is fitted
    said = capsys.readouterr().err
    assert ("the SGD readout did not fit" in said and "is above that of guessing (1.1)" in said) is not fitted
