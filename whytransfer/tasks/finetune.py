"""The whole backbone trained on the task: a grid of learning rates and weight decays, then one test evaluation.

[Ericsson 2021, arXiv 2011.13377, finetune.py]: a linear head on the pooled features, all layers trained by SGD with
Nesterov momentum, random crops and flips, cosine to zero. Every setting of the grid is fitted on a part of the training
images and scored on the rest; the best one is fitted again on all of them, and only that one sees the test images.
Where the published script differs, ours is corrected: the held-out part is stratified, and batches run over the ends of
epochs (theirs has a smaller last one).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer import progress
from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.files import atomic_write
from whytransfer.images import subset
from whytransfer.loading import pictures
from whytransfer.parsing import json_of
from whytransfer.records import Result
from whytransfer.tasks import bicubic, fitting, multilabel, predictions, protocols
from whytransfer.tasks.fitting import Diverged, Schedule
from whytransfer.tasks.labels import Share, part_of, shares_of
from whytransfer.tasks.readout import Classes, Objects, Readout, data_name, fingerprint_of, model_name

HELD_OUT = 0.2
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """A schedule, and the settings among which a validation part chooses: weight decay is `decays` / learning rate."""

    schedule: Schedule
    lrs: tuple[float, ...]
    decays: tuple[float, ...]

    @property
    def settings(self) -> list[tuple[float, float]]:
        """(learning rate, weight decay), the first of equally good ones counts."""
        return [(lr, decay / lr) for lr in self.lrs for decay in self.decays]


_SGD = Schedule(5000, 64, 0.1, "cosine", momentum=0.9, nesterov=True)
SCHEDULES: dict[str, Grid] = {
    "ssl-transfer": Grid(_SGD, (0.1, 0.01, 0.001, 0.0001), (0.0, 1e-6, 1e-5, 1e-4, 1e-3)),
    # not of a paper: for machines on which 21 fits take too long, under names of their own
    "four-rates": Grid(_SGD, (0.1, 0.01, 0.001, 0.0001), (0.0,)),
    "one-rate": Grid(_SGD, (0.01,), (0.0,)),
}


@dataclass(frozen=True)
class Finetune:
    """Classification by a trained backbone; run(backbone) yields the metrics of the readout, with intervals.

    train and test as for the readout, images of several classes included (binary cross-entropy, mean average
    precision). `budget` scales the steps of every fit; `fit_batch` the batch, with the learning rate; both are told.
    With a `folder` every setting of the grid is kept as it ends, and a killed run goes on where it was. The backbone
    that is handed over stays as it was: a copy is trained.
    """

    train: Any
    test: Any
    size_px: int
    seed: int = 0
    batch: int = 256
    progress: Any = None
    mode: Literal["frozen", "finetune"] = "finetune"
    schedule: str = "ssl-transfer"
    budget: float = 1.0
    fit_batch: int | None = None
    labels: tuple[float, ...] | None = None
    folder: Path | None = None
    draws: int = 2000
    of: Literal["class", "objects"] | None = None
    kind: Classes | Objects = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode != "finetune":
            raise InputError(f"finetune trains the backbone; for mode {self.mode} use --task readout")
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule of finetune", self.schedule, SCHEDULES)
        readout = Readout(self.train, self.test, self.size_px, of=self.of)
        object.__setattr__(self, "kind", readout.kind)
        self.planned(0.1, 0.0)  # a wrong budget is refused before the work

    def planned(self, lr: float, weight_decay: float) -> Schedule:
        """The schedule of one setting, scaled as asked."""
        asked = dataclasses.replace(SCHEDULES[self.schedule].schedule, lr=lr, weight_decay=weight_decay)
        return asked.scaled(self.budget, self.fit_batch)

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """For every share of labels: the grid, the fit with its best setting, the test; the seed decides all chance."""
        seed = self.seed if seed is None else seed
        grid = SCHEDULES[self.schedule]
        asked = dataclasses.replace(grid.schedule, lr=grid.lrs[0])
        if note := self.planned(asked.lr, 0.0).told(asked):
            progress.say(f"note: finetune, schedule {self.schedule}: {note}")
        before = fingerprint(backbone)
        self._check_batch_norm(backbone, asked)
        shares = shares_of(self.kind.strata(), self.labels, seed)
        for share in shares if len(grid.settings) > 1 else ():
            held_out(self.kind.strata()[share.rows], seed)  # a share too small to choose by is refused before the work
        for share in shares:
            run = _Run(self, backbone, before, share, seed)
            (lr, decay), scores = run.chosen()
            provenance = {
                **run.settings,
                **share.provenance(),
                "lr": lr,
                "weight_decay": decay,
                "grid": scores,
                "told": note,
                "frozen": False,
                "bootstrap_draws": self.draws,
            }
            yield from run.results(lr, decay, provenance)
        if fingerprint(backbone) != before:
            raise RunError("the backbone that was handed to finetune has changed: only its copy may be trained")

    def _check_batch_norm(self, backbone: nn.Module, asked: Schedule) -> None:
        """InputError where a step of one image gives a batch norm one value per channel."""
        if asked.scaled(self.budget, self.fit_batch).batch > 1:
            return
        device = next(backbone.parameters()).device
        with torch.inference_mode():
            last = copy.deepcopy(backbone).eval()(torch.zeros(1, 3, self.size_px, self.size_px, device=device)).map
        if last.shape[2] * last.shape[3] == 1:
            raise InputError(
                f"batch norm needs two values per channel, and the last map of one image of {self.size_px} px has one: "
                "give --fit-batch 2 or more, or a larger --size"
            )


class _Run:
    """One share of labels: its images, its part for validation, and where its fits lie."""

    def __init__(self, task: Finetune, backbone: nn.Module, weights: str, share: Share, seed: int) -> None:
        self.task, self.backbone, self.share, self.seed = task, backbone, share, seed
        self.device = next(backbone.parameters()).device
        self.train = subset(task.train, share.rows)
        self.truth = task.kind.train[share.rows]
        self.settings = {
            "weights_sha256": weights,
            "size_px": task.size_px,
            "schedule_name": task.schedule,
            "budget": task.budget,
            "fit_batch": task.fit_batch,
            "train_images": len(self.train),
            **({} if task.of is None else {"of": task.of}),
            "torch": torch.__version__,
        }

    def chosen(self) -> tuple[tuple[float, float], list[dict[str, Any]]]:
        """The setting with the best validation score, and the scores of all; one setting alone is not validated."""
        settings = SCHEDULES[self.task.schedule].settings
        if len(settings) == 1:
            return settings[0], []
        rest, held = held_out(self.task.kind.strata()[self.share.rows], self.seed)
        told = []
        for k, (lr, decay) in enumerate(settings):
            label = f"finetune: setting {k + 1} of {len(settings)}"
            told.append({"lr": lr, "weight_decay": decay, **self._validated(lr, decay, rest, held, label)})
        best = int(np.argmax([row["validation"] for row in told]))
        return settings[best], told

    def _validated(self, lr: float, decay: float, rest: Rows, held: Rows, label: str) -> dict[str, Any]:
        """The score (%) on the held-out part of a fit on the rest, 0 where it diverged; kept, so it is fitted once."""
        folder = self._folder(lr, decay, "validation")
        path = None if folder is None else folder / "score.json"
        if path is not None and path.exists():
            return _read(path)
        try:
            module = self._fitted(lr, decay, rest, folder, label)[0]
            answer = self._answer(module, subset(self.train, held))
            found = {"validation": self._score(answer, self.truth[held]), "diverged": False}
        except Diverged:
            progress.say(f"note: {label}: lr {lr:g} with weight decay {decay:g} diverged and counts as 0 %")
            found = {"validation": 0.0, "diverged": True}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, lambda file: file.write(json.dumps(found).encode()))
            (path.parent / "checkpoint.pt").unlink(missing_ok=True)  # the score is all that is needed of this fit
        return found

    def _score(self, answer: NDArray[np.float64], truth: NDArray[Any]) -> float:
        """By the metric that the paper gives the data set: top-1, the mean per class, or the 11-point mean AP."""
        if isinstance(self.task.kind, Objects):
            return float(np.nan_to_num(multilabel.mean_ap(truth, answer)[0, 1]))
        metric = protocols.metric_of("ssl-transfer", self.task.train.name)
        return 100 * (protocols.top1 if metric == "top1" else protocols.mean_per_class)(truth, answer.argmax(1))

    def results(self, lr: float, decay: float, provenance: dict[str, Any]) -> Iterator[Result]:
        """Fit on all training images, answer for the test images once."""
        task, rows = self.task, np.arange(len(self.train))
        folder = self._folder(lr, decay, "all")
        module, fit = self._fitted(lr, decay, rows, folder, "finetune: on all training images")
        answer = self._answer(module, task.test)
        if isinstance(task.kind, Classes):
            answer = answer.argmax(1)
        provenance = {**provenance, **fit, "predictions": predictions.keep(folder, **task.kind.kept(answer))}
        for metric, (value, low, high) in task.kind.scores(answer, task.draws, self.seed, None).items():
            yield Result(
                model_name(self.backbone), data_name(task.train, task.test, self.share), "finetune", metric, value, "%",
                "higher", len(answer), self.seed, low, high, provenance,
            )  # fmt: skip

    def _fitted(
        self, lr: float, decay: float, rows: Rows, folder: Path | None, label: str
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The copy of the backbone with its head, trained on some of the images."""
        task, schedule = self.task, self.task.planned(lr, decay)
        module = Classifier(self.backbone, task.kind.classes, self.seed).to(self.device)
        images, truth = subset(self.train, rows), torch.from_numpy(self.truth[rows])

        def batch_at(t: int) -> tuple[Tensor, Tensor]:
            index, epochs = fitting.batch_of(self.seed, t, len(images), schedule.batch)
            pixels = pictures(images, index)
            views = bicubic.crop_views(pixels, index, epochs, task.size_px, self.seed).to(self.device)
            return views.contiguous(memory_format=torch.channels_last), truth[index].to(self.device)

        def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
            logits, wanted = module(batch[0]), batch[1]
            if isinstance(task.kind, Classes):
                return F.cross_entropy(logits, wanted)
            return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype))

        module.train()
        return module, fitting.fit(module, batch_at, loss_of, schedule, folder=folder, label=label)

    def _answer(self, module: nn.Module, images: Any) -> NDArray[np.float64]:
        """Logits (M, C) in eval mode."""
        module.eval()
        parts = []
        with torch.inference_mode():
            for rows in fitting.in_batches(len(images), self.task.batch):
                views = bicubic.centre_views(pictures(images, rows), self.task.size_px).to(self.device)
                parts.append(module(views.contiguous(memory_format=torch.channels_last)).double().cpu())
        return torch.cat(parts).numpy()

    def _folder(self, lr: float, decay: float, part: str) -> Path | None:
        content = {"train": str(fingerprint_of(self.task.train)), "test": str(fingerprint_of(self.task.test))}
        rows = hashlib.sha256(self.share.rows.tobytes()).hexdigest()
        decides = {**self.settings, **content, "model": model_name(self.backbone), "rows": rows, "seed": self.seed}
        schedule = dataclasses.asdict(self.task.planned(lr, decay))
        return predictions.folder_of(self.task.folder, "finetune", {**decides, "part": part, **schedule})


class Classifier(nn.Module):
    """A trainable copy of a backbone and a linear head, whose first weights are a function of the seed."""

    def __init__(self, backbone: nn.Module, classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = fitting.trainable(copy.deepcopy(backbone))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.head = nn.Linear(self.backbone.width, classes)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).vector)


def held_out(strata: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to fit on and a fifth of every stratum to score on; a class of one image is not held out."""
    held = part_of(strata, 100 * HELD_OUT, seed, but_one=True)
    if not held.any():
        raise InputError(
            f"none of {len(strata)} training images can be put aside to choose a setting by: no class has two. Use "
            "more labels, or --schedule one-rate, which has nothing to choose"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json_of(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. Delete it to fit this setting again.") from None
