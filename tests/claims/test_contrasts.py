"""The arithmetic of effects: seed by seed, slopes, and how many times fewer epochs."""

import math

import pytest

from whytransfer.claims.contrasts import mean_of, over_seeds, slope, speedup, spread_of
from whytransfer.errors import InputError


def test_only_seeds_that_all_have_count():
    assert over_seeds(lambda a, b: a * b, {0: 2.0, 1: 3.0, 2: 9.0}, {1: 5.0, 0: 7.0}) == {0: 14.0, 1: 15.0}
    with pytest.raises(InputError, match="no seed has every value"):
        over_seeds(lambda a, b: a, {0: 1.0}, {1: 1.0})


def test_mean_and_spread_are_over_the_columns():
    columns = [{0: 1.0, 1: 4.0}, {0: 3.0, 1: 4.0}]
    assert mean_of(columns) == {0: 2.0, 1: 4.0} and spread_of(columns) == {0: 1.0, 1: 0.0}


def test_the_slope_of_a_line_is_its_slope():
    assert slope([0, 1, 3], [5, 7, 11]) == pytest.approx(2)
    assert slope([0, 1, 2], [0, 0, 3]) == pytest.approx(1.5)
    with pytest.raises(InputError, match="two different places"):
        slope([1, 1], [0, 1])


def test_a_curve_that_is_the_other_five_times_earlier_is_five_times_faster():
    """Scores that are a function of log epochs, so lines between the runs are exact."""
    runs = (10, 20, 40, 80)
    baseline = {e: math.log2(e) for e in runs}
    assert speedup({e: math.log2(5 * e) for e in runs}, baseline) == pytest.approx(math.log2(5))
    assert speedup({e: math.log2(20 * e) for e in runs}, baseline) == pytest.approx(3)  # a bound: 80 / 10
    assert speedup(baseline, {e: math.log2(3 * e) for e in runs}) == pytest.approx(-math.log2(3))
    assert speedup(baseline, baseline) == 0


def test_the_best_run_so_far_counts():
    """Scores that fall again with length do not make a method slower than it was."""
    assert speedup({10: 1.0, 20: 5.0, 40: 2.0}, {10: 1.0, 20: 1.0, 40: 5.0}) == pytest.approx(1)
