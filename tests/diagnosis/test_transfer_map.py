"""Rank correlations against SciPy and by hand, what is left without a family, and which scores count."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from whytransfer.diagnosis.transfer_map import correlate, scores_of, spearman, spearman_interval, transfer_map
from whytransfer.errors import InputError


def test_spearman_is_scipys():
    rng = np.random.default_rng(0)
    for n in (4, 9, 30):
        x, y = rng.integers(0, 6, n).astype(float), rng.normal(size=n)
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_the_interval_by_hand():
    assert spearman_interval(0.5, 3) == (None, None)
    reach = 1.959964 * np.sqrt(1.125 / 17)
    low, high = spearman_interval(0.5, 20)
    assert (low, high) == (pytest.approx(np.tanh(0.549306 - reach), abs=1e-5), pytest.approx(np.tanh(0.549306 + reach)))
    low, high = spearman_interval(1.0, 6)
    assert 0 < low < high < 1


def test_the_interval_holds_what_it_says():
    """Of normal pairs with rank correlation 0.5, 95 in 100 intervals hold it."""
    rng = np.random.default_rng(1)
    r = 2 * np.sin(np.pi * 0.5 / 6)  # Pearson's, for that rank correlation
    x = rng.normal(size=(600, 25))
    y = r * x + np.sqrt(1 - r * r) * rng.normal(size=x.shape)
    ends = [spearman_interval(spearman(a, b), 25) for a, b in zip(x, y, strict=True)]
    assert 0.92 < np.mean([low < 0.5 < high for low, high in ends]) < 0.98


def test_a_family_that_makes_the_correlation_is_told():
    x = dict(zip("abcdef", [1.0, 2, 3, 4, 10, 11], strict=True))
    y = dict(zip("abcdef", [4.0, 3, 2, 1, 20, 30], strict=True))
    families = dict(zip("abcdef", ["own"] * 4 + ["big"] * 2, strict=True))
    found = correlate(x, y, ("x", "y"), families)
    assert found.rho > 0 and found.without == {"own": None, "big": pytest.approx(-1)} and not found.sign_holds
    steady = correlate(x, x, ("x", "x"), dict(zip("abcdef", "aabbcc", strict=True)))
    assert steady.sign_holds and list(steady.without.values()) == pytest.approx([1, 1, 1])
    assert correlate(dict(list(x.items())[:3]), y, ("x", "y"), families) is None
    assert correlate(dict.fromkeys("abcdef", 1.0), y, ("x", "y"), families) is None


def row(model, value, weights="w", direction="higher", task="readout", **more):
    known = {} if weights is None else {"weights_sha256": weights}
    return {"model": model, "task": task, "metric": "m", "data": "d", "value": value, "direction": direction,
            "provenance": known} | more  # fmt: skip


def test_scores_are_averaged_turned_and_checked_for_their_weights():
    weights = {"a": "w", "b": "v"}
    rows = [
        row("a", 1.0),
        row("a", 3.0),
        row("b", 5.0, "other"),
        row("b", 7.0, None),
        row("c", 9.0, "other"),
        row("moved/b", 9.0, "v"),
        row("a", 2, task="invariance"),
    ]
    scores, others = scores_of(rows, weights, ("invariance",))
    assert scores == {"readout m, d": {"a": 2.0, "b": 8.0}} and others == 1  # b's weights under another name too
    assert scores_of([row("a", 4.0, direction="lower")], weights, ())[0] == {"readout m, d": {"a": -4.0}}


def test_the_map_is_every_pair_and_needs_four_models():
    x = {"hue": dict(zip("abcd", [1.0, 2, 3, 4], strict=True)), "blur": dict(zip("abcd", [4.0, 3, 2, 1], strict=True))}
    y = {"top1": dict(zip("abcd", [10.0, 20, 30, 40], strict=True)), "few": {"a": 1.0}}
    found = transfer_map(x, y, dict.fromkeys("abcd", "f"))
    assert {(c.x, c.y, round(c.rho, 6)) for c in found} == {("hue", "top1", 1), ("blur", "top1", -1)}
    with pytest.raises(InputError, match="needs 4 models or more, and the scores know 1 of the backbones"):
        transfer_map(x, {"few": {"a": 1.0}}, {})
