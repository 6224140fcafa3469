"""The pictures of complementarity hold what the results say, under short names."""

import csv

from whytransfer.diagnosis import complementarity_figures as figures
from whytransfer.diagnosis.complementarity import TASK
from whytransfer.records import Result

A, B, C = "/runs/spine/default-0", "/runs/spine/spatial-0", "random:resnet18"


def result(model, metric, value, **provenance):
    ends = value - 0.1, value + 0.1
    return Result(model, "photos", TASK, metric, value, "points", "higher", 50, 0, *ends, provenance)


def gain(model, value, variant, metric="top1"):
    name = f"readout {metric}: gain over the best single"
    told = {"of_task": "readout", "of_metric": metric, "variant": variant, "best_single": A}
    return result(model, name, value, kind="gain", **told)


RESULTS = [
    result(f"{A} with {B}", "unbiased linear CKA", 0.4, kind="cka", models=[A, B]),
    result(f"{A} with {B}", "readout top1: kappa of errors", 0.3, kind="overlap", models=[A, B]),
    result(f"{A} with {B}", "readout top1: Jaccard of errors", 0.5, kind="overlap", models=[A, B]),
    gain(f"{A}+{B}", 2.0, "plain"),
    gain(f"standardised:{A}+{B}", 1.5, "standardised"),
    gain(C, -3.0, "control"),
    result(C, "mean rank", 3.0, kind="rank", variant="control"),
    result(f"standardised:{A}+{B}", "mean rank", 1.0, kind="rank", variant="standardised"),
]


def test_a_map_shows_each_pair_from_both_sides():
    rows = figures.alike_rows(RESULTS)
    assert [(r["one"], r["other"], r["value"]) for r in rows[:2]] == [
        ("default-0", "spatial-0", 0.4),
        ("spatial-0", "default-0", 0.4),
    ]
    assert {r["panel"] for r in rows} == {"unbiased linear CKA, photos", "readout top1: kappa of errors, photos"}


def test_variants_of_a_fusion_share_a_line_and_ranks_begin_with_the_best():
    rows = figures.gain_rows(RESULTS)
    assert [(r["fusion"], r["variant"], r["value"]) for r in rows] == [
        ("default-0 + spatial-0", "plain", 2.0),
        ("default-0 + spatial-0", "standardised", 1.5),
        (C, "control", -3.0),
    ]
    ranks = figures.rank_rows(RESULTS)
    assert [(r["model"], r["value"]) for r in ranks] == [("default-0 + spatial-0 (standardised)", 1.0), (C, 3.0)]


def test_what_is_drawn_lies_beside_it_as_a_table(tmp_path):
    paths = figures.draw(RESULTS, tmp_path)
    assert {p.name for p in paths} >= {"alike.svg", "gains.pdf", "ranks.png", "gains.csv"}
    drawn = (tmp_path / "gains.svg").read_text()
    assert all(word in drawn for word in ("default-0 + spatial-0", "points", "standardised", "control"))
    with open(tmp_path / "gains.csv") as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == [2.0, 1.5, -3.0]
    assert figures.draw([], tmp_path / "none") == []
