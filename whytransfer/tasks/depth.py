"""Monocular depth on a backbone: Laina's decoder and the protocol of BYOL (D.6), which DetCon follows.

Four fast up-projections stand on the last map, a 3x3 convolution makes one channel of it, the loss is the reverse
Huber [Laina 2016, arXiv 1606.00373]. Images are halved (640 x 480 -> 320 x 240); training sees their middle
(304 x 228). The test sees them whole, predictions are enlarged to the truth's size, and every pixel that has a depth
counts alike. Depth is in the set's unit: metres, or that of generated scenes.
Shape letters: B batch, N images, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer import progress as progress_
from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, unknown_name
from whytransfer.images.subsets import labelled_with
from whytransfer.memory import usable_cores
from whytransfer.records import Features, Result, Sample
from whytransfer.tasks import bootstrap, predictions
from whytransfer.tasks.dense_net import (
    DenseNet,
    Mode,
    Of,
    check_batch_norm,
    checked_mode,
    content_of,
    device_of,
    enlarged,
    fit_dense,
    mean_colour,
    own_copy,
)
from whytransfer.tasks.dense_survey import survey
from whytransfer.tasks.dense_views import (
    FLIP,
    Size,
    centre_window,
    covering,
    draws,
    image_through,
    map_through,
    room_colours,
    whole,
    whole_images,
)
from whytransfer.tasks.depth_metrics import METRICS, berhu, sums_of
from whytransfer.tasks.features import Progress
from whytransfer.tasks.fitting import Schedule, batch_of
from whytransfer.tasks.readout import data_name, model_name
from whytransfer.tasks.up_projection import decoder
from whytransfer.views.photometry import to_device

SHORT_PX, CROP_SHARE = 240, 228 / 240  # shorter side of the halved image, and how much of it a crop shows

SCHEDULES = {
    # BYOL D.6: 7,500 steps of 256 images, lr 0.16 = Laina's 0.01 for 16; no schedule of the rate is given
    "byol": Schedule(7500, 256, 0.16, "constant", weight_decay=5e-4),
}


@dataclass(frozen=True)
class Depth:
    """Train a decoder of depth, test it on whole images: shares within 1.25, its square and cube, RMSE, AbsRel, log10.

    train and test are image sets with depth maps, NaN where there is none. size_px bounds the shorter side of the
    crops: where it is under the paper's 228 the images are shrunk by as much more, and provenance says so. Crops have
    the shape of the first training image (the paper's are 4:3); of another shape an image shows its middle.
    The depth maps predicted for `maps` test images are kept, and the sums behind the metrics for every image.
    """

    train: Any
    test: Any
    size_px: int
    schedule: str = "byol"
    mode: Mode = "finetune"
    budget: float = 1.0
    fit_batch: int | None = None
    lr: float | None = None
    folder: Path | None = None
    seed: int = 0
    batch: int = 256
    draws: int = 2000
    maps: int = 10
    progress: Progress | None = None
    annotated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown_name("depth schedule", self.schedule, SCHEDULES)
        checked_mode(self.mode)
        for images in (self.train, self.test):
            if not len(images) or images[0].depth is None:
                there = " and ".join(labelled_with(images)) or "nothing"
                raise InputError(
                    f"the depth task needs depth maps, and {images.name} is labelled with {there}: choose a set that "
                    "has them (nyu:ROOT, sunrgbd:ROOT, rgbd:ROOT, scenes:COUNT; see docs/images.md)"
                )

    @property
    def schedules(self) -> tuple[Schedule, Schedule]:
        """As published, and as it will be run."""
        asked = SCHEDULES[self.schedule]
        scaled = asked.scaled(self.budget, self.fit_batch)
        return asked, scaled if self.lr is None else dataclasses.replace(scaled, lr=self.lr)

    @cached_property
    def first_size(self) -> Size:
        """(H, W) of the first training image."""
        height, width = self.train[0].image.shape[1:]
        return int(height), int(width)

    def sizes(self, short_px: int | None = None) -> tuple[Size, Size]:
        """(height, width) of an image as the network sees it, and of a training crop, of the first image's shape."""
        crop_px = min(self.size_px if short_px is None else short_px, round(CROP_SHARE * SHORT_PX))
        short = max(1, round(crop_px / CROP_SHARE))
        seen = covering(self.first_size, (short, short))
        return seen, (max(1, round(CROP_SHARE * seen[0])), max(1, round(CROP_SHARE * seen[1])))

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Fit and score; the seed decides initial weights, views, their order and bootstrap draws."""
        seed = self.seed if seed is None else seed
        _, schedule = self.schedules
        start = self._typical()
        heads = partial(_heads, start=start)
        net = DenseNet(own_copy(backbone), heads, self.mode, seed, device_of(backbone))
        cells = check_batch_norm(net, self.sizes()[1], schedule.batch, pooled=False)
        in_train = survey(self.train, self.test, "depth", _truth, lambda *_: None)  # reading a map checks it
        settings = {
            **self._settings(seed, fingerprint(backbone)),
            "map_of_a_crop": list(cells),
            "first_prediction": start,
        }
        if self._told():
            progress_.say(f"note: depth: {self._told()}")
        folder = predictions.folder_of(self.folder, "depth", settings)
        with ThreadPoolExecutor(usable_cores()) as pool:
            batch_at = partial(self._batch, net, schedule.batch, seed, pool)
            fitted = fit_dense(
                net, batch_at, partial(_loss, net), schedule, seed, folder, f"depth on {model_name(backbone)}"
            )
        sums, kept_maps = self._test(net)
        kept = predictions.keep(folder, sums=sums, metrics=np.array(list(METRICS)), **kept_maps)
        provenance = {**settings, **fitted, **in_train, "predictions": kept, "bootstrap_draws": self.draws}
        for metric, (statistic, unit, direction) in METRICS.items():
            low, high = bootstrap.interval(sums, statistic, self.draws, seed)
            yield Result(
                model_name(backbone), data_name(self.train, self.test), "depth", metric, float(statistic(sums.sum(0))),
                unit_of(self.test) if unit is None else unit, direction, len(self.test), seed, low, high, provenance,
            )  # fmt: skip

    def _settings(self, seed: int, weights: str) -> dict[str, Any]:
        """All that decides the fit, in words for a Result's provenance."""
        seen, crop = self.sizes()
        return {
            "mode": self.mode,
            "frozen": self.mode == "frozen",
            "schedule_name": self.schedule,
            "schedule_told": self._told(),
            "schedule": dataclasses.asdict(self.schedules[1]),
            "image_px": list(seen),
            "crop_px": list(crop),
            "paper_crop_px": [228, 304],
            "test_images": "whole, predictions enlarged to the size of the truth, all valid pixels pooled",
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
        asked, schedule = self.schedules
        (_, crop), (_, full) = self.sizes(), self.sizes(round(CROP_SHARE * SHORT_PX))
        parts = [schedule.told(asked)]
        if crop != full:
            parts.append(f"crops of {crop[0]} x {crop[1]} px ({full[0]} x {full[1]} in full)")
        return "; ".join(filter(None, parts))

    def _batch(self, net: DenseNet, size: int, seed: int, pool: ThreadPoolExecutor, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, h, w) in [0, 1] and depth (B, h, w), NaN where there is none, of one step, on its device."""
        fill = mean_colour(net.backbone)
        index, epochs = batch_of(seed, step, len(self.train), size)
        flips = draws(seed, epochs, index, FLIP, 1)[:, 0] < 0.5
        made = list(pool.map(lambda i, flip: self._crop(self.train[int(i)], bool(flip), fill), index, flips))
        images = to_device(torch.stack([m[0] for m in made]), device_of(net))
        depth = to_device(torch.from_numpy(np.stack([m[1] for m in made])), device_of(net))
        return room_colours(images, seed, epochs, index), depth

    def _typical(self) -> float:
        """The median depth of a few training images, where predictions start: a short fit need not climb there from 0.

        Papers do not say where theirs start; after thousands of steps it does not matter.
        """
        rows = np.linspace(0, len(self.train) - 1, min(len(self.train), 16)).round().astype(int)
        depths = np.concatenate([_truth(self.train[int(i)], self.train.name).ravel() for i in rows])
        if np.isnan(depths).all():
            raise InputError(f"{self.train.name}: no pixel of {len(rows)} training images looked at has a depth")
        return round(float(np.nanmedian(depths)), 4)

    def _crop(self, sample: Sample, flip: bool, fill: tuple[float, ...]) -> tuple[Tensor, NDArray[np.float32]]:
        truth = _truth(sample, self.train.name)
        seen, crop = self.sizes()
        window = centre_window((truth.shape[0], truth.shape[1]), crop, seen, flip)
        return image_through(sample.image, window, fill), map_through(truth, window, np.float32(np.nan))

    def _test(self, net: DenseNet) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float32]]]:
        """(N, S) the sums of every test image, and the predicted depth of some as depth_NAME (H, W)."""
        n, done = len(self.test), 0
        sums, maps = [], {}
        kept = set(np.linspace(0, n - 1, min(n, self.maps)).round().astype(int).tolist())
        for group in whole_images(self.test, self.batch):
            for sample, depth in zip(group, self._predict(net, group), strict=True):
                sums.append(sums_of(depth, _truth(sample, self.test.name)))
                if done in kept:
                    maps[f"depth_{sample.name.replace('/', '__')}"] = depth
                done += 1
            if self.progress is not None:
                self.progress(done, n)
        table = np.stack(sums)
        if not table[:, 0].any():
            raise InputError(f"{self.test.name}: no pixel of its {n:,} test images has a depth")
        return table, maps

    @torch.inference_mode()
    def _predict(self, net: DenseNet, group: list[Sample]) -> NDArray[np.float32]:
        """(B, H, W) the depth of whole images of one size."""
        size = int(group[0].image.shape[1]), int(group[0].image.shape[2])
        window = whole(covering(size, self.sizes()[0]))
        images = torch.stack([image_through(sample.image, window, (0.0, 0.0, 0.0)) for sample in group])
        depth, _ = net(images.to(device_of(net)))
        return enlarged(depth, size)[:, 0].cpu().numpy()


def unit_of(images: Any) -> str:
    """What depth is measured in: metres, unless the set says otherwise (generated scenes: the main object's radii)."""
    while not hasattr(images, "depth_unit") and hasattr(images, "images"):
        images = images.images
    return getattr(images, "depth_unit", "m")


def _heads(features: Features, start: float) -> tuple[nn.Module, None]:
    """The decoder, whose last bias is `start`."""
    layers = decoder(features.map.shape[1])
    last = layers[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, start)
    return Of("map", layers), None


def _loss(net: DenseNet, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, truth = batch
    depth, _ = net(images)
    return berhu(enlarged(depth, (truth.shape[1], truth.shape[2]))[:, 0], truth)


def _truth(sample: Sample, where: str) -> NDArray[np.float32]:
    """The depth map (H, W) of a sample, NaN where it is not a positive number; InputError where it does not fit."""
    if sample.depth is None or sample.depth.shape != sample.image.shape[1:]:
        found = "none" if sample.depth is None else f"{tuple(sample.depth.shape)}"
        raise InputError(
            f"{where}: the depth map of {sample.name} must have the size of its image {tuple(sample.image.shape[1:])}, "
            f"found {found}"
        )
    depth = sample.depth.numpy().astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))
