"""What is a pretraining worth on every task that we have? One small real image set each, and generated scenes for all.

Question   Random, supervised and moco-v2-small ResNet-18 of tiny_imagenet_40, and the last two side by side: readouts,
           label efficiency, finetuning, few shots, landmarks, detection, instances, segmentation, depth, factors.
Command    uv run python studies/tasks.py --data FOLDER --backbones supervised=RUN moco=RUN --out runs/tasks
Minutes    2 to 10 per task and backbone on one core; --small: scenes for every set, hundredths of the budgets
Expect     both above random features on the classification tasks; on dense tasks with so few images intervals overlap;
           camvid's mean IoU is that of a network that has learnt streets (SegNet's paper: about 60 % from VGG-16)

FOLDER holds the sets as named in SETS. Budgets were fixed by the time they take before any test image was scored, and
nothing is tuned; faces-longer was added after faces had ended at the mean face. A result that is in the folder is not
computed again; a killed fit goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import whytransfer

Cell = tuple[str, str, str, dict[str, Any]]  # task, train, test, settings of transfer

TINY, CALTECH = "{data}/tiny_imagenet_40/tiny_imagenet_40.zip", "{data}/caltech101_128/caltech101_128.zip"
MINI = "classes:" + TINY + "/train:{data}/tiny_imagenet_40/classes.tsv"
FACES, ROOMS = "landmarks:{data}/faces68", "rgbd:{data}/rgbd_depth/7scenes"
VOC, COCO, STREETS = "voc:{data}/voc100", "coco:{data}/coco128", "camvid:{data}/camvid"
SHARES = (1.0, 5.0, 10.0, 100.0)

CELLS: dict[str, Cell] = {
    "tiny": ("readout", TINY + "/train", TINY + "/val", {"size": 64, "labels": SHARES}),
    "caltech": ("readout", CALTECH + "/train", CALTECH + "/test", {"size": 64, "labels": SHARES}),
    "caltech-layer3": ("readout", CALTECH + "/train", CALTECH + "/test", {"size": 64, "stage": "layer3"}),
    "caltech-knn": ("knn", CALTECH + "/train", CALTECH + "/test", {"size": 64}),
    "caltech-sgd": ("sgd-readout", CALTECH + "/train", CALTECH + "/test", {"size": 64}),
    "caltech-finetune": (
        "finetune", CALTECH + "/train", CALTECH + "/test", {"size": 64, "schedule": "four-rates", "budget": 0.02},
    ),
    "coco-classes": ("readout", COCO + ":train2017", COCO + ":val2017", {"size": 96}),
    "mini": ("fewshot", MINI + ":train", MINI + ":test", {"size": 64}),
    "omniglot": (
        "fewshot", "omniglot:{data}/omniglot_small:background-small1", "omniglot:{data}/omniglot_small:runs",
        {"size": 64},
    ),
    "faces": ("landmarks", FACES, FACES + ":test", {"size": 64, "budget": 0.05}),
    "faces-longer": ("landmarks", FACES, FACES + ":test", {"size": 64, "budget": 0.25}),
    "faces-frozen": ("landmarks", FACES, FACES + ":test", {"size": 64, "budget": 0.05, "mode": "frozen"}),
    "faces-ridge": ("ridge-readout", FACES, FACES + ":test", {"size": 64}),
    "voc": (
        "detection", VOC + ":train", VOC + ":val",
        {"size": 128, "architecture": "c4", "budget": 0.02, "fit_batch": 4},
    ),
    "coco": (
        "instances", COCO + ":train2017", COCO + ":val2017",
        {"size": 128, "architecture": "fpn", "budget": 0.002, "fit_batch": 4},
    ),
    "camvid": ("segmentation", STREETS, STREETS + ":test", {"size": 96, "budget": 0.02, "fit_batch": 8}),
    "camvid-fcn": (
        "segmentation", STREETS, STREETS + ":test",
        {"size": 128, "budget": 0.04, "fit_batch": 8, "architecture": "fcn", "schedule": "voc-30k"},
    ),
    "rooms": ("depth", ROOMS + "/train", ROOMS + "/test", {"size": 112, "budget": 0.004, "fit_batch": 16}),
    "scenes": ("readout", "scenes:3000:11", "scenes:1000:12", {"size": 64}),
    "scenes-factors": ("factors", "scenes:3000:11", "scenes:1000:12", {"size": 64}),
    "scenes-kernel": ("kernel-readout", "scenes:3000:11", "scenes:1000:12", {"size": 64}),
    "scenes-boxes": (
        "instances", "scenes:500:11", "scenes:200:12",
        {"size": 64, "architecture": "fpn", "budget": 0.002, "fit_batch": 4},
    ),
    "scenes-maps": ("segmentation", "scenes:500:11", "scenes:200:12", {"size": 64, "budget": 0.02, "fit_batch": 8}),
    "scenes-depth": ("depth", "scenes:500:11", "scenes:200:12", {"size": 64, "budget": 0.004, "fit_batch": 16}),
}  # fmt: skip


def small(cell: Cell) -> Cell:
    """The same task on a few scenes with a hundredth of its budget."""
    task, _, _, settings = cell
    settings = {**settings, "size": 48}
    if "budget" in settings:
        settings["budget"] /= 100
    return task, "scenes:200:1", "scenes:80:2", settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--backbones", nargs="*", default=[], metavar="NAME=RUN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--small", action="store_true", help="a few generated scenes for every set")
    a = parser.parse_args()
    specs = {"random": "random:resnet18", **dict(pair.split("=", 1) for pair in a.backbones)}
    if len(specs) > 2:
        specs["fusion"] = "+".join(list(specs.values())[1:])
    for name in a.cells:
        task, train, test, settings = small(CELLS[name]) if a.small else CELLS[name]
        sets = {"train": train.format(data=a.data), "test": test.format(data=a.data)}
        for seed in a.seeds:
            for model, spec in specs.items():
                out = a.out / f"{name}-{model}-{seed}"
                if not (out / "results.jsonl").exists():
                    backbone = f"{spec}:{seed}" if model == "random" else spec
                    whytransfer.transfer(backbone=backbone, task=task, seed=seed, out=out, **sets, **settings)
                for r in map(json.loads, (out / "results.jsonl").read_text().splitlines()):
                    interval = "" if r["low"] is None else f"[{r['low']:.3f}, {r['high']:.3f}]"
                    print(
                        f"{name:16} {model:12} {r['metric']:24} {r['value']:8.3f} {r['unit']:4} {interval}", flush=True
                    )


if __name__ == "__main__":
    main()
