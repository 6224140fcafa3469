"""Charts show the numbers that they should, on paper of any colour, and each can be drawn."""

import json
import re

import pytest
from chart_rows import CLAIMS, FUSED, GOOD, PRETRAINED, RANDOM, chart_rows, row

from whytransfer.errors import InputError
from whytransfer.report import charts, diagnosis_charts, pretraining_charts, task_charts
from whytransfer.report.dots import dots
from whytransfer.report.forest import forest
from whytransfer.report.look import COLOURS, INK, point, spec
from whytransfer.report.numbers import collect
from whytransfer.study.statistics import paired_difference

FEW = (RANDOM, "moco 1", "moco 5", "supervised 5", "moco on faces", FUSED)


@pytest.fixture(scope="module")
def numbers():
    return collect(chart_rows((0, 1), FEW))


@pytest.fixture(scope="module")
def curves():
    return [
        {"backbone": "moco 5", "seed": s, "epoch": e, "loss": 3.0 - e, "knn": 10.0 * e, "rank": None}
        for s in (0, 1) for e in (1, 2)
    ]  # fmt: skip


def points_of(chart):
    """All rows inside a specification that are of a backbone or a claim."""

    def walk(part):
        if isinstance(part, dict):
            for value in part.values():
                yield from walk(value)
        elif isinstance(part, list):
            for value in part:
                yield from walk(value)
                if isinstance(value, dict) and "shown" in value and "each" not in value:
                    yield value

    unique = {json.dumps(p, sort_keys=True): p for p in walk(chart.to_dict(validate=False))}
    return list(unique.values())


def test_every_chart_is_drawn_and_is_json_of_any_paper(numbers, curves):
    import vl_convert

    found = charts.specs(numbers, curves, CLAIMS)
    assert [c.name for c, _ in found] == ["claims", *(c.name for c in charts.CHARTS), "learning-curves"]
    for chart, specification in found:
        text = json.dumps(specification, allow_nan=False)
        assert specification["config"]["background"] == "transparent" and "#000000" not in text, chart.name
        svg = vl_convert.vegalite_to_svg(text)
        assert svg.count("<path") > 4 and svg.count("<text") > 4 and "NaN" not in svg, chart.name
        assert chart.title and chart.reading and INK in svg


def test_panels_share_one_legend(numbers, curves):
    """Legends that differ in their names are two of one title, and Vega warns."""
    some = [n for n in numbers if (n.item, n.backbone) != ("depth", RANDOM)]  # a panel of fewer backbones

    def legends(part):
        if isinstance(part, dict):
            for channel, value in part.get("encoding", {}).items():
                if isinstance(value, dict) and value.get("legend"):
                    yield channel, json.dumps(value["legend"])
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from legends(value)

    for chart, specification in charts.specs(some, curves, CLAIMS):
        found = set(legends(specification))
        assert len(found) == len({channel for channel, _ in found}), chart.name
        assert len({legend for _, legend in found}) <= 1, chart.name


def test_without_intervals_no_chart_draws_them(curves):
    """Vega warns of an axis whose field has no value at all."""
    bare = collect([{**r, "low": None, "high": None} for r in chart_rows((0,), FEW)])
    effects = [{**effect, "low": None, "high": None} for effect in CLAIMS[0]["effects"]]
    for chart, specification in charts.specs(bare, curves, [{**CLAIMS[0], "effects": effects}]):
        assert not re.search(r'"field": "([xy]_)?(low|high)"', json.dumps(specification)), chart.name


def test_a_study_of_nothing_has_no_chart():
    assert charts.specs([]) == [] and dots([], []) is None and forest([{**CLAIMS[0], "effects": []}]) is None


def test_a_point_says_what_is_behind_it(numbers):
    number = next(n for n in numbers if (n.backbone, n.item, n.metric) == ("moco 5", "class", "top1"))
    made = point(number)
    assert made["value"] == pytest.approx(sum(number.by_seed.values()) / 2) and made["href"] == f"#n{number.index}"
    assert made["low"] < min(number.by_seed.values()) and made["high"] > max(number.by_seed.values())
    assert made["interval"].endswith("over seeds") and made["seeds"].startswith("0: ") and "1: " in made["seeds"]
    (alone,) = collect([row("a", "x", "top1", 50.0, 3, half=None)])
    assert point(alone)["interval"] == "one seed: none" and point(alone)["low"] is None
    (images,) = collect([row("a", "x", "top1", 50.0, 3, half=2.0)])
    assert point(images)["interval"] == "[48.0, 52.0] over test images"


