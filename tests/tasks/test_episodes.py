"""Episodes and their classifiers: torch's own SGD, one episode at a time, is the oracle."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whytransfer.errors import InputError
from whytransfer.tasks import episodes as module
from whytransfer.tasks.episodes import (
    Episodes,
    LinearProtocol,
    classes_with,
    draw,
    fixed,
    linear,
    linear_logits,
    prototypes,
)

LABELS = np.array([0] * 9 + [1] * 12 + [2] * 7 + [3] * 2 + [4] * 15 + [-1] * 3)


def features(width: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, width, generator=chance)
    return centres[torch.from_numpy(LABELS)] + spread * torch.randn(len(LABELS), width, generator=chance)


def by_torch(x: torch.Tensor, e: Episodes, k: int, lr: float, p: LinearProtocol) -> torch.Tensor:
    """Logits (Q, W) of one episode as the published code makes them, from the same start and in the same order."""
    rows, width = np.array([k]), x.shape[1] + 1
    start = (2 * e.draws(rows, 2, e.way * width).reshape(e.way, width) - 1) * x.shape[1] ** -0.5
    layer = nn.Linear(x.shape[1], e.way).double()
    layer.weight.data, layer.bias.data = torch.from_numpy(start[:, :-1].copy()), torch.from_numpy(start[:, -1].copy())
    sgd = torch.optim.SGD(
        layer.parameters(), lr, momentum=p.momentum, dampening=p.dampening, weight_decay=p.weight_decay
    )
    support, labels = x[e.support[k]].double(), torch.from_numpy(e.support_labels[k])
    for again in range(p.rounds):
        order = torch.from_numpy(e.draws(rows, 3, len(support), again)[0].argsort(kind="stable"))
        for part in order.split(p.batch):
            sgd.zero_grad()
            F.cross_entropy(layer(support[part]), labels[part]).backward()
            sgd.step()
    return layer(x[e.query[k]].double())


@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("width", [3, 40])
def test_all_episodes_at_once_are_torchs_sgd_one_by_one(shot, width, monkeypatch):
    monkeypatch.setattr(module, "_CELLS", 600)  # several blocks
    x, e = features(width), draw(LABELS, 3, shot, 2, 4, seed=5)
    p, lrs = LinearProtocol(rounds=12), (0.01, 0.3)
    logits = linear_logits(x, e, np.arange(4), lrs, p)
    predicted = linear(x, e, lrs, p)
    assert logits.shape == (2, 4, 6, 3) and predicted.shape == (2, 4, 6)
    for i, lr in enumerate(lrs):
        for k in range(4):
            theirs = by_torch(x, e, k, lr, p)
            torch.testing.assert_close(logits[i, k], theirs, rtol=1e-9, atol=1e-9)
            assert torch.equal(predicted[i, k], theirs.argmax(1))


def test_the_published_values_are_the_defaults():
    p = LinearProtocol()
    assert (p.lr, p.rounds, p.batch, p.momentum, p.dampening, p.weight_decay) == (0.01, 100, 4, 0.9, 0.9, 0.001)


def test_prototypes_are_class_means_and_squared_distances(monkeypatch):
    monkeypatch.setattr(module, "_CELLS", 300)
    x, e = features(6, spread=2.0), draw(LABELS, 4, 3, 4, 7, seed=1)
    predicted = prototypes(x, e)
    for k in range(7):
        means = torch.stack([x[e.support[k][e.support_labels[k] == w]].mean(0) for w in range(4)])
        assert torch.equal(predicted[k], torch.cdist(x[e.query[k]], means).square().argmin(1))
    assert 0.3 < (predicted.numpy() == e.query_labels).mean() < 1


def test_episodes_are_of_other_images_every_time_and_never_of_an_image_twice():
    e = draw(LABELS, 4, 2, 5, 300, seed=3)
    assert e.support.shape == (300, 8) and e.query.shape == (300, 20) and len(e) == 300
    both = np.concatenate([e.support, e.query], axis=1)
    assert all(len(set(row)) == 28 for row in both)
    for positions, labels in ((e.support, e.support_labels), (e.query, e.query_labels)):
        names = LABELS[positions].reshape(300, 4, -1)
        assert (names == names[..., :1]).all() and set(np.unique(names)) == {0, 1, 2, 4}  # class 3 has two images
        assert (labels == np.repeat(np.arange(4), names.shape[2])).all()
    counts = np.bincount(both.ravel(), minlength=len(LABELS))
    expected = 300 * 7 / np.bincount(LABELS[LABELS >= 0])[LABELS[LABELS >= 0]]
    assert (np.abs(counts[: len(expected)] - expected) < 5 * np.sqrt(expected))[LABELS[LABELS >= 0] != 3].all()
    assert counts[LABELS < 0].sum() == counts[LABELS == 3].sum() == 0


def test_an_episode_depends_on_its_number_alone(monkeypatch):
    whole = draw(LABELS, 3, 1, 4, 20, seed=9)
    monkeypatch.setattr(module, "_CELLS", 100)
    part = draw(LABELS, 3, 1, 4, 7, seed=9)
    assert np.array_equal(whole.support[:7], part.support) and np.array_equal(whole.query[:7], part.query)
    for other in (draw(LABELS, 3, 1, 4, 7, seed=8), draw(LABELS, 3, 1, 4, 7, seed=9, purpose=1)):
        assert not np.array_equal(other.support, part.support)
    five = draw(LABELS, 3, 2, 3, 20, seed=9)  # more shots of the same images: the curves of shots are paired
    assert np.array_equal(five.support.reshape(20, 3, 2)[:, :, 0], whole.support)


def test_too_few_images_are_refused_with_what_there_is():
    assert [list(classes_with(LABELS, n)[0]) for n in (3, 12, 16)] == [[0, 1, 2, 4], [1, 4], []]
    with pytest.raises(
        InputError, match="3-way 5-shot episodes with 6 queries need 3 classes of 11 images.*2 of 5 have"
    ):
        draw(LABELS, 3, 5, 6, 2, seed=0)


def test_fixed_episodes_keep_their_images_and_their_pairs():
    labels = np.array([7, 8, 9, 9, 7, 8])
    e = fixed(((np.array([2, 0, 1]), np.array([5, 3, 4])), (np.array([3, 4, 5]), np.array([0, 1, 2]))), labels, seed=0)
    assert e.way == 3 and e.support_labels.tolist() == [[2, 0, 1], [2, 0, 1]]
    assert e.query_labels.tolist() == [[1, 2, 0], [0, 1, 2]]
    with pytest.raises(InputError, match="must be of one size"):
        fixed(((np.array([0, 1]), np.array([4])), (np.array([0, 1, 2]), np.array([4]))), labels, seed=0)
    with pytest.raises(InputError, match="a class that its support images are not of"):
        fixed(((np.array([0, 1]), np.array([2])),), labels, seed=0)


def test_a_descent_that_runs_away_says_so_by_minus_one():
    e = draw(LABELS, 3, 1, 4, 3, seed=0)
    assert (linear(1e200 * features(4).double(), e, (1e200,), LinearProtocol()) == -1).all()
