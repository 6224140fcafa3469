"""What class information frozen features hold: fit a simple classifier on train, score it on test.

Three classifiers share everything else: "logistic" (regularisation path, the default), "knn" and "sgd" (MoCo's).
Images of several classes (VOC, COCO: those of their objects) are read out one class against the rest. A published
protocol, by its name, replaces the logistic path by what its paper's scripts do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.errors import InputError, unknown_name
from whytransfer.images import labelled_with, match_classes, require_labels
from whytransfer.images.targets import box_classes
from whytransfer.records import Result
from whytransfer.tasks import bicubic, bootstrap, knn, logistic, multilabel, predictions, protocols, sgd_readout
from whytransfer.tasks.features import FeatureTable, Progress, Take, extract
from whytransfer.tasks.labels import Share, folds_of, shares_of

# (train features, labels, test features, classes, seed) -> predicted class (M,), what was chosen
Classifier = Callable[[Tensor, Tensor, Tensor, int, int], tuple[Tensor, dict[str, Any]]]
Fitted = tuple[NDArray[Any], dict[str, Any]]  # what is said of the test images, what was chosen
Scores = dict[str, tuple[float, float, float]]  # metric -> value, ends of its interval
FOLDS = 5


def logistic_predict(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int
) -> tuple[Tensor, dict[str, Any]]:
    """Class (M,) of test features by logistic regression, C chosen over the whole path by 5-fold cross-validation.

    Fewer than five images make as many folds as they are.
    """
    folds = folds_of(len(labels), FOLDS)
    fit = logistic.fit_path(train, labels, classes, folds=folds, seed=seed)
    members = np.bincount(labels.cpu().numpy(), minlength=classes)
    few = {"classes_with_fewer_images_than_folds": int((members < folds).sum())}
    return fit.predict(test), {**_of_path(fit, "cv_accuracy"), **few}


def _of_path(fit: logistic.Fit, score: str) -> dict[str, Any]:
    """How C was chosen, for a Result's provenance."""
    return {
        "c": fit.c,
        "c_at_edge_of_grid": fit.at_edge,
        "cs": list(fit.cs),
        score: [round(float(s), 6) for s in fit.scores.mean(1)],
        "cv_std": [round(float(s), 6) for s in fit.scores.std(1)],
        "cs_out_of_iterations": [c for c, done in zip(fit.cs, fit.done, strict=True) if not done],
        "final_fit_converged": fit.final_done,
        "folds": fit.scores.shape[1],
        "standardised": "mean and std of all training features",
        "path_seconds": round(fit.seconds, 3),
    }


CLASSIFIERS: dict[str, tuple[str, Classifier]] = {  # name -> (task name in results, classifier)
    "logistic": ("readout", logistic_predict),
    "knn": ("knn", knn.predict),
    "sgd": ("sgd-readout", sgd_readout.predict),
}


class _Kind(Protocol):
    """What is read out: one class per image, or the classes of its objects."""

    targets: ClassVar[str]

    @property
    def test(self) -> NDArray[Any]: ...  # what is true of the test images
    def strata(self) -> NDArray[np.int64]: ...  # what shares of the labels are balanced by
    def fit(self, train: Tensor, rows: NDArray[np.int64], test: Tensor, seed: int) -> Fitted: ...
    def published_fit(
        self, name: str, train: Tensor, rows: NDArray[np.int64], test: Tensor, decays: NDArray[np.float64], seed: int
    ) -> Fitted: ...
    def scores(self, answer: NDArray[Any], draws: int, seed: int, protocol: str | None) -> Scores: ...
    def kept(self, answer: NDArray[Any]) -> dict[str, Any]: ...  # for whoever asks which images were wrong


@dataclass(frozen=True)
class Classes:
    """One class per image; labels of both sets in the training set's order of classes."""

    targets: ClassVar[str] = "class"
    data: str
    names: Sequence[str]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    classifier: str

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.names)

    def strata(self) -> NDArray[np.int64]:
        """The classes."""
        return self.train

    def fit(self, train: Tensor, rows: NDArray[np.int64], test: Tensor, seed: int) -> Fitted:
        """Class (M,) of the test images."""
        labels = torch.from_numpy(self.train[rows]).to(train.device)
        predicted, chosen = CLASSIFIERS[self.classifier][1](train, labels, test, len(self.names), seed)
        return predicted.cpu().numpy(), chosen

    def published_fit(
        self, name: str, train: Tensor, rows: NDArray[np.int64], test: Tensor, decays: NDArray[np.float64], seed: int
    ) -> Fitted:
        """Class (M,) as a paper's scripts would have it."""
        x, metric = train.cpu().numpy(), protocols.metric_of(name, self.data)
        model, chosen = protocols.choose_and_fit(name, x, self.train[rows], decays, metric, seed)
        return model.predict(test.cpu().numpy()), chosen

    def scores(self, answer: NDArray[Any], draws: int, seed: int, protocol: str | None) -> Scores:
        """top1 and mean_per_class in %, the protocol's own metric first."""
        correct = answer == self.test
        tables = {
            "top1": bootstrap.top1(correct),
            "mean_per_class": bootstrap.mean_per_class(correct, self.test),
        }
        first = protocols.metric_of(protocol, self.data) if protocol else "top1"
        found = {}
        for metric in sorted(tables, key=lambda m: m != first):
            table, statistic = tables[metric]
            ends = bootstrap.interval(table, statistic, draws, seed)
            found[metric] = (float(statistic(table.sum(0))), *ends)
        return found

    def kept(self, answer: NDArray[Any]) -> dict[str, Any]:
        """Predicted and true class of each test image, and the names of the classes."""
        return {"predicted": answer, "truth": self.test, "classes": np.array(self.names)}


