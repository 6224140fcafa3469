"""The loop on one, two and four processes: one run, also where it goes on with another number of them."""

import pytest
import torch
from world_run import fit
from worlds import in_processes

from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache

NEAR = {"rtol": 1e-9, "atol": 1e-11}


@pytest.mark.parametrize("name", ["moco-v2", "byol", "supervised"])
def test_a_run_is_the_same_on_any_number_of_processes_and_may_change_it(name, tmp_path):
    """Views in float32 and sums in float64, so what differs is the order of sums: 1e-9 at most."""
    PixelCache.open(open_images("scenes:48:0:16"))  # so that only this process decodes
    alone = fit(0, 1, tmp_path / "alone", name)
    two = in_processes(fit, 2, tmp_path / "2", tmp_path / "two", name)
    assert in_processes(fit, 2, tmp_path / "3", tmp_path / "mixed", name, 3) == [{}, {}]
    four = in_processes(fit, 4, tmp_path / "4", tmp_path / "mixed", name, 5)
    assert four == [{}] * 4
    mixed = fit(0, 1, tmp_path / "mixed", name)
    for found in (*two, mixed):
        torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-6, atol=0)  # kept in float32
        torch.testing.assert_close(found["state"], alone["state"], **NEAR)
    assert torch.equal(torch.cat([found["seen"] for found in two], dim=1), alone["seen"])
    assert torch.equal(mixed["seen"], alone["seen"][4:])  # step 5 alone: what the killed processes did was kept
