"""The papers' data and schedules: months of eight GPUs for all of it; runs where the data are, a claim at a time.

{data} holds imagenet, places, celeba, coco, synthia, voc, cityscapes, mini_imagenet (full-size images), mafl, nyu, each
in its published layout (docs/images.md).
"""

from __future__ import annotations

from typing import Any

from whytransfer.claims import setup_why
from whytransfer.claims.setup import Setup

IMAGENET, COCO, VOC, CELEBA = "imagenet:{data}/imagenet", "coco:{data}/coco", "voc:{data}/voc", "celeba:{data}/celeba"
MINI = "mini-imagenet:{data}/mini_imagenet"
SUPERVISED: dict[str, Any] = {"method": "supervised", "recipe": "ladder-5"}

FULL = Setup(
    seeds=(0, 1, 2),
    random="random:resnet50:{seed}",
    pretrain={"backbone": "resnet50", "size": 224, "batch": 256, "images": IMAGENET},
    epochs=200,
    methods={
        "contrastive": {"method": "moco-v2"},
        "supervised": SUPERVISED,
        "exemplar": {"method": "exemplar-v2"},
        "simclr": {"method": "simclr"},
        "byol": {"method": "byol"},
        "detcon": {"method": "detcon-s"},
        "detcon-b": {"method": "detcon-b"},
        "one-view": {"method": "detcon-s-one-view"},
    },
    tasks={
        **setup_why.FULL_TASKS,
        "readout": {"task": "sgd-readout", "train": IMAGENET, "test": IMAGENET + ":val", "size": 224},
        "detection": {
            "task": "detection", "train": VOC + ":2007:trainval", "test": VOC + ":2007:test", "size": 800,
            "schedule": "voc07", "architecture": "c4",
        },
        "segmentation": {
            "task": "segmentation", "train": "cityscapes:{data}/cityscapes", "test": "cityscapes:{data}/cityscapes:val",
            "size": 512, "schedule": "cityscapes-40k", "architecture": "deeplab",
        },
        "regions": {
            "task": "segmentation", "train": VOC + ":2012:segmentation-train", "test": VOC + ":2012:segmentation-val",
            "size": 513, "schedule": "voc-30k", "architecture": "fcn",
        },
        "landmarks": {
            "task": "landmarks", "train": "mafl:{data}/mafl", "test": "mafl:{data}/mafl:test", "size": 224,
        },
        "fewshot": {"task": "fewshot", "train": MINI + ":train+val", "test": MINI + ":test", "size": 224, "way": 5},
    },
    diagnoses={
        **setup_why.FULL_DIAGNOSES,
        "errors": {"diagnose": "errors", "of": "detection"},
        "inversion": {"diagnose": "inversion", "images": IMAGENET + ":val", "count": 1000, "size": 224},
        "masks": {"diagnose": "masks", "images": COCO + ":val2017", "truth": "annotated"},
    },
    iterations=1_000_800,
    sets={
        "imagenet": (IMAGENET, SUPERVISED),
        "imagenet-10pct": ("imagenet-10pct:{data}/imagenet", SUPERVISED),
        "imagenet-100": ("imagenet-100:{data}/imagenet", SUPERVISED),
        "places": ("places:{data}/places", SUPERVISED),
        "celeba": (CELEBA, SUPERVISED),
        "coco": (COCO, {"method": "supervised-boxes"}),
        "synthia": ("synthia:{data}/synthia", {"method": "supervised-masks"}),
    },
    synthetic=("synthia",),
    tenth="imagenet-10pct:{data}/imagenet",
    alike={"queue": 1_048_576, "temperature": 0.1},
    base_classes={"images": MINI + ":train", "backbone": "resnet18", "epochs": 2000},
    identities={"images": CELEBA, "epochs": 1400},
    dense={"backbone": "resnet50", "size": 224, "batch": 4096, "images": IMAGENET},
    masked={"images": COCO, "schedule": "step", "milestones": [0.96, 0.98]},
    pairs=(("detcon", "simclr"), ("detcon-b", "byol")),
    lengths=(100, 200, 300, 500, 1000),
    length=300,
    capacities=("resnet50", "resnet101", "resnet152", "resnet200"),
    engines={
        "grid-1": "grid:1", "grid-2": "grid:2", "grid-5": "grid:5", "grid-10": "grid:10",
        "fh-500": "felzenszwalb:500:500", "fh-1000": "felzenszwalb:1000:1000", "mcg": "mcg", "annotated": "annotated",
    },
    clean="annotated",
    found="fh-1000",
    resolutions=(224, 384, 512),
    cut=128,
)  # fmt: skip
