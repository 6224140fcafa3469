"""Made-up inversions, as `diagnose inversion` leaves them in the cells of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from whytransfer.diagnosis import inverted_pictures
from whytransfer.diagnosis.inversion import Inversions
from whytransfer.records import Result


def inversions(model: str, names: Sequence[str], seed: int = 0, side: int = 32) -> Inversions:
    """Of one model; the pictures are the same at every seed, what it made of them is not."""
    truth = torch.rand(len(names), 3, side, side, generator=torch.Generator().manual_seed(7))
    made = torch.rand(1, *truth.shape, generator=torch.Generator().manual_seed(seed))
    losses = torch.zeros(1, len(names), 2)
    return Inversions((model,), names, truth, (None,) * len(names), made, losses, torch.ones(1, len(names)))


def results(model: str, n: int) -> list[Result]:
    """What the captions are written from."""

    def result(metric: str, each: list[float]) -> Result:
        return Result(model, "d", "inversion", metric, 1.0, "%", "lower", n, 0, provenance={"each": each})

    return [result("1 - MS-SSIM (3 scales)", [0.25] * n), result("coverage", [40.0] * n)]


def keep_pictures(rows: Sequence[dict[str, Any]], study: Path, names: Sequence[str]) -> None:
    """Put inversion.npz into the cell of every inversion."""
    for row in rows:
        if row["stage"] == "diagnose-inversion":
            folder = study / row["folder"] / "files"
            folder.mkdir(parents=True, exist_ok=True)
            inverted_pictures.keep(
                inversions(row["model"], names, row["seed"]), results(row["model"], len(names)), folder
            )
