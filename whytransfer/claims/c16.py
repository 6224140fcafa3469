"""C16. Spatial views teach invariance to spatial transforms, appearance views to colour and texture; Default between.

From      Ericsson, Gouk, Hospedales, BMVC 2022, synthetic invariance: MoCo v2 under three sets of views
Question  Cosine of whitened features of a picture and its transformed copy: mean over 8 spatial transforms and over 10
          of appearance, Spatial against Appearance, and Default between its neighbours
Command   whytransfer claims C16 --scale demo
Cost      3 pretrainings and a look at each a seed: demo a minute, laptop an hour a seed, full 3 x 200 epochs
Expect    cosines apart by 0.2 to 0.6, after minutes already. The paper also has random features the least invariant;
          of small pictures they are not, as to colour: that is in the study's table, and no effect here
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.setup_why import MEMBERS
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import Sign

ORDERS = {"spatial": ("spatial", "default", "appearance"), "appearance": ("appearance", "default", "spatial")}
PAPER = "in this order, in figures without numbers"


def of(scale: Scale) -> Study:
    """Three sets of views, one learner."""
    return study(scale, MEMBERS, diagnoses={"invariance": setup_of(scale).diagnoses["invariance"]})


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Spatial - Appearance in both groups of transforms, then the neighbours in each order."""
    pair = ("spatial", "appearance")
    found = [_apart(scores, scale, "spatial", pair, "+"), _apart(scores, scale, "appearance", pair, "-")]
    for group, (most, middle, least) in ORDERS.items():
        found += [_apart(scores, scale, group, both, "+") for both in ((most, middle), (middle, least))]
    return found


def _apart(scores: Scores, scale: Scale, group: str, pair: tuple[str, str], sign: Sign) -> Effect:
    name = f"invariance to {group} transforms, {pair[0]} - {pair[1]}"
    return contrast(scores, scale, name, sign, pair, ("invariance", f"{group} similarity"), PAPER, unit="cosine")


CLAIM = Claim(
    id="C16",
    source="Ericsson 2022",
    finding="Spatial views teach invariance to spatial transforms, appearance views to colour and texture",
    paper="Spatial > Default > Appearance on spatial transforms, the reverse on those of appearance; no numbers",
    study=of,
    effects=effects,
)
