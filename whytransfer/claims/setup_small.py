"""The scales that fit a desk: demo (generated scenes), laptop (small real images, two cores), gpu (these, longer)."""

from __future__ import annotations

import dataclasses
from typing import Any

from whytransfer.claims import setup_why
from whytransfer.claims.setup import Setup

TINY = "{data}/tiny_imagenet_40/tiny_imagenet_40.zip"
CALTECH = "{data}/caltech101_128/caltech101_128.zip"
CLASSES = "classes:" + TINY + "/train:{data}/tiny_imagenet_40/classes.tsv:"
STREETS, FACES, VOC = "camvid:{data}/camvid", "{data}/faces68", "voc:{data}/voc100"

SMALL: dict[str, dict[str, Any]] = {
    "contrastive": {"method": "moco-v2-small"},
    "supervised": {"method": "supervised", "recipe": "ladder-5"},
    "exemplar": {"method": "exemplar-small"},
    "simclr": {"method": "simclr-small"},
    "byol": {"method": "byol-small"},
    "detcon": {"method": "detcon-s-small"},
    "detcon-b": {"method": "detcon-b-small"},
}


def one_view(batch: int) -> dict[str, Any]:
    """detcon-s-small with positives within one view: the published name, under the small preset's settings."""
    return {
        "method": "detcon-s-one-view", "recipe": "moco-v2", "optimizer": "sgd", "schedule": "cosine",
        "lr": 0.5 * batch / 256, "weight_decay": 5e-4, "warmup_epochs": 1, "dim": 128, "hidden": 512,
        "temperature": 0.1,
    }  # fmt: skip


# demo: what 21 claims at three seeds can have of two cores in half an hour. `whytransfer demo` runs five of them
SCENES = {"train": "scenes:800:0:48", "test": "scenes:400:1:48", "size": 40}
LARGER = {"train": "scenes:60:2:64", "test": "scenes:30:3:64", "size": 64}  # maps of them tell regions apart
FCN = {"schedule": "voc-30k", "architecture": "fcn"}  # Henaff 2021's head for segmentation, on square crops

DEMO = Setup(
    seeds=(0, 1, 2),
    random="random:resnet18:{seed}",
    pretrain={
        "backbone": "resnet18", "size": 40, "batch": 64, "images": "scenes:800:0:48", "monitor": False,
    },
    epochs=4,
    methods={**SMALL, "one-view": one_view(32)},
    tasks={
        **setup_why.DEMO_TASKS,
        "readout": {"task": "readout", **SCENES},
        "detection": {"task": "detection", **LARGER, "architecture": "fpn", "budget": 0.0003, "fit_batch": 4},
        "segmentation": {"task": "segmentation", **LARGER, "budget": 0.0002, "fit_batch": 8},
        "regions": {"task": "segmentation", **LARGER, **FCN, "budget": 0.0002, "fit_batch": 8},
        "landmarks": {
            "task": "landmarks", "train": "scenes:200:2:48", "test": "scenes:100:3:48", "size": 40, "budget": 0.02,
        },
        "fewshot": {
            "task": "fewshot", "train": "classes:scenes:800:0:48:turns:train+val",
            "test": "classes:scenes:400:1:48:turns:test", "size": 40, "way": 3, "episodes": 100,
        },
    },
    diagnoses={
        **setup_why.DEMO_DIAGNOSES,
        "errors": {"diagnose": "errors", "of": "detection", "draws": 200},
        "inversion": {
            "diagnose": "inversion", "images": "scenes:2:3:48", "count": 2, "size": 40, "budget": 0.02, "previews": 0,
        },
        "masks": {"diagnose": "masks", "images": "scenes:60:3:64", "truth": "annotated"},
    },
    iterations=48,
    sets={
        "scenes": ("scenes:800:0:48", SMALL["supervised"]),
        "few-kinds": ("classes:scenes:2000:0:48:turns:train", SMALL["supervised"]),
        "masks": ("scenes:800:0:48", {"method": "supervised-masks"}),
        "leaves": ("leaves:800:0:48", SMALL["supervised"]),
    },
    synthetic=("leaves",),
    tenth="scenes:80:0:48",
    alike={},
    base_classes={"images": "classes:scenes:800:0:48:turns:train"},
    identities={"images": "scenes:800:4:48"},
    dense={
        "backbone": "resnet18", "size": 64, "batch": 32, "images": "scenes:100:0:64", "monitor": False,
    },
    masked={},
    pairs=(("detcon", "simclr"),),
    lengths=(2, 4, 8),
    length=4,
    capacities=("resnet18", "resnet34", "resnet50"),
    engines={
        "grid-1": "grid:1", "grid-3": "grid:3", "fh-100": "felzenszwalb:100:100", "fh-500": "felzenszwalb:500:300",
        "annotated": "annotated",
    },
    clean="annotated",
    found="fh-100",
    resolutions=(48, 64, 96),
    cut=8,
)  # fmt: skip

