"""Spread and effective rank where they are known."""

import math

import pytest
import torch

from whytransfer.nn.collapse import effective_rank, spread, verdict


def test_spread_of_one_point_is_zero_and_of_the_sphere_one():
    assert spread(torch.randn(1, 16).expand(50, 16)) == pytest.approx(0.0, abs=1e-7)
    assert spread(torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))) == pytest.approx(1.0, abs=0.01)


def test_spread_of_the_axes_has_its_closed_form_at_any_length():
    axes = torch.eye(9) * torch.arange(1, 10)[:, None]
    assert spread(axes) == pytest.approx(math.sqrt(1 - 1 / 9), rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 8), (8, 40)])
def test_rank_counts_equal_directions(shape):
    q, _ = torch.linalg.qr(torch.randn(40, 8, dtype=torch.float64))
    x = q if shape == (40, 8) else q.T
    assert effective_rank(3 * x) == pytest.approx(8.0, rel=1e-9)


def test_rank_of_two_unequal_directions_and_of_one_line():
    x = torch.zeros(5, 6)
    x[0, 0], x[1, 3] = 3.0, 1.0
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(x) == pytest.approx(expected, rel=1e-9)
    assert effective_rank(torch.ones(30, 6)) == pytest.approx(1.0, abs=1e-5)
    assert effective_rank(torch.zeros(30, 6)) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_have_no_rank_and_a_verdict(value):
    x = torch.ones(30, 6)
    x[3, 2] = value
    assert math.isnan(effective_rank(x)) and math.isnan(spread(x))
    assert verdict(spread(x), effective_rank(x), 6).startswith("broken: some features are not finite")


def test_rank_ignores_rotation_and_scale():
    x = torch.randn(60, 10, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64))
    assert effective_rank(0.01 * x @ q) == pytest.approx(effective_rank(x), rel=1e-9)


@pytest.mark.parametrize(
    ("numbers", "begins"),
    [
        ((0.14, 100, 512), "not collapsed"),
        ((0.06, 40, 2048), "not collapsed"),
        ((0.033, 3.6, 512), "narrow"),
        ((0.001, 1.0, 512), "collapsed"),
    ],
)
def test_verdict(numbers, begins):
    assert verdict(*numbers).startswith(begins)
