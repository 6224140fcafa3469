"""Weighted kNN against scikit-learn and against the votes written out."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from whytransfer.errors import InputError
from whytransfer.nn import knn
from whytransfer.nn.knn import knn_predict, knn_scores


def data(n=300, m=50, d=12, classes=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(m, d, generator=g), torch.randn(n, d, generator=g), torch.randint(classes, (n,), generator=g)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.1), (200, 0.07), (1, 0.07)])
def test_votes_equal_scikit_learns(k, temperature):
    queries, bank, labels = data()
    reference = KNeighborsClassifier(
        k, weights=lambda d: np.exp((1 - d) / temperature), metric="cosine", algorithm="brute"
    )
    expected = reference.fit(bank.double().numpy(), labels.numpy()).predict_proba(queries.double().numpy())
    votes = knn_scores(queries, bank, labels, 7, k, temperature)
    torch.testing.assert_close(
        votes / votes.sum(1, keepdim=True), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5
    )
    assert torch.equal(knn_predict(queries, bank, labels, k, temperature), torch.from_numpy(expected.argmax(1)))


def test_chunks_do_not_matter(monkeypatch):
    queries, bank, labels = data()
    whole = knn_scores(queries, bank, labels, 7, 20)
    monkeypatch.setattr(knn, "SIMILARITIES_AT_ONCE", 900)  # three queries at a time
    torch.testing.assert_close(knn_scores(queries, bank, labels, 7, 20), whole)


def test_features_are_found_again_at_any_length_and_temperature():
    _, bank, labels = data()
    for temperature in (1e-3, 0.1, 10.0):
        assert torch.equal(knn_predict(5 * bank, bank, labels, k=1, temperature=temperature), labels)
    scores = knn_scores(bank, bank, labels, 7, k=10_000, temperature=1e-4)
    assert scores.isfinite().all() and torch.equal(scores.argmax(1), labels)


@pytest.mark.parametrize(
    ("n", "classes", "k", "text"),
    [(0, 3, 5, "one labelled feature, got k=5, 0 features"), (9, 3, 0, "got k=0"), (9, 2, 1, r"must lie in 0\.\.1")],
)
def test_refuses(n, classes, k, text):
    with pytest.raises(InputError, match=text):
        knn_scores(torch.ones(2, 4), torch.ones(n, 4), torch.arange(n) % 3, classes, k)
