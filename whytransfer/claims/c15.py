"""C15. With clean masks few negatives, and positives from one view, are enough.

From      Henaff et al., ICCV 2021, the study of what better segmentation would allow: DetCon-S on human masks
Question  Mean IoU with a fraction of the negatives minus that with all; and of one view minus two
Command   whytransfer claims C15 --scale demo
Cost      3 pretrainings, one shared with C13
Expect    at least as good; what is asked is whether anything is lost, and a loss within a point counts as none
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import difference
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores

MARGIN = 1.0  # points of mean IoU that would matter


def names_of(scale: Scale) -> tuple[str, str, str]:
    """The usual one on human masks, that of few negatives, that of one view."""
    setup = setup_of(scale)
    detcon = setup.pairs[0][0]
    return f"{detcon}-{setup.clean}", f"{detcon}-few-negatives", f"{detcon}-one-view"


def of(scale: Scale) -> Study:
    """Three pretrainings on the same masks."""
    return study(scale, names_of(scale), ["regions"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Differences plus the margin: above 0 means that less than the margin is lost."""
    usual, few, one_view = names_of(scale)
    cut = setup_of(scale).cut
    found = []
    for name, other, paper in (
        (f"negatives / {cut}, against all", few, "negatives / 128: better than all"),
        ("one view, against two", one_view, "works as well"),
    ):
        change = difference(scores, scale, other, usual, "regions", "mean_iou")
        kept = {seed: value + MARGIN for seed, value in change.items()}
        found.append(Effect(f"{name} (+ {MARGIN:g}: no loss of a point)", "+", kept, "points", paper))
    return found


CLAIM = Claim(
    id="C15",
    source="Henaff 2021",
    finding="With clean masks few negatives, and positives from one view, are enough",
    paper="a 128th of the negatives is even better; positives within one view also work; no numbers at hand",
    study=of,
    effects=effects,
)
