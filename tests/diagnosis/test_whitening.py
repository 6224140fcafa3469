"""Whitening against its definition, scikit-learn's shrinkage and closed forms; what it refuses."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf_shrinkage

from whytransfer.diagnosis import whiten
from whytransfer.diagnosis.whitening import Whitening, cosine, ledoit_wolf
from whytransfer.errors import InputError


def features(n=400, d=12, seed=0):
    """Correlated, of unequal spread, far from zero."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.logspace(-1, 0, d)
    return torch.from_numpy(rng.normal(size=(n, d)) @ mix + 5)


def test_it_is_the_published_definition():
    x = features()
    w, inverse, mean = whiten(x), np.linalg.inv(np.cov(x.numpy(), rowvar=False)), x.numpy().mean(0)
    torch.testing.assert_close(w.mean.numpy(), mean, rtol=0, atol=1e-12)
    root = np.linalg.cholesky(inverse)  # as the published code has it, but in double precision
    for f, g in zip(x[:5], x[5:10], strict=True):
        f, g = f.numpy(), g.numpy()
        a, b = (mean - f) @ root, (mean - g) @ root
        f_, g_ = torch.from_numpy(f)[None], torch.from_numpy(g)[None]
        assert float(w.distance(f_, g_)) == pytest.approx(mahalanobis(f, g, inverse), rel=1e-7)
        assert float(w.similarity(f_, g_)) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-7)


def test_the_same_image_gives_1_and_0_and_unrelated_ones_0_and_the_root_of_2d():
    x, fresh = features(5_000, 16).float(), features(5_000, 16).float()[torch.randperm(5_000)]
    w = whiten(x)
    assert torch.equal(w.distance(x, x), torch.zeros(5_000, dtype=torch.float64))
    torch.testing.assert_close(w.similarity(x, x), torch.ones(5_000, dtype=torch.float64))
    assert abs(float(w.similarity(x, fresh).mean())) < 0.02
    assert float(w.distance(x, fresh).square().mean()) == pytest.approx(2 * 16, rel=0.03)
    torch.testing.assert_close(w(x).T.cov(), torch.eye(16, dtype=torch.float64), atol=1e-7, rtol=0)


def test_any_whitener_gives_the_same():
    x = features()
    w = whiten(x)
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    zca = Whitening(w.mean, w.matrix @ rotation, w.images)
    f, g = x[:100], x[100:200]
    torch.testing.assert_close(w.similarity(f, g), zca.similarity(f, g))
    torch.testing.assert_close(w.distance(f, g), zca.distance(f, g))


def test_one_image_is_compared_with_many():
    x = features()
    w = whiten(x)
    many, one = w.distance(x[:1], x[1:4]), [w.distance(x[:1], x[i : i + 1]) for i in (1, 2, 3)]
    torch.testing.assert_close(many, torch.cat(one))
    assert bool(cosine(torch.zeros(1, 3), torch.ones(2, 3)).isnan().all())


@pytest.mark.parametrize("n", [5, 20, 60])
def test_few_images_are_shrunk_as_scikit_learn_does_and_said(n):
    x = features(n, 30)
    w, share = whiten(x), ledoit_wolf_shrinkage(x.numpy())
    assert ledoit_wolf(x - x.mean(0)) == pytest.approx(share, rel=1e-9)
    if n > 30:
        assert w.shrinkage == 0 and "few for the covariance" in w.note
        return
    assert w.shrinkage == pytest.approx(share, rel=1e-9) and w.dimensions == 30
    assert f"{n} images do not determine the covariance of 30 features" in w.note
    cov = np.cov(x.numpy(), rowvar=False)
    shrunk = (1 - share) * cov + share * np.trace(cov) / 30 * np.eye(30)
    inverse = (w.matrix @ w.matrix.T).numpy()
    np.testing.assert_allclose(inverse @ shrunk, np.eye(30), atol=1e-7)


def test_constant_and_repeated_features_change_nothing():
    x = features(2000).float()
    w = whiten(x)
    more = torch.cat([x, torch.full((2000, 2), 7.0), x[:, :3]], dim=1)
    wider = whiten(more)
    assert (wider.dimensions, wider.constant) == (12, 2) and "5 of 17 directions have no spread" in wider.note
    torch.testing.assert_close(
        wider.distance(more[:50], more[50:100]), w.distance(x[:50], x[50:100]), rtol=1e-5, atol=0
    )
    assert whiten(x).note == ""


def test_a_ridge_is_added_to_the_covariance():
    x = torch.diag(torch.tensor([1.0, -1.0, 0.5])).double().repeat(2, 1)
    inverse = whiten(x, shrinkage=0, ridge=0.3)
    expected = np.linalg.inv(np.cov(x.numpy(), rowvar=False) + 0.3 * np.eye(3))
    np.testing.assert_allclose(inverse.matrix @ inverse.matrix.T, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((9, 4), 2.5), "all 4 features are the same in all 9 images: the backbone is broken"),
        (torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [3.0, 4.0]]), "1 of 3 images have features that are not fin"),
        (torch.ones(1, 3), "a covariance needs two images at least, got 1"),
        (torch.ones(3), "made of features"),
    ],
)
def test_what_has_no_covariance_is_refused(x, message):
    with pytest.raises(InputError, match=message):
        whiten(x)


def test_wrong_use_is_refused():
    w = whiten(features())
    with pytest.raises(InputError, match=r"takes features \(B, 12\), got \(2, 3\)"):
        w.distance(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(InputError, match="not finite"):
        w.similarity(torch.full((1, 12), float("inf")), torch.ones(1, 12))
    with pytest.raises(InputError, match="shrinkage is a share"):
        whiten(features(), shrinkage=2)
