"""Classes never seen, from a few images each: N-way K-shot episodes on frozen features  [Chen 2019; Zhao 2021, §4.1].

Two classifiers see the same episodes: the nearest prototype [Snell 2017, as Ericsson 2021 applies it: nothing is
trained] and a linear classifier fitted for 100 rounds over the support images, whose learning rate is chosen on
validation classes, since the norms of features differ from model to model [Zhao 2021].

`--test` holds the novel classes, `--train` others. Where the training set says how its classes are divided
(mini-imagenet:ROOT:train+val, classes:...), validation classes choose the learning rate and base classes give the
"base" accuracy: a linear readout on a fifth of their images, held out. Where it does not, its classes serve for both.
Classes that are also in the test set serve for neither.

Deviation: the papers resize both sides to 1.15 of the crop; here the shorter side is, and shapes stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer import progress as user
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.images import require_labels
from whytransfer.images.class_splits import VALIDATION, episodes_of, splits_of
from whytransfer.records import Result
from whytransfer.tasks import bootstrap, predictions
from whytransfer.tasks.episodes import Episodes, LinearProtocol, classes_with, draw, fixed, linear, prototypes
from whytransfer.tasks.features import FeatureTable, Progress, extract
from whytransfer.tasks.logistic import stratified_folds
from whytransfer.tasks.readout import data_name, feature_settings, fingerprint_of, logistic_predict, model_name

CLASSIFIERS = ("prototypes", "linear")
WAY, SHOTS, EPISODES, QUERIES = 5, (1, 5), 600, 15  # [Chen 2019]
LRS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # to choose from; the published one is 0.01
HELD_OUT_FOLDS = 5  # a fifth of the base images is held out
_TEST, _VALIDATION = 0, 1  # purposes of episodes


@dataclass(frozen=True)
class FewShot:
    """Few-shot accuracy of frozen features, mean over episodes +- 1.96 standard errors; and of base classes.

    train and test are PixelCaches. `protocol` "prototypes" or "linear" gives that classifier alone, None both and the
    base accuracy; `shot` None gives 1 and 5. A set with episodes of its own (omniglot:ROOT:runs) is scored on those,
    by the error rate, and takes no way, shot or episodes. InputError where too few classes have images enough.
    """

    train: Any
    test: Any
    size_px: int
    protocol: str | None = None
    way: int | None = None
    shot: int | None = None
    episodes: int | None = None
    lr: float | None = None
    seed: int = 0
    batch: int = 256
    stage: str = "vector"
    resize_px: int | None = None
    draws: int = 2000
    folder: Path | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.protocol is not None and self.protocol not in CLASSIFIERS:
            raise unknown_name("few-shot protocol", self.protocol, CLASSIFIERS)
        require_labels(self.test, "few-shot learning")
        if self.resize_px is None:
            object.__setattr__(self, "resize_px", int(1.15 * self.size_px))
        asked = [name for name in ("way", "shot", "episodes") if getattr(self, name) is not None]
        if episodes_of(self.test) and asked:
            raise InputError(f"{self.test.name} comes with episodes of its own: leave out {', '.join(asked)}")
        self._settings(self.seed)  # episodes that cannot be drawn are refused before features are taken

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Extract once, classify every episode; the seed decides episodes, starts of the classifier and folds."""
        seed = self.seed if seed is None else seed
        test = self._features(backbone, self.test)
        train = self._features(backbone, self.train) if self._uses_train() else None
        shared = dict(feature_settings(train or test, test, self.resize_px))
        shared["train_images"] = len(train.vectors) if train else 0
        shared["views"] = (
            f"shorter side {self.resize_px} px, shape kept (the papers: both sides), centre {self.size_px} px"
        )
        for name, episodes in self._settings(seed).items():
            yield from self._scored(backbone, name, episodes, test, train, shared)
        if train is not None and self.protocol is None:
            yield from self._base(backbone, train, seed, shared)

    def _features(self, backbone: nn.Module, images: Any) -> FeatureTable:
        return extract(backbone, images, self.size_px, self.batch, self.stage, self.resize_px, self.progress)

    def _uses_train(self) -> bool:
        """Whether the training set has a part: to choose the learning rate, or for the base accuracy."""
        base, validation = parts_of(self.train, self.test)
        chooses = self.protocol != "prototypes" and self.lr is None and validation.any()
        return bool(chooses or (self.protocol is None and base.any()))

    def _settings(self, seed: int) -> dict[str, Episodes]:
        """Episodes by the name of their task."""
        own = episodes_of(self.test)
        if own:
            episodes = fixed(own, self.test.labels, seed)
            shot = episodes.support.shape[1] // episodes.way
            return {f"fewshot-{episodes.way}way-{shot}shot-published": episodes}
        way, count = self.way or WAY, self.episodes or EPISODES
        shots = (self.shot,) if self.shot else SHOTS
        return {
            f"fewshot-{way}way-{shot}shot": draw(self.test.labels, way, shot, QUERIES, count, seed, _TEST)
            for shot in shots
        }

    def _scored(
        self,
        backbone: nn.Module,
        task: str,
        episodes: Episodes,
        test: FeatureTable,
        train: FeatureTable | None,
        shared: dict[str, Any],
    ) -> Iterator[Result]:
        """One Result per classifier: the accuracy, of published episodes the error."""
        found: dict[str, tuple[Tensor, dict[str, Any]]] = {}
        for name in CLASSIFIERS if self.protocol is None else (self.protocol,):
            started = time.perf_counter()
            if name == "prototypes":
                predicted, chosen = prototypes(test.vectors, episodes), {"distance": "squared Euclidean"}
            else:
                predicted, chosen = self._linear(episodes, test, train)
            found[name] = predicted, {**chosen, "fit_seconds": round(time.perf_counter() - started, 3)}
        where = self._keep(backbone, task, episodes, {name: p for name, (p, _) in found.items()}, shared)
        published = task.endswith("published")
        setting = task.removeprefix("fewshot-").replace("-", "_")  # in the metric too: tables show it, not the task
        for name, (predicted, chosen) in found.items():
            accuracy = 100 * (predicted.cpu().numpy() == episodes.query_labels).mean(1)
            metric = f"{name}_error" if published else f"{name}_{setting}"
            value, half = mean_and_interval(100 - accuracy if published else accuracy)
            told = {**self._told(episodes), "predictions": where}
            yield Result(
                model_name(backbone), data_name(self.train, self.test), task, metric, value, "%",
                "lower" if published else "higher", len(episodes), episodes.seed, value - half, value + half,
                {**shared, **chosen, **told},
            )  # fmt: skip

    def _told(self, episodes: Episodes) -> dict[str, Any]:
        """How many episodes of how many classes, for the provenance."""
        support, query = episodes.support.shape[1], episodes.query.shape[1]
        used, present = classes_with(self.test.labels, (support + query) // episodes.way)
        return {
            "episodes": len(episodes),
            "queries_per_episode": query,
            "classes": len(used),
            "classes_with_too_few_images": present - len(used),
            "interval": "mean +- 1.96 std / sqrt(episodes)",
        }

    def _linear(
        self, episodes: Episodes, test: FeatureTable, train: FeatureTable | None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Class (E, Q) of every query, and how the learning rate came about."""
        lr, chosen = self._lr(episodes, train)
        protocol = LinearProtocol(lr)
        predicted = linear(test.vectors, episodes, (lr,), protocol)[0]
        if (predicted < 0).any():
            norm = float(test.vectors.norm(dim=1).mean())
            raise RunError(
                f"the linear classifier diverged at lr {lr:g} (features have a norm of {norm:.3g} on average). Give a "
                "lower --lr, or validation classes in --train to choose it on."
            )
        return predicted, {"sgd": asdict(protocol), **chosen}

    def _lr(self, episodes: Episodes, train: FeatureTable | None) -> tuple[float, dict[str, Any]]:
        """The learning rate of the best mean accuracy on episodes of validation classes; of equal ones the smallest."""
        if self.lr is not None:
            return self.lr, {"lr_from": "given"}
        _, validation = parts_of(self.train, self.test)
        labels = np.where(validation, self.train.labels, -1)
        shot = episodes.support.shape[1] // episodes.way
        usable = len(classes_with(labels, shot + QUERIES)[0])
        if train is None or usable < 2:
            user.say(
                f"note: {self.train.name} has no validation classes to choose a learning rate on: 0.01 as published"
            )
            return LinearProtocol().lr, {"lr_from": "published"}
        way = min(episodes.way, usable)
        held = draw(labels, way, shot, QUERIES, self.episodes or EPISODES, episodes.seed, _VALIDATION)
        predicted = linear(train.vectors, held, LRS, LinearProtocol()).cpu().numpy()
        scores = 100 * (predicted == held.query_labels).mean((1, 2))
        best = int(scores.argmax())
        told = {"lrs": LRS, "validation_accuracy": [round(float(s), 4) for s in scores], "validation_way": way}
        edge = {"lr_at_edge_of_grid": best in (0, len(LRS) - 1), "validation_classes": usable}
        return LRS[best], {"lr_from": "validation classes", **told, **edge}

    def _base(self, backbone: nn.Module, train: FeatureTable, seed: int, shared: dict[str, Any]) -> Iterator[Result]:
        """Top-1 of a linear readout on held-out images of the base classes; nothing where there are none."""
        base, _ = parts_of(self.train, self.test)
        classes, labels = np.unique(self.train.labels[base], return_inverse=True)
        if len(classes) < 2:
            return
        held = stratified_folds(labels, HELD_OUT_FOLDS, seed) == 0
        out, y, kept = (torch.from_numpy(a).to(train.vectors.device) for a in (held, labels, base))
        x = train.vectors[kept]
        predicted, chosen = logistic_predict(x[~out], y[~out], x[out], len(classes), seed)
        table, statistic = bootstrap.top1((predicted == y[out]).cpu().numpy())
        low, high = bootstrap.interval(table, statistic, self.draws, seed)
        value = float(statistic(table.sum(0)))
        where = predictions.keep(
            self._folder(backbone, "fewshot-base", seed, shared, {}), images=np.flatnonzero(base)[held],
            predicted=classes[predicted.cpu().numpy()], truth=classes[labels[held]],
            classes=np.array(self.train.classes),
        )  # fmt: skip
        told = {
            "base_classes": len(classes), "held_out": "a fifth of every base class", "bootstrap_draws": self.draws,
            "predictions": where,
        }  # fmt: skip
        yield Result(
            model_name(backbone), self.train.name, "fewshot-base", "base_top1", value, "%", "higher", int(held.sum()),
            seed, low, high, {**shared, **chosen, **told},
        )  # fmt: skip

    def _keep(
        self, backbone: nn.Module, task: str, episodes: Episodes, found: dict[str, Tensor], shared: dict[str, Any]
    ) -> str | None:
        """Where the class of every query image is written, or None."""
        settings = {"lr": self.lr, "count": len(episodes), "protocol": self.protocol}
        folder = self._folder(backbone, task, episodes.seed, shared, settings)
        tables = {name: table.cpu().numpy().astype(np.int16) for name, table in found.items()}
        return predictions.keep(
            folder, support=episodes.support, query=episodes.query, truth=episodes.query_labels, **tables
        )

    def _folder(
        self, backbone: nn.Module, task: str, seed: int, shared: dict[str, Any], settings: dict[str, Any]
    ) -> Path | None:
        """Where predictions belong: named by the images' content too, since two folders may be called alike."""
        content = {name: shared[name] for name in ("weights_sha256", "size_px", "resize_px", "stage")}
        content |= {side: str(fingerprint_of(getattr(self, side))) for side in ("train", "test")}
        names = {"model": model_name(backbone), "data": data_name(self.train, self.test), "task": task, "seed": seed}
        return predictions.folder_of(self.folder, "fewshot", {**names, **settings, **content})


def mean_and_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over episodes, and 1.96 standard errors of it (the deviation with n below it, as published)."""
    return float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values)))


def parts_of(train: Any, test: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which training images (N,) are of base classes, and which of validation classes.

    Those of test classes are of neither; where the classes are not divided, all others are of both.
    """
    if not train.classes:
        return np.zeros(len(train), bool), np.zeros(len(train), bool)
    novel = {test.classes[label] for label in np.unique(test.labels) if label >= 0}
    splits = splits_of(train)
    base = [name not in novel and splits.get(name) not in VALIDATION for name in train.classes]
    validation = [name not in novel and (not splits or splits.get(name) in VALIDATION) for name in train.classes]
    return np.array([*base, False])[train.labels], np.array([*validation, False])[train.labels]
