"""C17. Invariances to synthetic transforms carry over to real changes, the direction of light excepted.

From      Ericsson, Gouk, Hospedales, BMVC 2022, real-world invariance on COIL, ALOI, ALOT and others
Question  Over models: does the order by invariance to spatial transforms return for another viewpoint, and that by
          appearance transforms for another colour of the light? And is it lost for another direction of the light?
Command   whytransfer claims C17 --scale demo
Cost      the pretrainings of C16 and C20 and a look at each: demo two minutes, laptop hours
Expect    rank correlations near 1, and a lower one for the direction of light. Demo and laptop have no photographs of
          one thing under one change: things are rendered under it, with what it hides and shades. At demo 5 models
          are few for a rank correlation
"""

from __future__ import annotations

import math

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import of_ranks, over_seeds, score
from whytransfer.claims.setup_why import models_compared
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import rank_correlation, rank_error

EXPECTED = {"viewpoint": "spatial", "light colour": "appearance"}
EXCEPTED = ("light direction", "appearance")
PAPER = "the same order of models, in figures without numbers"


def of(scale: Scale) -> Study:
    """All single models of the scale, synthetic transforms and real changes of each."""
    looks = setup_of(scale).diagnoses
    diagnoses = {name: looks[name] for name in ("invariance", "changes")}
    return study(scale, ["random", *models_compared(scale)], diagnoses=diagnoses)


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Rank correlations over models, and how much lower that of the direction of light is."""
    rho = {change: carried_over(scores, scale, change, group) for change, group in (*EXPECTED.items(), EXCEPTED)}
    models = 1 + len(models_compared(scale))
    found = [
        of_ranks(
            f"invariance to {group} transforms with that to {change}, over models", "+", rho[change], models, PAPER
        )
        for change, group in EXPECTED.items()
    ]
    lower = over_seeds(lambda view, colour, direction: (view + colour) / 2 - direction, *rho.values())
    apart = math.sqrt(1.5) * rank_error(
        models
    )  # of (view + colour) / 2 - direction, as if each were over other models: too wide
    name = "mean of these - the same with light direction"
    found.append(Effect(name, "+", lower, "rho", "light direction differs", beside=apart, most=2))
    return found


def carried_over(scores: Scores, scale: Scale, change: str, group: str) -> dict[int, float]:
    """{seed: Spearman's rho over models} of invariance to a group of transforms and to a real change."""
    names = ["random", *models_compared(scale)]
    synthetic = [score(scores, scale, name, "invariance", f"{group} similarity") for name in names]
    real = [score(scores, scale, name, "changes", f"{change} similarity") for name in names]
    count = len(names)
    return over_seeds(lambda *both: rank_correlation(both[:count], both[count:]), *synthetic, *real)


CLAIM = Claim(
    id="C17",
    source="Ericsson 2022",
    finding="Invariances to synthetic transforms carry over to real changes, the direction of light excepted",
    paper="Spatial > Appearance on viewpoint, Appearance > Spatial on light colour, exposure, blur; no numbers",
    study=of,
    effects=effects,
)
