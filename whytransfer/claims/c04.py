"""C04. Contrastive transfer hardly depends on what the pretraining images show; synthetic images are the exception.

From      Zhao, Wu, Lau, Lin, ICLR 2021, table 2: seven image sets, as many steps on each
Question  Over image sets: is the spread of scores smaller after contrastive than after supervised pretraining, which
          follows the labels that a set happens to have? And do real images beat synthetic ones?
Command   whytransfer claims C04 --scale demo
Cost      two pretrainings per image set (3 to 7): demo 6, laptop 8, full 14, and two tasks of each
Expect    a smaller spread, and real above synthetic. At demo everything is generated: scenes with all their kinds of
          objects, few kinds, labels of pixels, and dead leaves, which show nothing, in the place of the synthetic set
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import mean_of, over_seeds, score, spread_of
from whytransfer.claims.models import on_set
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores

READ = {  # (item, metric): the paper's spreads and what real images have over Synthia
    ("readout", "top1"): ("13.8 - 8.4 = +5.4, ImageNet", "55.1 - 13.5 = +41.6, ImageNet"),
    ("detection", "box_AP"): ("5.2 - 1.1 = +4.1 AP, VOC07", "46.3 - 37.4 = +8.9 AP, VOC07"),
}


def of(scale: Scale) -> Study:
    """Both learners on every image set."""
    setup = setup_of(scale)
    names = [on_set(setup, learner, name) for name in setup.sets for learner in ("default", "supervised")]
    return study(scale, names, ["readout", "detection"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """Spread over the real sets, supervised minus contrastive; and the contrastive mean of real minus synthetic."""
    setup = setup_of(scale)
    real = [name for name in setup.sets if name not in setup.synthetic]
    found = []
    for (item, metric), (spread, exception) in READ.items():
        sets = {
            learner: {name: score(scores, scale, on_set(setup, learner, name), item, metric) for name in setup.sets}
            for learner in ("default", "supervised")
        }
        spreads = [spread_of([sets[learner][name] for name in real]) for learner in ("supervised", "default")]
        wider = over_seeds(lambda supervised, contrastive: supervised - contrastive, *spreads)
        worlds = [mean_of([sets["default"][name] for name in names]) for names in (real, setup.synthetic)]
        apart = over_seeds(lambda photographs, synthetic: photographs - synthetic, *worlds)
        found.append(Effect(f"spread of supervised - of contrastive, {item}", "+", wider, "points", spread))
        found.append(Effect(f"contrastive, real - synthetic, {item}", "+", apart, "points", exception))
    return found


CLAIM = Claim(
    id="C04",
    source="Zhao 2021, table 2",
    finding="Contrastive transfer hardly depends on what the images show; synthetic images are the exception",
    paper="VOC07 AP over six real sets: contrastive 45.3 to 48.5, supervised 37.5 to 53.3; Synthia 37.4",
    study=of,
    effects=effects,
)
