"""C18. Pose is read better from Appearance features, colour better from Spatial ones.

From      Ericsson, Gouk, Hospedales, BMVC 2022, Causal3DIdent: what a readout finds of the latent factors
Question  R2 of position and rotation, Appearance - Spatial; R2 of the colours of object, light and background, Spatial
          - Appearance
Command   whytransfer claims C18 --scale demo
Cost      2 pretrainings of C16 and a ridge regression each: demo half a minute, laptop half an hour a seed
Expect    both above 0, by tenths of R2. Demo and laptop read generated scenes, full Causal3DIdent
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

READ = {"pose": ("appearance", "spatial"), "colour": ("spatial", "appearance")}


def of(scale: Scale) -> Study:
    """Spatial and appearance views."""
    return study(scale, ["spatial", "appearance"], ["factors"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """What each knows that the other was taught to ignore."""
    return [
        contrast(
            scores, scale, f"{factors}, {pair[0]} - {pair[1]}", "+", pair, ("factors", factors),
            "above 0, in a figure without numbers", unit="R2",
        )
        for factors, pair in READ.items()
    ]  # fmt: skip


CLAIM = Claim(
    id="C18",
    source="Ericsson 2022",
    finding="Pose is read better from Appearance features, colour better from Spatial ones",
    paper="Causal3DIdent: Appearance > Spatial in pose, Spatial > Appearance in object and light colour; no numbers",
    study=of,
    effects=effects,
)
