"""What a task's kept predictions say of every test image: its score over any draw of them, and each image's error.

Models that answered for the same test images can be compared pairwise: the same draws, image by image. One function per
kind of predictions, found by the arrays that the task has kept.

Letters: N images, B draws, C classes, T targets, K classes of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.records import Result
from whytransfer.tasks import bootstrap, depth_metrics, multilabel
from whytransfer.tasks.bootstrap import Array
from whytransfer.tasks.confusion import mean_iou

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Answers:
    """One metric of one model: `of_counts` gives it of how often each test image is there, (B, N) -> (B,).

    `errors` (N,) is how wrong each image is, on a scale of the task's own; `wrong` (N,) whether it is, where that is a
    yes or no; `biased` that the metric of resampled images is not around that of the images (average precision).
    """

    metric: str
    unit: str
    direction: Literal["higher", "lower"]
    of_counts: Callable[[Array], Array]
    errors: Array
    wrong: NDArray[np.bool_] | None = None
    biased: bool = False

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.direction == "higher" else -1

    @cached_property
    def value(self) -> float:
        """Over all test images once."""
        return float(self.of_counts(np.ones((1, len(self))))[0])

    def drawn(self, draws: int, seed: int) -> Array:
        """(draws,) values over images drawn with replacement; equal seeds draw equal images."""
        return bootstrap.resampled(len(self), self.of_counts, draws, seed)


def answers_of(results: Sequence[Result], arrays: Arrays) -> dict[str, Answers]:
    """{metric: Answers} of one model from the Results of a task and the predictions that it has kept.

    The task's first metric, and of continuous targets the mean and every group. InputError for predictions of a kind
    whose images cannot be compared one by one.
    """
    kinds: dict[frozenset[str], Callable[[Sequence[Result], Arrays], Iterator[Answers]]] = {
        frozenset({"predicted", "truth", "classes"}): _of_classes,
        frozenset({"scores", "truth", "classes"}): _of_objects,
        frozenset({"predicted", "truth", "names"}): _of_targets,
        frozenset({"predicted", "truth", "errors"}): _of_landmarks,
        frozenset({"confusion", "classes"}): _of_pixels,
        frozenset({"sums", "metrics"}): _of_depth,
    }
    for names, answers in kinds.items():
        if names <= set(arrays):
            return {found.metric: found for found in answers(results, arrays)}
    task = results[0].task
    raise InputError(f"{task} keeps no answer for each test image that models could be compared by")


def _of_sums(table: Array, statistic: bootstrap.Statistic) -> Callable[[Array], Array]:
    return lambda counts: statistic(counts @ table)


def _of_classes(results: Sequence[Result], arrays: Arrays) -> Iterator[Answers]:
    wrong = arrays["predicted"] != arrays["truth"]
    tables = {
        "top1": bootstrap.top1(~wrong),
        "mean_per_class": bootstrap.mean_per_class(~wrong, arrays["truth"]),
    }
    metric = results[0].metric
    yield Answers(metric, "%", "higher", _of_sums(*tables[metric]), wrong.astype(np.float64), wrong)


def _of_objects(results: Sequence[Result], arrays: Arrays) -> Iterator[Answers]:
    """Mean average precision; an image's error is its mean cross-entropy over classes."""
    scores, truth = arrays["scores"].astype(np.float64), arrays["truth"].astype(bool)
    column = multilabel.METRICS.index(results[0].metric)
    margins = np.where(truth, scores, -scores)
    errors = np.logaddexp(0, -margins).mean(1)
    of = lambda counts: multilabel.mean_ap(truth, scores, counts)[:, column]  # noqa: E731
    yield Answers(results[0].metric, "%", "higher", of, errors, biased=True)


def _of_targets(results: Sequence[Result], arrays: Arrays) -> Iterator[Answers]:
    """R2; an image's error is its mean squared residual, each target in units of its variance."""
    predicted, truth = (arrays[name].astype(np.float64) for name in ("predicted", "truth"))
    names = arrays["names"].tolist()
    squares = (predicted - truth) ** 2 / truth.var(0)
    kind = results[0].provenance["targets"]
    for r in (r for r in results if r.metric == "mean" or len(r.provenance[kind]) > 1):  # not every single target
        columns = [names.index(name) for name in r.provenance[kind]]
        table, statistic = bootstrap.r2(truth[:, columns], predicted[:, columns])
        yield Answers(r.metric, "R2", "higher", _of_sums(table, statistic), squares[:, columns].mean(1))


def _of_landmarks(results: Sequence[Result], arrays: Arrays) -> Iterator[Answers]:
    """Mean error; images without one (no landmark, no distance of the eyes) do not count."""
    errors, counted = np.nan_to_num(arrays["errors"]), ~np.isnan(arrays["errors"])
    table = np.stack([errors, counted.astype(np.float64)], axis=1)
    mean = lambda sums: sums[..., 0] / sums[..., 1]  # noqa: E731
    yield Answers(results[0].metric, "%", "lower", _of_sums(table, mean), errors)


def _of_pixels(results: Sequence[Result], arrays: Arrays) -> Iterator[Answers]:
    """Mean IoU; an image's error is the share of its pixels that are wrong."""
    confusion = arrays["confusion"].astype(np.float64)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    table = np.concatenate([right, confusion.sum(2), confusion.sum(1)], axis=1)  # (N, 3 K)
    errors = 1 - right.sum(1) / np.maximum(confusion.sum((1, 2)), 1)
    yield Answers("mean_iou", "%", "higher", _of_sums(table, mean_iou), errors)


def _of_depth(results: Sequence[Result], arrays: Arrays) -> Iterator[Answers]:
    """The share of pixels within 25 %; an image's error is its mean relative error."""
    sums, metric = arrays["sums"], "delta<1.25"
    statistic, _, direction = depth_metrics.METRICS[metric]
    errors = sums[:, 5] / np.maximum(sums[:, 0], 1)
    yield Answers(metric, "%", direction, _of_sums(sums, statistic), errors)
