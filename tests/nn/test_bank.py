"""The memory bank: found by index, updated and normalised, drawn from as a function of (seed, step)."""

import math

import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.nn.bank import MemoryBank


def test_starts_evenly_within_its_bounds_from_its_own_seed():
    before = torch.random.get_rng_state()
    a, b, c = MemoryBank(2000, 12, seed=1), MemoryBank(2000, 12, seed=1), MemoryBank(2000, 12, seed=2)
    assert torch.equal(a.rows, b.rows) and not torch.equal(a.rows, c.rows)
    assert float(a.rows.abs().max()) <= math.sqrt(3 / 12) and float(a.rows.std()) == pytest.approx(12**-0.5, rel=0.02)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("m", [0.0, 0.5, 1.0])
def test_entries_move_towards_what_was_seen_and_others_stay(m):
    bank = MemoryBank(6, 3)
    before, seen = bank.rows.clone(), torch.eye(3)[:2]
    bank.update(torch.tensor([4, 1]), seen, m)
    for place, feature in ((4, seen[0]), (1, seen[1])):
        mixed = m * before[place] + (1 - m) * feature
        torch.testing.assert_close(bank.rows[place], mixed / mixed.norm())
    assert torch.equal(bank.rows[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_draws_are_even_and_belong_to_their_step():
    bank = MemoryBank(10, 2, seed=3)
    drawn = bank.draw(40_000, step=5)
    assert torch.equal(drawn, bank.draw(40_000, step=5)) and torch.equal(drawn[:7], bank.draw(7, step=5))
    assert not torch.equal(drawn, bank.draw(40_000, step=6))
    counts = torch.bincount(drawn, minlength=10)
    assert len(counts) == 10 and int((counts - 4000).abs().max()) < 5 * math.sqrt(4000 * 0.9)


@pytest.mark.parametrize("images", [0, 1])
def test_one_image_cannot_be_told_from_any_other(images):
    with pytest.raises(InputError, match=f"memory bank of {images} image.*needs at least 2"):
        MemoryBank(images, 4)
