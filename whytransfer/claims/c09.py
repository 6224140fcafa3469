"""C09. Few shots of new classes: Exemplar > supervised > MoCo; of the classes trained on: supervised > Exemplar > MoCo.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 4: mini-ImageNet, linear classifiers on frozen features
Question  Accuracy of 5-way episodes of novel classes (1 and 5 shots), and of a readout of held-out base images
Command   whytransfer claims C09 --scale demo
Cost      3 pretrainings on the base classes alone, and episodes, a seed: demo minutes, laptop half an hour a seed
Expect    gaps of 1 to 4 points between neighbours. Demo has 3-way episodes: scenes have 10 classes, 3 of them novel
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import contrast
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores

EXEMPLAR, SUPERVISED, MOCO = "exemplar-on-base", "supervised-on-base", "default-on-base"
NOVEL = {"1shot": ("55.33 - 54.60 = +0.73", "54.60 - 52.14 = +2.46"), "5shot": ("77.18 - 74.50 = +2.68", "+1.20")}


def of(scale: Scale) -> Study:
    """The three learners on the base classes."""
    return study(scale, [EXEMPLAR, SUPERVISED, MOCO], ["fewshot"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Neighbours in the two orders."""
    found = []
    for shots, papers in NOVEL.items():
        metric = f"linear_{setup_of(scale).tasks['fewshot']['way']}way_{shots}"
        for pair, paper in zip(((EXEMPLAR, SUPERVISED), (SUPERVISED, MOCO)), papers, strict=True):
            name = f"novel classes, {shots}, {_short(pair)}"
            found.append(contrast(scores, scale, name, "+", pair, ("fewshot", metric), paper))
    for pair, paper in (((SUPERVISED, EXEMPLAR), "83.6 - 79.9 = +3.7"), ((EXEMPLAR, MOCO), "79.9 - 75.3 = +4.6")):
        name = f"base classes, {_short(pair)}"
        found.append(contrast(scores, scale, name, "+", pair, ("fewshot", "base_top1"), paper))
    return found


def _short(pair: tuple[str, str]) -> str:
    return " - ".join(name.removesuffix("-on-base").replace("default", "MoCo") for name in pair)


CLAIM = Claim(
    id="C09",
    source="Zhao 2021, table 4",
    finding="Few shots of new classes: Exemplar > supervised > MoCo; of base classes: supervised > Exemplar > MoCo",
    paper="1 shot 55.3, 54.6, 52.1; 5 shots 77.2, 74.5, 73.3; base classes 79.9, 83.6, 75.3 (Exemplar, CE, MoCo)",
    study=of,
    effects=effects,
)
