"""Rows as the table of a study has them, made up: six backbones of which two are known to be best and worst."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whytransfer.records import Result
from whytransfer.study.cells import Cell
from whytransfer.study.store import StudyFolder

BACKBONES = {
    "random": "random:resnet18:{seed}",
    "supervised": "cells/pretrain-a{seed}/files",
    "default": "cells/pretrain-b{seed}/files",
    "spatial": "cells/pretrain-c{seed}/files",
    "appearance": "cells/pretrain-d{seed}/files",
    "fused": "cells/pretrain-b{seed}/files+cells/pretrain-c{seed}/files+cells/pretrain-d{seed}/files",
}
# item -> stage, task, unit, {metric: values of the backbones in their order}, spread over seeds
STUDY: dict[str, tuple[str, str, str, dict[str, Sequence[float]], float]] = {
    "class": ("transfer", "readout", "%", {
        "top1": (27, 52, 61, 48, 55, 64), "mean_per_class": (26, 51, 60, 47, 54, 63)}, 0.6),
    "factors": ("transfer", "factors", "R2", {
        "pose": (0.32, 0.31, 0.26, 0.22, 0.43, 0.44), "colour": (0.47, 0.38, 0.57, 0.65, 0.33, 0.66)}, 0.008),
    "parts": ("transfer", "segmentation", "%", {
        "mean_iou": (21, 30, 33, 34, 33.5, 36), "overall_accuracy": (55, 60, 62, 63, 62.5, 64)}, 1.5),
    "depth": ("transfer", "depth", "unit", {"rmse": (1.2, 0.95, 0.9, 0.88, 0.91, 0.86)}, 0.03),
    "invariance": ("diagnose-invariance", "invariance", "cosine", {
        "spatial similarity": (0.30, 0.55, 0.70, 0.85, 0.45, 0.72),
        "appearance similarity": (0.40, 0.50, 0.66, 0.35, 0.88, 0.68),
        "rotation similarity": (0.30, 0.52, 0.60, 0.70, 0.42, 0.61), "hue similarity": (0.42, 0.5, 0.7, 0.3, 0.9, 0.7),
        "crop similarity": (0.35, 0.55, 0.75, 0.9, 0.5, 0.77), "blur similarity": (0.5, 0.6, 0.72, 0.5, 0.8, 0.7),
        "flip similarity": (0.5, 0.8, 0.9, 0.95, 0.6, 0.9), "grey similarity": (0.41, 0.5, 0.74, 0.31, 0.91, 0.71),
        "shear similarity": (0.4, 0.5, 0.7, 0.8, 0.5, 0.7)}, 0.015),
    "errors": ("diagnose-errors", "detection errors", "%", {
        "Hoiem share Loc": (40, 35, 22, 21, 25, 20), "Hoiem share Sim": (10, 9, 8, 8, 7, 8),
        "Hoiem share Oth": (10, 8, 7, 9, 8, 7), "Hoiem share BG": (25, 20, 18, 17, 20, 16)}, 1.2),
    "inversion": ("diagnose-inversion", "inversion", "%", {"coverage": (70, 40, 55, 48, 52, 58)}, 2.0),
}  # fmt: skip
LOWER = {"rmse", "seconds", "peak_mib", "Hoiem share Loc", "Hoiem share Sim", "Hoiem share Oth", "Hoiem share BG"}


def study_rows(seeds: Sequence[int] = (0, 1, 2), backbones: Sequence[str] = tuple(BACKBONES)) -> list[dict[str, Any]]:
    """All rows of a study of these seeds and backbones."""
    rows = [row for seed in seeds for name in backbones for row in _pretraining(name, seed)]
    for item, (stage, task, unit, metrics, spread) in STUDY.items():
        for seed in seeds:
            for name in backbones:
                for metric, values in metrics.items():
                    value = values[list(BACKBONES).index(name)] + spread * noise(item, metric, name, seed)
                    rows.append(row(name, item, metric, value, seed, stage=stage, task=task, unit=unit, spread=spread))
    for share, loss in ((1, 24), (10, 9)):
        for seed in seeds:
            for name in backbones:
                value = STUDY["class"][3]["top1"][list(BACKBONES).index(name)] - loss + noise("few", share, name, seed)
                more = {"data": f"scenes ({share} % of the labels)", "provenance": {"labels_percent": share}}
                rows.append(row(name, "class", "top1", value, seed, **more))
    rows += [
        row(engine, "masks", "best overlap", value, 0, stage="masks-quality", task="mask quality", model=engine)
        for engine, value in (("grid:5", 41.0), ("felzenszwalb", 55.5))
    ]
    return rows


def _pretraining(name: str, seed: int) -> Iterator[dict[str, Any]]:
    if name in ("random", "fused"):
        return
    for metric, value, unit in (("seconds", 95.0, "s"), ("images_per_second", 210.0, "images/s"), ("knn", 41.0, "%")):
        value *= 1 + 0.02 * noise("", metric, name, seed)
        made = row(name, "", metric, value, seed, stage="pretrain", task="pretraining", unit=unit)
        yield {**made, "low": None, "high": None, "cell": f"pretrain/{name}/{seed}"}


def row(
    backbone: str, item: str, metric: str, value: float, seed: int, stage: str = "transfer", task: str = "readout",
    unit: str = "%", spread: float = 1.0, data: str = "scenes", model: str = "", provenance: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """One row; its test-image interval is twice its spread over seeds wide."""
    key = f"{stage}-{zlib.crc32(f'{item}/{backbone}/{seed}'.encode()):08x}"
    return {
        "study": "trade-off", "cell": "/".join(filter(None, (item, backbone, str(seed)))), "key": key, "stage": stage,
        "item": item, "backbone": backbone, "seed": seed, "metric": metric, "value": value, "low": value - spread,
        "high": value + spread, "unit": unit, "direction": "lower" if metric in LOWER else "higher", "n": 1500,
        "data": data, "task": task, "model": model or BACKBONES[backbone].format(seed=seed),
        "provenance": {
            "command": "whytransfer study trade-off.yaml --out results", "versions": {"torch": "2.12"},
            "weights_sha256": "0123abcd" * 8, "curve": [0.5] * 400, **(provenance or {}),
        },
        "folder": f"cells/{key}",
    }  # fmt: skip


def renamed(rows: list[dict[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows with other names of backbones, items and metrics."""
    columns = ("backbone", "item", "metric")
    return [{**row, **{c: names.get(row[c], row[c]) for c in columns}} for row in rows]