def test_colours_are_the_same_in_every_chart(numbers):
    """A legend of fewer backbones does not move the others' colours."""
    looks = {}
    for chart in (
        task_charts.tasks,
        task_charts.label_efficiency,
        diagnosis_charts.trade_off,
        task_charts.score_for_time,
    ):
        drawn = json.dumps(chart(numbers).to_dict(validate=False))
        for at in [i for i in range(len(drawn)) if drawn.startswith('"scale": {"domain": ["random"', i)]:
            scale = json.JSONDecoder().raw_decode(drawn, at + len('"scale": '))[0]
            if scale["range"][0] == COLOURS[0]:
                looks[chart.__name__] = dict(zip(scale["domain"], scale["range"], strict=True))
    assert len(looks) == 4 and len({json.dumps(look) for look in looks.values()}) == 1


def test_tasks_take_the_first_metric_with_all_labels(numbers):
    shown = points_of(task_charts.tasks(numbers))
    assert {(p["item"], p["metric"], p["data"]) for p in shown} == {
        ("class", "top-1", "scenes"), ("factors", "pose", "scenes"), ("depth", "rmse", "scenes"),
    }  # fmt: skip
    assert len(shown) == 3 * len(FEW)


def test_label_efficiency_has_every_share(numbers):
    shown = points_of(task_charts.label_efficiency(numbers))
    assert {p["percent"] for p in shown} == {1, 10, 100} and {p["item"] for p in shown} == {"class"}
    of_moco = {p["percent"]: p["value"] for p in shown if p["backbone"] == "moco 5"}
    assert of_moco[1] < of_moco[10] < of_moco[100]


def test_gains_of_fusions_are_paired_and_turned_where_less_is_better(numbers):
    shown = {p["item"]: p for p in points_of(task_charts.fusion_gains(numbers))}
    by = {(n.backbone, n.item): n for n in numbers if n.metric in ("top1", "rmse") and n.data == "scenes"}
    gap = paired_difference(by[FUSED, "class"].by_seed, by["moco 5", "class"].by_seed)
    assert (shown["class"]["value"], shown["class"]["of"]) == (pytest.approx(gap.value), "moco 5")
    assert (shown["class"]["low"], shown["class"]["high"]) == (pytest.approx(gap.low), pytest.approx(gap.high))
    gap = paired_difference(by[FUSED, "depth"].by_seed, by["moco 5", "depth"].by_seed)
    assert shown["depth"]["value"] == pytest.approx(-gap.value) and shown["depth"]["low"] == pytest.approx(-gap.high)
    assert task_charts.fusion_gains([n for n in numbers if n.backbone != "supervised 5"]) is None  # one member is left


def test_a_fusion_took_the_time_of_its_members_and_random_none(numbers):
    minutes = {p["backbone"]: p["minutes"] for p in points_of(task_charts.score_for_time(numbers))}
    assert minutes[RANDOM] == 0 and minutes["moco 5"] > 1
    assert minutes[FUSED] == pytest.approx(minutes["moco 5"] + minutes["supervised 5"])


def test_the_ladder_is_known_by_the_views_not_by_their_names(numbers):
    assert [pretraining_charts.rung_of(f"ladder-{k}") for k in range(1, 6)] == [0, 1, 2, 3, 4]
    assert pretraining_charts.rung_of("ladder-2-supervised") == 1 and pretraining_charts.rung_of("moco-v2") == 4
    assert pretraining_charts.rung_of("appearance") is None and pretraining_charts.rung_of("no such") is None
    shown = points_of(pretraining_charts.ladder(numbers))
    assert {(p["method"], p["rung"]) for p in shown} == {
        ("moco-v2-small", "flip"), ("moco-v2-small", "+ blur"), ("supervised", "+ blur"),
    }  # fmt: skip
    assert {p["backbone"] for p in shown} == {"moco 1", "moco 5", "supervised 5"}  # other images are another ladder


def test_image_sets_compare_one_method_and_recipe(numbers):
    shown = points_of(pretraining_charts.image_sets(numbers))
    assert {p["backbone"] for p in shown} == {"moco 5", "moco on faces"}
    assert pretraining_charts.image_sets([n for n in numbers if n.backbone != "moco on faces"]) is None


