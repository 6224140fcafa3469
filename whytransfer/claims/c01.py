"""C01. Contrastive pretraining gains far more from augmentation than supervised pretraining.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 1: MoCo v2 and cross-entropy, flips alone against all five augmentations
Question  What do crop, colour, grey and blur, added to flips, bring to either, in a readout and in detection?
Command   whytransfer claims C01 --scale demo
Cost      4 pretrainings, 8 tasks a seed: demo minutes, laptop an hour a seed, full 4 x 200 epochs of ImageNet
Expect    positive, and large: flips alone teach a contrastive model next to nothing (6.4 % on ImageNet)
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import difference, over_seeds
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

LEARNERS = ("default", "supervised")
READ = {  # (item, metric): what the paper has
    ("readout", "top1"): "(67.5 - 6.4) - (77.3 - 70.9) = +54.7, ImageNet",
    ("detection", "box_AP"): "(48.5 - 32.3) - (46.2 - 43.4) = +13.4 AP, VOC07",
}


def of(scale: Scale) -> Study:
    """Both learners under flips alone and under all five."""
    names = [name for learner in LEARNERS for name in (f"{learner}-ladder-1", learner)]
    return study(scale, names, ["readout", "detection"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """What augmentation brings to the contrastive learner, minus what it brings to the supervised one."""
    found = []
    for (item, metric), paper in READ.items():
        gains = [difference(scores, scale, name, f"{name}-ladder-1", item, metric) for name in LEARNERS]
        more = over_seeds(lambda contrastive, supervised: contrastive - supervised, *gains)
        found.append(Effect(f"gain of contrastive minus gain of supervised, {item}", "+", more, "points", paper))
    return found


CLAIM = Claim(
    id="C01",
    source="Zhao 2021, table 1",
    finding="Contrastive pretraining gains far more from augmentation than supervised pretraining",
    paper="ImageNet readout 6.4 to 67.5 against 70.9 to 77.3; VOC07 AP 32.3 to 48.5 against 43.4 to 46.2",
    study=of,
    effects=effects,
)
