"""Rows as studies have them, made up for the charts: an augmentation ladder, image sets, invariances, errors, masks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from whytransfer.diagnosis.grids import GROUPS

# backbone -> method, recipe, images of its pretraining, and how good it is
PRETRAINED = {
    **{f"moco {k}": ("moco-v2-small", f"ladder-{k}", "scenes", 30 + 8 * k) for k in range(1, 6)},
    **{f"supervised {k}": ("supervised", f"ladder-{k}-supervised", "scenes", 50 + 2 * k) for k in range(1, 6)},
    "moco on faces": ("moco-v2-small", "ladder-5", "faces68", 60),
}
RANDOM, FUSED = "random", "both"
GOOD = {RANDOM: 25, **{name: good for name, (_, _, _, good) in PRETRAINED.items()}, FUSED: 74}


def model(backbone: str, seed: int) -> str:
    if backbone == FUSED:
        return f"{model('moco 5', seed)}+{model('supervised 5', seed)}"
    return f"random:resnet18:{seed}" if backbone == RANDOM else f"cells/{backbone.replace(' ', '-')}-{seed}/files"


def row(
    backbone: str, item: str, metric: str, value: float, seed: int, stage: str = "transfer", task: str = "readout",
    unit: str = "%", direction: str = "higher", half: float | None = 1.0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One row, with an interval over its test images of `half` to each side."""
    return {
        "study": "made up", "cell": f"{item}/{backbone}/{seed}", "key": f"{stage}-{zlib.crc32(backbone.encode()):08x}",
        "stage": stage, "item": item, "backbone": backbone, "seed": seed, "metric": metric, "value": value,
        "low": None if half is None else value - half, "high": None if half is None else value + half, "unit": unit,
        "direction": direction, "n": 1500, "data": "scenes", "task": task, "model": model(backbone, seed),
        "provenance": {}, "folder": f"cells/{stage}-{backbone.replace(' ', '-')}-{seed}",
    } | more  # fmt: skip


def noise(*of: object) -> float:
    return float(np.random.default_rng(zlib.crc32(repr(of).encode())).normal())


def chart_rows(seeds: Sequence[int] = (0, 1, 2), names: Sequence[str] = tuple(GOOD)) -> list[dict[str, Any]]:
    """Everything that a chart is drawn from."""
    return (
        [
            found
            for seed in seeds
            for name in names
            for part in (_pretraining, _tasks, _diagnoses)
            for found in part(name, seed)
        ]
        + [found for seed in seeds for found in _fusions(seed)]
        + [
            row("", engine, "best overlap", value, 0, "masks-quality", "mask quality", model=engine)
            for engine, value in (("grid:5", 41.0), ("felzenszwalb", 55.5), ("mcg", 63.0))
        ]
    )


def _pretraining(name: str, seed: int) -> list[dict[str, Any]]:
    if name in (RANDOM, FUSED):
        return []
    method, recipe, images, good = PRETRAINED[name]
    more = {"half": None, "data": images, "provenance": {"method": method, "recipe": recipe}}
    measures = (("seconds", 40 + good, "s", "lower"), ("images_per_second", 210.0, "images/s", "higher"),
                ("peak_mib", 900.0, "MiB", "lower"))  # fmt: skip
    return [
        row(name, "", metric, value * (1 + 0.02 * noise(metric, name, seed)), seed, "pretrain", "pretraining", unit,
            direction, **more)
        for metric, value, unit, direction in measures
    ]  # fmt: skip


def _tasks(name: str, seed: int) -> list[dict[str, Any]]:
    good = GOOD[name]
    found = [row(name, "class", "top1", good + noise("class", name, seed), seed)]
    for percent, less in ((1, 22), (10, 9)):
        more = {"data": f"scenes ({percent} % of the labels)", "provenance": {"labels_percent": percent}}
        found.append(row(name, "class", "top1", good - less + noise(percent, name, seed), seed, **more))
    for factor, sign in (("pose", -1), ("hue", 1)):
        value = 0.5 + sign * (good - 50) / 100 + 0.02 * noise(factor, name, seed)
        found.append(row(name, "factors", factor, value, seed, task="factors", unit="R2", half=0.02))
    value = 1.6 - good / 100 + 0.02 * noise("depth", name, seed)
    return [*found, row(name, "depth", "rmse", value, seed, task="depth", unit="unit", direction="lower", half=0.05)]


