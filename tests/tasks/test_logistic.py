"""The regularisation path: scikit-learn as oracle, then invariants of the objective, folds and bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from whytransfer.errors import InputError
from whytransfer.tasks.logistic import CS, Basis, fit, fit_path, stratified_folds
from whytransfer.tasks.softmax import Problems, Solver


def clusters(n: int, d: int, k: int, seed: int = 0, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes with correlated, unequally scaled features."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k)
    x = spread * rng.normal(size=(k, d))[labels] + rng.normal(size=(n, d))
    x = x @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)) * np.geomspace(0.3, 3, d) + 1
    return torch.from_numpy(x), torch.from_numpy(labels)


def objective(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """scikit-learn's: C * summed cross-entropy + |W|^2 / 2; weights (D, K)."""
    logits = x @ weights + bias
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return c * float((log_sum - logits[np.arange(len(y)), y]).sum()) + float((weights**2).sum()) / 2


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 100)])
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 100.0])
def test_objective_is_that_of_scikit_learn(n: int, d: int, c: float):
    x, y = clusters(n, d, 4, spread=0.25)
    ours = [t.numpy() for t in fit(x, y, 4, c, standardise=False, tolerance=1e-8)]
    oracle = LogisticRegression(C=c, tol=1e-7, max_iter=2000).fit(x.numpy(), y.numpy())
    theirs = objective(oracle.coef_.T, oracle.intercept_, x.numpy(), y.numpy(), c)
    assert objective(*ours, x.numpy(), y.numpy(), c) == pytest.approx(theirs, rel=1e-4)


def test_each_point_of_a_path_is_the_optimum_of_its_own_penalty():
    x, y = clusters(400, 16, 5)
    x = (x - x.mean(0)) / x.std(0)
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    member = (torch.arange(400)[:, None] % 3 != torch.arange(3)).double()
    solver = Solver(Problems(ones, y, member, 5), tolerance=1e-7, max_iterations=500)
    for c in (1e-3, 1e-2, 0.1, 1.0):
        weights, done = solver.solve(1 / (c * solver.problems.total))
        assert bool(done.all())
        for p in range(3):
            rows = member[:, p] > 0
            oracle = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x[rows].numpy(), y[rows].numpy())
            np.testing.assert_allclose(weights[:-1, p].numpy(), oracle.coef_.T, atol=2e-3 * abs(oracle.coef_).max())


def test_weak_penalties_on_separable_data_are_followed_as_far_as_scikit_learn_does():
    """scikit-learn stops at small gradients, so its accuracy there is no reference: its objective is higher."""
    digits = load_digits()
    x, y = digits.data[:560], digits.target[:560]
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    basis = Basis.of(torch.from_numpy(x), False)
    z = basis.project(torch.from_numpy(x).float())
    solver = Solver(Problems(z, torch.from_numpy(y), z.new_ones(560, 1), 10))
    for c in CS:
        weights, done = solver.solve(1 / (c * solver.problems.total))
        assert bool(done.all())
        if any(np.isclose(c, weak) for weak in (1e3, 1e4, 1e5)):
            ours = [t.double().numpy() for t in basis.raw(weights[:, 0])]
            oracle = LogisticRegression(C=c, tol=1e-6, max_iter=20000).fit(x, y)
            assert objective(*ours, x, y, c) < 1.002 * objective(oracle.coef_.T, oracle.intercept_, x, y, c)


def test_float32_is_as_good_as_float64():
    """The penalty is on standardised weights, so the two are compared on standardised features."""
    x, y = clusters(500, 30, 4, spread=0.25)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    for c in (1e-3, 1.0):
        fits = [fit(x.to(dtype), y, 4, c) for dtype in (torch.float32, torch.float64)]
        one, two = (objective(w.double().numpy(), b.double().numpy(), x.numpy(), y.numpy(), c) for w, b in fits)
        assert one == pytest.approx(two, rel=2e-4)


