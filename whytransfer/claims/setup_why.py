"""What C16 to C21 add to the setups: a look at invariances, readouts of factors and landmarks, fusions, a wide model.

All of them ask one thing [Ericsson 2022]: what do views teach a backbone to ignore, and what does it cost or bring?
"""

from __future__ import annotations

from typing import Any

from whytransfer.claims.claim import Scale
from whytransfer.claims.setup import Setup

Settings = dict[str, Any]
LEARNERS = ("default", "simclr", "supervised")  # each under all augmentations, spatial ones and appearance alone
FUSED = "default + spatial + appearance"
MEMBERS = tuple(FUSED.split(" + "))


def backbones(setup: Setup) -> dict[str, Any]:
    """The learners under spatial and appearance views, the fusion, and one model of as many features as the fusion."""
    contrastive = {**setup.methods["contrastive"], "epochs": setup.epochs}
    found: dict[str, Any] = {
        "spatial": {**contrastive, "recipe": "spatial"},
        "appearance": {**contrastive, "recipe": "appearance"},
    }
    for learner in LEARNERS[1:]:
        usual = {**setup.methods[learner], "epochs": setup.epochs}
        spatial = "ladder-2" if learner == "supervised" else "spatial"  # its own crops, which C02 has too
        found[learner] = usual
        found[f"{learner}-spatial"] = {**usual, "recipe": spatial}
        found[f"{learner}-appearance"] = {**usual, "recipe": "appearance"}
    found["fused"] = FUSED
    found["wide"] = {**contrastive, "backbone": f"{setup.pretrain['backbone']}x3", "dim": 384}  # as published
    return found


def recognition(scale: Scale) -> tuple[str, str]:
    """The item and metric of classes that were not learned in pretraining."""
    return ("recognition" if scale == "full" else "readout"), "top1"


def family(learner: str) -> tuple[str, str, str]:
    """The names of a learner under all augmentations, spatial ones, appearance ones."""
    prefix = "" if learner == "default" else f"{learner}-"
    return learner, f"{prefix}spatial", f"{prefix}appearance"


_SCENES = {"train": "scenes:800:0:48", "test": "scenes:400:1:48", "size": 40}
DEMO_TASKS: Settings = {
    "factors": {"task": "factors", **_SCENES},
    "points": {  # fewer: every landmark comes with a rendering, and ten targets with ten ridge paths
        "task": "ridge-readout", "targets": "landmarks", "train": "scenes:400:0:48", "test": "scenes:200:1:48",
        "size": 40,
    },
}  # fmt: skip
DEMO_DIAGNOSES: Settings = {
    "invariance": {
        "diagnose": "invariance", "images": "scenes:400:1:48", "size": 40, "count": 30, "values": 3, "figures": False,
    },
    "changes": {
        "diagnose": "invariance", "images": "scenes:400:1:48", "size": 40, "transforms": ["none"], "figures": False,
        "groups": [f"scenes:{change}:40:2:48" for change in ("viewpoint", "light-colour", "light-direction")],
    },
}  # fmt: skip

TINY, FACES = "{data}/tiny_imagenet_40/tiny_imagenet_40.zip/val", "landmarks:{data}/faces68"
# no photographs of one thing under one change and no latent factors among the small sets: these two are rendered
LAPTOP_TASKS: Settings = {
    "factors": {"task": "factors", "train": "scenes:4000:1:64", "test": "scenes:1000:2:64", "size": 64},
    "points": {"task": "ridge-readout", "targets": "landmarks", "train": FACES, "test": FACES + ":test", "size": 64},
}
LAPTOP_DIAGNOSES: Settings = {
    "invariance": {"diagnose": "invariance", "images": TINY, "size": 64, "count": 100, "values": 8, "figures": False},
    "changes": {
        "diagnose": "invariance", "images": "scenes:4000:3:64", "size": 64, "transforms": ["none"], "figures": False,
        "groups": [f"scenes:{change}:200:2:64" for change in ("viewpoint", "light-colour", "light-direction")],
    },
}  # fmt: skip

IMAGENET = "imagenet:{data}/imagenet:val"
FULL_TASKS: Settings = {
    "recognition": {
        "task": "readout", "protocol": "ssl-invariances", "train": "cifar10:{data}/cifar10",
        "test": "cifar10:{data}/cifar10:test", "size": 224,
    },
    "factors": {
        "task": "kernel-readout", "targets": "factors", "protocol": "ssl-invariances",
        "train": "causal3dident:{data}/causal3dident", "test": "causal3dident:{data}/causal3dident:test", "size": 224,
    },
    "points": {
        "task": "ridge-readout", "targets": "landmarks", "protocol": "ssl-invariances", "train": "300w:{data}/300w",
        "test": "300w:{data}/300w:test", "size": 224,
    },
}  # fmt: skip
FULL_DIAGNOSES: Settings = {
    "invariance": {"diagnose": "invariance", "images": IMAGENET, "size": 224, "mode": "paper", "figures": False},
    "changes": {
        "diagnose": "invariance", "images": IMAGENET, "size": 224, "transforms": ["none"], "figures": False,
        "groups": [f"aloi-{change}:{{data}}/ALOI" for change in ("viewpoint", "temperature", "illumination")],
    },
}  # fmt: skip


def learners(scale: Scale) -> tuple[str, ...]:
    """Of which there are all three sets of views; minutes are enough for one."""
    return LEARNERS[:1] if scale == "demo" else LEARNERS


def models_compared(scale: Scale) -> tuple[str, ...]:
    """All trained single models of a scale whose invariances are compared."""
    names = [name for learner in learners(scale) for name in family(learner)]
    return tuple(dict.fromkeys([*names, "supervised"]))
