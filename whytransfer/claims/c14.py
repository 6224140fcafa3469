"""C14. A higher resolution of pretraining helps; the highest only with clean masks.

From      Henaff et al., ICCV 2021: 224, 384 and 512 px, found and human masks
Question  Mean IoU: the middle resolution minus the lowest, on found masks; and the highest minus the middle one, on
          human masks minus the same on found masks
Command   whytransfer claims C14 --scale demo
Cost      6 pretrainings (3 resolutions, 2 kinds of masks), some shared with C13
Expect    both above 0. Desk scales stop at 128 px, where the paper begins at 224
"""

from __future__ import annotations

from whytransfer.claims.claim import Claim, Effect, Scale
from whytransfer.claims.contrasts import difference, over_seeds
from whytransfer.claims.suite import Study, setup_of, study
from whytransfer.study.scores import Scores


def name_of(scale: Scale, engine: str, px: int) -> str:
    """The backbone of an engine's masks and a resolution."""
    return f"{setup_of(scale).pairs[0][0]}-{engine}-{px}px"


def of(scale: Scale) -> Study:
    """Both kinds of masks at every resolution."""
    setup = setup_of(scale)
    names = [name_of(scale, engine, px) for px in setup.resolutions for engine in (setup.found, setup.clean)]
    return study(scale, names, ["regions"])


def effects(scores: Scores, scale: Scale) -> list[Effect]:
    """The first step of resolution on found masks; the second one, clean minus found."""
    setup = setup_of(scale)
    low, middle, high = setup.resolutions

    def step(engine: str, one: int, other: int) -> dict[int, float]:
        return difference(
            scores, scale, name_of(scale, engine, one), name_of(scale, engine, other), "regions", "mean_iou"
        )

    needs = over_seeds(
        lambda clean, found: clean - found, step(setup.clean, high, middle), step(setup.found, high, middle)
    )
    return [
        Effect(
            f"{middle} px - {low} px, found masks", "+", step(setup.found, middle, low), "points",
            "384 px beats 224 px with every kind of mask",
        ),
        Effect(
            f"{high} px - {middle} px, human - found masks", "+", needs, "points",
            "512 px helps with human masks only",
        ),
    ]  # fmt: skip


CLAIM = Claim(
    id="C14",
    source="Henaff 2021",
    finding="A higher resolution of pretraining helps; the highest only with clean masks",
    paper="384 px over 224 px for all masks, 512 px for human masks only; no numbers at hand",
    study=of,
    effects=effects,
)
