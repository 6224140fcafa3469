"""Measuring one candidate for an advice: readouts by shares of the labels, what changes of the pictures do, and speed.

Pictures are seen as the invariance diagnosis sees them: resized to 8/7 of the view, and the middle taken. What was
measured is kept below a folder, named by all that decides it, so a stopped advice goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.backbones import fingerprint
from whytransfer.diagnosis.advice import Candidate
from whytransfer.diagnosis.changed import STRENGTHS, Drawn, changed_features
from whytransfer.diagnosis.grids import GROUPS
from whytransfer.diagnosis.out_of_fold import OutOfFold, out_of_fold
from whytransfer.diagnosis.transforms import canvas_px
from whytransfer.diagnosis.whitening import cosine, whiten
from whytransfer.errors import InputError
from whytransfer.images import subset
from whytransfer.progress import say
from whytransfer.speed import rate
from whytransfer.tasks import predictions
from whytransfer.tasks.features import extract
from whytransfer.tasks.readout import fingerprint_of

Tick = Callable[[int], object]  # called with the units of work that were done since the last call
VERSION = 1  # of the measurement: another one is not taken from what was kept
RATE_SECONDS, RATE_BATCH = 1.0, 32


@dataclass(frozen=True)
class Question:
    """What every candidate is asked: the same folds, shares, changed pictures and changes for all of them."""

    labels: NDArray[np.int64]  # (N,)
    fold: NDArray[np.int64]  # (N,)
    changed: NDArray[np.int64]  # (P,) rows of the pictures that are changed
    drawn: Mapping[str, Drawn]  # by group, (P, V)
    shares: tuple[float, ...]  # per cent of the labels
    seed: int = 0
    batch: int = 64
    folder: Path | None = None

    @property
    def work(self) -> int:
        """Units of work of a candidate, for progress: images that it sees and, about, pictures that it is fitted on."""
        n, folds = len(self.labels), int(self.fold.max()) + 1
        fitted = sum(n * (folds - 1) * share / 100 for share in {*self.shares, 100.0})
        return n + sum(drawn.transform.size for drawn in self.drawn.values()) + int(fitted)


def measure(
    backbone: nn.Module, untrained: bool, images: Any, size_px: int, question: Question, tick: Tick
) -> Candidate:
    """The candidate, measured on a PixelCache of the N pictures, or read from what was kept of it."""
    left = question.work

    def count(units: int) -> None:
        nonlocal left
        tick(min(units, left))
        left -= min(units, left)

    folder = predictions.folder_of(question.folder, "advise", _settings(backbone, images, size_px, question))
    if folder is not None and (folder / "predictions.npz").exists():
        kept: Mapping[str, Any] = predictions.read(folder.parent, f"{folder.name}/predictions.npz")
    else:
        kept = _measured(backbone, images, size_px, question, count)
        predictions.keep(folder, **kept)
    count(left)
    shares = [float(share) for share in kept["shares"]]
    return Candidate(
        name=str(getattr(backbone, "spec", "")),
        untrained=untrained,
        correct={share: kept["correct"][i] for i, share in enumerate(shares)},
        labelled={share: float(kept["labelled"][i]) for i, share in enumerate(shares)},
        offered={group: kept[f"offered_{group}"] for group in GROUPS},
        correct_changed={group: kept[f"changed_{group}"] for group in GROUPS},
        images_per_second=float(kept["images_per_second"]),
        size_px=size_px,
        width=int(kept["width"]),
        millions=sum(p.numel() for p in backbone.parameters()) / 1e6,
        arch=str(getattr(backbone, "arch", "")),
        weights_sha256=fingerprint(backbone),
    )


def _settings(backbone: nn.Module, images: Any, size_px: int, question: Question) -> dict[str, Any]:
    """All that decides what is measured."""
    q = question
    changes = {group: [d.transform.tolist(), d.strength.tolist()] for group, d in q.drawn.items()}
    rows = [q.labels.tolist(), q.fold.tolist(), q.changed.tolist()]
    return {
        "version": VERSION, "weights": fingerprint(backbone), "images": str(fingerprint_of(images)), "size_px": size_px,
        "rows": rows, "changes": changes, "strengths": STRENGTHS, "shares": q.shares, "seed": q.seed,
    }  # fmt: skip


def _measured(backbone: nn.Module, images: Any, size_px: int, question: Question, tick: Tick) -> dict[str, Any]:
    q, seen = question, 0

    def of_features(done: int, total: int) -> None:
        nonlocal seen
        tick(done - seen)
        seen = done

    table = extract(backbone, images, size_px, q.batch, resize_px=canvas_px(size_px), progress=of_features)
    found = out_of_fold(table.vectors, q.labels, q.fold, q.shares, q.seed, tick)
    shares = sorted(found.predicted)
    kept: dict[str, Any] = {
        "shares": shares,
        "correct": np.stack([found.correct(share) for share in shares]),
        "labelled": [found.images[share] for share in shares],
        "images_per_second": _rate(backbone, size_px),
        "width": table.vectors.shape[1],
    }
    return {**kept, **_changed(backbone, images, size_px, q, table.vectors, found, tick)}


def _changed(
    backbone: nn.Module, images: Any, size_px: int, q: Question, features: Tensor, found: OutOfFold, tick: Tick
) -> dict[str, Any]:
    """offered_GROUP (P,) and changed_GROUP (P, V) of each group."""
    try:
        whitening = whiten(features)
    except InputError as error:
        raise InputError(f"{getattr(backbone, 'spec', 'the backbone')}: {error}") from None
    if whitening.shrinkage:
        say(f"note: {getattr(backbone, 'spec', '')}: {whitening.note}")
    some, clean = subset(images, q.changed), whitening(features[torch.from_numpy(q.changed).to(features.device)])
    kept = {}
    for group, drawn in q.drawn.items():
        changed = changed_features(backbone, some, drawn, size_px, q.seed, q.batch, tick)  # (P, V, D)
        p, v, _ = changed.shape
        alike = cosine(whitening(changed.flatten(0, 1)), clean.repeat_interleave(v, 0)).view(p, v)
        kept[f"offered_{group}"] = np.nanmean(alike.cpu().numpy(), axis=1)
        right = found.of_others(changed.flatten(0, 1), np.repeat(q.changed, v))
        kept[f"changed_{group}"] = right.reshape(p, v)
    return kept


def _rate(backbone: nn.Module, size_px: int) -> float:
    """Images per second of the backbone alone, views ready on its device."""
    parameter = next(backbone.parameters())
    views = torch.rand(RATE_BATCH, 3, size_px, size_px, device=parameter.device)
    views = views.contiguous(memory_format=torch.channels_last)

    def see() -> None:
        with torch.inference_mode():
            backbone(views).vector.sum().item()  # on a GPU, waits for it

    return rate(see, len(views), RATE_SECONDS, warmup=1)
