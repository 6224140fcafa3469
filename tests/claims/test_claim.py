"""Verdicts of claims: what an interval, several effects, and missing cells come to."""

import math

import pytest

from whytransfer.claims.claim import Answer, Claim, Effect, judge, overall
from whytransfer.study.scores import Scores


def effect(*values, sign="+", margin=None):
    return Effect("gain", sign, dict(enumerate(values)), "points", "+1", margin)


def row(backbone, seed, value, item="class", metric="top1"):
    return {
        "backbone": backbone, "item": item, "metric": metric, "seed": seed, "value": value, "provenance": {},
    }  # fmt: skip


def claim(effects, **more):
    return Claim("C99", "nobody 2000", "a beats b", "3", study=lambda scale: {}, effects=effects, **more)


def test_an_effect_holds_where_its_t_interval_does():
    # three values 1, 2, 3: mean 2, standard error 1 / sqrt 3, t of 2 degrees of freedom 4.3027
    half = 4.302652729911275 / math.sqrt(3)
    wide = effect(1.0, 2.0, 3.0)
    assert (wide.interval.low, wide.interval.high) == pytest.approx((2 - half, 2 + half))
    assert wide.verdict == "undecided" and effect(2.0, 2.1, 2.2).verdict == "holds"
    assert effect(2.0, 2.1, 2.2, sign="-").verdict == "contradicted"
    assert effect(0.0, 0.1, -0.1, sign="0", margin=1.0).verdict == "holds"


@pytest.mark.parametrize(("sign", "margin"), [("0", 1.0), ("+", None), ("-", None)])
def test_things_equal_at_every_seed_decide_nothing(sign, margin):
    assert effect(0.0, 0.0, 0.0, sign=sign, margin=margin).verdict == "undecided"  # APs of 0, say
    assert effect(0.1, 0.1, 0.1, sign="0", margin=1.0).verdict == "holds"


def test_the_models_of_a_rank_correlation_are_few_whatever_its_seeds_say():
    rho = Effect("rho", "-", dict.fromkeys(range(3), 0.2), "rho", "", beside=0.5, most=1.0)
    assert (rho.interval.low, rho.interval.high) == pytest.approx((0.2 - 0.97998, 1.0), abs=1e-4)
    assert rho.verdict == "undecided" and rho.smallest == pytest.approx(0.5 * (1.95996 + 0.84162), abs=1e-4)
    assert overall([rho]) == "undecided" and overall([effect(0.2, 0.2, 0.2, sign="-")]) == "contradicted"


def test_one_seed_decides_nothing_and_says_no_interval():
    alone = effect(50.0)
    answer = judge(claim(lambda scores, scale: [alone]), Scores([]), "demo")
    assert answer.verdict == "undecided"
    told = answer.row()["effects"][0]
    assert (told["value"], told["low"], told["high"], told["smallest"]) == (50.0, None, None, None)


def test_a_claim_holds_only_where_every_effect_does():
    sure, unsure, against = effect(2.0, 2.1, 2.2), effect(-5.0, 5.0, 1.0), effect(-2.0, -2.1, -2.2)
    assert overall([sure, sure]) == "holds"
    assert overall([sure, unsure]) == "undecided"
    assert overall([sure, against]) == "contradicted"


def test_many_effects_make_a_contradiction_harder():
    """One of four effects that lies on the other side at 95 %, but not at 98.75 %, is what chance brings."""
    against = effect(-1.0, -1.35, -0.65)
    assert against.verdict == "contradicted" and overall([against]) == "contradicted"
    assert overall([against, *[effect(2.0, 2.1, 2.2)] * 3]) == "undecided"


def test_what_is_missing_is_named_and_is_no_verdict():
    def difference(scores, scale):
        return [Effect("a - b", "+", {0: scores.value("a", "class", "top1", 0) - scores.value("b", "class", "top1", 0)},
                       "points", "")]  # fmt: skip

    found = judge(claim(difference), Scores([row("a", 0, 3.0)]), "laptop")
    assert found.verdict == "not run" and "backbones with results: a" in found.why and found.effects == ()
    lacking = judge(claim(difference, lacking={"laptop": "there are no faces"}), Scores([]), "laptop")
    assert lacking == Answer(lacking.claim, "laptop", "not run", why="there are no faces")
    whole = judge(claim(difference), Scores([row("a", 0, 3.0), row("b", 0, 1.0)]), "demo")
    assert whole.effects[0].values == {0: 2.0} and whole.row()["effects"][0]["seeds"] == {"0": 2.0}


def test_a_mistake_in_a_claim_is_no_missing_cell():
    with pytest.raises(ZeroDivisionError):
        judge(claim(lambda scores, scale: [1 / 0]), Scores([]), "demo")
