"""The diagnosis: intervals, pairs, what the command keeps, draws and prints, and what it refuses."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from console import call
from detection_toys import moved, problem, world
from PIL import Image

from whytransfer import diagnose_errors
from whytransfer.cli import main, parse
from whytransfer.commands.diagnose_errors import names_of
from whytransfer.diagnosis import detection_figures
from whytransfer.diagnosis.detection_analysis import DetectionErrors
from whytransfer.errors import InputError
from whytransfer.tasks import bootstrap


def by_metric(results, model):
    return {r.metric: r for r in results if r.model == model}


def test_detectors_are_compared_on_the_same_draws():
    truth, found = problem(0)
    worse = [moved(d, 0.15) for d in found]
    analysis = DetectionErrors(truth, {"a": found, "b": worse, "c": found}, draws=60, seed=3)
    results = list(analysis.run())
    a, b, pair = (by_metric(results, name) for name in ("a", "b", "b - a"))
    assert set(a) == set(b) == set(pair) and {"c - a", "c - b"} <= {r.model for r in results}
    for name in ("AP", "TIDE dAP Loc", "Hoiem share Loc", "TIDE errors Dupe"):
        k = list(analysis.measures["a"].names).index(name)
        rows = next(bootstrap.resamples(len(truth["images"]), 60, 3))
        drawn = [analysis.measures["b"].of(row)[k] - analysis.measures["a"].of(row)[k] for row in rows]
        assert pair[name].value == pytest.approx(b[name].value - a[name].value)
        ends = np.quantile(drawn, [0.025, 0.975]) - (np.mean(drawn) - pair[name].value)
        assert (pair[name].low, pair[name].high) == pytest.approx(ends)
        assert a[name].low <= a[name].value <= a[name].high
    same = by_metric(results, "c - a")
    assert all((r.value, r.low, r.high) == (0, 0, 0) for r in same.values())  # nothing is left of what they share
    assert pair["AP"].high - pair["AP"].low < a["AP"].high - a["AP"].low
    assert (a["AP"].direction, a["TIDE dAP Loc"].direction, a["TIDE errors Loc"].unit) == ("higher", "lower", "errors")
    assert a["AP"].provenance["similar_classes"] == [["cat", "dog"], ["dog", "cat"]]
    again = DetectionErrors(truth, {"a": found}, draws=60, seed=3).run()
    assert {r.metric: (r.low, r.high) for r in again} == {k: (r.low, r.high) for k, r in a.items()}


def test_one_image_has_no_interval():
    results = list(DetectionErrors(*_named(world(1)), draws=5).run())
    assert results and all(r.low is None and r.high is None for r in results)


def _named(made):
    return made[0], {"a": made[1]}


def test_no_detections():
    truth, _ = world(2)
    results = by_metric(DetectionErrors(truth, {"none": []}, draws=5).run(), "none")
    assert results["AP"].value == results["AP"].high == 0 and results["TIDE errors Miss"].value == 6
    assert not any("share" in name for name in results)
    with pytest.raises(InputError, match="no detections were given"):
        DetectionErrors(truth, {})


@pytest.fixture
def files(tmp_path):
    """Ground truth and two detectors, of which the second is worse."""
    truth, found = problem(1, images=30)
    for n, item in enumerate(truth["annotations"]):
        item["truncated"] = n % 2
    paths = {name: tmp_path / f"{name}.json" for name in ("truth", "good", "bad")}
    bad = [moved(d, 0.2) for d in found[::2]] + found[1::2]
    for path, content in zip(paths.values(), (truth, found, bad), strict=True):
        path.write_text(json.dumps(content))
    return {name: str(path) for name, path in paths.items()}


def test_the_command_keeps_draws_and_prints(files, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["diagnose", "errors", "--truth", files["truth"], "--detections", files["good"], "--draws", "30"]
    main([*arguments, "--detections", files["bad"], "--out", str(out), "--matches"])
    printed = capsys.readouterr().out
    assert "TIDE dAP Loc" in printed and "paired difference" in printed and "bad" in printed
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {row["model"] for row in rows} == {"good", "bad", "bad - good"}
    for name in detection_figures.CHARTS:
        if name == "false-positives-by-rank":
            continue  # too few of them here: tested below
        with Image.open(out / "figures" / f"{name}.png") as image:
            assert image.width > 300
        assert (out / "figures" / f"{name}.svg").read_text().startswith("<svg") and (
            out / "figures" / f"{name}.csv"
        ).stat().st_size > 100
    with open(out / "per-class.csv", newline="") as file:
        classes = list(csv.DictReader(file))
    assert [(row["detector"], row["class"]) for row in classes[:4]] == [
        ("good", "cat"), ("good", "dog"), ("good", "car"), ("bad", "cat")
    ]  # fmt: skip
    with open(out / "matches-bad.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(json.loads(Path(files["bad"]).read_text()))
    kept = len(rows)
    diagnose_errors(
        truth=files["truth"], detections=[files["good"], files["bad"]], draws=30, out=out, figures=False
    )  # fmt: skip
    assert len((out / "results.jsonl").read_text().splitlines()) == kept  # the same replaces itself
    diagnose_errors(truth=files["truth"], detections=files["good"], draws=20, out=out, figures=False)
    assert len((out / "results.jsonl").read_text().splitlines()) > kept


def test_figures_hold_what_they_show(files):
    truth, found = problem(2)
    results = list(DetectionErrors(truth, {"a": found, "b": found[::2]}, draws=5, least=1).run())
    ranked = dataclasses.replace(results[0], metric="Hoiem share Loc of the first 25 FPs")
    rows = detection_figures.rank_rows([ranked, *results])
    assert rows[0]["rank"] == 25 and rows[0]["error"] == "localisation"
    detection_figures.by_rank(rows).to_dict()
    costs = detection_figures.cost_rows(results)
    assert len(costs) == 2 * 15 and {"TIDE", "Hoiem"} == {row["taxonomy"] for row in costs}
    assert "fix localisation, remove similar class" in {row["error"] for row in costs}
    every = results[0].provenance["classes_with_enough"]["size"]
    assert every and {row["classes"] for row in detection_figures.sensitivity_rows(results)} >= {", ".join(every)}
    pairs = detection_figures.difference_rows(results)
    assert len(pairs) == 19 and {row["detector"] for row in pairs} == {"b - a"}
    assert detection_figures.difference_rows([r for r in results if r.model == "a"]) == []


def test_the_help_shows_how_own_detectors_are_analysed(capsys):
    assert call("diagnose", "errors", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--architecture fpn" in text and "--truth det/random --detections det/random det/mine" in text


def test_repeated_flags_add_up():
    base = ["diagnose", "errors", "--truth", "t", "--out", "o"]
    for typed in (
        ["--detections", "a", "b", "c"],
        ["--detections", "a", "--detections", "b", "c"],
        ["--detections=a", "--draws", "10", "--detections=b", "--detections", "c"],
    ):
        assert parse([*base, *typed]).detections == ("a", "b", "c")


def test_refusals(files, tmp_path, monkeypatch):
    base = {"truth": files["truth"], "out": tmp_path / "out", "draws": 5, "figures": False}
    with pytest.raises(InputError, match="missing.json cannot be read"):
        diagnose_errors(**base, detections=str(tmp_path / "missing.json"))
    with pytest.raises(InputError, match="2 detections and 1 names were given"):
        diagnose_errors(**base, detections=[files["good"], files["bad"]], names="x")
    with pytest.raises(InputError, match="two detections are called"):
        diagnose_errors(**base, detections=[files["good"], files["good"]])
    with pytest.raises(InputError, match="the ground truth has no cow"):
        diagnose_errors(**base, detections=files["good"], similar="cat,cow")
    assert not (tmp_path / "out").exists()  # nothing half-written
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    with pytest.raises(InputError, match="figures need altair"):
        diagnose_errors(**{**base, "figures": True}, detections=files["good"])


def test_names_of_detectors(tmp_path):
    assert names_of(["x/a.json", "y/b.json"], None) == ["a", "b"]
    assert names_of(["x/a.json", "y/a.json"], None) == ["x/a.json", "y/a.json"]
    assert names_of([str(tmp_path / "one" / "detections.json"), str(tmp_path / "two")], None) == ["one", "two"]
    assert names_of(["x", "y"], ["left", "right"]) == ["left", "right"]
