"""The charts of a report, in the order of its sections: what each shows, how to read it, and what draws it.

Every chart is drawn from the numbers of the table; learning curves and claims come from files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whytransfer.report import complementarity_charts, diagnosis_charts, pretraining_charts, task_charts
from whytransfer.report.forest import forest
from whytransfer.report.look import Point, spec
from whytransfer.report.numbers import Number
from whytransfer.report.pretraining_charts import learning_curves

TICKS = "Dots are means over seeds, thin ticks single seeds, lines 95 % intervals; axes need not start at 0."


@dataclass(frozen=True)
class Chart:
    """A kind of chart: `draw(numbers)` gives it, None where the study has nothing of it."""

    name: str
    section: str  # of the page: claims, tasks, labels, fusion, ladder, sets, invariance, errors, inversion, masks, ...
    title: str
    reading: str  # how to read it, in a sentence or two
    draw: Callable[[Sequence[Number]], Any | None]


CHARTS = (
    Chart("tasks", "tasks", "Every task, every backbone", TICKS, task_charts.tasks),
    Chart(
        "label-efficiency", "labels", "Label efficiency",
        "Score by the share of the training labels; bands are 95 % intervals.", task_charts.label_efficiency,
    ),
    Chart(
        "fusion-gains", "fusion", "What a fusion gains",
        "Each fusion less the best of its members by their means on the same test images, which favours the member: "
        "right of the dashed line the fusion is better. Intervals are paired by seed.", task_charts.fusion_gains,
    ),
    Chart(
        "alike", "fusion", "Which backbones are alike",
        "Features (CKA) and errors of every pair: 1 is the same, 0 what chance gives. A fusion of unlike ones has more "
        "to gain.", complementarity_charts.alike,
    ),
    Chart(
        "gains", "fusion", "What each fusion gains over its best member",
        "The member is chosen on training images put aside, so the test images favour nobody: right of the dashed line "
        f"the fusion is better. {TICKS}", complementarity_charts.gains,
    ),
    Chart(
        "consistency", "fusion", "Who is good everywhere", f"Mean rank over all scores, 1 is the best. {TICKS}",
        complementarity_charts.consistent,
    ),
    Chart(
        "ladder", "ladder", "Augmentation ladder",
        "Score by the operations of the views, each step with those before it; lines are 95 % intervals.",
        pretraining_charts.ladder,
    ),
    Chart("image-sets", "sets", "Images of the pretraining", TICKS, pretraining_charts.image_sets),
    Chart(
        "invariance", "invariance", "What backbones ignore",
        "Cosine between the features of a picture and of the picture changed: 1 is no change, 0 as unlike as two "
        "unrelated pictures.", diagnosis_charts.heat_map,
    ),
    Chart(
        "trade-off", "invariance", "Spatial against appearance invariance",
        "Each cross is a backbone, its arms 95 % intervals. Falling from left to right, one is traded for the other.",
        diagnosis_charts.trade_off,
    ),
    Chart(
        "factors", "invariance", "What features tell of the latent factors",
        "R2 of a readout of each factor that made the images: 1 is all of it, 0 nothing.", diagnosis_charts.factors,
    ),
    Chart(
        "error-shares", "errors", "What the false positives are (Hoiem)",
        f"Shares among as many detections of a class as there are objects. {TICKS}", diagnosis_charts.error_shares,
    ),
    Chart(
        "error-costs", "errors", "What each kind of error costs (TIDE)",
        f"AP50 gained if errors of the kind were repaired: less is better. {TICKS}", diagnosis_charts.error_costs,
    ),
    Chart("inversion-scores", "inversion", "What is left of a picture", TICKS, diagnosis_charts.inversion_scores),
    Chart(
        "mask-quality", "masks", "How well regions cover objects",
        "Mean best overlap (IoU) of an annotated object with a region; lines are 95 % intervals over images.",
        diagnosis_charts.mask_quality,
    ),
    Chart("cost", "cost", "What pretraining took", TICKS, task_charts.cost),
    Chart(
        "score-for-time", "cost", "Score for the time",
        "Up and to the left is better; lines are 95 % intervals.", task_charts.score_for_time,
    ),
)  # fmt: skip


def specs(
    numbers: Sequence[Number], curves: Sequence[Point] = (), claims: Sequence[Mapping[str, Any]] = ()
) -> list[tuple[Chart, dict[str, Any]]]:
    """Every chart that there is something for, with its Vega-Lite specification; `curves` are learning_points.

    `claims` are those of claims.json. A narrow page may set "columns" of a specification to 1; rows with a `backbone`
    or an `item` under any "values" may be filtered, names keep their colours.
    """
    others = (
        Chart("claims", "claims", "Effects of the claims",
              "Each effect in its own unit, turned so that the right of 0 is what the paper says; a grey band is the "
              "difference that would not matter.", lambda _: forest(claims)),
        Chart("learning-curves", "cost", "Learning curves", "A line per run; seeds of a backbone share its colour.",
              lambda all_: learning_curves(curves, all_)),
    )  # fmt: skip
    drawn = ((chart, chart.draw(numbers)) for chart in (*others[:1], *CHARTS, *others[1:]))
    return [(chart, spec(found)) for chart, found in drawn if found is not None]