def test_one_problem_per_fold_equals_each_alone():
    x, y = clusters(300, 12, 3)
    ones = torch.cat([x / x.std(0), torch.ones(300, 1, dtype=x.dtype)], dim=1)
    member = (torch.arange(300)[:, None] % 4 != torch.arange(4)).double()
    together = Solver(Problems(ones, y, member, 3), 1e-8, 500)
    penalty = 1 / (0.1 * together.problems.total)
    weights, _ = together.solve(penalty)
    for p in range(4):
        alone, _ = Solver(Problems(ones, y, member[:, p : p + 1], 3), 1e-8, 500).solve(penalty[p : p + 1])
        torch.testing.assert_close(weights[:, p], alone[:, 0], rtol=0, atol=1e-3 * float(alone.abs().max()))


def test_gradient_and_curvature_are_derivatives_of_the_loss():
    x, y = clusters(50, 6, 3)
    problems = Problems(torch.cat([x, torch.ones(50, 1, dtype=x.dtype)], 1), y, torch.rand(50, 2).double(), 3)
    weights = 0.1 * torch.randn(7, 2, 3, dtype=torch.float64)
    both = torch.ones(2, dtype=torch.bool)
    loss, gradient = problems.evaluate(weights, both)
    curvature = problems.curvature(weights)
    for at in ((0, 0, 0), (4, 1, 2), (6, 0, 1)):
        step = torch.zeros_like(weights)
        step[at] = 1e-4
        (up, g_up), (down, g_down) = problems.evaluate(weights + step, both), problems.evaluate(weights - step, both)
        assert float((up - down)[at[1]]) / 2e-4 == pytest.approx(float(gradient[at]), rel=1e-5)
        assert float((g_up - g_down)[at]) / 2e-4 == pytest.approx(float(curvature[at]), rel=1e-4)
    one_loss, one_gradient = problems.evaluate(weights, torch.tensor([False, True]))
    torch.testing.assert_close(one_loss, loss * torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(one_gradient, gradient * torch.tensor([0.0, 1.0])[:, None])


def test_data_given_twice_with_half_the_c_changes_nothing():
    x, y = clusters(200, 10, 3)
    once = fit(x, y, 3, 0.2, tolerance=1e-9)
    twice = fit(x.repeat(2, 1), y.repeat(2), 3, 0.1, tolerance=1e-9)
    torch.testing.assert_close(once[0], twice[0], rtol=0, atol=1e-4 * float(once[0].abs().max()))


def test_order_of_samples_and_names_of_classes_do_not_matter():
    x, y = clusters(200, 10, 3)
    weights, bias = fit(x, y, 3, 0.2, tolerance=1e-9)
    order, names = torch.randperm(200), torch.tensor([2, 0, 1])
    permuted = fit(x[order], names[y[order]], 3, 0.2, tolerance=1e-9)
    atol = 1e-4 * float(weights.abs().max())
    torch.testing.assert_close(permuted[0][:, names], weights, rtol=0, atol=atol)
    torch.testing.assert_close(permuted[1][names], bias, rtol=0, atol=10 * atol)


def test_standardised_readout_ignores_shift_and_scale_of_features():
    x, y = clusters(200, 10, 3)
    moved = x * torch.logspace(-3, 3, 10, dtype=x.dtype) + 100
    (w1, b1), (w2, b2) = fit(x, y, 3, 0.1, tolerance=1e-9), fit(moved, y, 3, 0.1, tolerance=1e-9)
    torch.testing.assert_close(x @ w1 + b1, moved @ w2 + b2, rtol=0, atol=1e-3)


def test_with_two_classes_c_is_half_of_scikit_learns_single_weight_vector():
    x, y = clusters(200, 8, 2, spread=0.3)
    weights, _ = fit(x, y, 2, 0.05, standardise=False, tolerance=1e-9)
    single = (weights[:, 1] - weights[:, 0]).numpy()
    oracle = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000).fit(x.numpy(), y.numpy()).coef_[0]
    np.testing.assert_allclose(single, oracle, atol=1e-3 * abs(oracle).max())


