"""C11. Contrastive detection reaches its baseline's transfer in a fraction of the epochs.

From      Henaff et al., ICCV 2021: DetCon-S against SimCLR, DetCon-B against BYOL, over lengths of pretraining
Question  How many times fewer epochs does DetCon need for the same mean IoU? Lengths are runs of their own, each with
          its whole schedule; scores between them lie on lines over log epochs
Command   whytransfer claims C11 --scale demo
Cost      two pretrainings per length and pair of methods: demo 6, laptop 12, full 20 of 100 to 1,000 epochs
Expect    above 0 (a log2: 1 is half the epochs). Where the shortest run is already past the score, it is a bound, and
          so the verdict may be too careful, never too bold
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import over_seeds, score, speedup
from whytransfer.claims.models import long
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores

PAPER = {"detcon": "log2 5 = 2.3, SimCLR, COCO", "detcon-b": "log2 2 to log2 10 = 1 to 3.3, BYOL: PASCAL, Cityscapes"}


def of(scale: Scale) -> Study:
    """Both methods of each pair at every length."""
    setup = setup_of(scale)
    names = [long(method, epochs) for pair in setup.pairs for method in pair for epochs in setup.lengths]
    return study(scale, names, ["regions"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """One ratio of epochs per pair."""
    setup = setup_of(scale)
    lengths, found = setup.lengths, []
    for detcon, baseline in setup.pairs:
        columns = [
            score(scores, scale, long(method, epochs), "regions", "mean_iou")
            for method in (detcon, baseline)
            for epochs in lengths
        ]

        def faster(*values: float) -> float:
            ours, theirs = values[: len(lengths)], values[len(lengths) :]
            return speedup(dict(zip(lengths, ours, strict=True)), dict(zip(lengths, theirs, strict=True)))

        name = f"epochs of {baseline} / epochs of {detcon}, same mean IoU"
        found.append(Effect(name, "+", over_seeds(faster, *columns), "log2", PAPER[detcon]))
    return found


CLAIM = Claim(
    id="C11",
    source="Henaff 2021",
    finding="Contrastive detection reaches its baseline's transfer in a fraction of the epochs",
    paper="DetCon-S 5 times fewer than SimCLR; DetCon-B 2 (PASCAL) to 10 times (Cityscapes, NYU) fewer than BYOL",
    study=of,
    effects=effects,
)
