"""Kernel ridge: scikit-learn's KernelRidge in a GridSearchCV as oracle, bounds, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from whytransfer.errors import InputError
from whytransfer.tasks import kernel
from whytransfer.tasks.kernel import ALPHAS, GAMMAS, fit_grid


def problem(n: int = 80, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Features of unequal scale; targets that are linear, curved and noise, two of them far from zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) * np.geomspace(0.01, 100, d) + 3
    z = (x - 3) / np.geomspace(0.01, 100, d)
    y = np.stack([z[:, 0] - z[:, 2] + 50, z[:, 1] ** 2 - 20, rng.normal(size=n)], axis=1)
    return x, y + 0.05 * rng.normal(size=y.shape)


@pytest.mark.parametrize("centre", [True, False])
def test_scores_choice_and_predictions_are_those_of_a_grid_search(centre):
    x, y = problem()
    alphas, gammas = (1.0, 0.01), (1e-3, 0.1, 10.0)
    fit = fit_grid(torch.from_numpy(x), y, alphas, gammas, folds=4, seed=3, centre=centre)
    fold = np.empty(80, dtype=int)
    for f, held in enumerate(np.array_split(np.random.default_rng(3).permutation(80), 4)):
        fold[held] = f
    for target in range(3):
        model = make_pipeline(StandardScaler(), KernelRidge(kernel="rbf"))
        grid = {"kernelridge__alpha": alphas, "kernelridge__gamma": gammas}
        if centre:
            model = TransformedTargetRegressor(model, transformer=StandardScaler(with_std=False))
            grid = {f"regressor__{name}": values for name, values in grid.items()}
        oracle = GridSearchCV(model, grid, scoring="r2", cv=PredefinedSplit(fold)).fit(x, y[:, target])
        expected = np.array(oracle.cv_results_["mean_test_score"]).reshape(2, 3).T  # scikit-learn: alpha outermost
        np.testing.assert_allclose(fit.scores[:, :, target], expected, rtol=1e-7, atol=1e-9)
        best = {name.split("__")[-1]: value for name, value in oracle.best_params_.items()}
        assert (fit.alphas[target], fit.gammas[target]) == (best["alpha"], best["gamma"])
        np.testing.assert_allclose(fit.predict(torch.from_numpy(x))[:, target], oracle.predict(x), rtol=1e-6, atol=1e-8)


def test_a_curve_is_found_that_no_line_follows_and_far_targets_are_no_harm():
    x, y = problem(150)
    fit = fit_grid(torch.from_numpy(x[:100]).float(), y[:100])
    predicted = fit.predict(torch.from_numpy(x[100:]).float())
    r2 = 1 - ((y[100:] - predicted) ** 2).sum(0) / ((y[100:] - y[100:].mean(0)) ** 2).sum(0)
    assert r2[0] > 0.97 and r2[1] > 0.6 and r2[2] < 0.2
    assert fit.scores.shape == (8, 5, 3)


def test_grid_of_the_paper():
    assert ALPHAS == (1, 0.1, 0.01, 0.001, 0.0001) and pytest.approx(10.0 ** np.arange(-5, 3)) == GAMMAS


def test_predictions_do_not_depend_on_how_many_are_asked_at_once(monkeypatch):
    x, y = problem(40)
    fit = fit_grid(torch.from_numpy(x), y, (0.1,), (0.01, 0.1), folds=2)
    whole = fit.predict(torch.from_numpy(x))
    monkeypatch.setattr(kernel, "_ROWS", 7)
    np.testing.assert_allclose(fit.predict(torch.from_numpy(x)), whole, rtol=1e-12)


def test_memory_is_bounded_and_bad_input_is_named():
    x, y = problem(30)
    with pytest.raises(InputError, match=r"at most 20 training images.*for 30\). Take a share of them \(--labels\)"):
        fit_grid(torch.from_numpy(x), y, most=20)
    assert kernel.MOST == 20_480
    for wrong, says in (
        ((torch.from_numpy(x), y[:, 0]), r"targets \(N, T\)"),
        ((torch.full((30, 2), torch.nan), y), "not finite"),
        ((torch.from_numpy(x[:6]), y[:6]), "cannot make 5 folds of 6 samples"),
        ((torch.from_numpy(x), np.ones((30, 1))), r"targets \[0\] are constant"),
    ):
        with pytest.raises(InputError, match=says):
            fit_grid(*wrong)
    with pytest.raises(InputError, match="singular at alpha -1"):
        kernel.solved(torch.ones(3, 3, dtype=torch.float64), -1.0, torch.ones(3, 1, dtype=torch.float64))