LAPTOP = Setup(
    seeds=(0, 1, 2),
    random="random:resnet18:{seed}",
    pretrain={"backbone": "resnet18", "size": 64, "batch": 128, "images": TINY + "/train"},
    epochs=10,
    methods={**SMALL, "one-view": one_view(64)},
    tasks={
        **setup_why.LAPTOP_TASKS,
        "readout": {"task": "readout", "train": CALTECH + "/train", "test": CALTECH + "/test", "size": 64},
        "detection": {
            "task": "detection", "train": VOC + ":train", "test": VOC + ":val", "size": 128, "architecture": "c4",
            "budget": 0.02, "fit_batch": 4,
        },
        "segmentation": {
            "task": "segmentation", "train": STREETS, "test": STREETS + ":test", "size": 96, "budget": 0.02,
            "fit_batch": 8,
        },
        "regions": {
            "task": "segmentation", "train": STREETS, "test": STREETS + ":test", "size": 96, **FCN, "budget": 0.02,
            "fit_batch": 8,
        },
        "landmarks": {
            "task": "landmarks", "train": "landmarks:" + FACES, "test": "landmarks:" + FACES + ":test", "size": 64,
            "budget": 0.05,
        },
        "fewshot": {
            "task": "fewshot", "train": CLASSES + "train+-+val", "test": CLASSES + "test", "size": 64, "way": 5,
        },
    },
    diagnoses={
        **setup_why.LAPTOP_DIAGNOSES,
        "errors": {"diagnose": "errors", "of": "detection"},
        "inversion": {"diagnose": "inversion", "images": TINY + "/val", "count": 8, "size": 64, "budget": 0.1},
        "masks": {"diagnose": "masks", "images": STREETS + ":test", "truth": "annotated"},
    },
    iterations=930,
    sets={
        "objects": (TINY + "/train", SMALL["supervised"]),
        "drawings": ("omniglot:{data}/omniglot_small:background-small1", SMALL["supervised"]),
        "streets": (STREETS, {"method": "supervised-masks"}),
        "scenes": ("scenes:6000:0:64", SMALL["supervised"]),
    },
    synthetic=("scenes",),
    tenth="share:10:" + TINY + "/train",
    alike={},
    base_classes={"images": CLASSES + "train+-"},
    identities={"images": "by-name:" + FACES + "/train", "epochs": 40},
    dense={"backbone": "resnet18", "size": 96, "batch": 64, "images": STREETS},
    masked={},
    pairs=(("detcon", "simclr"), ("detcon-b", "byol")),
    lengths=(10, 20, 40),
    length=20,
    capacities=("resnet18", "resnet34", "resnet50"),
    engines={
        "grid-1": "grid:1", "grid-3": "grid:3", "grid-5": "grid:5", "fh-100": "felzenszwalb:100:100",
        "fh-1000": "felzenszwalb:1000:1000", "annotated": "annotated",
    },
    clean="annotated",
    found="fh-1000",
    resolutions=(64, 96, 128),
    cut=8,
)  # fmt: skip

GPU = dataclasses.replace(
    LAPTOP,
    epochs=30,
    tasks={
        name: {**task, **({"budget": 4 * task["budget"]} if "budget" in task else {})}
        for name, task in LAPTOP.tasks.items()
    },
    diagnoses={**LAPTOP.diagnoses, "inversion": {**LAPTOP.diagnoses["inversion"], "count": 16, "budget": 0.5}},
    iterations=2790,
    identities={**LAPTOP.identities, "epochs": 120},
    lengths=(25, 50, 100, 200),
    length=100,
)
