"""The studies of the claims: what they share, that they join, that each can be judged by its own study's table."""

import dataclasses
import itertools

import pytest

from whytransfer.claims import CLAIMS, SCALES, judge
from whytransfer.claims.claim import Claim
from whytransfer.claims.models import models, named, on_set
from whytransfer.claims.suite import joined, of_claims, setup_of, study
from whytransfer.errors import InputError
from whytransfer.study.scores import Scores

METRICS = {  # of a task or diagnosis: what its Results are called, as far as claims read them
    "readout": ("top1",), "sgd-readout": ("top1",), "detection": ("box_AP", "box_AP50", "box_AP75"),
    "segmentation": ("mean_iou",), "landmarks": ("error_diagonal",), "errors": ("Hoiem share Loc",),
    "fewshot": ("linear_3way_1shot", "linear_3way_5shot", "linear_5way_1shot", "linear_5way_5shot", "base_top1"),
    "factors": ("pose", "colour"), "kernel-readout": ("pose", "colour"), "ridge-readout": ("mean",),
    "invariance": tuple(f"{what} similarity" for what in (
        "spatial", "appearance", "viewpoint", "light colour", "light direction")),
    "inversion": ("1 - MS-SSIM (2 scales)", "coverage"), "masks": ("best overlap",),
}  # fmt: skip


def table(whole, value):
    """Rows as a finished study has them; value(backbone, item, metric, seed)."""
    rows = []
    for item, settings in {**whole["tasks"], **whole["diagnoses"]}.items():
        kind = settings.get("task") or settings["diagnose"]
        seeds = whole["seeds"][:1] if kind == "masks" else whole["seeds"]
        for name, metric, seed in itertools.product(settings.get("backbones", ["grid"]), METRICS[kind], seeds):
            rows.append({
                "backbone": name, "item": item, "metric": metric, "seed": seed, "provenance": {},
                "value": value(name, item, metric, seed),
            })  # fmt: skip
    return rows


@pytest.mark.parametrize("scale", SCALES)
def test_all_claims_of_a_scale_are_one_study_in_which_no_run_stands_twice(scale):
    whole = of_claims(CLAIMS.values(), scale, "/data")
    assert whole["study"] == f"claims-{scale}" and whole["values"] == {"data": "/data"}
    runs = [
        repr(sorted({**whole["pretrain"], **own}.items()))
        for own in whole["backbones"].values()
        if isinstance(own, dict)
    ]
    assert len(set(runs)) == len(runs)
    assert whole["tasks"]["readout"]["backbones"].count("default") == 1
    for item in whole["tasks"].values():
        assert set(item["backbones"]) <= set(whole["backbones"])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_a_claim_reads_no_more_than_its_own_study_runs(claim: Claim, scale):
    """With every value that its study gives there is nothing it misses, and an effect of every seed."""
    if scale in claim.lacking:
        pytest.skip(f"{claim.id} has no {scale}: {claim.lacking[scale]}")
    whole = claim.study(scale)
    order = {name: k for k, name in enumerate(whole["diagnoses"])}

    def noise(name, item, metric, seed):
        return order[item] if item.startswith("masks-") else 50 + hash((name, metric, seed)) % 1000 / 100

    answer = judge(claim, Scores(table(whole, noise)), scale)
    assert answer.verdict != "not run", answer.why
    assert all(set(effect.values) == set(whole["seeds"]) for effect in answer.effects)
    assert claim.finding and claim.paper and all(effect.paper for effect in answer.effects)


def test_the_direction_of_a_finding_is_that_of_its_effects():
    """C01 by hand: contrastive goes from 10 to 60, supervised from 50 to 60, so augmentation brings it 40 more."""
    claim, seeds = CLAIMS["C01"], setup_of("demo").seeds
    to = {"default": 60, "default-ladder-1": 10, "supervised": 60, "supervised-ladder-1": 50}
    rows = table(claim.study("demo"), lambda name, item, metric, seed: to[name] + 0.1 * seed * (name == "default"))
    answer = judge(claim, Scores(rows), "demo")
    assert answer.verdict == "holds" and answer.effects[0].values == pytest.approx({s: 40 + 0.1 * s for s in seeds})
    to = {name: 70 - value for name, value in to.items()}
    rows = table(claim.study("demo"), lambda name, item, metric, seed: to[name] + 0.1 * seed * (name == "default"))
    assert judge(claim, Scores(rows), "demo").verdict == "contradicted"


def test_equal_settings_have_one_name():
    setup = setup_of("demo")
    known = models(setup)
    assert named(setup, "moco-like-exemplar") == "default" and on_set(setup, "default", "scenes") == "default"
    assert named(setup, f"detcon-{setup.capacities[0]}") == f"detcon-{setup.length}ep"
    assert named(setup_of("full"), "moco-like-exemplar") == "moco-like-exemplar"  # its queue is Exemplar's there
    assert all(named(setup, name) in known for name in known)
    with pytest.raises(InputError, match="unknown backbone of the claims 'defualt'. Did you mean 'default'"):
        study("demo", ["defualt"])


def test_studies_that_disagree_are_a_mistake():
    one = study("demo", ["default"], ["readout"])
    other = study("demo", ["supervised"], ["readout"])
    both = joined([one, other])
    assert both["tasks"]["readout"]["backbones"] == ["default", "supervised"] and list(both["backbones"]) == both[
        "tasks"
    ]["readout"]["backbones"]  # fmt: skip
    other["tasks"]["readout"]["size"] = 7
    with pytest.raises(ValueError, match="two claims mean different things by 'readout'"):
        joined([one, other])
    with pytest.raises(ValueError, match="'pretrain'"):
        joined([one, {**one, "pretrain": {}}])


def test_a_claim_without_images_is_left_out_and_alone_refused():
    bare = dataclasses.replace(CLAIMS["C10"], lacking={"demo": "there are no faces"})
    whole = of_claims([bare, CLAIMS["C02"]], "demo", "d")
    assert "landmarks" not in whole["tasks"] and "readout" in whole["tasks"]
    with pytest.raises(InputError, match="C10: there are no faces"):
        of_claims([bare], "demo", "d")
    with pytest.raises(InputError, match="unknown scale 'laptpo'. Did you mean 'laptop'"):
        setup_of("laptpo")