def _diagnoses(name: str, seed: int) -> list[dict[str, Any]]:
    good, found = GOOD[name] / 100, []
    for group, members in GROUPS.items():
        for what in (group, *members):
            value = (good if group == "spatial" else 1 - good) + 0.02 * noise(what, name, seed)
            found.append((f"{what} similarity", value, "invariance", "scenes"))
    found.append(("viewpoint similarity", good, "real invariance", "coil20"))
    rows = [
        row(name, "invariance", metric, value, seed, "diagnose-invariance", task, "cosine", half=0.02, data=data)
        for metric, value, task, data in found
    ]
    for k, kind in enumerate(("Loc", "Sim", "Oth", "BG")):
        share = 10 * (k + 1) - 10 * good + noise(kind, name, seed)
        rows.append(row(name, "errors", f"Hoiem share {kind}", share, seed, "diagnose-errors", "detection errors",
                        direction="lower"))  # fmt: skip
    for k, kind in enumerate(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")):
        rows.append(row(name, "errors", f"TIDE dAP {kind}", 2.0 * k + noise(kind, name, seed), seed, "diagnose-errors",
                        "detection errors", direction="lower"))  # fmt: skip
    scores = (("1 - MS-SSIM (3 scales)", 0.8 - good / 2, "distance", "lower"), ("coverage", 100 * good, "%", "higher"))
    for metric, value, unit, direction in scores:
        rows.append(row(name, "inversion", metric, value + 0.01 * noise(metric, name, seed), seed, "diagnose-inversion",
                        "inversion", unit, direction, half=0.05))  # fmt: skip
    return rows


PAIRS = {("moco 1", "moco 5"): 0.8, ("moco 1", "supervised 5"): 0.2, ("moco 5", "supervised 5"): 0.4}  # CKA
GAINS = {"moco 1+moco 5": 0.01, "moco 5+supervised 5": 0.06}  # over the best member


def _fusions(seed: int) -> list[dict[str, Any]]:
    """What a complementarity leaves: likeness of pairs, gains of fusions, mean ranks."""
    how = {"task": "complementarity", "stage": "diagnose-complementarity", "half": 0.02}
    found = []
    for (one, other), cka in PAIRS.items():
        models = [model(one, seed), model(other, seed)]
        more = {"unit": "", "direction": "lower", "model": " with ".join(models), **how}
        measures = (("cka", "unbiased linear CKA", cka), ("overlap", "factors pose: kappa of errors", 0.3))
        for kind, metric, value in measures:
            value += 0.005 * noise(kind, one, other, seed)
            told = {"kind": kind, "models": models}
            found.append(row(f"{one} with {other}", "fusion", metric, value, seed, provenance=told, **more))
    for name, gain in GAINS.items():
        spec = "+".join(model(member, seed) for member in name.split("+"))
        value = gain + 0.002 * noise("gain", name, seed)
        found.append(row(name, "fusion", "factors pose: gain over the best single", value, seed, unit="R2", model=spec,
                         provenance={"kind": "gain", "of_task": "factors"}, **how))  # fmt: skip
        found.append(row(name, "fusion", "mean rank", 1.5 - 10 * gain, seed, unit="rank", direction="lower", model=spec,
                         provenance={"kind": "rank"}, data="2 tasks", **how))  # fmt: skip
    return found


CLAIMS = [
    {
        "id": "C16", "source": "Ericsson 2022", "finding": "Spatial views teach spatial invariance", "paper": "",
        "scale": "demo", "verdict": "holds", "why": "",
        "effects": [
            {"name": "spatial transforms", "sign": "+", "value": 0.40, "low": 0.37, "high": 0.43, "unit": "cosine",
             "margin": None, "seeds": {"0": 0.41, "1": 0.39, "2": 0.40}, "verdict": "holds", "paper": "+",
             "smallest": 0.02},
            {"name": "colour", "sign": "-", "value": -0.53, "low": -0.55, "high": -0.51, "unit": "cosine",
             "margin": None, "seeds": {"0": -0.52, "1": -0.54, "2": -0.53}, "verdict": "holds", "paper": "-",
             "smallest": 0.02},
        ],
    },
    {
        "id": "C04", "source": "Zhao 2021", "finding": "Contrastive transfer hardly depends on the images", "paper": "",
        "scale": "demo", "verdict": "contradicted", "why": "",
        "effects": [
            {"name": "spread", "sign": "-", "value": 4.0, "low": 1.5, "high": 6.5, "unit": "%", "margin": None,
             "seeds": {"0": 3.0, "1": 5.0, "2": 4.0}, "verdict": "contradicted", "paper": "-5", "smallest": 2.0},
            {"name": "one view", "sign": "0", "value": 0.4, "low": -2.5, "high": 3.3, "unit": "%", "margin": 1.0,
             "seeds": {"0": 1.0, "1": -0.6, "2": 0.8}, "verdict": "undecided", "paper": "about 0", "smallest": 3.1},
            {"name": "one seed only", "sign": "+", "value": 2.0, "low": None, "high": None, "unit": "%", "margin": None,
             "seeds": {"0": 2.0}, "verdict": "undecided", "paper": "+", "smallest": None},
        ],
    },
]  # fmt: skip
