"""Few-shot episodes: which images they are of, and two classifiers fitted to all of them at once.

The linear classifier is fitted by stochastic gradient descent from a start W0, and each step adds multiples of support
features to it and shrinks it. So its weights are always c W0 + A' X, X being the support features: the descent runs on
the few coefficients A and c, with products of features that are taken once, and costs the same for 64 and for 2,048
features. It is the same descent, number by number (a loop of torch.optim.SGD is the test).

Letters: E episodes, W ways (classes), S support images, Q query images, D features, L learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.chance import uniform
from whytransfer.errors import InputError

_CLASSES, _IMAGES, _WEIGHTS, _ORDER = range(4)  # what is drawn of an episode
_CELLS = 1 << 24  # numbers held at a time


@dataclass(frozen=True)
class Episodes:
    """Positions of support (E, S) and query images (E, Q) in a set, and which of the W classes each is of."""

    support: NDArray[np.int64]
    query: NDArray[np.int64]
    support_labels: NDArray[np.int64]
    query_labels: NDArray[np.int64]
    way: int
    seed: int = 0
    purpose: int = 0  # episodes of another purpose (0 test, 1 validation) are other ones

    def __len__(self) -> int:
        return len(self.support)

    def draws(self, rows: NDArray[np.int64], what: int, count: int, again: int = 0) -> NDArray[np.float64]:
        """(len(rows), count) numbers in [0, 1) of these episodes."""
        return uniform(self.seed, self.purpose, rows, again, what, count)


def draw(
    labels: NDArray[np.int64], way: int, shot: int, queries: int, count: int, seed: int, purpose: int = 0
) -> Episodes:
    """`count` episodes: `way` classes, of each `shot` images to learn from and `queries` others to recognise.

    Episode e is a function of (seed, purpose, e). Classes with fewer than shot + queries images take no part; raises
    InputError when fewer than `way` are left.
    """
    each = shot + queries
    usable, present = classes_with(labels, each)
    if len(usable) < way:
        raise InputError(
            f"{way}-way {shot}-shot episodes with {queries} queries need {way} classes of {each} images or more; "
            f"{len(usable)} of {present} have as many. Ask for fewer with --way or --shot, or give more images."
        )
    places = [np.flatnonzero(labels == label) for label in usable]
    sizes = np.array([len(p) for p in places])
    table = np.full((len(usable), sizes.max()), -1, dtype=np.int64)
    for row, p in zip(table, places, strict=True):
        row[: len(p)] = p
    chosen = []
    block = max(1, _CELLS // (way * table.shape[1]))
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        picked = uniform(seed, purpose, rows, 0, _CLASSES, len(usable)).argsort(1, kind="stable")[:, :way]  # (B, W)
        u = uniform(seed, purpose, rows, 0, _IMAGES, way * table.shape[1]).reshape(len(rows), way, -1)
        u[np.arange(table.shape[1]) >= sizes[picked][..., None]] = np.inf  # a class may have fewer than the largest
        order = u.argsort(2, kind="stable")[..., :each]
        chosen.append(np.take_along_axis(table[picked], order, axis=2))  # (B, W, each)
    images = np.concatenate(chosen)
    support, query = images[..., :shot].reshape(count, -1), images[..., shot:].reshape(count, -1)
    of_support, of_query = (np.tile(np.repeat(np.arange(way), n), (count, 1)) for n in (shot, queries))
    return Episodes(support, query, of_support, of_query, way, seed, purpose)


def classes_with(labels: NDArray[np.int64], images: int) -> tuple[NDArray[np.int64], int]:
    """The classes that have so many images or more, and how many classes have any."""
    present, members = np.unique(labels[labels >= 0], return_counts=True)
    return present[members >= images], len(present)


def fixed(episodes: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...], labels: NDArray, seed: int) -> Episodes:
    """The episodes that a set comes with, (support, query) positions each; the seed is for the classifier's start.

    InputError where they differ in size, or where a query is of a class without support.
    """
    shapes = {(len(support), len(query), len(np.unique(labels[support]))) for support, query in episodes}
    if len(shapes) != 1:
        raise InputError(f"the fixed episodes of a set must be of one size, found {sorted(shapes)}")
    of_support, of_query = [], []
    for support, query in episodes:
        classes = np.unique(labels[support])
        if not np.isin(labels[query], classes).all():
            raise InputError("a query image of a fixed episode is of a class that its support images are not of")
        of_support.append(np.searchsorted(classes, labels[support]))
        of_query.append(np.searchsorted(classes, labels[query]))
    supports, queries = (np.stack(column) for column in zip(*episodes, strict=True))
    return Episodes(supports, queries, np.stack(of_support), np.stack(of_query), next(iter(shapes))[2], seed)


@dataclass(frozen=True)
class LinearProtocol:
    """The classifier of [Chen 2019], as its code has it: torch.optim.SGD on an nn.Linear, from a random start."""

    lr: float = 0.01
    rounds: int = 100  # over the support images
    batch: int = 4
    momentum: float = 0.9
    dampening: float = 0.9
    weight_decay: float = 0.001


def prototypes(features: Tensor, episodes: Episodes) -> Tensor:
    """The class (E, Q) of the nearest mean of support features, by squared Euclidean distance [Snell 2017].

    features (N, D) are those of all images.
    """
    predicted = []
    for rows in _blocks(episodes, features.shape[1], np.arange(len(episodes))):
        x, q = _taken(features, episodes, rows)
        labels = torch.from_numpy(episodes.support_labels[rows]).to(x.device)
        member = torch.nn.functional.one_hot(labels, episodes.way).to(x.dtype)  # (E, S, W)
        means = (member / member.sum(1, keepdim=True)).mT @ x  # (E, W, D)
        distances = means.square().sum(2)[:, None] - 2 * q @ means.mT  # (E, Q, W), the query's own square left out
        predicted.append(distances.argmin(2))
    return torch.cat(predicted)


def linear(features: Tensor, episodes: Episodes, lrs: tuple[float, ...], protocol: LinearProtocol) -> Tensor:
    """Class (L, E, Q) by the linear classifier at each learning rate; -1 where the descent ran away."""
    predicted = []
    support, query = episodes.support.shape[1], episodes.query.shape[1]
    for rows in _ranges(np.arange(len(episodes)), support * (support + query)):
        logits = linear_logits(features, episodes, rows, lrs, protocol)
        predicted.append(torch.where(logits.isfinite().all(3), logits.argmax(3), -1))
    return torch.cat(predicted, dim=1)


def linear_logits(
    features: Tensor, episodes: Episodes, rows: NDArray[np.int64], lrs: tuple[float, ...], protocol: LinearProtocol
) -> Tensor:
    """Logits (L, E, Q, W) of these episodes' queries at each learning rate, in double precision."""
    gram, start, cross, cross_start = _products(features, episodes, rows)
    a, kept = _descend(gram, start, episodes, rows, lrs, protocol)
    logits = (cross @ a.flatten(2)).unflatten(2, a.shape[2:])  # (E, Q, L, W)
    return (logits + kept[:, None] * cross_start[:, :, None]).permute(2, 0, 1, 3)


