"""C16 to C21: effects by hand, in a world as the paper says it is and in its opposite."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from whytransfer.claims import CLAIMS, c16, c17, c18, c19, c20, c21, judge
from whytransfer.claims.c17 import carried_over
from whytransfer.claims.c21 import mean_ranks
from whytransfer.claims.claim import Scale
from whytransfer.claims.models import models, named
from whytransfer.claims.setup_why import FUSED, family, learners, models_compared
from whytransfer.claims.suite import setup_of
from whytransfer.errors import InputError
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import Sign

Value = Callable[[str, str, str], float]  # of backbone, item, metric
SEEDS = (0, 1, 2)
ITEMS = {
    "invariance": ("spatial similarity", "appearance similarity"),
    "changes": ("viewpoint similarity", "light colour similarity", "light direction similarity"),
    "readout": ("top1",), "points": ("mean",), "factors": ("pose", "colour"),
}  # fmt: skip


def scores(value: Value, scale: Scale = "laptop") -> Scores:
    """A table of every model and item; seeds differ by a hundredth of what tells models apart."""
    names = ["random", "fused", "wide", *models_compared(scale)]
    rows: list[dict[str, Any]] = []
    for name, (item, metrics), seed in itertools.product(names, ITEMS.items(), SEEDS):
        for metric in metrics:
            noise = 0.001 * ((len(name) * (seed + 1) + len(metric)) % 7)
            rows.append({
                "backbone": named(setup_of(scale), name), "item": item, "metric": metric, "seed": seed,
                "value": value(name, item, metric) + noise, "provenance": {},
            })  # fmt: skip
    return Scores(rows)


def views_of(name: str) -> str:
    return "spatial" if "spatial" in name else "appearance" if "appearance" in name else "both"


def as_published(name: str, item: str, metric: str) -> float:
    """Spatial models ignore space and see colour, appearance models the reverse; light's direction follows neither."""
    of_space = {"spatial": 0.8, "both": 0.5, "appearance": 0.2}[views_of(name)] + 0.01 * (name.count("s") % 4)
    of_colour = 1 - of_space
    if name == "random":
        of_space, of_colour = 0.05, 0.04
    if metric == "light direction similarity":
        return of_space
    if metric.startswith(("spatial", "viewpoint")):
        return of_space
    if metric.startswith(("appearance", "light colour")):
        return of_colour
    if name == "fused":
        return 2.0
    if item == "readout":
        return 1.0 if name in ("default", "supervised") else 0.5
    return of_space if metric == "colour" else of_colour


def turned(name: str, item: str, metric: str) -> float:
    return -as_published(name, item, metric)


def the_other_way(name: str, item: str, metric: str) -> float:
    """A world in which invariances are the same for all kinds of transforms: nothing trades off."""
    level = {"spatial": 0.8, "both": 0.5, "appearance": 0.2}[views_of(name)] + 0.01 * (name.count("s") % 4)
    return 1 - level if metric == "light direction similarity" else level


@pytest.mark.parametrize("claim", ["C16", "C17", "C18", "C19", "C20", "C21"])
@pytest.mark.parametrize("scale", ["demo", "laptop"])
def test_the_findings_hold_in_a_world_as_published(claim: str, scale: Any):
    answer = judge(CLAIMS[claim], scores(as_published), scale)
    unsure = {e.unit for e in answer.effects if e.verdict != "holds"}
    few = claim in ("C17", "C20") and scale == "demo"  # models: a perfect correlation of four is chance in 1 of 12
    assert (answer.verdict, unsure) == (("undecided", {"rho"}) if few else ("holds", set()))


@pytest.mark.parametrize(("claim", "world"), [
    ("C16", turned), ("C18", turned), ("C19", turned), ("C21", turned), ("C20", the_other_way),
    ("C17", lambda name, item, metric: (-1 if item == "changes" else 1) * as_published(name, item, metric)),
])  # fmt: skip
def test_they_are_contradicted_in_the_opposite_world(claim: str, world: Value):
    assert judge(CLAIMS[claim], scores(world), "laptop").verdict == "contradicted"


