"""C06. The errors of supervised detectors are more often poor localisation.

From      Zhao, Wu, Lau, Lin, ICLR 2021, figures 1 and 7: false positives by Hoiem's kinds, VOC07
Question  Share of poorly placed boxes among the false positives, supervised minus contrastive
Command   whytransfer claims C06 --scale demo
Cost      the detectors of C03; the analysis takes a minute
Expect    above 0, where detectors find anything: with APs near 0 the share says nothing, and it is wide then
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores


def of(scale: Scale) -> Study:
    """Detectors of both learners, their errors together."""
    errors = {"errors": setup_of(scale).diagnoses["errors"]}
    return study(scale, ["default", "supervised"], ["detection"], errors)


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Hoiem's share of localisation among as many detections as there are objects."""
    pair, share = ("supervised", "default"), ("errors", "Hoiem share Loc")
    paper = "53.3 - 45.7 = +7.6, mean over VOC07's classes"
    name = "localisation's share of errors, supervised - contrastive"
    return [contrast(scores, scale, name, "+", pair, share, paper)]


CLAIM = Claim(
    id="C06",
    source="Zhao 2021, figures 1 and 7",
    finding="The errors of supervised detectors are more often poor localisation",
    paper="localisation among false positives: supervised 53.3 %, contrastive 45.7 %; more in 15 of 20 classes",
    study=of,
    effects=effects,
)