def written(rows: list[dict[str, Any]], folder: Path) -> Path:
    """A study's folder that holds these rows, each cell of them finished."""
    store = StudyFolder.create(folder)
    cells = {}
    for key in dict.fromkeys(row["key"] for row in rows):
        own = [row for row in rows if row["key"] == key]
        first = own[0]
        cell = Cell(first["cell"], first["stage"], {"seed": first["seed"]}, (), first["seed"], first["item"])
        cells[key] = Cell(**{**vars(cell), "backbone": first["backbone"]})
        card = store.begin(cells[key], key, {"stage": cell.stage, "settings": {"seed": cell.seed}}, {})
        fields = [field.name for field in dataclasses.fields(Result)]
        store.finish(card, [Result(**{name: row[name] for name in fields}) for row in own], 1.0)
    store.keep_study(rows[0]["study"], [(cell, key) for key, cell in cells.items()], {})
    return folder


def data_of(page: Path) -> dict[str, Any]:
    """What a report holds in its compressed part: {"evidence": ..., "specs": {chart: specification}}."""
    packed = page.read_text().partition('id="data">')[2].partition("<")[0]
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def noise(*of: object) -> float:
    """A normal number that depends on its arguments alone."""
    return float(np.random.default_rng(zlib.crc32(repr(of).encode())).normal())


CLAIMS = [
    {
        "id": "C16", "source": "Ericsson 2022", "finding": "Spatial views teach spatial invariance",
        "paper": "0.87 and 0.51", "scale": "demo", "verdict": "holds", "why": "",
        "effects": [
            {"name": "spatial − appearance, spatial transforms", "sign": "+", "value": 0.40, "low": 0.37, "high": 0.43,
             "unit": "cosine", "margin": None, "seeds": {"0": 0.41, "1": 0.39, "2": 0.40}, "verdict": "holds",
             "paper": "+0.36", "smallest": 0.02},
            {"name": "spatial − appearance, colour", "sign": "-", "value": -0.53, "low": -0.55, "high": -0.51,
             "unit": "cosine", "margin": None, "seeds": {"0": -0.52, "1": -0.54, "2": -0.53}, "verdict": "holds",
             "paper": "-0.30", "smallest": 0.02},
        ],
    },
    {
        "id": "C19", "source": "Ericsson 2022", "finding": "Recognition prefers Default", "paper": "", "scale": "demo",
        "verdict": "undecided", "why": "",
        "effects": [
            {"name": "default − appearance, top-1", "sign": "+", "value": 0.4, "low": -2.5, "high": 3.3, "unit": "%",
             "margin": None, "seeds": {"0": 1.0, "1": -0.6, "2": 0.8}, "verdict": "undecided", "paper": "+2.1",
             "smallest": 3.1},
        ],
    },
    {
        "id": "C04", "source": "Zhao 2021", "finding": "Contrastive transfer hardly depends on the images", "paper": "",
        "scale": "demo", "verdict": "contradicted", "why": "",
        "effects": [
            {"name": "spread, contrastive − supervised", "sign": "-", "value": 4.0, "low": 1.5, "high": 6.5,
             "unit": "%", "margin": None, "seeds": {"0": 3.0, "1": 5.0, "2": 4.0}, "verdict": "contradicted",
             "paper": "-5", "smallest": 2.0},
        ],
    },
    {
        "id": "C10", "source": "Zhao 2021", "finding": "Landmarks after identity pretraining", "paper": "",
        "scale": "demo", "verdict": "not run", "why": "generated scenes have no faces", "effects": [],
    },
]  # fmt: skip
