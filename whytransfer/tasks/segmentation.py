"""Semantic segmentation on a backbone: DeepLab-v3 and FCN, trained on crops, tested on whole images.

DeepLab-v3 [Chen 2017] as Zhao et al. use it on Cityscapes (mmsegmentation's deeplabv3_r50-d8 recipe); FCN [Long 2015]
as BYOL (D.4) and DetCon use it on PASCAL VOC. Shape letters: B batch, N images, K classes, H height, W width.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from whytransfer import progress as progress_
from whytransfer.backbones import fingerprint
from whytransfer.backbones.dilated import dilated
from whytransfer.errors import InputError, unknown_name
from whytransfer.files import atomic_write
from whytransfer.images.index import first_of
from whytransfer.images.targets import pixel_classes, require_targets
from whytransfer.masks.semantic import Semantic
from whytransfer.memory import usable_cores
from whytransfer.records import Result, Sample
from whytransfer.tasks import predictions
from whytransfer.tasks.confusion import VOID, confusion_of, scores
from whytransfer.tasks.dense_net import (
    DenseNet,
    Mode,
    check_batch_norm,
    checked_mode,
    content_of,
    device_of,
    enlarged,
    fit_dense,
    mean_colour,
)
from whytransfer.tasks.dense_survey import survey
from whytransfer.tasks.dense_views import (
    Size,
    balanced_window,
    image_through,
    map_through,
    random_window,
    street_colours,
    whole_images,
)
from whytransfer.tasks.features import Progress
from whytransfer.tasks.fitting import Schedule, batch_of
from whytransfer.tasks.readout import data_name, model_name
from whytransfer.tasks.segmentation_heads import ARCHITECTURES
from whytransfer.views.photometry import to_device

AUXILIARY_WEIGHT = 0.4


@dataclass(frozen=True)
class Crops:
    """The training crops of a recipe: their size, the scales of the images, what else is done to them.

    `most` is the largest share of one class; `distorted` says whether colours are (dense_views.street_colours).
    """

    size: Size  # height, width
    scales: tuple[float, float] = (0.5, 2.0)
    most: float | None = None
    distorted: bool = False

    def scaled(self, size_px: int) -> Crops:
        """The same crops where their shorter side is more than size_px: as many pixels there, in proportion."""
        scale = min(1.0, size_px / min(self.size))
        height, width = (max(1, round(side * scale)) for side in self.size)
        return dataclasses.replace(self, size=(height, width))


SCHEDULES = {
    # Zhao 2021 §2: 40k iterations, crops of 512 x 1024, batch 8, lr 0.01, poly; decay and power are mmsegmentation's
    # (whose rate ends at 1e-4, ours at 0: the paper says poly and no more)
    "cityscapes-40k": Schedule(40_000, 8, 0.01, "poly", power=0.9, weight_decay=5e-4),
    # BYOL D.4: 30k iterations, batch 16, drops at 70 and 90 %; the rate is DetCon's as we know it (BYOL sweeps it, and
    # tests on the middle 513 x 513 of an image, where we take it whole)
    "voc-30k": Schedule(30_000, 16, 0.02, "step", drops=(0.7, 0.9), weight_decay=1e-4),
    # R2O, which follows DetCon: 160 epochs of the 2,975 fine training images, batch 16, drops after 112 and 144
    "cityscapes-160ep": Schedule(29_750, 16, 0.04, "step", drops=(112 / 160, 144 / 160), weight_decay=1e-4),
}
CROPS = {
    "cityscapes-40k": Crops((512, 1024), most=0.75, distorted=True),
    "voc-30k": Crops((513, 513)),
    "cityscapes-160ep": Crops((769, 769)),
}


@dataclass(frozen=True)
class Segmentation:
    """Train a segmenter on crops, test it on whole images: mean IoU, mean and overall accuracy, IoU per class, in %.

    train and test are image sets with label maps, or masks of objects (painted over a background). size_px bounds the
    shorter side of the crops: where it is under the paper's, the head's dilations shrink with it, so that the head
    sees the same part of a crop, and provenance says so. Images keep their scale; the test is at native resolution.
    `maps` predicted label maps are kept as PNG files, the confusion matrix of every image in predictions.npz.
    InputError for sets without label maps, other classes in test than in train, and ids that are no class.
    """

    train: Any
    test: Any
    size_px: int
    architecture: str = "deeplab"
    schedule: str | None = None
    mode: Mode = "finetune"
    budget: float = 1.0
    fit_batch: int | None = None
    lr: float | None = None
    folder: Path | None = None
    seed: int = 0
    batch: int = 256
    draws: int = 2000
    maps: int = 20
    progress: Progress | None = None
    annotated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise unknown_name("segmentation architecture", self.architecture, ARCHITECTURES)
        if self.schedule is not None and self.schedule not in SCHEDULES:
            raise unknown_name("segmentation schedule", self.schedule, SCHEDULES)
        checked_mode(self.mode)
        for images in (self.train, self.test):
            require_targets(images, "semantic", "segmentation")
        if pixel_classes(self.train) != pixel_classes(self.test):
            sets = (f"{s.name} has {first_of(pixel_classes(s))}" for s in (self.train, self.test))
            raise InputError(f"train and test must have the same classes of pixels in one order: {'; '.join(sets)}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return pixel_classes(self.train)

    @property
    def recipe(self) -> tuple[str, Schedule, Schedule, Crops]:
        """Name of the schedule, the schedule as published, as it will be run, and the crops."""
        name = self.schedule or ARCHITECTURES[self.architecture].schedule
        asked = SCHEDULES[name]
        scaled = asked.scaled(self.budget, self.fit_batch)
        run = scaled if self.lr is None else dataclasses.replace(scaled, lr=self.lr)
        return name, asked, run, CROPS[name].scaled(self.size_px)

    def rates(self) -> tuple[int, ...]:
        """Dilations of the head: in proportion to the crops."""
        name, _, _, crops = self.recipe
        scale = min(crops.size) / min(CROPS[name].size)
        return tuple(max(1, round(rate * scale)) for rate in ARCHITECTURES[self.architecture].rates)

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Fit and score; the seed decides initial weights, crops, their order and bootstrap draws."""
        seed = self.seed if seed is None else seed
        weights = fingerprint(backbone)
        architecture = ARCHITECTURES[self.architecture]
        _, _, schedule, crops = self.recipe
        copy = dilated(backbone, architecture.output_stride)
        heads = lambda features: architecture.heads(features, len(self.classes), self.rates())  # noqa: E731
        net = DenseNet(copy, heads, self.mode, seed, device_of(backbone))
        cells = check_batch_norm(net, crops.size, schedule.batch, pooled=self.architecture == "deeplab")
        in_train = survey(self.train, self.test, "semantic", self._labels, self._known)
        settings = {**self._settings(seed, weights), "map_of_a_crop": list(cells)}
        if self._told():
            progress_.say(f"note: segmentation: {self._told()}")
        folder = predictions.folder_of(self.folder, "segmentation", settings)
        label = f"{self.architecture} on {model_name(backbone)}"
        with ThreadPoolExecutor(usable_cores()) as pool:
            batch_at = partial(self._batch, net, crops, schedule.batch, seed, pool)
            fitted = fit_dense(net, batch_at, partial(_loss, net), schedule, seed, folder, label)
        confusion = self._test(net, folder)
        kept = predictions.keep(folder, confusion=confusion, classes=np.array(self.classes))
        provenance = {**settings, **fitted, **in_train, "predictions": kept, "bootstrap_draws": self.draws}
        for metric, value, low, high in scores(confusion, self.classes, self.draws, seed):
            yield Result(
                model_name(backbone), data_name(self.train, self.test), "segmentation", metric, value, "%", "higher",
                len(self.test), seed, low, high, provenance,
            )  # fmt: skip

    def _settings(self, seed: int, weights: str) -> dict[str, Any]:
        """All that decides the fit, in words for a Result's provenance."""
        name, _, schedule, crops = self.recipe
        return {
            "architecture": self.architecture,
            "mode": self.mode,
            "frozen": self.mode == "frozen",
            "schedule_name": name,
            "schedule_told": self._told(),
            "schedule": dataclasses.asdict(schedule),
            "crop_px": list(crops.size),
            "paper_crop_px": list(CROPS[name].size),
            "head_dilations": list(self.rates()),
            "output_stride": ARCHITECTURES[self.architecture].output_stride,  # or finer, see map_of_a_crop
            "classes": len(self.classes),
            "test_images": "whole, native resolution, one scale",
            "size_px": self.size_px,
            "weights_sha256": weights,
            "data": data_name(self.train, self.test),
            "train_fingerprint": content_of(self.train),
            "test_fingerprint": content_of(self.test),
            "seed": seed,
            "torch": torch.__version__,
        }

    def _told(self) -> str:
        """How this differs from the published recipe; "" where it does not."""
        name, asked, schedule, crops = self.recipe
        parts = [schedule.told(asked)]
        if crops.size != CROPS[name].size:
            paper, rates = CROPS[name].size, ARCHITECTURES[self.architecture].rates
            parts.append(
                f"crops of {crops.size[0]} x {crops.size[1]} px ({paper[0]} x {paper[1]} in full), dilations of the "
                f"head {'/'.join(map(str, self.rates()))} ({'/'.join(map(str, rates))} in full)"
            )
        return "; ".join(filter(None, parts))

    def _batch(
        self, net: DenseNet, crops: Crops, size: int, seed: int, pool: ThreadPoolExecutor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Images (B, 3, h, w) in [0, 1] and label maps (B, h, w) uint8 of one step, where the network is."""
        index, epochs = batch_of(seed, step, len(self.train), size)
        fill = mean_colour(net.backbone)
        made = list(pool.map(lambda i, e: self._crop(int(i), int(e), crops, fill, seed), index, epochs))
        images = to_device(torch.stack([m[0] for m in made]), device_of(net))
        labels = to_device(torch.from_numpy(np.stack([m[1] for m in made])), device_of(net))
        return street_colours(images, seed, epochs, index) if crops.distorted else images, labels

    def _crop(
        self, i: int, epoch: int, crops: Crops, fill: tuple[float, ...], seed: int
    ) -> tuple[Tensor, NDArray[np.uint8]]:
        sample = self.train[i]
        labels = self._labels(sample, self.train.name)
        size = int(labels.shape[0]), int(labels.shape[1])
        window = random_window(size, crops.size, crops.scales, seed, epoch, i)
        if crops.most is not None:
            window = balanced_window(labels, window, crops.most, VOID, seed, epoch, i)
        return image_through(sample.image, window, fill), map_through(labels, window, np.uint8(VOID))

    def _labels(self, sample: Sample, where: str) -> NDArray[np.uint8]:
        """The label map (H, W) of a sample; InputError naming the image for an id that is no class."""
        return self._known(np.asarray(Semantic()(sample).maps, dtype=np.uint8), sample.name, where)

    def _known(self, labels: NDArray[np.uint8], name: str, where: str) -> NDArray[np.uint8]:
        strange = (labels >= len(self.classes)) & (labels != VOID)
        if strange.any():
            ids = ", ".join(str(v) for v in np.unique(labels[strange])[:5].tolist())
            raise InputError(
                f"{where}: the label map of {name} has pixels of class {ids}; the set has "
                f"{len(self.classes)} classes, 0 to {len(self.classes) - 1}, and 255 for none"
            )
        return labels

    def _test(self, net: DenseNet, folder: Path | None) -> NDArray[np.int32]:
        """(N, K, K) pixels of every test image by true and predicted class; keeps some predicted maps as PNG."""
        k, n, done = len(self.classes), len(self.test), 0
        counts = np.zeros((n, k, k), dtype=np.int32)
        kept = set(np.linspace(0, n - 1, min(n, self.maps)).round().astype(int).tolist())
        for group in whole_images(self.test, self.batch):
            predicted = _classes_of(net, torch.stack([s.image for s in group]))
            for sample, found in zip(group, predicted, strict=True):
                counts[done] = confusion_of(self._labels(sample, self.test.name), found, k)
                if folder is not None and done in kept:
                    _keep_map(folder / "maps", sample.name, found)
                done += 1
            if self.progress is not None:
                self.progress(done, n)
        if not counts.any():
            raise InputError(f"{self.test.name}: no pixel of its {n:,} test images has a class")
        return counts


def _loss(net: DenseNet, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy over pixels that have a class, plus 0.4 of the auxiliary head's."""
    images, labels = batch[0], batch[1].long()
    logits, auxiliary = net(images)
    loss = cross_entropy(logits, labels)
    return loss if auxiliary is None else loss + AUXILIARY_WEIGHT * cross_entropy(auxiliary, labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over pixels with a class of logits (B, K, h, w), enlarged to labels (B, H, W); 0 where no pixel has one."""
    height, width = labels.shape[1:]
    total = F.cross_entropy(enlarged(logits, (height, width)), labels, ignore_index=VOID, reduction="sum")
    return total / (labels != VOID).sum().clamp(min=1)


@torch.inference_mode()
def _classes_of(net: DenseNet, images: Tensor) -> NDArray[np.uint8]:
    """(B, H, W) the class of every pixel of whole images (B, 3, H, W) uint8, logits enlarged before the choice."""
    size = int(images.shape[2]), int(images.shape[3])
    logits, _ = net(images.to(device_of(net)).float() / 255)
    return enlarged(logits, size).argmax(dim=1).to(torch.uint8).cpu().numpy()


def _keep_map(folder: Path, name: str, values: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.path.splitext(name)[0].replace('/', '__')}.png"
    atomic_write(path, lambda file: Image.fromarray(values).save(file, "PNG"))
