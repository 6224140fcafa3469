"""Chance: the published known answers, and that a draw depends on its address alone."""

import numpy as np
import pytest
from scipy import stats

from whytransfer.chance import permutation, philox, uniform


@pytest.mark.parametrize(
    "counter, key, words",
    [  # known-answer vectors of the Random123 distribution for philox4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, words):
    assert tuple(philox(np.array([counter], np.uint32), key)[0]) == words


def test_a_draw_depends_on_its_address_alone():
    whole = uniform(3, 5, np.arange(100), view=1, operation=2, n=7)
    np.testing.assert_array_equal(whole[[42, 7]], uniform(3, 5, np.array([42, 7]), view=1, operation=2, n=7))
    np.testing.assert_array_equal(whole[:, :3], uniform(3, 5, np.arange(100), view=1, operation=2, n=3))


@pytest.mark.parametrize("other", [(4, 5, 1, 2), (3, 6, 1, 2), (3, 5, 0, 2), (3, 5, 1, 3)])
def test_every_part_of_the_address_counts(other):
    index = np.arange(64)
    assert not np.any(uniform(3, 5, index, 1, 2, 4) == uniform(*other[:2], index, *other[2:], 4))


def test_draws_are_uniform_and_neighbours_independent():
    u = uniform(0, 0, np.arange(20_000), 0, 0, 4)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(np.c_[u[:-1], u[1:]].T) - np.eye(8)).max() < 0.03


def test_large_indices_do_not_collide():
    low, high = uniform(0, 0, np.array([1]), 0, 0, 4), uniform(0, 0, np.array([1 + 2**32]), 0, 0, 4)
    assert not np.any(low == high)


def test_permutation_is_a_function_of_seed_and_epoch():
    order = permutation(1, 2, 1000)
    assert sorted(order) == list(range(1000))
    np.testing.assert_array_equal(order, permutation(1, 2, 1000))
    assert (order != permutation(1, 3, 1000)).mean() > 0.9
