"""C03. Contrastive beats supervised in VOC detection, mostly at strict overlap, and not in segmentation.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 1, the rows with all augmentations
Question  MoCo v2 against cross-entropy: AP at overlaps of 0.75 and 0.5 apart, and mean IoU of a segmenter
Command   whytransfer claims C03 --scale demo
Cost      2 pretrainings, 4 tasks a seed, shared with C01: demo minutes, laptop half an hour a seed
Expect    AP75 above 0, AP50 and mean IoU near 0; within a point of 0 counts as none
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast, difference, over_seeds
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

PAIR = ("default", "supervised")
MARGIN = 1.0  # points that would matter


def of(scale: Scale) -> Study:
    """Both learners with all augmentations."""
    return study(scale, PAIR, ["detection", "segmentation"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """AP75, what it has over AP50, and mean IoU."""
    strict, loose = (difference(scores, scale, *PAIR, "detection", metric) for metric in ("box_AP75", "box_AP50"))
    more = over_seeds(lambda at_75, at_50: at_75 - at_50, strict, loose)
    return [
        Effect("contrastive - supervised, AP75", "+", strict, "points", "52.7 - 48.9 = +3.8, VOC07"),
        Effect("the same, AP75 minus AP50", "+", more, "points", "+3.8 - 0.0 = +3.8, VOC07"),
        contrast(
            scores, scale, "contrastive - supervised, mean IoU", "0", PAIR, ("segmentation", "mean_iou"),
            "78.6 - 78.8 = -0.2, Cityscapes", margin=MARGIN,
        ),
    ]  # fmt: skip


CLAIM = Claim(
    id="C03",
    source="Zhao 2021, table 1",
    finding="Contrastive beats supervised in VOC detection, mostly at strict overlap, and not in segmentation",
    paper="VOC07 AP75 52.7 against 48.9, AP50 76.8 both; Cityscapes mIoU 78.6 against 78.8",
    study=of,
    effects=effects,
)