def test_the_heat_map_has_transforms_groups_and_real_changes_in_order(numbers):
    shown = points_of(diagnosis_charts.heat_map(numbers))
    kinds = list(dict.fromkeys(p["what"] for p in shown))
    assert "spatial (mean)" in kinds and "h flip" in kinds and kinds[-1] == "real: viewpoint (coil20)"
    assert len(shown) == len(kinds) * len(FEW) and {p["short"] for p in shown} >= {"0.25"}
    crossed = points_of(diagnosis_charts.trade_off(numbers))
    assert len(crossed) == len(FEW) and all(p["x_low"] < p["x"] < p["x_high"] for p in crossed)
    assert all(p["href"].count("n") == 2 for p in crossed)


def test_differences_of_detectors_are_no_error_shares(numbers):
    pair = row("a - b", "errors", "Hoiem share Loc", 1.0, 0, "diagnose-errors")
    pair["provenance"] = {"paired_difference_of": ["a", "b"]}
    shown = points_of(diagnosis_charts.error_shares([*numbers, *collect([pair])]))
    assert {p["backbone"] for p in shown} == set(FEW) and len(shown) == 4 * len(FEW)


def test_masks_are_of_engines(numbers):
    assert [p["backbone"] for p in points_of(diagnosis_charts.mask_quality(numbers))] == [
        "grid:5",
        "felzenszwalb",
        "mcg",
    ]


def test_effects_of_claims_are_turned_to_the_papers_side():
    shown = {p["claim"]: p for p in points_of(forest(CLAIMS))}
    colour = shown["C16 colour"]
    assert (colour["value"], colour["low"], colour["high"]) == (0.53, 0.51, 0.55) and "-0.53" in colour["shown"]
    assert shown["C04 spread"]["value"] == -4 and shown["C04 spread"]["verdict"] == "contradicted"
    assert (shown["C04 one view"]["from"], shown["C04 one view"]["to"]) == (-1, 1)
    assert shown["C04 one seed only"]["low"] is None and shown["C04 one seed only"]["interval"] == "one seed: none"


def test_labels_of_effects_are_two_lines_and_rows_of_their_own():
    long = [{**CLAIMS[0]["effects"][0], "name": "top-1 of the same ten words " * 4 + end} for end in "ab"]
    shown = points_of(forest([{**CLAIMS[0], "effects": long}]))
    assert len({p["label"] for p in shown}) == 2 and all(p["label"].count("\n") == 1 for p in shown)
    assert all(len(line) <= 36 for p in shown for line in p["label"].split("\n"))
    assert [p["claim"][-1] for p in shown] == ["a", "b"]  # told in full on hovering


def test_learning_curves_come_from_the_runs_thinned(tmp_path):
    rows = [r for r in chart_rows((0,), ("moco 5", "supervised 5")) if r["stage"] == "pretrain"]
    files = tmp_path / rows[0]["folder"] / "files"
    files.mkdir(parents=True)
    lines = [json.dumps({"epoch": e, "loss": 1 / e, "knn": float(e)}) for e in range(1, 401)]
    (files / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = list(pretraining_charts.learning_points(rows, tmp_path))
    assert {p["backbone"] for p in found} == {"moco 5"} and len(found) <= 151  # the other has no file
    assert found[0]["epoch"] == 1 and found[-1] == {
        "backbone": "moco 5", "seed": 0, "epoch": 400, "knn": 400.0, "loss": 1 / 400, "rank": None,
    }  # fmt: skip
    assert "effective rank" not in json.dumps(pretraining_charts.learning_curves(found, []).to_dict(validate=False))
    (files / "metrics.jsonl").write_text('{"epoch": 1}\nhalf')
    with pytest.raises(InputError, match=r"line 2 of .*metrics\.jsonl is no JSON"):
        list(pretraining_charts.learning_points(rows, tmp_path))


def test_names_with_markup_stay_names():
    name = "<b>a</b></script>"
    made = collect([row(name, "t", "top1", v, s, model="random:x") for s, v in ((0, 1.0), (1, 2.0))])
    assert (
        name
        in json.loads(json.dumps(spec(task_charts.tasks(made))))["concat"][0]["layer"][0]["data"]["values"][0].values()
    )


def test_the_made_up_rows_are_a_study():
    own = [r for r in chart_rows((0,)) if r["item"] != "fusion"]
    assert set(PRETRAINED) < set(GOOD) and {r["backbone"] for r in own} == {*GOOD, ""}
