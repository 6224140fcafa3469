"""What does a backbone keep of a picture? Deep-image-prior inversions of several pictures and backbones, and scores.

Contrastive features were said to give back the whole picture, at its place and scale, in wrong hues, and supervised
ones only what tells the classes apart [Zhao 2021, arXiv 2006.06606, figures 2 and 6]. Coverage and error of hue make
numbers of that, beside a perceptual distance, PSNR and SSIM.

Shape letters: N pictures, M models (backbones), S side in pixels.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer import chance, progress
from whytransfer.backbones import Backbone, fingerprint
from whytransfer.diagnosis.hourglass import Hourglass
from whytransfer.diagnosis.inverting import STEPS, Inverted, Job, invert
from whytransfer.diagnosis.likeness import chroma_kept, hue_error, ms_ssim, psnr, recovered, scales_of, ssim
from whytransfer.diagnosis.lpips import Lpips
from whytransfer.errors import InputError
from whytransfer.records import Result, Sample
from whytransfer.tasks import bootstrap, predictions
from whytransfer.tasks.readout import fingerprint_of, model_name
from whytransfer.views import eval_views

RESIZED = 256 / 224  # the picture's shorter side to that of its middle, which is inverted
SMALLEST_PX = 32  # of the inverted view: below it neither the windows of the scores nor six scales have a sense

Sums = NDArray[np.float64]
Preview = Callable[["Inversions"], object]


@dataclass(frozen=True)
class Inversions:
    """Pictures and what M models made of them; NaN where an inversion is not made yet."""

    models: tuple[str, ...]
    names: tuple[str, ...]  # of the N pictures
    truth: Tensor  # (N, 3, S, S) in [0, 1]
    objects: tuple[Tensor | None, ...]  # (S, S) bool, the annotated objects of each picture
    made: Tensor  # (M, N, 3, S, S)
    losses: Tensor  # (M, N, steps) mean squared difference of the features, before each step
    scales: Tensor  # (M, N) mean square of the features

    def put(self, places: Sequence[tuple[int, int]], found: Inverted) -> None:
        """Fill in the inversions of some (model, picture)."""
        for (m, n), picture, losses, scale in zip(places, found.pictures, found.losses, found.scales, strict=True):
            self.made[m, n], self.losses[m, n], self.scales[m, n] = picture, losses, scale


@dataclass(frozen=True)
class Inversion:
    """Invert `count` pictures of an image set, evenly spread over it, under several backbones, and score what comes.

    Views are the middle, size_px wide, of the picture shrunk to 8/7 of that (256 and 224 as published); smaller
    pictures are enlarged, which is said. All backbones start from the same weights and noise for a picture. `batch` of
    them are fitted at once. `budget` is the share of the 3,000 steps. With a folder finished inversions are kept
    there, and a killed run goes on.
    Raises InputError for a side under 32 pixels and for what `invert` refuses.
    """

    images: Any
    size_px: int
    count: int = 8
    stage: str | None = None
    budget: float = 1.0
    batch: int = 8
    seed: int = 0
    folder: Path | None = None
    network: Hourglass = Hourglass()
    lpips: Lpips | None = None
    previews: int = 10
    draws: int = 2000

    def __post_init__(self) -> None:
        if self.size_px < SMALLEST_PX:
            raise InputError(
                f"an inversion of {self.size_px} px is too small to be looked at or scored: give a size of "
                f"{SMALLEST_PX} px or more (smaller pictures are enlarged to it)"
            )
        if not 0 < self.budget <= 1:
            raise InputError(f"--budget is the share of the {STEPS:,} steps, over 0 and at most 1: {self.budget}")
        if len(self.images) == 0 or min(self.count, self.batch) < 1:
            raise InputError(
                f"an inversion needs an image or more: {len(self.images)} are there, {self.count} asked for, "
                f"{self.batch} at once"
            )

    @property
    def steps(self) -> int:
        return max(1, round(STEPS * self.budget))

    @cached_property
    def chosen(self) -> list[int]:
        """Positions of the pictures in their set."""
        return np.unique(np.linspace(0, len(self.images) - 1, min(self.count, len(self.images))).astype(int)).tolist()

    @cached_property
    def samples(self) -> list[Sample]:
        return [self.images[i] for i in self.chosen]

    def run(self, backbones: Sequence[Backbone], preview: Preview | None = None) -> Iterator[Result]:
        """Invert, then one Result per backbone and score."""
        yield from self.results(backbones, self.make(backbones, preview))

    def make(self, backbones: Sequence[Backbone], preview: Preview | None = None) -> Inversions:
        """All inversions; `preview` is called with those that there are, now and then."""
        truth = torch.stack([viewed(pixels_of(sample), self.size_px) for sample in self.samples])
        m, n = len(backbones), len(truth)
        nan = lambda *shape: torch.full((m, n, *shape), float("nan"))  # noqa: E731
        models, names = tuple(map(model_name, backbones)), tuple(s.name for s in self.samples)
        objects = tuple(objects_of(sample, self.size_px) for sample in self.samples)
        all_ = Inversions(models, names, truth, objects, nan(*truth.shape[1:]), nan(self.steps), nan())
        places = [(model, picture) for picture in range(n) for model in range(m)]  # a picture's models side by side
        groups = [places[start : start + self.batch] for start in range(0, len(places), self.batch)]
        folder, began = self.folder_of(backbones), time.monotonic()
        for at, group in enumerate(groups):
            all_.put(group, self._group(backbones, all_, group, folder, f"group {at + 1} of {len(groups)}", preview))
            if at + 1 < len(groups):
                rest = (time.monotonic() - began) / (at + 1) * (len(groups) - at - 1)
                progress.say(
                    f"inversions: group {at + 1} of {len(groups)} is done; the rest in about {progress.duration(rest)}"
                )
        return all_

    def _group(
        self, backbones: Sequence[Backbone], all_: Inversions, group: Sequence[tuple[int, int]], folder: Path | None,
        label: str, preview: Preview | None,
    ) -> Inverted:  # fmt: skip
        """The inversions of some (model, picture), from the folder where they are finished."""
        own = None if folder is None else folder / label.split(" of ")[0].replace(" ", "-")
        if own is not None and (own / "predictions.npz").exists():
            kept = predictions.read(own, "predictions.npz")
            return Inverted(*(torch.from_numpy(kept[name]) for name in ("pictures", "losses", "scales")))
        device = backbones[0].mean.device
        jobs = [Job(backbones[m], all_.truth[n].to(device), self._seeds(self.chosen[n])) for m, n in group]

        def watch(step: int, pictures: Tensor) -> None:
            for (m, n), picture in zip(group, pictures.cpu(), strict=True):
                all_.made[m, n] = picture
            if preview is not None:
                preview(all_)

        found = invert(
            jobs, self.stage, self.steps, self.network, folder=own, label=f"inversions, {label}", watch=watch,
            watch_every=max(1, -(-self.steps // max(1, self.previews))),
        )  # fmt: skip
        if own is not None:
            predictions.keep(own, pictures=found.pictures, losses=found.losses, scales=found.scales)
            (own / "checkpoint.pt").unlink(missing_ok=True)  # large, and no longer needed
        return found

    def _seeds(self, image: int) -> tuple[int, int]:
        """Of weights and noise: a function of the seed and the picture, the same for every backbone."""
        weights, noise = (chance.uniform(self.seed, 0, np.array([image]), 0, 0, 2)[0] * 2**32).astype(int)
        return int(weights), int(noise)

    def folder_of(self, backbones: Sequence[Backbone]) -> Path | None:
        """Where the inversions are kept, named by all that decides them; None without a folder."""
        names = ("size_px", "stage", "steps", "batch", "seed", "chosen")
        settings = {name: getattr(self, name) for name in names}
        settings |= {"images": fingerprint_of(self.images), "network": dataclasses.asdict(self.network)}
        settings["backbones"] = [(model_name(b), fingerprint(b), b.mean.tolist(), b.std.tolist()) for b in backbones]
        return predictions.folder_of(self.folder, "inversion", settings)

    def enlarged(self) -> list[str]:
        """ "name (20 x 20 px)" of the pictures that are smaller than what is inverted."""
        sizes = [(sample.name, *sample.image.shape[1:]) for sample in self.samples]
        return [f"{name} ({wide} x {high} px)" for name, high, wide in sizes if min(high, wide) < self.size_px]

    def results(self, backbones: Sequence[Backbone], all_: Inversions) -> Iterator[Result]:
        """One Result per backbone and score, the mean over pictures and its interval; raw values in the provenance.

        From the second backbone on the provenance has the paired difference to the first one.
        """
        tables = [score(all_, m, self.lpips) for m in range(len(backbones))]
        for m, (backbone, table) in enumerate(zip(backbones, tables, strict=True)):
            told = {
                "weights_sha256": fingerprint(backbone), "size_px": self.size_px, "steps": self.steps,
                "steps_of_the_paper": STEPS, "network": dataclasses.asdict(self.network), "pictures": all_.names,
                "positions": self.chosen, "enlarged": self.enlarged(), "test_fingerprint": fingerprint_of(self.images),
                "options": {"stage": self.stage, "steps": self.steps, "count": self.count, "batch": self.batch},
            }  # fmt: skip
            for (metric, unit, direction), sums in table.items():
                n = int((sums[:, 1] > 0).sum())
                if not n:
                    continue  # no object annotated, no colour
                low, high = bootstrap.interval(sums, ratio, self.draws, self.seed) if n > 1 else (None, None)
                own = {**told, "each": np.round(ratio(sums), 6).tolist()}
                if m and n > 1:
                    own["minus_first"] = bootstrap.paired_difference(
                        sums, tables[0][metric, unit, direction], ratio, self.draws, self.seed
                    )
                yield Result(
                    model=all_.models[m], data=self.images.name, task="inversion", metric=metric,
                    value=float(ratio(sums.sum(0))), unit=unit, direction=direction, n=n, seed=self.seed,
                    low=low, high=high, provenance=own,
                )  # fmt: skip


def score(all_: Inversions, model: int, lpips: Lpips | None = None) -> Mapping[tuple[str, str, Any], Sums]:
    """(metric, unit, direction) -> sums (N, 2) whose ratio is the score, of any pictures together as of one.

    Coverage is the recovered share of the places with structure (likeness.recovered), over the whole picture, inside
    the annotated objects and outside of them; the others are means over pictures, those without a value left out.
    """
    truth, made = all_.truth, all_.made[model]
    perceptual = f"1 - MS-SSIM ({scales_of(truth.shape[-1])} scales)"
    found = {(perceptual, "distance", "lower"): _mean(1 - ms_ssim(truth, made))}
    if lpips is not None:
        found = {(lpips.name, "distance", "lower"): _mean(lpips(truth, made)), **found}
    found["PSNR", "dB", "higher"] = _mean(psnr(truth, made))
    found["SSIM", "SSIM", "higher"] = _mean(ssim(truth, made))
    found["hue error", "degrees", "lower"] = _mean(hue_error(truth, made))
    found["chroma kept", "%", "higher"] = _mean(chroma_kept(truth, made))
    structure, there = recovered(truth, made)
    inside = torch.stack([torch.zeros_like(structure[0]) if o is None else o for o in all_.objects])
    known = torch.tensor([o is not None for o in all_.objects])[:, None, None]
    for name, where in (("", structure | True), (" of objects", inside), (" of background", known & ~inside)):
        counts = [(part & where).flatten(1).sum(1).double() for part in (there, structure)]
        found[f"coverage{name}", "%", "higher"] = torch.stack([100 * counts[0], counts[1]], 1).numpy()
    left = 100 * all_.losses[model, :, -1].double() / all_.scales[model]
    found["feature error left", "%", "lower"] = _mean(left)
    return found


def _mean(values: Tensor) -> Sums:
    """(N,) -> (N, 2) value and 1, 0 and 0 for NaN."""
    there = ~values.isnan()
    return torch.stack([values.nan_to_num(0.0), there.double()], 1).double().numpy()


def ratio(sums: Sums) -> Sums:
    """sums (..., 2) -> the first over the second; NaN over 0."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.full(sums.shape[:-1], np.nan), where=sums[..., 1] > 0)


def viewed(picture: NDArray[np.uint8], size_px: int) -> Tensor:
    """(3, S, S) in [0, 1] the middle of a picture (H, W, 3)."""
    return eval_views([picture], size_px, round(size_px * RESIZED))[0]


def pixels_of(sample: Sample) -> NDArray[np.uint8]:
    """(H, W, 3) uint8."""
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())


def objects_of(sample: Sample, size_px: int) -> Tensor | None:
    """(S, S) bool, the view's places in an annotated mask, or in a box where there is no mask; None without both."""
    if sample.masks is not None and len(sample.masks):
        inside = torch.as_tensor(sample.masks).bool().any(0)
    elif sample.boxes is not None and len(sample.boxes):
        inside = torch.zeros(sample.image.shape[1:], dtype=torch.bool)
        for x0, y0, x1, y1 in torch.as_tensor(sample.boxes).round().int().clamp(min=0).tolist():
            inside[y0:y1, x0:x1] = True
    else:
        return None
    painted = np.ascontiguousarray(255 * inside.numpy().astype(np.uint8)[..., None].repeat(3, axis=2))
    return viewed(painted, size_px)[0] > 0.5