@dataclass(frozen=True)
class Objects:
    """The classes of an image's objects, (N, C) and (M, C) in the training set's order of classes."""

    targets: ClassVar[str] = "objects"
    names: Sequence[str]
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.names)

    def strata(self) -> NDArray[np.int64]:
        """The rarest class of each image."""
        return multilabel.strata(self.train)

    def fit(self, train: Tensor, rows: NDArray[np.int64], test: Tensor, seed: int) -> Fitted:
        """Scores (M, C) of the test images."""
        fit = multilabel.fit_path(train, self.train[rows], folds=folds_of(len(rows), FOLDS), seed=seed)
        return fit.logits(test).double().cpu().numpy(), {**_of_path(fit, "cv_mean_ap_area"), **self._classes(rows)}

    def published_fit(
        self, name: str, train: Tensor, rows: NDArray[np.int64], test: Tensor, decays: NDArray[np.float64], seed: int
    ) -> Fitted:
        """Scores (M, C) as ssl-transfer's script would have them."""
        arrays = train.cpu().numpy(), self.train[rows], test.cpu().numpy()
        answer, chosen = protocols.one_vs_rest(*arrays, decays, seed)
        return answer, {**chosen, **self._classes(rows)}

    def scores(self, answer: NDArray[Any], draws: int, seed: int, protocol: str | None) -> Scores:
        """Mean average precision in %, by area and at eleven points; a protocol's own version first."""
        values = multilabel.mean_ap(self.test, answer)[0]
        low, high = multilabel.intervals(self.test, answer, draws, seed)
        order = (2, 1, 0) if protocol else (0, 1)
        return {multilabel.METRICS[k]: (float(values[k]), float(low[k]), float(high[k])) for k in order}

    def kept(self, answer: NDArray[Any]) -> dict[str, Any]:
        """Score and presence of each class in each test image, and the names of the classes."""
        return {"scores": answer.astype(np.float32), "truth": self.test, "classes": np.array(self.names)}

    def _classes(self, rows: NDArray[np.int64]) -> dict[str, int]:
        seen, there = self.train[rows].any(0), self.test.any(0)
        return {"classes_scored": int(there.sum()), "of_them_without_training_image": int((there & ~seen).sum())}


