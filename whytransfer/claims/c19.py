"""C19. Recognition prefers Default or supervised pretraining, landmarks and pose prefer Appearance.

From      Ericsson, Gouk, Hospedales, BMVC 2022, downstream tasks: CIFAR-10, Caltech-101, Flowers; 300W, CelebA, LSP
Question  Recognition: Default and Supervised against Appearance. Landmarks, and pose among the latent factors:
          Appearance against Default and Spatial. All by linear readouts of frozen features
Command   whytransfer claims C19 --scale demo
Cost      4 pretrainings, three readouts of each: demo two minutes, laptop an hour a seed
Expect    landmarks and pose by a wide margin; recognition where pretraining has learned something, which small runs of
          contrastive methods hardly do
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.setup_why import MEMBERS, recognition
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

PAPER = "above 0, in a figure without numbers"


def of(scale: Scale) -> Study:
    """Three sets of views, and the supervised model."""
    return study(scale, [*MEMBERS, "supervised"], [recognition(scale)[0], "points", "factors"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Each task's preference: (name, item and metric, unit, pairs of which the first is to be better)."""
    preferred = (
        ("recognition", recognition(scale), "points", [("default", "appearance"), ("supervised", "appearance")]),
        ("landmarks", ("points", "mean"), "R2", [("appearance", "default"), ("appearance", "spatial")]),
        ("pose", ("factors", "pose"), "R2", [("appearance", "default")]),
    )
    return [
        contrast(scores, scale, f"{name}, {pair[0]} - {pair[1]}", "+", pair, read, PAPER, unit=unit)
        for name, read, unit, pairs in preferred
        for pair in pairs
    ]


CLAIM = Claim(
    id="C19",
    source="Ericsson 2022",
    finding="Recognition prefers Default or supervised pretraining, landmarks and pose prefer Appearance",
    paper="recognition: Default or Supervised > Spatial > Appearance; landmarks: Appearance > Spatial; no numbers",
    study=of,
    effects=effects,
)
