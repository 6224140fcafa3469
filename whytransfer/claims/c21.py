"""C21. The fusion of Default, Spatial and Appearance is the most consistent model.

From      Ericsson, Gouk, Hospedales, BMVC 2022: features of three backbones side by side, on all tasks
Question  Mean rank over recognition, landmarks, pose and colour: that of each single model minus that of the fusion.
          And is it knowledge or width: one model with as many features as the fusion beside it
Command   whytransfer claims C21 --scale demo
Cost      the pretrainings of C19 and its readouts, of the fusion too; a model three times as wide (nine times the
          arithmetic), which demo leaves out
Expect    the fusion first or second everywhere, so differences of one to three ranks
"""

from __future__ import annotations

from statistics import fmean

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import over_seeds, score
from whytransfer.claims.setup_why import MEMBERS, recognition
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import ranks

OTHERS = (("points", "mean"), ("factors", "pose"), ("factors", "colour"))  # more is better, as in recognition
PAPER = "Def+Spa+App the most consistent over all tasks; no number"


def singles(scale: Scale) -> tuple[str, ...]:
    """The models beside the fusion; the wide one is too much for minutes."""
    return (*MEMBERS, "supervised", *(() if scale == "demo" else ("wide",)))


def of(scale: Scale) -> Study:
    """The fusion, its members, the supervised and the wide model, on all tasks."""
    return study(scale, [*singles(scale), "fused"], [recognition(scale)[0], "points", "factors"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """How many ranks the fusion stands before each, in the mean over tasks."""
    mean = mean_ranks(scores, scale, (*singles(scale), "fused"))
    return [
        Effect(
            f"mean rank of {name} - of the fusion", "+",
            over_seeds(lambda single, fused: single - fused, mean[name], mean["fused"]), "ranks", PAPER,
        )
        for name in singles(scale)
    ]  # fmt: skip


def mean_ranks(scores: Scores, scale: Scale, names: tuple[str, ...]) -> dict[str, dict[int, float]]:
    """{model: {seed: mean over the tasks of its rank among these models}}, 1 the best."""
    tasks = (recognition(scale), *OTHERS)
    tables = [[score(scores, scale, name, item, metric) for name in names] for item, metric in tasks]

    def mean_rank(of_model: int, *values: float) -> float:
        by_task = [values[i * len(names) : (i + 1) * len(names)] for i in range(len(tasks))]
        return fmean(ranks(dict(zip(names, task, strict=True)), "higher")[names[of_model]] for task in by_task)

    columns = [column for table in tables for column in table]
    return {
        name: over_seeds(lambda *values, i=i: mean_rank(i, *values), *columns)  # type: ignore[misc]
        for i, name in enumerate(names)
    }


CLAIM = Claim(
    id="C21",
    source="Ericsson 2022",
    finding="The fusion of Default, Spatial and Appearance is the most consistent model",
    paper="strong on all tasks, the most consistent of all; a single model of its width beside it; no numbers",
    study=of,
    effects=effects,
)
