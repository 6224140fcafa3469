"""Images of several classes each: which ones, mean average precision, and logistic regression one against the rest.

The classes of an image are those of its annotated objects (VOC, COCO, generated scenes). VOC's "difficult" objects
count as present; COCO's crowds do not. Average precision comes in the two versions of the VOC devkit
[Everingham 2010, section 4.2]: at eleven recalls (2007), and the area under the curve (from 2010), both with the
precision made monotone. Images of equal score stand or fall together, so the order of the images does not matter.

Letters: N images, C classes, D features, B resamples.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.images.cache import PixelCache
from whytransfer.images.index import first_of
from whytransfer.images.targets import BoxTable, box_classes
from whytransfer.tasks import bootstrap, logistic
from whytransfer.tasks.bootstrap import Array
from whytransfer.tasks.softmax import OneVsRest, Solver

METRICS = ("mean_ap_area", "mean_ap_11_point", "mean_ap_11_point_from_one")


def label_matrix(images: PixelCache) -> NDArray[np.bool_]:
    """(N, C) whether an object of each class is in each image; columns in the order of box_classes(images).

    Reads the annotations only. InputError for a set without boxes, or without a single one.
    """
    table = BoxTable.read(images)
    present = np.zeros((len(table), len(table.classes)), dtype=bool)
    for i in range(len(table)):
        present[i, table.boxes(i)[:, 4].long().numpy()] = True
    return present


def matched(present: NDArray[np.bool_], images: PixelCache, classes: tuple[str, ...]) -> NDArray[np.bool_]:
    """The label matrix of a set with columns in another set's classes, by name; InputError for one that lacks there."""
    names = box_classes(images)
    seen = np.flatnonzero(present.any(axis=0)).tolist()
    strangers = [names[k] for k in seen if names[k] not in classes]
    if strangers:
        raise InputError(
            f"{images.name} has objects of {len(strangers)} classes that the training set lacks: "
            f"{first_of(strangers)}. The training set's classes: {first_of(classes)}."
        )
    column = {name: k for k, name in enumerate(names)}
    absent = np.zeros(len(present), dtype=bool)
    return np.stack([present[:, column[name]] if name in column else absent for name in classes], axis=1)


def strata(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) the rarest of each image's classes, C where it has none: what folds and shares of labels are balanced by."""
    rare_first = np.argsort(present.sum(0), kind="stable")
    first = present[:, rare_first].argmax(1)
    return np.where(present.any(1), rare_first[first], present.shape[1])


