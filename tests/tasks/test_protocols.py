"""Published protocols: each quirk that is said to be reproduced is shown, the searches beside loops written out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from whytransfer.errors import InputError
from whytransfer.tasks import protocols, ridge
from whytransfer.tasks.protocols import PUBLISHED, choose_and_fit, metric_of, weight_decays

pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed")
DECAYS = np.logspace(-3, 3, 4)


def clusters(n: int = 90, d: int = 6, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % classes)
    return (0.7 * rng.normal(size=(classes, d))[labels] + rng.normal(size=(n, d))) * np.geomspace(0.1, 3, d), labels


def test_ssl_transfer_is_one_split_and_one_classifier_for_all_strengths():
    x, y = clusters()
    model, chosen = choose_and_fit("ssl-transfer", x, y, DECAYS, "top1", seed=0)
    np.random.seed(0)
    order = list(range(90))
    np.random.shuffle(order)
    held, kept = order[:18], order[18:]
    by_hand, best = LogisticRegression(warm_start=True, max_iter=100), (0.0, None)
    for decay in DECAYS:
        score = by_hand.set_params(C=1 / decay).fit(x[kept], y[kept]).score(x[held], y[held])
        best = (score, 1 / decay) if score > best[0] else best
    by_hand.set_params(C=best[1]).fit(x, y)
    assert chosen["c"] == best[1] and len(chosen["validation_scores"]) == 4
    np.testing.assert_array_equal(model.coef_, by_hand.coef_)
    cold = LogisticRegression(C=best[1]).fit(x, y)
    assert not np.array_equal(model.coef_, cold.coef_)  # warm: it did not start from zero


def test_ssl_invariances_draws_unstratified_folds_anew_for_every_strength():
    drawn = [[held.tolist() for _, held in protocols._folds(40, 3, i)] for i in range(3)]
    assert all(sorted(sum(folds, [])) == list(range(40)) for folds in drawn)
    assert drawn[0] != drawn[1] != drawn[2] and drawn[0] == [h.tolist() for _, h in protocols._folds(40, 3, 0)]
    assert drawn[0] != [h.tolist() for _, h in protocols._folds(40, 4, 0)]
    labels = np.arange(40) // 20
    assert any(len(set(np.bincount(labels[held], minlength=2))) > 1 for held in drawn[0])


def test_ssl_invariances_fits_every_fold_from_the_last_and_the_end_from_all():
    x, y = clusters()
    model, chosen = choose_and_fit("ssl-invariances", x, y, DECAYS, "mean_per_class", seed=5)
    by_hand, scores = LogisticRegression(warm_start=True), []
    for i, decay in enumerate(DECAYS):
        by_hand.set_params(C=1 / decay)
        part = []
        for kept, held in protocols._folds(90, 5, i):
            predicted = by_hand.fit(x[kept], y[kept]).predict(x[held])
            part.append(np.mean([(predicted[y[held] == k] == k).mean() for k in np.unique(y[held])]))
        scores.append(np.mean(part))
    assert chosen["validation_scores"] == pytest.approx(scores, abs=1e-6)
    assert chosen["c"] == 1 / DECAYS[int(np.argmax(scores))]
    np.testing.assert_array_equal(model.coef_, by_hand.set_params(C=chosen["c"]).fit(x, y).coef_)


def test_of_equal_scores_the_largest_c_counts():
    _, y = clusters()
    x = 10.0 * np.eye(3)[y]  # every strength is right on every image
    _, chosen = choose_and_fit("ssl-transfer", x, y, np.logspace(-3, -1, 3), "top1", 0)
    assert chosen["validation_scores"] == [1, 1, 1] and chosen["c"] == pytest.approx(1e3)
    assert chosen["c_at_edge_of_grid"]


def test_two_classes_are_a_softmax_of_two_vectors():
    """Which is a single vector at twice the C: the difference of the two vectors."""
    x, y = clusters(classes=2)
    model, chosen = choose_and_fit("ssl-transfer", x, y, np.array([10.0]), "top1", 0)
    weights = torch.zeros(7, 2, dtype=torch.float64, requires_grad=True)
    ones = torch.cat([torch.from_numpy(x), torch.ones(90, 1)], 1)
    optimizer = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        fit = torch.nn.functional.cross_entropy(ones @ weights, torch.from_numpy(y), reduction="sum")
        value = chosen["c"] * fit + weights[:-1].square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    single = (weights[:-1, 1] - weights[:-1, 0]).detach().numpy()
    np.testing.assert_allclose(model.coef_[0], single, rtol=0, atol=2e-3 * abs(single).max())


def test_one_vs_rest_is_one_classifier_for_all_classes_in_turn():
    x, _ = clusters()
    rng = np.random.default_rng(2)
    present = x @ rng.normal(size=(6, 3)) + 3 * rng.normal(size=(90, 3)) > [0, 1, 2]
    present = np.concatenate([present, np.zeros((90, 1), bool)], axis=1)  # a class of no image
    answer, chosen = protocols.one_vs_rest(x, present, x[:10], np.array([1.0, 100.0]), seed=0)
    assert answer.shape == (10, 4) and (answer[:, 3] == 0).all() and chosen["c"] in (1.0, 0.01)
    for k in range(3):
        oracle = LogisticRegression(C=2 * chosen["c"], tol=1e-8, max_iter=5000).fit(x, present[:, k])
        np.testing.assert_allclose(answer[:, k], oracle.decision_function(x[:10]), atol=0.05)


def test_ridge_takes_one_over_the_decay_as_alpha_and_one_alpha_for_all_targets():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)) + 3
    y = np.stack([x[:, 0], rng.normal(size=80)], axis=1)
    decays = np.array([1e-3, 1.0, 1e3])
    model, chosen = protocols.ridge(x, y, decays, seed=1)
    expected = [
        np.mean([Ridge(alpha=1 / d).fit(x[a], y[a]).score(x[b], y[b]) for a, b in protocols._folds(80, 1, i)])
        for i, d in enumerate(decays)
    ]
    assert chosen["validation_scores"] == pytest.approx(expected, abs=1e-6)
    assert chosen["alpha"] == 1 / decays[int(np.argmax(expected))]
    ours = ridge.fit_path(torch.from_numpy(x), y, (chosen["alpha"],), standardise=False)
    np.testing.assert_allclose(model.coef_.T, ours.weights.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("arch", "shift"),
    [
        ("resnet50", 0),
        ("resnet18+resnet18", 2),
        ("resnet18+resnet50+resnet18", 4),
        ("resnet50x3", 4),
        ("a+resnet50x3", 4),
        ("resnext101_32x32d", 0),
        ("resnext101_32x32d+resnet50", 2),
    ],
)
def test_the_grid_moves_for_fusions_and_wide_backbones_of_ssl_invariances_only(arch, shift):
    backbone = SimpleNamespace(arch=arch)
    grid = np.log10(weight_decays(backbone, "ssl-invariances"))
    assert len(grid) == 45 and (grid[0], grid[-1]) == pytest.approx((-6 + shift, 5 + shift))
    assert np.log10(weight_decays(backbone, "ssl-transfer"))[[0, -1]] == pytest.approx([-6, 5])


def test_a_fusion_has_the_architecture_that_moves_the_grid():
    from whytransfer.backbones.load import load_backbone

    two = load_backbone("random:resnet18-small+random:resnet18-small:1")
    assert np.log10(weight_decays(two, "ssl-invariances"))[0] == pytest.approx(-4)


def test_metrics_are_those_of_each_data_set():
    of = {name: metric_of("ssl-transfer", name) for name in ("cifar10", "cifar100/train", "Caltech-101", "oxford pets")}
    assert of == {
        "cifar10": "top1", "cifar100/train": "top1", "Caltech-101": "mean_per_class", "oxford pets": "mean_per_class"
    }  # fmt: skip
    assert metric_of("ssl-transfer", "flowers102") == "mean_per_class" and metric_of("ssl-transfer", "mine") == "top1"
    assert metric_of("ssl-invariances", "flowers102") == "top1"  # the script's fall-back
    assert metric_of("ssl-invariances", "caltech101_128") == "mean_per_class"


def test_every_letter_of_the_quirks_is_answered():
    """s to z of the list of facts: each is reproduced, or said not to be and why."""
    protocol = PUBLISHED["ssl-invariances"]
    told = " ".join([*protocol.reproduced.values(), *protocol.not_reproduced.values()])
    assert all(f"({letter})" in told for letter in "rstuvwxyz")


def test_refusals():
    x, y = clusters()
    with pytest.raises(InputError, match="ssl-transfer published no such task.*did: ssl-invariances. Without"):
        protocols.published("ssl-transfer", ("ssl-invariances",))
    with pytest.raises(InputError, match="a fifth of 4 training images is none"):
        choose_and_fit("ssl-transfer", x[:4], y[:4], DECAYS, "top1", 0)
    with pytest.raises(InputError, match="cannot make 5 folds of 4"):
        choose_and_fit("ssl-invariances", x[:4], y[:4], DECAYS, "top1", 0)
    with pytest.raises(InputError, match="holds one class only"):
        choose_and_fit("ssl-transfer", x, np.zeros(90, dtype=int), DECAYS, "top1", 0)
    never = np.arange(10)  # each class has one image: what is held out was never learnt
    with pytest.raises(InputError, match="no strength of the protocol has a validation score above 0"):
        choose_and_fit("ssl-transfer", x[:10], never, DECAYS, "top1", 0)
