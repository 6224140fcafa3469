"""C12. What contrastive detection gains over its baseline grows with the capacity of the backbone.

From      Henaff et al., ICCV 2021: ResNet-50, 101, 152 and 200
Question  Slope of (DetCon-S - SimCLR) in mean IoU over the log2 of the backbone's parameters
Command   whytransfer claims C12 --scale demo
Cost      two pretrainings per backbone: demo and laptop ResNet-18, 34 and 50, full ResNet-50 to 200
Expect    above 0. A slope over three or four points of one seed each scatters: small scales will be undecided
"""

from __future__ import annotations

import math

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import difference, over_seeds, slope
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores

MILLIONS = {
    "resnet18": 11.2, "resnet34": 21.3, "resnet50": 23.5, "resnet101": 42.5, "resnet152": 58.1, "resnet200": 62.6,
}  # of parameters, without a classifier  # fmt: skip


def of(scale: Scale) -> Study:
    """Both methods on every backbone."""
    setup = setup_of(scale)
    detcon, baseline = setup.pairs[0]
    names = [f"{method}-{arch}" for arch in setup.capacities for method in (detcon, baseline)]
    return study(scale, names, ["regions"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Points of gain per doubling of the parameters."""
    setup = setup_of(scale)
    detcon, baseline = setup.pairs[0]
    gains = [
        difference(scores, scale, f"{detcon}-{arch}", f"{baseline}-{arch}", "regions", "mean_iou")
        for arch in setup.capacities
    ]
    places = [math.log2(MILLIONS[arch]) for arch in setup.capacities]
    steeper = over_seeds(lambda *values: slope(places, values), *gains)
    paper = "about linear up to ResNet-200, in a figure without numbers"
    return [Effect("gain of DetCon, per doubling of parameters", "+", steeper, "points", paper)]


CLAIM = Claim(
    id="C12",
    source="Henaff 2021",
    finding="What contrastive detection gains over its baseline grows with the capacity of the backbone",
    paper="gains on COCO grow about linearly with capacity, ResNet-50 to ResNet-200",
    study=of,
    effects=effects,
)