def test_each_claim_asks_only_for_the_models_that_it_compares():
    asked = {module.CLAIM.id: set(module.of("laptop")["backbones"]) for module in (c16, c17, c18, c19, c20, c21)}
    nine = {named(setup_of("laptop"), name) for name in models_compared("laptop")}
    assert len(nine) == 9
    assert asked == {
        "C16": {"default", "spatial", "appearance"}, "C17": {"random", *nine}, "C18": {"spatial", "appearance"},
        "C19": {"default", "spatial", "appearance", "supervised"}, "C20": nine,
        "C21": {"default", "spatial", "appearance", "supervised", "wide", "fused"},
    }  # fmt: skip


def test_c16_is_the_difference_of_cosines_in_each_group():
    signs: dict[str, tuple[Sign, float]] = {
        e.name: (e.sign, e.values[0]) for e in judge(CLAIMS["C16"], scores(as_published), "demo").effects
    }
    sign, apart = signs["invariance to spatial transforms, spatial - appearance"]
    assert sign == "+" and apart == pytest.approx(0.6, abs=0.05)
    sign, apart = signs["invariance to appearance transforms, spatial - appearance"]
    assert sign == "-" and apart == pytest.approx(-0.6, abs=0.05)
    assert signs["invariance to appearance transforms, default - spatial"][0] == "+"


def test_c17_is_a_rank_correlation_over_models_in_each_seed():
    of_view = {"random": 1.0, "default": 2.0, "spatial": 4.0, "appearance": 3.0, "supervised": 5.0}
    of_space = {"random": 1.0, "default": 3.0, "spatial": 4.0, "appearance": 2.0, "supervised": 5.0}

    def value(name: str, item: str, metric: str) -> float:
        return {"viewpoint similarity": of_view, "spatial similarity": of_space}.get(metric, {}).get(name, 0.0)

    found = carried_over(scores(value), "demo", "viewpoint", "spatial")
    assert found == pytest.approx(dict.fromkeys(SEEDS, 0.9))  # 1 - 6 (1 + 1) / (5 x 24)


def test_c20_asks_every_learner():
    answer = judge(CLAIMS["C20"], scores(as_published), "laptop")
    assert [e.name.rpartition(" ")[2] for e in answer.effects[1:]] == ["default", "simclr", "supervised"]
    slope = answer.effects[1]
    assert slope.sign == "-" and slope.values[0] == pytest.approx(-1, abs=0.05)  # what space gains colour loses
    assert learners("demo") == ("default",) and family("simclr") == ("simclr", "simclr-spatial", "simclr-appearance")


def test_c21_is_mean_ranks_over_four_tasks():
    marks = {  # of Default, Spatial and the fusion
        ("readout", "top1"): (3, 2, 1), ("points", "mean"): (1, 2, 3), ("factors", "pose"): (1, 2, 3),
        ("factors", "colour"): (2, 2, 3),
    }  # fmt: skip
    names = ("default", "spatial", "fused")
    rows = [
        {"backbone": name, "item": item, "metric": metric, "seed": 4, "provenance": {}, "value": float(value)}
        for (item, metric), values in marks.items()
        for name, value in zip(names, values, strict=True)
    ]
    found = mean_ranks(Scores(rows), "demo", names)
    assert found == {
        "default": {4: (1 + 3 + 3 + 2.5) / 4}, "spatial": {4: (2 + 2 + 2 + 2.5) / 4}, "fused": {4: (3 + 1 + 1 + 1) / 4},
    }  # fmt: skip


def test_the_wide_model_stands_beside_the_fusion_but_at_demo():
    names = {
        scale: [e.name for e in judge(CLAIMS["C21"], scores(as_published), scale).effects] for scale in ("demo", "gpu")
    }
    assert "mean rank of wide - of the fusion" in names["gpu"] and len(names["gpu"]) == len(names["demo"]) + 1
    known = models(setup_of("laptop"))
    assert known["wide"]["backbone"] == "resnet18x3" and known["fused"] == FUSED


def test_a_table_without_the_fusion_is_said_to_lack_it():
    rows = [row for row in scores(as_published).rows if row["backbone"] != "fused"]
    answer = judge(CLAIMS["C21"], Scores(rows), "laptop")
    assert answer.verdict == "not run" and "no finished result of fused" in answer.why
    with pytest.raises(InputError, match="no finished result of random, changes"):
        carried_over(Scores(row for row in rows if row["item"] != "changes"), "demo", "viewpoint", "spatial")
