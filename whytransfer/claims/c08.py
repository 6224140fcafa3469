"""C08. Exemplar, which spares keys of the same class as negatives, beats MoCo at an equal queue and temperature.

From      Zhao, Wu, Lau, Lin, ICLR 2021, tables 3 and 10
Question  Exemplar minus MoCo in a readout, in detection and in segmentation
Command   whytransfer claims C08 --scale demo
Cost      2 pretrainings, 6 tasks a seed, MoCo's shared with C01 and C03 below full scale
Expect    a few points in the readout, tenths elsewhere. The paper's table 3, whose numbers of detection and
          segmentation stand here, gives Exemplar a longer queue and another temperature than MoCo; only its table 10
          (readout) has equal pairs. Here they are equal throughout
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

PAIR = ("exemplar", "moco-like-exemplar")
READ = {
    ("readout", "top1"): "68.9 - 66.9 = +2.0 (queue 1M, T 0.1), ImageNet",
    ("detection", "box_AP"): "48.8 - 48.5 = +0.3 AP (unequal queues), VOC07",
    ("segmentation", "mean_iou"): "78.8 - 78.6 = +0.2 (unequal queues), Cityscapes",
}


def of(scale: Scale) -> Study:
    """Both on the same images, which have labels."""
    return study(scale, PAIR, [item for item, _ in READ])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """One difference per task."""
    return [contrast(scores, scale, f"Exemplar - MoCo, {of[0]}", "+", PAIR, of, paper) for of, paper in READ.items()]


CLAIM = Claim(
    id="C08",
    source="Zhao 2021, tables 3 and 10",
    finding="Exemplar beats MoCo at an equal queue and temperature, in readout and transfer",
    paper="ImageNet 68.9 against 66.9 at queue 1M, T 0.1; unequal: VOC07 AP 48.8 - 48.5, Cityscapes 78.8 - 78.6",
    study=of,
    effects=effects,
)
