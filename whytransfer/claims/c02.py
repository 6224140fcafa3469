"""C02. Supervised pretraining gains from colour jitter and grey, and blur costs it a little.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 1, the supervised rows of the ladder
Question  Under cross-entropy: what do colour and grey bring over crop and flip, and what does blur bring over them?
Command   whytransfer claims C02 --scale demo
Cost      3 pretrainings, 6 tasks a seed, two of them shared with C01: demo minutes, laptop half an hour a seed
Expect    a gain of about one AP and a loss of a few tenths: three seeds of small runs will not tell such effects
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.suite import Study, study
from whytransfer.study.scores import Scores

CROP, GREY, BLUR = "supervised-ladder-2", "supervised-ladder-4", "supervised"
READ = {  # (item, metric): the paper's gains of colour and grey, and of blur
    ("readout", "top1"): ("77.7 - 77.5 = +0.2, ImageNet", "77.3 - 77.7 = -0.4, ImageNet"),
    ("detection", "box_AP"): ("46.4 - 45.5 = +0.9 AP, VOC07", "46.2 - 46.4 = -0.2 AP, VOC07"),
}


def of(scale: Scale) -> Study:
    """The supervised ladder from the second step."""
    return study(scale, [CROP, GREY, BLUR], ["readout", "detection"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Gains of colour and grey, then of blur."""
    found = []
    for of_task, (gain, loss) in READ.items():
        name = of_task[0]
        found.append(contrast(scores, scale, f"colour and grey over crop, {name}", "+", (GREY, CROP), of_task, gain))
        found.append(contrast(scores, scale, f"blur over all others, {name}", "-", (BLUR, GREY), of_task, loss))
    return found


CLAIM = Claim(
    id="C02",
    source="Zhao 2021, table 1",
    finding="Supervised pretraining gains from colour jitter and grey, and blur costs it a little",
    paper="VOC07 AP 45.5 with crop and flip, 46.4 with colour and grey, 46.2 with blur too",
    study=of,
    effects=effects,
)
