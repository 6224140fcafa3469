"""C07. Inversions of contrastive features are closer to the picture.

From      Zhao, Wu, Lau, Lin, ICLR 2021, figures 2 and 6: deep image prior, LPIPS of 1,000 pictures
Question  Distance of the inversion from the picture, supervised minus contrastive; share of the picture's structure
          that is found again, contrastive minus supervised
Command   whytransfer claims C07 --scale demo
Cost      the pretrainings of C03; inversions: demo a minute each, laptop 20 minutes, full 8 GPU days
Expect    both above 0. The distance here is 1 - MS-SSIM, not LPIPS, whose weights are not ours to ship
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import difference
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.errors import InputError
from whytransfer.study.scores import Scores


def of(scale: Scale) -> Study:
    """Inversions of both learners' features."""
    return study(scale, ["default", "supervised"], diagnoses={"inversion": setup_of(scale).diagnoses["inversion"]})


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Distance and coverage."""
    distance = next((metric for metric in scores.metrics("inversion") if metric.startswith("1 - MS-SSIM")), None)
    if distance is None:
        raise InputError(f"inversion has no 1 - MS-SSIM, only {', '.join(scores.metrics('inversion'))}")
    nearer = difference(scores, scale, "supervised", "default", "inversion", distance)
    covered = difference(scores, scale, "default", "supervised", "inversion", "coverage")
    return [
        Effect("distance of inversions, supervised - contrastive", "+", nearer, "1 - MS-SSIM", "LPIPS 6.43 - 5.59"),
        Effect("coverage, contrastive - supervised", "+", covered, "points", "said of the pictures, no number"),
    ]


CLAIM = Claim(
    id="C07",
    source="Zhao 2021, figures 2 and 6",
    finding="Inversions of contrastive features are closer to the picture than those of supervised ones",
    paper="perceptual distance (LPIPS, SqueezeNet) 5.59 against 6.43 over 1,000 pictures",
    study=of,
    effects=effects,
)
