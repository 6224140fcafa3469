"""C10. After pretraining on who a face is, MoCo and Exemplar place landmarks better than supervised pretraining.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 5: CelebA identities, then MAFL's five landmarks
Question  Normalised error of landmarks: supervised minus MoCo, and supervised minus Exemplar
Command   whytransfer claims C10 --scale demo
Cost      3 pretrainings and 3 finetunings a seed: demo minutes, laptop half an hour a seed
Expect    both above 0. Demo has no faces: the class of a scene's main object stands for the identity, and points of
          the object for landmarks. Laptop has 277 persons with five frames each, where the paper has 10,177
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.suite import Study, study
from whytransfer.errors import InputError
from whytransfer.study.scores import Scores

SUPERVISED, OTHERS = "supervised-on-identities", {"MoCo": "default-on-identities", "Exemplar": "exemplar-on-identities"}


def of(scale: Scale) -> Study:
    """The three learners on images labelled with who is on them."""
    return study(scale, [SUPERVISED, *OTHERS.values()], ["landmarks"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """By the distance between the eyes, or the diagonal of the view where there are none."""
    metric = next((name for name in scores.metrics("landmarks") if name.startswith("error_")), None)
    if metric is None:
        raise InputError(f"landmarks have no error, only {', '.join(scores.metrics('landmarks'))}")
    return [
        contrast(
            scores, scale, f"error of supervised - of {name}", "+", (SUPERVISED, other), ("landmarks", metric),
            "6.3 - 5.8 = +0.5 % of the distance between the eyes, MAFL",
        )
        for name, other in OTHERS.items()
    ]  # fmt: skip


CLAIM = Claim(
    id="C10",
    source="Zhao 2021, table 5",
    finding="After pretraining on identities, MoCo and Exemplar place landmarks better than supervised pretraining",
    paper="error 5.8 %, 5.8 % and 6.3 % (scratch 24.6 %), CelebA to MAFL",
    study=of,
    effects=effects,
)