@dataclass(frozen=True)
class Readout:
    """Classification from frozen features; run(backbone) yields its metrics with intervals, for each share of labels.

    train and test are labelled images (PixelCache), their classes matched by name: top-1 and mean per class. Sets
    without a class per image but with objects in boxes give mean average precision (`of` "objects" asks for it).
    InputError where a label is missing, the test set has a class that the training set lacks, or fewer than two
    classes are there. resize_px is the shorter side before the centre crop: size_px when None, for "sgd" the paper's
    256 / 224 of it. `protocol` is one of protocols.PUBLISHED, `labels` per cent of the training labels, `folder`
    where predictions are kept, `taken_by` what takes the features (a FeatureBank remembers them).
    """

    train: Any
    test: Any
    size_px: int
    classifier: str = "logistic"
    seed: int = 0
    batch: int = 256
    stage: str = "vector"
    resize_px: int | None = None
    draws: int = 2000
    progress: Progress | None = None
    protocol: str | None = None
    labels: tuple[float, ...] | None = None
    folder: Path | None = None
    of: Literal["class", "objects"] | None = None
    taken_by: Take = extract
    kind: _Kind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise unknown_name("readout classifier", self.classifier, CLASSIFIERS)
        if self.classifier == "sgd" and self.resize_px is None:
            object.__setattr__(self, "resize_px", sgd_readout.resize_px(self.size_px))
        by_objects = not self.train.classes and "boxes" in labelled_with(self.train)
        kind = self._objects() if (self.of or ("objects" if by_objects else "class")) == "objects" else self._classes()
        object.__setattr__(self, "kind", kind)
        if self.protocol is not None:
            many = ("ssl-transfer", "ssl-invariances") if isinstance(kind, Classes) else ("ssl-transfer",)
            protocols.published(self.protocol, many if self.classifier == "logistic" else ())

    def _classes(self) -> Classes:
        for images in (self.train, self.test):
            require_labels(images, "a readout")
        test = match_classes(self.test, self.train.classes)
        return Classes(self.train.name, self.train.classes, self.train.labels, test, self.classifier)

    def _objects(self) -> Objects:
        if self.classifier != "logistic":
            raise InputError(
                f"{CLASSIFIERS[self.classifier][0]} needs one class per image, and {self.train.name} has images of "
                "several: --task readout reads each class against the rest"
            )
        names = box_classes(self.train)
        train, test = multilabel.label_matrix(self.train), multilabel.label_matrix(self.test)
        return Objects(names, train, multilabel.matched(test, self.test, names))

    @property
    def test_labels(self) -> NDArray[Any]:
        """What is true of the test images, in the training set's order of classes."""
        return self.kind.test

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Extract once; fit and score for every share of labels; the seed decides folds, shares, weights and draws."""
        seed = self.seed if seed is None else seed
        published = None if self.protocol is None else protocols.PUBLISHED[self.protocol]
        shares = shares_of(self.kind.strata(), self.labels, seed)  # an impossible one is refused before the work
        views = bicubic.centre_views if published and published.resampling == "bicubic" else None
        take = lambda images: self.taken_by(  # noqa: E731
            backbone, images, self.size_px, self.batch, self.stage, self.resize_px, self.progress, views
        )
        train, test = take(self.train), take(self.test)
        settings = self._settings(train, test)
        for share in shares:
            started = time.perf_counter()
            vectors = share.of(train.vectors)
            if self.protocol is None:
                answer, chosen = self.kind.fit(vectors, share.rows, test.vectors, seed)
            else:
                decays = protocols.weight_decays(backbone, self.protocol)
                answer, chosen = self.kind.published_fit(self.protocol, vectors, share.rows, test.vectors, decays, seed)
            seconds = {"fit_seconds": round(time.perf_counter() - started, 3)}
            yield from self._results(backbone, answer, share, seed, {**settings, **chosen, **seconds})

    def _results(
        self, backbone: nn.Module, answer: NDArray[Any], share: Share, seed: int, provenance: dict[str, Any]
    ) -> Iterator[Result]:
        task = CLASSIFIERS[self.classifier][0]
        provenance |= share.provenance()
        keep = predictions_folder(self, task, backbone, seed, {**provenance, "percent": share.percent})
        provenance["predictions"] = predictions.keep(keep, **self.kind.kept(answer))
        for metric, (value, low, high) in self.kind.scores(answer, self.draws, seed, self.protocol).items():
            yield Result(
                model_name(backbone), data_name(self.train, self.test, share), task, metric, value, "%", "higher",
                len(answer), seed, low, high, provenance,
            )  # fmt: skip

    def _settings(self, train: FeatureTable, test: FeatureTable) -> dict[str, Any]:
        features = feature_settings(train, test, self.resize_px)
        how = {} if self.protocol is None else protocols.settings(self.protocol, self.size_px)
        own = {"classifier": self.classifier, "targets": self.kind.targets, "bootstrap_draws": self.draws}
        return {**features, **own, **how}


def model_name(backbone: nn.Module) -> str:
    """The string that names the backbone, else its architecture."""
    return getattr(backbone, "spec", "") or getattr(backbone, "arch", type(backbone).__name__)


def data_name(train: Any, test: Any, share: Share | None = None) -> str:
    """Train and test set in one name, with the share of the training labels where it is not all of them."""
    name = train.name if share is None else share.named(train.name)
    return name if name == test.name else f"{name} -> {test.name}"


def predictions_folder(task: Any, name: str, backbone: nn.Module, seed: int, what: Mapping[str, Any]) -> Path | None:
    """Where the predictions of one fit of a task belong: named by the images, the weights and all settings."""
    decides = ("weights_sha256", "size_px", "resize_px", "stage", "protocol", "targets", "percent")
    content = {side: str(fingerprint_of(getattr(task, side))) for side in ("train", "test")}
    settings = {**content, "model": model_name(backbone), "seed": seed, **{key: what.get(key) for key in decides}}
    return predictions.folder_of(task.folder, name, settings)


def fingerprint_of(images: Any) -> str:
    """Of a PixelCache, which holds it, or of an ImageSet, which computes it; the name of what has none."""
    mark = getattr(images, "fingerprint", images.name)
    return mark() if callable(mark) else mark


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
