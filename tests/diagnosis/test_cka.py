"""Linear CKA against the written-out definition, its invariances, and noise that shares nothing."""

import numpy as np
import pytest
import torch

from whytransfer.diagnosis.cka import linear_cka, similarity, unbiased_cka
from whytransfer.errors import InputError


def features(n, d, seed):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def written_out(x, y):
    """Kornblith 2019: |Y' X|^2 / (|X' X| |Y' Y|) of centred features, Frobenius norms."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def hsic_1(k, l):  # noqa: E741
    """Song 2012, equation 4: the mean over all quadruples of different images, by loops."""
    n, total, count = len(k), 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
                        count += 1
    return total / count


def test_equal_to_the_definition():
    x, y = features(30, 7, 1), features(30, 12, 2)
    y[:, :7] += 2 * x
    assert linear_cka(x, y) == pytest.approx(written_out(x.numpy(), y.numpy()), rel=1e-10)


def test_the_unbiased_estimate_equals_the_mean_over_quadruples():
    x, y = features(8, 3, 1), features(8, 5, 2)
    y[:, :3] += x
    x, y = x - x.mean(0), y - y.mean(0)
    k, l = (x @ x.T).numpy(), (y @ y.T).numpy()  # noqa: E741
    expected = hsic_1(k, l) / np.sqrt(hsic_1(k, k) * hsic_1(l, l))
    assert unbiased_cka(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cka", [linear_cka, unbiased_cka])
def test_invariances(cka):
    x, y = features(50, 6, 1), features(50, 9, 2)
    y[:, :6] += x
    rotation = torch.linalg.qr(features(6, 6, 3))[0]
    assert cka(x, x) == pytest.approx(1, abs=1e-12)
    assert cka(x @ rotation * 7 + 3, y) == pytest.approx(cka(x, y), rel=1e-9)
    assert cka(x, y) == pytest.approx(cka(y, x), rel=1e-12)
    stretched = x * torch.tensor([5.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert abs(cka(stretched, y) - cka(x, y)) > 0.01  # it is not invariant to that


def test_noise_shares_nothing_though_images_are_fewer_than_features():
    found = similarity(features(100, 500, 1), features(100, 500, 2))
    assert found.plain > 0.7 and abs(found.value) < 0.05
    assert found.low < 0 < found.high and found.images == 100


def test_the_interval_covers_the_truth():
    """The truth from 3,000 images; 40 samples of 200 each: 34 of their intervals or more hold it."""
    mix = features(4, 4, 9)

    def pair(n, seed):
        x = features(n, 4, seed)
        return x, x @ mix + 2 * features(n, 4, seed + 1000)

    truth = unbiased_cka(*(t[:3000] for t in pair(3000, 77)))
    found = [similarity(*pair(200, seed)) for seed in range(40)]
    assert sum(f.low <= truth <= f.high for f in found) >= 34
    assert np.mean([f.high - f.low for f in found]) < 0.5


@pytest.mark.parametrize(
    ("f", "g", "message"),
    [
        (torch.ones(9, 3), features(9, 3, 1), "one: all features are the same in all 9 images"),
        (features(9, 3, 1), torch.full((9, 3), torch.nan), "two: 9 of 9 images have features that are not finite"),
        (features(3, 3, 1), features(3, 3, 2), r"4 images or more, got \(3, 3\) of one"),
        (features(9, 3, 1), features(8, 3, 2), "the same images, got 9 and 8"),
    ],
)
def test_refusals(f, g, message):
    with pytest.raises(InputError, match=message):
        similarity(f, g, ("one", "two"))


def test_too_few_images_for_an_interval():
    found = similarity(features(39, 3, 1), features(39, 3, 1))
    assert found.value == pytest.approx(1) and (found.low, found.high) == (None, None)