def average_precision(
    present: NDArray[np.bool_], scores: Array, counts: Array | None = None
) -> tuple[Array, Array, Array]:
    """Of one class (N,): area under the curve, mean precision at eleven recalls, and the precision at recall 0, (B,).

    counts (B, N) is how often each image is there, once when None. NaN where no image has the class. Recalls are
    compared as whole numbers: 3 of 10 is 0.3, which floating point denies.
    """
    counts = np.ones((1, len(scores))) if counts is None else counts
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each group of equal scores
    drawn = counts[:, order]
    found, shown = (np.cumsum(x, axis=1)[:, last] for x in (drawn * present[order], drawn))  # (B, groups)
    precision = np.divide(found, shown, out=np.zeros_like(found), where=shown > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
    total = np.where(found[:, -1] > 0, found[:, -1], np.nan)
    area = (np.diff(found, prepend=0.0, axis=1) * best).sum(1) / total
    reached = [(10 * found >= k * found[:, -1:]).argmax(1) for k in range(11)]
    eleven = np.mean([best[np.arange(len(best)), at] for at in reached], axis=0)
    return area, np.where(np.isnan(total), np.nan, eleven), best[:, 0]


def mean_ap(present: NDArray[np.bool_], scores: Array, counts: Array | None = None) -> Array:
    """(B, 3) the METRICS in %, over the classes that an image has; scores (N, C).

    The last one takes the precision at recall 0 as 1, where scikit-learn's curve begins: a quirk of ssl-transfer.
    """
    sums: Array = np.zeros((1 if counts is None else len(counts), len(METRICS)))
    classes = np.zeros(sums.shape)
    for k in np.flatnonzero(present.any(0)):
        area, eleven, first = average_precision(present[:, k], scores[:, k], counts)
        values = np.stack([area, eleven, eleven + (1 - first) / 11], axis=1)
        known = ~np.isnan(values)
        sums, classes = sums + np.where(known, values, 0.0), classes + known
    return 100 * np.divide(sums, classes, out=np.full_like(sums, np.nan), where=classes > 0)


def intervals(present: NDArray[np.bool_], scores: Array, draws: int = 2000, seed: int = 0) -> Array:
    """(2, 3) the ends of the 95 % bootstrap intervals of the METRICS over test images (bootstrap.around)."""
    drawn = bootstrap.resampled(len(scores), lambda counts: mean_ap(present, scores, counts), draws, seed)
    return bootstrap.around(mean_ap(present, scores)[0], drawn).clip(0, 100)


def fit_path(
    features: Tensor,
    present: NDArray[np.bool_],
    cs: tuple[float, ...] = logistic.CS,
    folds: int = 5,
    seed: int = 0,
    tolerance: float = 1e-4,
    max_iterations: int = 40,
) -> logistic.Fit:
    """C two-class logistic regressions, one C for all: that of the best mean average precision (area) over the folds.

    features (N, D) are standardised; folds are balanced by the rarest class of each image. All classes and all folds
    are solved side by side. C is scikit-learn's for two classes: C * summed loss + |w|^2 / 2.
    """
    started = time.perf_counter()
    check(features, present)
    basis = logistic.Basis.of(features, standardise=True)
    x, cs = basis.project(features), tuple(sorted(cs))
    y = torch.from_numpy(present).to(x)
    fold = torch.from_numpy(logistic.stratified_folds(strata(present), folds, seed)).to(x.device)
    member = (fold[:, None] != torch.arange(folds, device=x.device)).to(x.dtype)  # (N, F)
    solver = Solver(OneVsRest(x, y, member), tolerance, max_iterations)
    scores, done = np.zeros((len(cs), folds)), np.zeros(len(cs), dtype=bool)
    start = x.new_zeros(x.shape[1], y.shape[1], 1)
    for i, c in enumerate(cs):
        weights, finished = solver.solve(1 / (c * solver.problems.total))
        by_fold = weights.view(x.shape[1], folds, -1)  # (D, F, C)
        scores[i], done[i] = _validate(x, present, fold, by_fold), bool(finished.all())
        if i == scores[: i + 1].mean(1).argmax():
            start = by_fold.mean(1)[:, :, None]
    c = cs[int(scores.mean(1).argmax())]
    last = Solver(OneVsRest(x, y, x.new_ones(len(x), 1)), tolerance, logistic.FINAL_ITERATIONS)
    last.begin(start)
    final, final_done = last.solve(1 / (c * last.problems.total))
    weights, bias = basis.raw(final[:, :, 0])
    cost = (solver.iterations, solver.evaluations, time.perf_counter() - started)
    return logistic.Fit(weights, bias, c, cs, scores, done, bool(final_done.all()), *cost)


def check(features: Tensor, present: NDArray[np.bool_]) -> None:
    """InputError unless there is something to learn: a class that some images have and others have not."""
    if features.ndim != 2 or present.ndim != 2 or len(features) != len(present):
        raise InputError(
            f"need features (N, D) and classes (N, C), got {tuple(features.shape)} and {tuple(present.shape)}"
        )
    if not (present.any(0) & ~present.all(0)).any():
        raise InputError("no class tells the training images apart: every class is in all of them or in none")
    if not bool(torch.isfinite(features).all()):
        rows = int((~torch.isfinite(features).all(1)).sum())
        raise InputError(f"{rows} of {len(features)} feature vectors are not finite: the backbone is broken")


def _validate(x: Tensor, present: NDArray[np.bool_], fold: Tensor, weights: Tensor) -> Array:
    """Mean average precision (area, %) of each fold's classifiers on the images that they have not seen, (F,)."""
    scores = []
    for f in range(weights.shape[1]):
        held = (fold == f).nonzero().squeeze(1)
        z = (x[held] @ weights[:, f]).double().cpu().numpy()
        scores.append(mean_ap(present[held.cpu().numpy()], z)[0, 0])
    return np.nan_to_num(np.array(scores))
