"""The picture of an advice: its rows are the answer's numbers, and its words what they bear."""

import csv

import pytest

from whytransfer.diagnosis import advice_figures


def candidate(name, value, ignores, lost):
    curve = [
        {"percent": percent, "pictures": pictures, "value": value - less, "low": value - less - 8, "high": value + 8}
        for percent, pictures, less in ((10, 18, 25.0), (50, 90, 6.0), (100, 180, 0.0))
    ]
    falls = {word: {"value": x, "low": x - 5, "high": x + 5} for word, x in zip(("pose", "colour"), lost, strict=True)}
    kept = dict(zip(("pose", "colour"), ignores, strict=True))
    return {"backbone": name, "curve": curve, "ignores": kept, "falls": falls}


@pytest.fixture
def answer():
    alone = {
        word: {"over_largest_class": {"value": v, "low": v - 9, "high": v + 9}}
        for word, v in (("pose", 14.2), ("colour", 4.2))
    }
    return {
        "images": "caltech-8", "pictures": 225, "classes": {"a": 200, "b": 25}, "metric": "top1",
        "largest_class": {"value": 20.0}, "alone": alone,
        "candidates": [
            candidate("runs/supervised", 69.3, (0.17, 0.35), (22.0, 9.0)),
            candidate("random:resnet18", 54.0, (0.07, 0.25), (30.0, 14.0)),
        ],
    }  # fmt: skip


def test_tables_hold_the_numbers_of_the_answer(answer, tmp_path):
    advice_figures.draw(answer, tmp_path)
    labels = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert len(labels) == 6 and labels[0] == {
        "backbone": "supervised", "percent": "10", "pictures": "18", "value": "44.3", "low": "36.3", "high": "77.3",
    }  # fmt: skip
    offered = list(csv.DictReader((tmp_path / "invariance.csv").open()))
    assert {(r["of"], r["backbone"], r["ignores"], r["lost"]) for r in offered} == {
        ("pose", "supervised", "0.17", "22.0"), ("pose", "random:resnet18", "0.07", "30.0"),
        ("colour", "supervised", "0.35", "9.0"), ("colour", "random:resnet18", "0.25", "14.0"),
    }  # fmt: skip


def test_it_says_what_ignoring_can_cost_only_where_the_interval_shows_it(answer, tmp_path):
    advice_figures.draw(answer, tmp_path)
    text = (tmp_path / "advice.svg").read_text()
    assert "pose alone tells +14.2 points [+5.2, +23.2] of the labels" in text and "ignoring pose can cost" in text
    assert "ignoring colour costs little that shows" in text and "ignoring colour can cost" not in text
    assert "NaN" not in text and text.count("supervised") >= 1


def test_without_shares_there_is_no_curve(answer, tmp_path):
    for c in answer["candidates"]:
        c["curve"] = c["curve"][-1:]
    advice_figures.draw(answer, tmp_path)
    assert "Do more labels pay?" not in (tmp_path / "advice.svg").read_text()


def test_names_of_backbones_are_text(answer, tmp_path):
    answer["candidates"][0]["backbone"] = name = "<b>a & \"b\" 'c'"
    advice_figures.draw(answer, tmp_path)
    assert "<b>" not in (tmp_path / "advice.svg").read_text()
    assert next(csv.DictReader((tmp_path / "labels.csv").open()))["backbone"] == name