def _products(features: Tensor, episodes: Episodes, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """X X' (E, S, S), X W0' (E, S, W), Q X' (E, Q, S) and Q W0' (E, Q, W); the bias is a feature that is always 1."""
    parts = []
    bound = features.shape[1] ** -0.5  # nn.Linear's start, for weights and bias
    width = features.shape[1] + 1
    for rows in _blocks(episodes, 2 * width, chosen):
        x, q = (torch.cat([f, f.new_ones(*f.shape[:2], 1)], dim=2) for f in _taken(features, episodes, rows))
        u = episodes.draws(rows, _WEIGHTS, episodes.way * width).reshape(len(rows), episodes.way, width)
        w = torch.from_numpy(bound * (2 * u - 1)).to(x)
        parts.append((x @ x.mT, x @ w.mT, q @ x.mT, q @ w.mT))
    gram, start, cross, cross_start = (torch.cat(part) for part in zip(*parts, strict=True))
    return gram, start, cross, cross_start


def _descend(
    gram: Tensor,
    start: Tensor,
    episodes: Episodes,
    chosen: NDArray[np.int64],
    lrs: tuple[float, ...],
    p: LinearProtocol,
) -> tuple[Tensor, Tensor]:
    """A (E, S, L, W) and c (L,) of the weights c W0 + A' X after all rounds."""
    labels = torch.from_numpy(episodes.support_labels[chosen]).to(gram.device)
    rate = torch.tensor(lrs, dtype=gram.dtype, device=gram.device)
    kept, pull = torch.ones_like(rate), torch.zeros_like(rate)  # c and its momentum
    a = gram.new_zeros(*start.shape[:2], len(lrs), start.shape[2])  # (E, S, L, W): one product for all rates
    velocity, first = torch.zeros_like(a), True
    for again in range(p.rounds):
        shuffled = episodes.draws(chosen, _ORDER, gram.shape[1], again).argsort(1, kind="stable")
        for rows in torch.from_numpy(shuffled).to(gram.device).split(p.batch, dim=1):  # (E, b)
            seen = gram.gather(1, rows[..., None].expand(-1, -1, gram.shape[2]))  # (E, b, S)
            from_start = start.gather(1, rows[..., None].expand(-1, -1, start.shape[2]))
            logits = (seen @ a.flatten(2)).unflatten(2, a.shape[2:])  # (E, b, L, W)
            slope = torch.softmax(logits.add_(kept[:, None] * from_start[:, :, None]), dim=3)
            target = labels.gather(1, rows)[..., None, None].expand(-1, -1, len(lrs), 1)
            slope.scatter_add_(3, target, slope.new_full((1,), -1.0).expand(target.shape))
            fresh = 1.0 if first else 1 - p.dampening  # torch takes the first gradient whole
            velocity.mul_(p.momentum).add_(a, alpha=fresh * p.weight_decay)
            velocity.scatter_add_(1, rows[..., None, None].expand_as(slope), slope.mul_(fresh / rows.shape[1]))
            a.addcmul_(velocity, -rate[:, None])
            pull = p.momentum * pull + fresh * p.weight_decay * kept
            kept, first = kept - rate * pull, False
    return a, kept


def _blocks(episodes: Episodes, width: int, chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Episodes in ranges whose features fit."""
    return _ranges(chosen, (episodes.support.shape[1] + episodes.query.shape[1]) * width)


def _ranges(chosen: NDArray[np.int64], cells: int) -> list[NDArray[np.int64]]:
    """Ranges of episodes that each take so many cells."""
    return np.split(chosen, range(max(1, _CELLS // cells), len(chosen), max(1, _CELLS // cells)))


def _taken(features: Tensor, episodes: Episodes, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Features of support (B, S, D) and query images (B, Q, D), in double precision."""
    take = lambda table: features[torch.from_numpy(table[rows]).to(features.device)].double()  # noqa: E731
    return take(episodes.support), take(episodes.query)
