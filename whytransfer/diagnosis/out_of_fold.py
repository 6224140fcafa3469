"""What a readout reaches on pictures that have no test set: each is predicted by a readout that has not seen it.

The pictures are divided into folds, a share of every class in each; those of a fold are predicted by a readout fitted
on the others, or on a share of their labels. So all pictures test, and every backbone is tested on the same ones.
The readout is that of the task `readout` with fewer strengths of regularisation (one per decade) and inner folds
(three): a small set is read out in seconds, and both choices are made without the pictures that are predicted.

Each prediction is of a picture that was not trained on, but readouts of two folds share most of their pictures, so what
they have in common by chance does not cancel, and an interval over pictures alone is too narrow. WIDEN is the usual
remedy, one more term in the variance [Nadeau & Bengio 2003, "Inference for the generalization error"].
Letters: N pictures, D features, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.tasks import logistic
from whytransfer.tasks.labels import folds_of, part_of

FOLDS, INNER_FOLDS = 5, 3
CS = logistic.CS[::4]  # one per decade
FEWEST = 10  # pictures
WIDEN = math.sqrt(1 + FOLDS / (FOLDS - 1))  # of standard errors: 1 / J + test / training for 1 / J of J folds

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class OutOfFold:
    """Predicted class (N,) of every picture for each per cent of the labels, and the readouts of all labels."""

    labels: Labels  # (N,)
    fold: Labels  # (N,) which readout has not seen the picture
    predicted: dict[float, Labels]  # {per cent: (N,)}
    images: dict[float, float]  # {per cent: pictures that a readout was fitted on, mean over the folds}
    readouts: tuple[logistic.Fit, ...]  # one per fold, fitted on all other pictures

    def correct(self, percent: float = 100) -> NDArray[np.bool_]:
        """(N,) whether each picture is predicted right."""
        return self.predicted[percent] == self.labels

    def of_others(self, features: Tensor, of: Labels) -> NDArray[np.bool_]:
        """(M,) whether other views of pictures, features (M, D) of pictures `of` (M,), are predicted right."""
        right = np.zeros(len(of), dtype=bool)
        for f, readout in enumerate(self.readouts):
            rows = np.flatnonzero(self.fold[of] == f)
            right[rows] = readout.predict(features[rows]).cpu().numpy() == self.labels[of[rows]]
        return right


def folds_for(labels: Labels, seed: int) -> Labels:
    """(N,) which of 5 folds each picture is in: every class of two pictures or more is in the training of all of them.

    InputError for fewer than 10 pictures, fewer than two classes, and a class of one picture.
    """
    sizes = np.bincount(labels)
    if len(labels) < FEWEST or np.count_nonzero(sizes) < 2 or (sizes == 1).any():
        raise InputError(
            f"{len(labels)} pictures in classes of {', '.join(map(str, sizes[:5]))}: at least {FEWEST} in two classes "
            "of two are needed to fit on some and test on others. Label more."
        )
    return logistic.stratified_folds(labels, FOLDS, seed)


def out_of_fold(
    features: Tensor,
    labels: Labels,
    fold: Labels,
    percents: Sequence[float] = (100,),
    seed: int = 0,
    tick: Callable[[int], object] = lambda pictures: None,
) -> OutOfFold:
    """Fit and predict fold by fold; features (N, D) float, labels (N,) in 0..K-1, tick(n) after a fit of n pictures.

    Shares of the labels are those of `tasks.labels`: stratified, nested, one picture per class at least. All labels are
    always among them. InputError for a share that is not over 0 and at most 100.
    """
    percents = tuple(dict.fromkeys((*map(float, percents), 100.0)))
    if not all(0 < percent <= 100 for percent in percents):
        raise InputError(
            f"shares are per cent of the labels, over 0 and at most 100: got {', '.join(map(str, percents))}"
        )
    classes = int(labels.max()) + 1
    predicted = {percent: np.empty(len(labels), np.int64) for percent in percents}
    counts: dict[float, list[int]] = {percent: [] for percent in percents}
    readouts = []
    for f in range(int(fold.max()) + 1):
        held, rest = np.flatnonzero(fold == f), np.flatnonzero(fold != f)
        for percent in percents:
            rows = rest if percent == 100 else rest[part_of(labels[rest], percent, seed + f)]
            fit = _fit(features[rows], labels[rows], classes, seed)
            predicted[percent][held] = fit.predict(features[held]).cpu().numpy()
            counts[percent].append(len(rows))
            tick(len(rows))
            if percent == 100:
                readouts.append(fit)
    return OutOfFold(labels, fold, predicted, {p: float(np.mean(n)) for p, n in counts.items()}, tuple(readouts))


def _fit(features: Tensor, labels: Labels, classes: int, seed: int) -> logistic.Fit:
    targets = torch.from_numpy(labels).to(features.device)
    return logistic.fit_path(features, targets, classes, CS, folds_of(len(labels), INNER_FOLDS), seed)


def largest_class(labels: Labels, fold: Labels) -> NDArray[np.bool_]:
    """(N,) what is right by always saying the largest class of the other folds: nothing was learned."""
    right = np.zeros(len(labels), dtype=bool)
    for f in range(int(fold.max()) + 1):
        held = fold == f
        right[held] = labels[held] == np.bincount(labels[~held]).argmax()
    return right
