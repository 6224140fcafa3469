"""Where the landmarks of an object are, by a small head on the spatial output of a backbone  [Zhao 2021, §4.2].

The head is theirs: a 1x1 convolution to 128 channels, batch norm and leaky ReLU, and a fully connected layer to the
coordinates; all layers are trained ("finetune", theirs) or the head alone ("frozen", the backbone in eval mode).
Theirs, too, are 200 epochs, batch 128 and learning rate 0.02. What they do not tell is chosen here: SGD with momentum
0.9 and a cosine, Huber's loss of coordinates standardised by mean and deviation of the training set, no augmentation
(a flip would exchange left and right points).

Images are seen from the shorter side and the centre; points outside that square are kept and counted.
Letters: N images, P landmarks.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer import progress as user
from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.images.keypoints import KeypointTable, keypoint_table
from whytransfer.records import Features, Result
from whytransfer.tasks import bootstrap, predictions
from whytransfer.tasks.features import Progress
from whytransfer.tasks.fitting import Schedule, batch_of, fit, in_batches, trainable
from whytransfer.tasks.readout import data_name, model_name
from whytransfer.views.engine import eval_views

MODES = ("finetune", "frozen")
EPOCHS = 200
SCHEDULES = {"mafl": Schedule(29_688, 128, 0.02, "cosine", momentum=0.9)}  # 200 epochs of its 19,000 images
CHANNELS = 128
FAILURES = (8, 10)  # per cent of the inter-ocular distance over which an image counts as failed
MAPS_BYTES = 2 << 30  # of frozen maps held at a time; more are made again at every step
Inputs = Callable[[NDArray[np.int64]], Tensor]  # positions in a set -> what the trained module takes


class Head(nn.Module):
    """(B, C, h, w) -> (B, 2 P) pixels of the view; what is learnt is the deviation from the mean landmarks."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, int, int], mean: Tensor, std: Tensor):
        super().__init__()
        channels, height, width = shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, CHANNELS, 1, bias=False),  # its bias would be that of the batch norm
            nn.BatchNorm2d(CHANNELS),
            nn.LeakyReLU(),
            nn.Flatten(),
            nn.Linear(CHANNELS * height * width, len(mean)),
        )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, maps: Tensor) -> Tensor:
        return self.mean + self.std * self.layers(maps)

    def loss(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Mean of Huber's loss over the known coordinates, in standard deviations; NaN marks a missing one.

        A plain squared error has no minimum that SGD at a rate of 0.02 stays in: thousands of inputs of unit variance
        meet in each output, so a step overshoots. Here it overshoots by a bounded amount until the rate has fallen.
        """
        known = ~truth.isnan()
        error = (predicted - truth.nan_to_num()) / self.std
        return nn.functional.huber_loss(
            error * known, torch.zeros_like(error), reduction="sum"
        ) / known.sum().clamp_min(1)


class Net(nn.Module):
    """A backbone and its head, trained together: (B, 3, S, S) in [0, 1] -> (B, 2 P)."""

    def __init__(self, backbone: nn.Module, head: Head, stage: str | None):
        super().__init__()
        self.backbone, self.head, self.stage = backbone, head, stage

    def forward(self, images: Tensor) -> Tensor:
        return self.head(map_of(self.backbone(images), self.stage))


@dataclass(frozen=True)
class Landmarks:
    """Landmarks by a head on a backbone's map; run(backbone) yields the error, failure rates and R2, with intervals.

    train and test are PixelCaches of sets with landmarks. The error is in per cent of the distance between the eyes
    (`error_inter_ocular`); where a set has none, of the view's diagonal (`error_diagonal`), which is no substitute for
    it. InputError for sets without landmarks or with different ones.
    """

    train: Any
    test: Any
    size_px: int
    mode: str = "finetune"
    schedule: str = "mafl"
    budget: float = 1.0
    fit_batch: int | None = None
    lr: float | None = None
    stage: str | None = None
    seed: int = 0
    batch: int = 256
    resize_px: int | None = None
    draws: int = 2000
    folder: Path | None = None
    progress: Progress | None = None
    tables: tuple[KeypointTable, KeypointTable] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("mode of landmarks", self.mode, MODES)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule of landmarks", self.schedule, SCHEDULES)
        if self.fit_batch == 1:
            raise InputError("landmarks are fitted through batch norm, which needs a --fit-batch of 2 or more")
        tables = tuple(keypoint_table(images, self.size_px, self.resize_px) for images in (self.train, self.test))
        points = [table.points.shape[1] for table in tables]
        if points[0] != points[1]:
            raise InputError(f"the training images have {points[0]} landmarks and the test images {points[1]}")
        for table, images in zip(tables, (self.train, self.test), strict=True):
            if note := table.note(images.name):
                user.say(f"note: {note}")
        object.__setattr__(self, "tables", tables)

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Fit and score; the seed decides the head's start, the order of images and the bootstrap draws."""
        seed = self.seed if seed is None else seed
        before, was_training = fingerprint(backbone), backbone.training
        asked, schedule = self._schedules()
        if told := schedule.told(asked):
            user.say(f"note: landmarks: {told}")
        folder = predictions.folder_of(self.folder, "landmarks", self._names(backbone, before, seed, schedule))
        backbone.eval()
        predicted, summary = self._fitted(backbone, schedule, folder, seed)
        backbone.train(was_training)
        if (after := fingerprint(backbone)) != before:
            raise RunError(f"the backbone changed while landmarks were fitted: {before[:12]} became {after[:12]}")
        truth = self.tables[1].points.astype(np.float64)
        errors = image_errors(truth, predicted, self.tables[1])
        kept = {"predicted": predicted.astype(np.float32), "truth": self.tables[1].points, "errors": errors}
        where = predictions.keep(folder, **kept)
        shared = {**self._told(told), **summary, "weights_sha256": before, "predictions": where}
        task = "landmarks" if self.mode == "finetune" else "landmarks-frozen"
        for metric, unit, direction, n, (table, statistic), more in scores(truth, predicted, self.tables[1]):
            low, high = bootstrap.interval(table, statistic, self.draws, seed)
            value = float(statistic(table.sum(0)))
            yield Result(
                model_name(backbone), data_name(self.train, self.test), task, metric, value, unit, direction, n, seed,
                low, high, {**shared, **more},
            )  # fmt: skip

    def _schedules(self) -> tuple[Schedule, Schedule]:
        """The paper's epochs over these images, and what is run of them."""
        published = SCHEDULES[self.schedule]
        iterations = max(1, round(EPOCHS * len(self.train) / published.batch))
        asked = dataclasses.replace(published, iterations=iterations)
        schedule = asked.scaled(self.budget, self.fit_batch)
        return asked, schedule if self.lr is None else dataclasses.replace(schedule, lr=self.lr)

    def _fitted(
        self, backbone: nn.Module, schedule: Schedule, folder: Path | None, seed: int
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Landmarks (N, P, 2) of the test images, and what was done to get them."""
        device = next(backbone.parameters()).device
        head = self._head(backbone, seed).to(device)
        truth = torch.from_numpy(self.tables[0].points).flatten(1).to(device)  # (N, 2 P)
        if self.mode == "finetune":
            module: nn.Module = trainable(Net(copy.deepcopy(backbone), head, self.stage))
            seen, asked = self._views(self.train, device), self._views(self.test, device)
        else:
            module = head
            seen, asked = (self._maps(backbone, images, device) for images in (self.train, self.test))

        def batch_at(t: int) -> tuple[Tensor, Tensor]:
            index, _ = batch_of(seed, t, len(self.train), schedule.batch)
            return seen(index), truth[torch.from_numpy(index).to(device)]

        summary = fit(
            module.train(),
            batch_at,
            lambda batch: head.loss(module(batch[0]), batch[1]),
            schedule,
            folder=folder,
            label=f"landmarks of {model_name(backbone)}",
        )
        module.eval()
        with torch.inference_mode():
            parts = [module(asked(np.array(rows))) for rows in in_batches(len(self.test), self.batch)]
        return torch.cat(parts).reshape(len(self.test), -1, 2).double().cpu().numpy(), summary

    def _head(self, backbone: nn.Module, seed: int) -> Head:
        """A fresh head for the backbone's map, which one image tells the size of."""
        device = next(backbone.parameters()).device
        with torch.inference_mode():
            _, c, h, w = map_of(backbone(self._views(self.train, device)(np.arange(1))), self.stage).shape
        points = self.tables[0].points.reshape(len(self.train), -1).astype(np.float64)
        if np.isnan(points).all(0).any():
            raise InputError(f"{self.train.name}: a landmark is missing in every image, so it cannot be learnt")
        mean, std = np.nanmean(points, axis=0), np.nanstd(points, axis=0)
        std[std < 1e-6 * self.size_px] = 1.0  # a point that never moves
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Head((c, h, w), torch.tensor(mean).float(), torch.tensor(std).float())

    def _views(self, images: Any, device: torch.device) -> Inputs:
        def views(index: NDArray[np.int64]) -> Tensor:
            made = eval_views([images.pixels(int(i)) for i in index], self.size_px, self.resize_px)
            return made.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)

        return views

    def _maps(self, backbone: nn.Module, images: Any, device: torch.device) -> Inputs:
        """The frozen backbone's maps: made once where they fit into MAPS_BYTES, else whenever they are asked for."""
        views = self._views(images, device)

        def maps(index: NDArray[np.int64]) -> Tensor:
            parts = np.split(index, range(self.batch, len(index), self.batch))
            with torch.inference_mode():
                made = [map_of(backbone(views(part)), self.stage) for part in parts]
            return torch.cat(made).clone()  # out of inference mode

        if maps(np.arange(1)).nbytes * len(images) > MAPS_BYTES:
            return maps
        held = []
        for rows in in_batches(len(images), self.batch):
            held.append(maps(np.array(rows)))
            if self.progress is not None:
                self.progress(rows.stop, len(images))
        table = torch.cat(held)
        return lambda index: table[torch.from_numpy(index).to(device)]

    def _names(self, backbone: nn.Module, weights: str, seed: int, schedule: Schedule) -> dict[str, Any]:
        """Everything that decides the fit."""
        content = [str(_content(images)) for images in (self.train, self.test)]
        own = {name: getattr(self, name) for name in ("mode", "stage", "size_px", "resize_px")}
        names = {"model": model_name(backbone), "weights": weights, "content": content, "seed": seed}
        return {**names, **own, **dataclasses.asdict(schedule)}

    def _told(self, scaled: str) -> dict[str, Any]:
        """For the provenance: how it was fitted, and what the landmarks lacked."""
        train, test = self.tables
        return {
            "mode": self.mode,
            "frozen": self.mode == "frozen",
            "stage": self.stage or "map",
            "size_px": self.size_px,
            "resize_px": self.resize_px or self.size_px,
            "train_images": len(self.train),
            "scaled_down": scaled or None,
            "head": f"1x1 convolution to {CHANNELS}, batch norm, leaky ReLU, fully connected",
            "loss": "Huber, of standardised coordinates",
            "augmentation": "none",
            "error_over": eyes_told(test),
            "landmarks_missing": [train.missing, test.missing],
            "landmarks_outside_the_view": [train.outside, test.outside],
            "bootstrap_draws": self.draws,
        }


Score = tuple[str, str, Literal["higher", "lower"], int, tuple[bootstrap.Array, bootstrap.Statistic], dict[str, Any]]


def scores(truth: NDArray[np.float64], predicted: NDArray[np.float64], table: KeypointTable) -> Iterator[Score]:
    """(metric, unit, direction, n, sums and statistic, provenance) of landmarks (N, P, 2) in pixels.

    An image's error is the mean over its known points; images without an eye distance have none, and are counted. R2 is
    over the images whose every point is known.
    """
    errors = image_errors(truth, predicted, table)
    counted = ~np.isnan(errors)
    if not counted.any():
        raise InputError("no test image has a known landmark and a distance between its eyes: nothing can be scored")
    error = errors[counted]
    left_out = {"images_without_error": int((~counted).sum())}
    metric = "error_inter_ocular" if table.eyes else "error_diagonal"
    yield metric, "%", "lower", len(error), mean_of(error), left_out
    if table.eyes:
        for limit in FAILURES:
            failed = np.where(error > limit, 100.0, 0.0)
            yield f"failures_over_{limit}", "%", "lower", len(error), mean_of(failed), left_out
    whole = ~np.isnan(truth[..., 0]).any(1)
    truth, predicted = truth[whole].reshape(whole.sum(), -1), predicted[whole].reshape(whole.sum(), -1)
    moving = np.ptp(truth, axis=0) > 0 if len(truth) else np.zeros(0, bool)
    if moving.any():
        told = {"images_with_every_point": len(truth), "targets": int(moving.sum())}
        yield "r2", "R2", "higher", len(truth), bootstrap.r2(truth[:, moving], predicted[:, moving]), told


def image_errors(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], table: KeypointTable
) -> NDArray[np.float64]:
    """(N,) mean distance of an image's known points, in % of that of its eyes or of the diagonal; NaN without these."""
    known = ~np.isnan(truth[..., 0])
    distances = np.linalg.norm(predicted - truth, axis=2)
    mean = np.nansum(distances, axis=1) / np.maximum(known.sum(1), 1)  # (N,) pixels
    scale = table.eye_distances() if table.eyes else np.full(len(truth), table.size_px * np.sqrt(2))
    counted = known.any(1) & (scale > 0)
    return np.divide(100 * mean, scale, out=np.full(len(truth), np.nan), where=counted)


def eyes_told(table: KeypointTable) -> str:
    """What the error is divided by, in words: inter-ocular means several things."""
    if not table.eyes:
        return "the diagonal of the view"
    if all(len(eye) == 1 for eye in table.eyes):
        return f"the distance between points {table.eyes[0][0]} and {table.eyes[1][0]}"
    left, right = (f"{eye[0]} to {eye[-1]}" for eye in table.eyes)
    return (
        f"the distance between the means of points {left} and of points {right} (inter-pupil; 300-W's own is between "
        "the outer corners of the eyes, which is longer)"
    )


def mean_of(values: NDArray[np.float64]) -> tuple[bootstrap.Array, bootstrap.Statistic]:
    """Sums and statistic of the mean over images."""
    return np.stack([values, np.ones(len(values))], axis=1), lambda sums: sums[..., 0] / sums[..., 1]


def map_of(features: Features, stage: str | None) -> Tensor:
    """(B, C, h, w): the last map, or that of a stage."""
    if stage is None:
        return features.map
    if stage not in features.stages:
        raise unknown_name("feature stage", stage, features.stages)
    return features.stages[stage]


def _content(images: Any) -> Any:
    found = getattr(images, "fingerprint", "")
    return found() if callable(found) else found
