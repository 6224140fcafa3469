"""What class information frozen features hold: fit a simple classifier on train, score it on test.

Three protocols share everything else: "logistic" (regularisation path, the default), "knn" and "sgd" (MoCo's).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.errors import InputError, unknown_name
from whytransfer.images import match_classes, require_labels
from whytransfer.records import Result
from whytransfer.tasks import bootstrap, knn, logistic, sgd_readout
from whytransfer.tasks.features import FeatureTable, Progress, extract

# (train features, labels, test features, classes, seed) -> predicted class (M,), what was chosen
Protocol = Callable[[Tensor, Tensor, Tensor, int, int], tuple[Tensor, dict[str, Any]]]
FOLDS = 5


def logistic_predict(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int
) -> tuple[Tensor, dict[str, Any]]:
    """Class (M,) of test features by logistic regression, C chosen over the whole path by 5-fold cross-validation."""
    fit = logistic.fit_path(train, labels, classes, folds=FOLDS, seed=seed)
    members = np.bincount(labels.cpu().numpy(), minlength=classes)
    chosen = {
        "c": fit.c,
        "c_at_edge_of_grid": fit.at_edge,
        "cs": list(fit.cs),
        "cv_accuracy": [round(float(s), 6) for s in fit.scores.mean(1)],
        "cv_std": [round(float(s), 6) for s in fit.scores.std(1)],
        "cs_out_of_iterations": [c for c, done in zip(fit.cs, fit.done, strict=True) if not done],
        "final_fit_converged": fit.final_done,
        "folds": FOLDS,
        "standardised": "mean and std of all training features",
        "classes_with_fewer_images_than_folds": int((members < FOLDS).sum()),
        "path_seconds": round(fit.seconds, 3),
    }
    return fit.predict(test), chosen


PROTOCOLS: dict[str, tuple[str, Protocol]] = {  # name -> (task name in results, protocol)
    "logistic": ("readout", logistic_predict),
    "knn": ("knn", knn.predict),
    "sgd": ("sgd-readout", sgd_readout.predict),
}


@dataclass(frozen=True)
class Readout:
    """Classification from frozen features; run(backbone) yields top-1 and mean per class, with intervals.

    train and test are labelled images (PixelCache), their classes matched by name. InputError where a label is missing,
    the test set has a class that the training set lacks, or fewer than two classes are there.
    resize_px is the shorter side before the centre crop: size_px when None, for "sgd" the paper's 256 / 224 of it.
    """

    train: Any
    test: Any
    size_px: int
    protocol: str = "logistic"
    seed: int = 0
    batch: int = 256
    stage: str = "vector"
    resize_px: int | None = None
    draws: int = 2000
    progress: Progress | None = None
    test_labels: NDArray[np.int64] = field(init=False, repr=False, compare=False)  # in the train set's class order

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_name("readout protocol", self.protocol, PROTOCOLS)
        for images in (self.train, self.test):
            require_labels(images, "a readout")
        if self.protocol == "sgd" and self.resize_px is None:
            object.__setattr__(self, "resize_px", sgd_readout.resize_px(self.size_px))
        object.__setattr__(self, "test_labels", match_classes(self.test, self.train.classes))

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Extract, fit, score; the seed decides folds, initial weights and bootstrap draws."""
        seed = self.seed if seed is None else seed
        take = lambda images: extract(  # noqa: E731
            backbone, images, self.size_px, self.batch, self.stage, self.resize_px, self.progress
        )
        train, test = take(self.train), take(self.test)
        task, protocol = PROTOCOLS[self.protocol]
        started = time.perf_counter()
        predicted, chosen = protocol(train.vectors, train.labels, test.vectors, len(self.train.classes), seed)
        provenance = {**self._settings(train, test), **chosen, "fit_seconds": round(time.perf_counter() - started, 3)}
        correct = predicted.cpu().numpy() == self.test_labels
        for metric, (table, statistic) in {
            "top1": bootstrap.top1(correct),
            "mean_per_class": bootstrap.mean_per_class(correct, self.test_labels),
        }.items():
            low, high = bootstrap.interval(table, statistic, self.draws, seed)
            value = float(statistic(table.sum(0)))
            yield Result(
                model_name(backbone), data_name(self.train, self.test), task, metric, value, "%", "higher",
                len(correct), seed, low, high, provenance,
            )  # fmt: skip

    def _settings(self, train: FeatureTable, test: FeatureTable) -> dict[str, Any]:
        features = feature_settings(train, test, self.resize_px)
        return {**features, "protocol": self.protocol, "bootstrap_draws": self.draws}


def model_name(backbone: nn.Module) -> str:
    """The string that names the backbone, else its architecture."""
    return getattr(backbone, "spec", "") or getattr(backbone, "arch", type(backbone).__name__)


def data_name(train: Any, test: Any) -> str:
    """Train and test set in one name."""
    return train.name if train.name == test.name else f"{train.name} -> {test.name}"


def feature_settings(train: FeatureTable, test: FeatureTable, resize_px: int | None) -> Mapping[str, Any]:
    """What features were used and the proof that the backbone stayed frozen, for a Result's provenance."""
    if train.weights_sha256 != test.weights_sha256:
        raise InputError("the backbone changed between train and test features: it is not frozen")
    return {
        "stage": train.stage,
        "features": train.vectors.shape[1],
        "size_px": train.size_px,
        "resize_px": resize_px or train.size_px,
        "train_images": len(train.vectors),
        "frozen": True,
        "weights_sha256": train.weights_sha256,
        "feature_seconds": round(train.seconds + test.seconds, 3),
        "torch": torch.__version__,
    }
