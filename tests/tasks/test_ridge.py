"""Ridge over a path: scikit-learn as oracle, then invariants and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from whytransfer.errors import InputError
from whytransfer.tasks.ridge import ALPHAS, fit_path


def problem(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features; three targets of different scale and noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.geomspace(0.1, 3, d) + 2
    y = x @ rng.normal(size=(d, 3)) * [1, 0.01, 1] + rng.normal(size=(n, 3)) * [1, 0.5, 100] + [0, 7, -300]
    return x, y


@pytest.mark.parametrize(("n", "d"), [(200, 12), (40, 60)])
@pytest.mark.parametrize("joint", [False, True])
def test_scores_choice_and_predictions_are_those_of_scikit_learn(n: int, d: int, joint: bool):
    x, y = problem(n, d)
    alphas = (1e-2, 1.0, 1e2, 1e4)
    fit = fit_path(torch.from_numpy(x), y, alphas, folds=4, seed=2, joint=joint)
    z = (x - x.mean(0)) / x.std(0)
    folds = np.array_split(np.random.default_rng(2).permutation(n), 4)
    expected = np.zeros((4, 3))
    for i, alpha in enumerate(alphas):
        for held in folds:
            kept = np.setdiff1d(np.arange(n), held)
            predicted = Ridge(alpha).fit(z[kept], y[kept]).predict(z[held])
            expected[i] += r2_score(y[held], predicted, multioutput="raw_values") / 4
    np.testing.assert_allclose(fit.scores, expected, rtol=1e-6, atol=1e-8)
    best = np.full(3, expected.mean(1).argmax()) if joint else expected.argmax(0)
    assert (fit.alphas == np.array(alphas)[best]).all()
    for target in range(3):
        oracle = Ridge(fit.alphas[target]).fit(z, y[:, target]).predict(z)
        np.testing.assert_allclose(fit.predict(torch.from_numpy(x))[:, target], oracle, rtol=1e-6, atol=1e-6)


def grid_of_scikit_learn(x: np.ndarray, y: np.ndarray, alphas: tuple[float, ...], folds: int, seed: int) -> np.ndarray:
    """Mean validation R2 (A, T), a fit for every alpha and fold."""
    scores = np.zeros((len(alphas), y.shape[1]))
    for held in np.array_split(np.random.default_rng(seed).permutation(len(x)), folds):
        kept = np.setdiff1d(np.arange(len(x)), held)
        for i, alpha in enumerate(alphas):
            predicted = Ridge(alpha, solver="svd").fit(x[kept], y[kept]).predict(x[held])
            scores[i] += r2_score(y[held], predicted, multioutput="raw_values") / folds
    return scores


def test_the_whole_grid_on_repeated_and_dependent_features_is_that_of_scikit_learn():
    """Equal eigenvalues and zero ones, at every alpha: differences of them are what the residuals divide by."""
    x, y = problem(60, 8, seed=4)
    q = np.linalg.qr(x - x.mean(0))[0]  # all eigenvalues equal
    wide = np.concatenate([x, x[:, :3], x @ np.ones((8, 2))], axis=1)  # and some zero
    for features in (q, wide):
        fit = fit_path(torch.from_numpy(features), y, ALPHAS[4:], folds=3, seed=1, standardise=False)
        expected = grid_of_scikit_learn(features, y, ALPHAS[4:], folds=3, seed=1)
        np.testing.assert_allclose(fit.scores, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("standardise", [True, False])
def test_few_samples_cost_their_number_and_are_fitted_as_scikit_learn_does(standardise: bool, monkeypatch):
    """300 features, a constant and a repeated one among them, at every alpha of the grid but the least."""
    x, y = problem(40, 300, seed=5)
    x[:, 0], x[:, 1] = 3.0, x[:, 2]
    sizes, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda a: sizes.append(len(a)) or eigh(a))
    fit = fit_path(torch.from_numpy(x), y, ALPHAS[8:], folds=4, seed=3, standardise=standardise)
    assert max(sizes) == 40 and fit.weights.shape == (300, 3)
    spread = x.std(0) if standardise else np.ones(300)
    z = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    expected = grid_of_scikit_learn(z, y, ALPHAS[8:], folds=4, seed=3)
    np.testing.assert_allclose(fit.scores, expected, rtol=1e-5, atol=1e-7)
    for target in range(3):
        oracle = Ridge(fit.alphas[target], solver="svd").fit(z, y[:, target])
        np.testing.assert_allclose(fit.weights.numpy()[:, target] * spread, oracle.coef_, rtol=1e-5, atol=1e-8)
        seen = fit.predict(torch.from_numpy(x))[:, target]
        np.testing.assert_allclose(seen, oracle.predict(z), rtol=1e-6, atol=1e-6)


def test_raw_features_keep_scikit_learns_meaning_of_alpha():
    x, y = problem(100, 8)
    fit = fit_path(torch.from_numpy(x), y, (3.0,), standardise=False)
    np.testing.assert_allclose(fit.weights.numpy(), Ridge(3.0).fit(x, y).coef_.T, rtol=1e-6, atol=1e-9)


def test_a_linear_target_is_found_and_noise_is_not():
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(600, 20))).float()
    y = np.stack([x.numpy()[:, 0] * 3 + 1, rng.normal(size=600)], axis=1)
    fit = fit_path(x, y)
    assert fit.scores[:, 0].max() > 0.999 and fit.scores[:, 1].max() < 0.05
    assert fit.alphas[0] < fit.alphas[1]


def test_scale_of_a_target_does_not_matter_and_constant_features_are_harmless():
    x, y = problem(150, 10)
    x = np.concatenate([x, np.full((150, 1), 4.0)], axis=1)
    one, two = fit_path(torch.from_numpy(x), y), fit_path(torch.from_numpy(x), 1000 * y - 5)
    assert (one.alphas == two.alphas).all() and torch.isfinite(one.weights).all()
    np.testing.assert_allclose(1000 * one.predict(torch.from_numpy(x)) - 5, two.predict(torch.from_numpy(x)), rtol=1e-8)


def test_grid():
    assert len(ALPHAS) == 45 and ALPHAS[0] == pytest.approx(1e-6) and ALPHAS[-1] == pytest.approx(1e5)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.randn(20, 3), np.ones((20, 1)), r"targets \[0\] are constant"),
        (torch.randn(6, 3), np.random.randn(6, 1), "cannot make 5 folds of 6 samples"),
        (torch.full((20, 3), torch.inf), np.random.randn(20, 1), "not finite"),
        (torch.full((20, 30), torch.inf), np.random.randn(20, 1), "not finite"),
        (torch.randn(20, 3), np.random.randn(20), r"targets \(N, T\)"),
    ],
)
def test_bad_input_says_what_was_found(x: torch.Tensor, y: np.ndarray, says: str):
    with pytest.raises(InputError, match=says):
        fit_path(x, y)


@pytest.fixture
def threads():
    """Sets PyTorch's, which are one in each process of a test run; sets them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_folds_beside_each_other_are_those_one_after_another(threads):
    x, y = problem(200, 12)
    fits = []
    for count in (1, 3):
        threads(count)
        fits.append(fit_path(torch.from_numpy(x), y))
        assert torch.get_num_threads() == count
    one, three = fits
    np.testing.assert_allclose(three.scores, one.scores, rtol=1e-9, atol=1e-12)
    assert (three.alphas == one.alphas).all() and torch.allclose(three.weights, one.weights, rtol=1e-9)


def test_a_fold_that_fails_beside_others_is_told_and_gives_the_cores_back(threads):
    x, y = problem(60, 5)
    threads(3)
    with pytest.raises(InputError, match="constant in a validation fold"):
        fit_path(torch.from_numpy(x), np.concatenate([y, np.full((60, 1), 3.0)], axis=1))
    assert torch.get_num_threads() == 3