def test_chosen_c_and_scores_follow_scikit_learn_on_the_same_folds():
    x, y = clusters(400, 24, 5, spread=0.35)
    cs = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
    ours = fit_path(x.float(), y, 5, cs=cs, folds=4, seed=1)
    z, fold = ((x - x.mean(0)) / x.std(0, correction=0)).numpy(), stratified_folds(y.numpy(), 4, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, c in enumerate(cs):
            for f in range(4):
                oracle = LogisticRegression(C=c, max_iter=2000).fit(z[fold != f], y.numpy()[fold != f])
                assert ours.scores[i, f] == pytest.approx(oracle.score(z[fold == f], y.numpy()[fold == f]), abs=0.021)
    assert ours.c == cs[int(ours.scores.mean(1).argmax())] and bool(ours.done.all())
    full = LogisticRegression(C=ours.c, max_iter=2000).fit(z, y.numpy())
    assert float((ours.predict(x.float()).numpy() == full.predict(z)).mean()) > 0.99


def test_grid_is_that_of_the_papers():
    assert len(CS) == 45 and CS[0] == pytest.approx(1e-5) and CS[-1] == pytest.approx(1e6)
    assert np.diff(np.log10(CS)) == pytest.approx(0.25)


def test_same_seed_same_fit_and_best_at_the_edge_is_flagged():
    x, y = clusters(120, 6, 3, spread=2.0)
    one, two = (fit_path(x.float(), y, 3, cs=(1e-9, 1e-3, 1.0), seed=3) for _ in range(2))
    assert torch.equal(one.weights, two.weights) and (one.scores == two.scores).all()
    assert fit_path(x.float(), y, 3, cs=(1e-9, 1e-8, 1e-1), seed=3).at_edge


def test_folds_are_stratified_balanced_and_seeded():
    labels = np.repeat([0, 1, 2, 3], [53, 27, 3, 1])
    fold = stratified_folds(labels, 5, seed=0)
    assert np.ptp(np.bincount(fold)) <= 1
    for k in range(4):
        assert np.ptp(np.bincount(fold[labels == k], minlength=5)) <= 1
    assert (fold == stratified_folds(labels, 5, seed=0)).all()
    assert (fold != stratified_folds(labels, 5, seed=1)).any()


def test_constant_and_repeated_features_and_rare_classes_are_harmless():
    x, y = clusters(90, 5, 3, spread=2.0)
    y[0], classes = 3, 4  # a class of one image
    wide = torch.cat([x, torch.full((90, 2), 7.0), x], dim=1).float()
    fitted = fit_path(wide, y, classes, cs=(1e-3, 0.1), seed=0)
    assert torch.isfinite(fitted.weights).all() and float(fitted.weights[5:7].abs().max()) < 1e-12
    assert float((fitted.predict(wide) == y).double().mean()) > 0.9


def test_collapsed_features_give_the_most_frequent_class():
    y = torch.tensor([0] * 20 + [1] * 30)
    fitted = fit_path(torch.full((50, 8), 3.25), y, 2, cs=(0.01, 1.0))
    assert (fitted.predict(torch.full((4, 8), 3.25)) == 1).all()


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.randn(20, 4), torch.zeros(20, dtype=torch.long), "at least two classes"),
        (torch.randn(20, 4), torch.arange(20) % 3 - 1, "labels must lie in 0..2, found -1..1"),
        (torch.full((20, 4), torch.nan), torch.arange(20) % 3, "20 of 20 feature vectors are not finite"),
        (torch.randn(3, 4), torch.arange(3), "cannot make 5 folds of 3 samples"),
        (torch.randn(20, 4, 1), torch.arange(20) % 3, r"need features \(N, D\)"),
    ],
)
def test_bad_input_says_what_was_found(x: torch.Tensor, y: torch.Tensor, says: str):
    with pytest.raises(InputError, match=says):
        fit_path(x, y, 3)
