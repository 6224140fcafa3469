"""How little features change when a picture does: the 18 synthetic transforms, compared in the whitened space.

For every picture i and value j of a transform: similarity S[i, j] is the cosine, distance L[i, j] the Mahalanobis
distance between the whitened features of the clean and of the transformed view. As published [Ericsson 2022, code]
curves are means over pictures (without those where it is undefined), and a transform's number is the mean of its curve;
a group's (spatial, appearance) is the mean over its transforms. Intervals are over pictures.

1 and 0 are full invariance; 0 and sqrt(2 K) is what two unrelated pictures have, K the directions of the features.
Letters: N pictures, J values, D features, K directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.backbones import fingerprint
from whytransfer.diagnosis.grids import GROUPS, NAMES, Mode, chosen, grid
from whytransfer.diagnosis.transforms import canvas_px, clean, pictures_of, transformed
from whytransfer.diagnosis.whitening import Whitening, cosine, whiten
from whytransfer.errors import InputError, RunError
from whytransfer.loading import pictures
from whytransfer.progress import say
from whytransfer.records import Result
from whytransfer.tasks import bootstrap, predictions
from whytransfer.tasks.features import Progress, pooled
from whytransfer.tasks.readout import fingerprint_of, model_name
from whytransfer.views.engine import eval_views

Table = NDArray[np.float64]  # (N, J)
TASK = "invariance"
MEASURES: dict[str, tuple[str, Literal["higher", "lower"]]] = {
    "similarity": ("cosine", "higher"),
    "distance": ("Mahalanobis", "lower"),
}
TOGETHER = 16  # pictures that share the index maps of a batch
ROOM = 1 << 26  # numbers of all transformed pictures of a batch: mode paper has them at the files' own size
RIDGE = 1e-10  # on the covariance of untrained networks, in the published code


def stage_features(backbone: nn.Module, views: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
    """{stage: (B, D) float32} of views (B, 3, S, S): "vector", or the mean over the positions of a stage."""
    found = backbone(views.contiguous(memory_format=torch.channels_last))
    return {stage: pooled(found, stage).float() for stage in stages}


def clean_features(
    backbone: nn.Module, images: Any, size_px: int, resize_px: int, stages: Sequence[str], batch: int, tick: Progress
) -> dict[str, Tensor]:
    """{stage: (N, D) float32} of the middles of all pictures; tick(done, all) after each batch."""
    device, parts = next(backbone.parameters()).device, []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            index = range(start, min(start + batch, len(images)))
            views = eval_views(pictures(images, index), size_px, resize_px).to(device)
            parts.append(stage_features(backbone, views, stages))
            tick(index.stop, len(images))
    return {stage: torch.cat([part[stage] for part in parts]).clone() for stage in stages}


def whitenings(
    backbone: nn.Module,
    images: Any,
    size_px: int,
    stages: Sequence[str] = ("vector",),
    batch: int = 256,
    ridge: float = 0.0,
    tick: Progress = lambda done, total: None,
) -> dict[str, Whitening]:
    """The whitening of each stage by the clean views of all pictures of a set; the backbone must be in eval mode."""
    found = clean_features(backbone, images, size_px, canvas_px(size_px), stages, batch, tick)
    made = {}
    for stage, features in found.items():
        try:
            made[stage] = whiten(features, ridge=ridge)
        except InputError as error:
            raise InputError(f"{model_name(backbone)}, {stage}: {error}") from None
    return made


@dataclass(frozen=True)
class SyntheticInvariance:
    """The synthetic transforms on a set of pictures; run(backbone) yields every transform's and group's numbers.

    `images` are compared with themselves, `statistics` give mean and covariance (PixelCaches; in mode "paper" of the
    files' own size). `transforms` are names of transforms or groups, `most` values of each are tried (all 256 when
    None), `stages` "vector" or stages of the backbone. `folder` keeps S and L of every picture: what is there is not
    computed again, so a stopped run goes on. `ridge` is added to the covariance.
    """

    images: Any
    statistics: Any
    size_px: int
    transforms: tuple[str, ...] = ("all",)
    mode: Mode = "corrected"
    most: int | None = 16
    stages: tuple[str, ...] = ("vector",)
    seed: int = 0
    batch: int = 256
    draws: int = 2000
    ridge: float = 0.0
    folder: Path | None = None
    progress: Progress = lambda done, total: None
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = chosen(self.transforms)
        if not names:
            raise InputError("no transform to try: name some, or a group of them (all, spatial, appearance)")
        if self.batch < 1 or self.size_px < 8:
            raise InputError(f"a batch of 1 and views of 8 px at least, got {self.batch} and {self.size_px}")
        object.__setattr__(self, "names", names)
        for name in names:
            grid(name, self.mode, self.most)

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Measure what is not kept yet; the seed decides deformations and the draws of the intervals."""
        seed, before, was_training = self.seed if seed is None else seed, fingerprint(backbone), backbone.training
        backbone.eval()
        measured = _Measured(self, backbone, seed, before)
        tables = {name: measured.tables(name) for name in self.names}
        backbone.train(was_training)
        if (after := fingerprint(backbone)) != before:
            raise RunError(f"the frozen backbone changed while it was diagnosed: {before[:12]} became {after[:12]}")
        provenance = {
            "mode": self.mode, "size_px": self.size_px, "resize_px": canvas_px(self.size_px), "frozen": True,
            "weights_sha256": after, "bootstrap_draws": self.draws, "statistics_images": len(self.statistics),
            "torch": torch.__version__,
        }  # fmt: skip
        for stage in self.stages:
            where = {**provenance, "stage": stage, **measured.told(stage)}
            yield from self._results(model_name(backbone), tables, stage, seed, where)

    def _results(
        self, model: str, tables: Mapping[str, Any], stage: str, seed: int, provenance: Mapping[str, Any]
    ) -> Iterator[Result]:
        for measure in MEASURES:
            per_image = {name: np.nanmean(kept[f"{measure}_{stage}"], axis=1) for name, kept in tables.items()}
            for name, kept in tables.items():
                table = kept[f"{measure}_{stage}"].astype(np.float64)
                how = {**self._curve(table, seed), "transform": name, "predictions": kept.get("where")}
                value = float(np.nanmean(table, axis=0).mean())
                yield self._result(model, name, measure, stage, value, per_image[name], seed, {**provenance, **how})
            for group, members in GROUPS.items():
                used = [name for name in members if name in tables]
                if used:
                    mean = np.mean([per_image[name] for name in used], axis=0)
                    how = {"group": group, "transforms": used}
                    value = float(np.nanmean(mean))
                    yield self._result(model, group, measure, stage, value, mean, seed, {**provenance, **how})

    def _curve(self, table: Table, seed: int) -> dict[str, Any]:
        """Means over pictures (J,) and their intervals."""
        seen = np.isfinite(table)
        filled = np.where(seen, table, 0)
        means = filled.sum(0) / seen.sum(0)
        found: dict[str, Any] = {"curve": means.round(5).tolist(), "undefined": int((~seen).sum())}
        if len(table) > 1:
            drawn = bootstrap.resampled(
                len(table), lambda c: (c @ filled) / np.maximum(c @ seen, 1), min(self.draws, 500), seed
            )
            low, high = bootstrap.percentiles(drawn)
            found |= {"curve_low": low.round(5).tolist(), "curve_high": high.round(5).tolist()}
        return found

    def _result(
        self, model: str, what: str, measure: str, stage: str, value: float, per_image: Table, seed: int, how: Any
    ) -> Result:
        low, high = mean_interval(per_image, self.draws, seed)
        unit, direction = MEASURES[measure]
        at = "" if stage == "vector" else f" at {stage}"
        return Result(
            model, self.images.name, TASK, f"{what} {measure}{at}", value, unit, direction,
            len(per_image), seed, low, high, {**how, "measure": measure},
        )  # fmt: skip


