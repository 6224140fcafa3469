"""C20. Spatial and appearance invariance trade off, for every learner.

From      Ericsson, Gouk, Hospedales, BMVC 2022, the trade-off of the two kinds of invariance over learners
Question  Over models: are those that ignore spatial transforms more, the ones that ignore appearance less? And within
          each learner, how much appearance invariance does a unit of spatial invariance cost?
Command   whytransfer claims C20 --scale demo
Cost      the looks of C16, of 3 learners under 3 sets of views; at demo one learner and the supervised model
Expect    a correlation near -1 and slopes below 0. Supervised learners have labels to keep both: theirs may be flat.
          Demo's 4 models are too few for a correlation to be decided, so there the claim can be contradicted by its
          slope, and else is undecided
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import of_ranks, over_seeds, score, slope
from whytransfer.claims.setup_why import family, learners, models_compared
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import rank_correlation

GROUPS = ("spatial similarity", "appearance similarity")
PAPER = "one falls where the other rises, for all learners looked at; no number"


def of(scale: Scale) -> Study:
    """Every learner of the scale under its sets of views."""
    return study(scale, models_compared(scale), diagnoses={"invariance": setup_of(scale).diagnoses["invariance"]})


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Rank correlation over all models, then a slope for each learner."""
    models = models_compared(scale)
    x, y = _both(scores, scale, models)
    rho = over_seeds(lambda *xy: rank_correlation(*_halves(xy)), *x, *y)
    found = [of_ranks("spatial with appearance invariance, over models", "-", rho, len(models), PAPER)]
    for learner in learners(scale):
        x, y = _both(scores, scale, family(learner))
        cost = over_seeds(lambda *xy: slope(*_halves(xy)), *x, *y)
        name = f"appearance invariance per spatial invariance, views of {learner}"
        found.append(Effect(name, "-", cost, "cosine per cosine", PAPER))
    return found


def _both(scores: Scores, scale: Scale, names: tuple[str, ...]) -> tuple[list[dict[int, float]], ...]:
    """{seed: mean similarity} of each model, spatial and appearance."""
    return tuple([score(scores, scale, name, "invariance", group) for name in names] for group in GROUPS)


def _halves(values: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return values[: len(values) // 2], values[len(values) // 2 :]


CLAIM = Claim(
    id="C20",
    source="Ericsson 2022",
    finding="Spatial and appearance invariance trade off, for every learner",
    paper="a trade-off for all learners looked at (SimCLR, MoCo v2, BYOL and others); no number",
    study=of,
    effects=effects,
)
