"""Metrics of pixels by class, from one confusion matrix per image: what mmsegmentation calls mIoU, mAcc and aAcc.

Everything here is a function of sums over images, so bootstrap intervals over images cost a matrix product.
Shape letters: N images, K classes, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from whytransfer.tasks import bootstrap

VOID = 255  # the class of a pixel that has none
Array = NDArray[np.float64]


def confusion_of(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int32]:
    """(K, K) pixels by true class (rows) and predicted class; pixels without a class (255) do not count."""
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int32)


def scores(
    confusion: NDArray[np.int32], classes: tuple[str, ...], draws: int, seed: int
) -> Iterator[tuple[str, float, float, float]]:
    """(metric, value, low, high) in % from confusion matrices (N, K, K) of images.

    Means are over the classes that occur: for the accuracy in the truth, for the IoU in truth or prediction, as in
    mmsegmentation. A class that never occurs has no IoU of its own.
    """
    k = len(classes)
    right, true, found = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2), confusion.sum(1)
    table = np.concatenate([right, true, found], axis=1).astype(np.float64)  # (N, 3 K)
    for metric, statistic in (("mean_iou", mean_iou), ("mean_accuracy", mean_accuracy), ("overall_accuracy", accuracy)):
        low, high = bootstrap.interval(table, statistic, draws, seed)
        yield metric, float(statistic(table.sum(0))), low, high
    for c, name in enumerate(classes):
        part = table[:, [c, k + c, 2 * k + c]]
        if part[:, 1:].any():
            low, high = bootstrap.interval(part, mean_iou, draws, seed)
            yield f"iou of {name}", float(mean_iou(part.sum(0))), low, high


def _ratio(above: Array, below: Array) -> Array:
    """Mean over the last axis of above / below in %, where below is over 0; nan where it never is."""
    ratio = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    count = (below > 0).sum(-1)
    return np.divide(100 * np.nansum(ratio, -1), count, out=np.full(count.shape, np.nan), where=count > 0)


def mean_iou(sums: Array) -> Array:
    """Mean over classes of right / (true + found - right), of sums (..., 3 K)."""
    right, true, found = np.split(sums, 3, axis=-1)
    return _ratio(right, true + found - right)


def mean_accuracy(sums: Array) -> Array:
    """Mean over classes of right / true, of sums (..., 3 K)."""
    right, true, _ = np.split(sums, 3, axis=-1)
    return _ratio(right, true)


def accuracy(sums: Array) -> Array:
    """Right pixels among all, of sums (..., 3 K)."""
    right, true, _ = np.split(sums, 3, axis=-1)
    return _ratio(right.sum(-1, keepdims=True), true.sum(-1, keepdims=True))