def mean_interval(values: Table, draws: int, seed: int) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of values (N,) over what they are of; None where there are not two of them."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None, None
    table = np.stack([values, np.ones_like(values)], axis=1)
    return bootstrap.interval(table, lambda sums: sums[..., 0] / sums[..., 1], draws, seed)


class _Measured:
    """S and L of one backbone, kept or computed; the whitening is made when something must be computed."""

    def __init__(self, asked: SyntheticInvariance, backbone: nn.Module, seed: int, weights: str) -> None:
        self.asked, self.backbone, self.seed, self.weights = asked, backbone, seed, weights
        self.grids = {name: grid(name, asked.mode, asked.most) for name in asked.names}
        self.whitenings: dict[str, Whitening] = {}
        self.references: dict[str, Tensor] = {}
        sizes = [len(self.grids[name]) for name in asked.names]
        self.work, self.done = len(asked.images) * (sum(sizes) + 1) + len(asked.statistics), 0
        self.notes: dict[str, dict[str, Any]] = {}

    def tables(self, name: str) -> dict[str, Any]:
        """{"similarity_STAGE": (N, J), "distance_STAGE": ...} of one transform, and where they are kept."""
        a = self.asked
        settings = {
            "model": model_name(self.backbone), "weights": self.weights, "images": str(fingerprint_of(a.images)),
            "statistics": str(fingerprint_of(a.statistics)), "size_px": a.size_px, "mode": a.mode, "seed": self.seed,
            "stages": list(a.stages), "ridge": a.ridge, "values": self.grids[name].tolist(),
        }  # fmt: skip
        folder = predictions.folder_of(a.folder, f"{TASK}-{name}", settings)
        if folder is not None and (folder / "predictions.npz").exists():
            kept: dict[str, Any] = predictions.read(folder.parent, f"{folder.name}/predictions.npz")
            self._count(len(a.images) * len(self.grids[name]))
            self.notes |= {stage: _told(kept[f"told_{stage}"]) for stage in a.stages}
            return {**kept, "where": f"{folder.name}/predictions.npz"}
        self._prepare()
        found = self._measure(name)
        told = {f"told_{s}": np.array([w.images, w.dimensions, w.shrinkage, w.constant]) for s, w in self._made()}
        self.notes |= {stage: _told(told[f"told_{stage}"]) for stage in a.stages}
        return {**found, "where": predictions.keep(folder, **found, **told)}

    def told(self, stage: str) -> dict[str, Any]:
        """How the features were whitened."""
        return self.notes[stage]

    def _made(self) -> Iterator[tuple[str, Whitening]]:
        yield from self.whitenings.items()

    def _count(self, more: int) -> None:
        self.done += more
        self.asked.progress(min(self.done, self.work), self.work)

    def _prepare(self) -> None:
        if self.whitenings:
            return
        a, start = self.asked, self.done

        def tick(done: int, total: int) -> object:
            return a.progress(min(start + done, self.work), self.work)

        made = whitenings(self.backbone, a.statistics, a.size_px, a.stages, a.batch, a.ridge, tick)
        self.done += len(a.statistics)
        for stage, whitening in made.items():
            if whitening.note:
                say(f"note: {model_name(self.backbone)}, {stage}: {whitening.note}")
        parts: list[dict[str, Tensor]] = []
        with torch.inference_mode():
            for index, sources in self._sources():
                seen = stage_features(self.backbone, clean(sources, a.size_px, a.mode), a.stages)
                parts.append({stage: made[stage](features) for stage, features in seen.items()})
                self._count(len(index))
        self.references = {stage: torch.cat([part[stage] for part in parts]) for stage in a.stages}
        self.whitenings = made

    def _sources(self) -> Iterator[tuple[range, Tensor]]:
        """Blocks of pictures, as the transforms take them; one by one in mode "paper": they may differ in size."""
        a, device = self.asked, next(self.backbone.parameters()).device
        together = 1 if a.mode == "paper" else min(TOGETHER, a.batch)
        for start in range(0, len(a.images), together):
            index = range(start, min(start + together, len(a.images)))
            yield index, pictures_of(pictures(a.images, index), a.size_px, a.mode, device)

    def _measure(self, name: str) -> dict[str, Table]:
        a, values = self.asked, self.grids[name]
        shape = len(a.images), len(values)
        found = {f"{measure}_{stage}": np.full(shape, np.nan) for stage in a.stages for measure in MEASURES}
        with torch.inference_mode():
            for index, sources in self._sources():
                step = max(1, min(a.batch // len(sources), ROOM // sources.numel()))
                for first in range(0, len(values), step):
                    part = values[first : first + step]
                    views = transformed(name, sources, part, a.size_px, a.mode, self.seed)
                    seen = stage_features(self.backbone, views.flatten(0, 1), a.stages)
                    for stage, features in seen.items():
                        compared = self._compare(stage, features, index, len(part))
                        for measure, block in zip(MEASURES, compared, strict=True):
                            found[f"{measure}_{stage}"][index.start : index.stop, first : first + len(part)] = block
                    self._count(len(index) * len(part))
        return found

    def _compare(self, stage: str, features: Tensor, index: range, values: int) -> tuple[Table, Table]:
        """Similarity and distance (n, J) of features (n J, D) to those of the clean views."""
        b = self.whitenings[stage](features)
        a = self.references[stage][index.start : index.stop].repeat_interleave(values, 0)
        similarity, distance = (t.view(len(index), values).cpu().numpy() for t in (cosine(a, b), (a - b).norm(dim=1)))
        return similarity, distance


def _told(numbers: NDArray[np.float64]) -> dict[str, Any]:
    images, dimensions, shrinkage, constant = numbers.tolist()
    return {
        "covariance_images": int(images), "directions": int(dimensions), "shrinkage": round(shrinkage, 6),
        "constant_features": int(constant), "unrelated_distance": round(float(np.sqrt(2 * dimensions)), 4),
    }  # fmt: skip


__all__ = ["GROUPS", "NAMES", "SyntheticInvariance", "mean_interval", "whitenings"]
