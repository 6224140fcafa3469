"""C13. Transfer follows the quality of the masks: how well they cover true objects.

From      Henaff et al., ICCV 2021: grids, Felzenszwalb regions at several scales, MCG, human masks
Question  Over engines: rank correlation of their masks' best overlap with true objects and of DetCon-S's mean IoU
Command   whytransfer claims C13 --scale demo
Cost      a pretraining per engine (demo 5, laptop 6, full 8), and the overlap of each engine's masks once
Expect    above 0. With 5 engines a seed gives one of few values of rho, so the interval needs the seeds
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import of_ranks, over_seeds, score
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.errors import InputError
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import rank_correlation


def of(scale: Scale) -> Study:
    """DetCon-S on every engine's masks, and the quality of those masks."""
    setup = setup_of(scale)
    quality = {quality_of(name): {**setup.diagnoses["masks"], "engine": spec} for name, spec in setup.engines.items()}
    return study(scale, [f"{setup.pairs[0][0]}-{name}" for name in setup.engines], ["regions"], quality)


def quality_of(engine: str) -> str:
    """What the diagnosis of an engine's masks is called."""
    return f"masks-{engine}"


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Spearman's rho over the engines, at each seed."""
    setup = setup_of(scale)
    transfer = [score(scores, scale, f"{setup.pairs[0][0]}-{name}", "regions", "mean_iou") for name in setup.engines]
    quality = [_overlap(scores, quality_of(name)) for name in setup.engines]
    follows = over_seeds(lambda *values: rank_correlation(quality, values), *transfer)
    name = "overlap of masks with transfer, rank correlation"
    return [of_ranks(name, "+", follows, len(setup.engines), "positive, in a figure")]


def _overlap(scores: Scores, item: str) -> float:
    """The one number of an engine: its masks are the same at every seed, and of no backbone."""
    found = [row["value"] for row in scores.rows if (row["item"], row["metric"]) == (item, "best overlap")]
    if len(found) != 1:
        raise InputError(f"{item} has {len(found)} finished results of best overlap; one is needed")
    return float(found[0])


CLAIM = Claim(
    id="C13",
    source="Henaff 2021",
    finding="Transfer follows the quality of the masks: how well they cover true objects",
    paper="the better the masks the better the transfer: human > MCG > Felzenszwalb > grid",
    study=of,
    effects=effects,
)
