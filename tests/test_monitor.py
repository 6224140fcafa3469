"""What a run watches: kNN against votes written out, fixed and disjoint images, nothing left changed."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer import monitor
from whytransfer.errors import InputError
from whytransfer.monitor import Monitor
from whytransfer.records import Features
from whytransfer.views.engine import eval_views

SIZE = 8


@dataclass
class Coloured:
    """Pictures of one colour each, near the colour of their class, as a PixelCache shows them."""

    labels: np.ndarray
    classes: tuple[str, ...] = ("red", "green", "blue")
    name: str = "coloured"
    fingerprint: str = "c0"
    noise: float = 60.0
    seed: int = 0
    colours: dict = field(default_factory=lambda: {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)})

    def __len__(self):
        return len(self.labels)

    def pixels(self, i):
        colour = np.array(self.colours.get(self.classes[self.labels[i]], (90, 90, 90)))
        colour = colour + self.noise * np.random.default_rng([self.seed, i]).normal(size=3)
        return np.broadcast_to(colour.clip(0, 255), (12, 10, 3)).astype(np.uint8)


def coloured(count=90, **settings):
    return Coloured(np.arange(count) % 3, **settings)


class MeanColour(nn.Module):
    """Features of an image: its mean colour after a batch norm, which would move in training mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        last = self.norm(images)
        return Features(last.mean((2, 3)), last, {"layer1": last})


class Place(nn.Module):
    """Tells images apart by their place in the batch alone: the best that any views can leave; or not at all."""

    def __init__(self, constant=False):
        super().__init__()
        self.constant, self.weight = constant, nn.Parameter(torch.ones(()))

    def forward(self, images):
        vector = torch.ones(len(images), 5) if self.constant else torch.eye(300)[: len(images)]
        return Features(vector * self.weight, images, {})


def watch(images, val=None, seed=0, amp=False):
    return Monitor(images, val, SIZE, seed, amp)


def mean_colours(images, indices):
    """(len(indices), 3): what MeanColour sees of each image, one by one."""
    return torch.stack([eval_views([images.pixels(int(i))], SIZE)[0].mean((1, 2)) for i in indices]).double().numpy()


@pytest.mark.parametrize("with_val", [False, True])
def test_knn_equals_the_votes_written_out(with_val):
    images, val = coloured(), coloured(40, seed=9) if with_val else None
    watched, backbone = watch(images, val), MeanColour()
    bank = mean_colours(images, watched._bank)
    right = 0
    for i in watched._queries:
        query = mean_colours(val or images, [i])[0]
        cosine = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
        votes = np.zeros(3)
        for j in np.argsort(-cosine)[:20]:
            votes[images.labels[watched._bank[j]]] += math.exp(cosine[j] / 0.1)
        right += votes.argmax() == (val or images).labels[i]
    knn = watched.look(backbone).knn
    assert knn == pytest.approx(100 * right / len(watched._queries)) and 34 < knn < 100


def test_queries_are_not_in_the_bank_and_a_seed_keeps_both(monkeypatch):
    monkeypatch.setattr(monitor, "QUERIES", 20)
    monkeypatch.setattr(monitor, "BANK", 30)
    one, same, other = (watch(coloured(), seed=seed) for seed in (0, 0, 1))
    assert len(set(one._queries)) == 20 and len(set(one._bank)) == 30 and not set(one._queries) & set(one._bank)
    np.testing.assert_array_equal(one._queries, same._queries)
    np.testing.assert_array_equal(one._bank, same._bank)
    assert set(one._bank) != set(other._bank)
    assert one.look(MeanColour()) == same.look(MeanColour())
    assert one.queries_from == "training images" and watch(coloured(), coloured(9)).queries_from == "val images"


def test_the_identity_changes_with_the_queries():
    images, one, two = coloured(), coloured(9, fingerprint="v1"), coloured(9, fingerprint="v2")
    assert len({watch(images, val).identity for val in (None, one, two)}) == 3
    assert watch(images, one).identity == watch(images, coloured(9, fingerprint="v1")).identity


@pytest.mark.parametrize("training", [True, False])
def test_a_look_leaves_the_backbone_as_it_was(training):
    backbone = MeanColour().train(training)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    watch(coloured()).look(backbone)
    assert backbone.training == backbone.norm.training == training
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_the_mode_comes_back_after_a_failure():
    class Broken(MeanColour):
        def forward(self, images):
            raise RuntimeError("out of memory")

    backbone = Broken().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        watch(coloured()).look(backbone)
    assert backbone.training


@pytest.mark.parametrize("labels", [np.full(30, -1), np.zeros(30, int), np.r_[-1, np.arange(29) % 3]])
def test_without_labels_for_all_or_two_classes_there_is_no_knn(labels):
    standing = watch(Coloured(labels)).look(MeanColour())
    assert standing.knn is None and 0 <= standing.pairs <= 100
    assert standing.as_dict() == {
        "knn": None,
        "pairs": standing.pairs,
        "spread": standing.spread,
        "rank": standing.rank,
    }


def test_val_classes_are_matched_by_name():
    images = coloured(noise=5.0)
    val = Coloured(np.arange(30) % 2, classes=("blue", "red"), noise=5.0, seed=1)
    assert watch(images, val).look(MeanColour()).knn == 100
    with pytest.raises(InputError, match=r"(?s)1 classes that the training set lacks.*mauve"):
        watch(images, Coloured(np.zeros(4, int), classes=("mauve",)))


def test_pair_matching_of_the_best_and_of_the_worst():
    images = coloured(60)
    best, worst = (watch(images).look(Place(constant)) for constant in (False, True))
    assert best.pairs == 100 and best.rank == pytest.approx(40, rel=1e-3)  # the bank's 40 images in 40 directions
    assert worst.pairs == pytest.approx(100 / 60)  # all alike: the first is taken for every image
    assert worst.spread == pytest.approx(0, abs=1e-6) and worst.rank == pytest.approx(1, rel=1e-3)


def test_bfloat16_looks_nearly_the_same():
    images = coloured(noise=5.0)
    exact, rounded = (watch(images, amp=amp).look(MeanColour()) for amp in (False, True))
    assert rounded.knn == exact.knn == 100 and rounded.spread == pytest.approx(exact.spread, rel=0.05)
