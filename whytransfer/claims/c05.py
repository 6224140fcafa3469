"""C05. With less pretraining data the advantage of contrastive pretraining grows.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 2: ImageNet and a tenth of every class of it, as many steps
Question  (contrastive - supervised) on a tenth of the images, minus the same on all of them
Command   whytransfer claims C05 --scale demo
Cost      4 pretrainings, 8 tasks a seed, half of them shared with C01
Expect    about one AP in the paper: small beside the scatter of small runs
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import difference, over_seeds
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

ALL, TENTH = ("default", "supervised"), ("default-on-tenth", "supervised-on-tenth")
READ = {
    ("readout", "top1"): "(58.9 - 57.8) - (67.5 - 77.3) = +10.9, ImageNet",
    ("detection", "box_AP"): "(45.5 - 42.4) - (48.5 - 46.2) = +0.8 AP, VOC07",
}


def of(scale: Scale) -> Study:
    """Both learners on all images and on a tenth."""
    return study(scale, [*ALL, *TENTH], ["readout", "detection"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """How much the advantage grows."""
    found = []
    for (item, metric), paper in READ.items():
        advantages = [difference(scores, scale, *pair, item, metric) for pair in (TENTH, ALL)]
        growth = over_seeds(lambda few, many: few - many, *advantages)
        found.append(Effect(f"contrastive - supervised, a tenth minus all, {item}", "+", growth, "points", paper))
    return found


CLAIM = Claim(
    id="C05",
    source="Zhao 2021, table 2",
    finding="With less pretraining data the advantage of contrastive pretraining grows",
    paper="VOC07 AP, contrastive - supervised: +2.3 on ImageNet, +3.1 on a tenth of it",
    study=of,
    effects=effects,
)
