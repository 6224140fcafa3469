"""`whytransfer diagnose complementarity`: results, figures, what the rows say of each other, refusals."""

import json

import pytest
from console import call

import whytransfer
from whytransfer.diagnosis.complementarity import fusions_of
from whytransfer.errors import InputError

SPECS = ("random:resnet18:1", "random:resnet18:2", "random:resnet18:3")
TRAIN, TEST = "scenes:40:0:24", "scenes:42:1:24"


def ask(tmp_path, **options):
    given = {"backbone": SPECS[:2], "train": TRAIN, "test": TEST, "out": tmp_path / "out", "size": 24, "draws": 50}
    return whytransfer.diagnose_complementarity(**(given | {"figures": False, "device": "cpu"} | options))


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Three backbones, a control, two tasks, from the command line with figures."""
    out = tmp_path_factory.mktemp("complementarity")
    given = ["diagnose", "complementarity", "--backbone", *SPECS, "--control", "random:resnet18:9", "--standardised"]
    given += [
        "--task",
        "knn",
        "kernel-readout",
        "--train",
        TRAIN,
        "--test",
        TEST,
        "--size=24",
        "--draws=50",
        "--device=cpu",
    ]
    code = call(*given, f"--out={out}", "--json")
    return code, out, [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_every_part_is_there(answered):
    code, out, rows = answered
    assert code == 0
    own = [r for r in rows if r["task"] == "complementarity"]
    kinds = {kind: [r for r in own if r["provenance"]["kind"] == kind] for kind in ("cka", "overlap", "gain", "rank")}
    scores = 1 + 3  # top1; pose, colour and their mean
    assert len(kinds["cka"]) == 3 and len(kinds["gain"]) == (2 * 4 + 1) * scores
    assert len(kinds["overlap"]) == 3 * (3 + 3)  # kappa, Jaccard and both wrong of classes; a correlation of the others
    assert len(kinds["rank"]) == 3 + 2 * 4 + 1 and {r["n"] for r in kinds["rank"]} == {3}
    assert sum(r["value"] for r in kinds["rank"]) == pytest.approx(12 * 13 / 2)
    assert {r["task"] for r in rows} == {"complementarity", "knn", "kernel-readout"}
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {
        f"{name}.{kind}" for name in ("alike", "gains", "ranks") for kind in ("svg", "pdf", "png", "csv")
    } <= figures


def test_gains_are_differences_of_the_scores_that_stand_beside_them(answered):
    _, _, rows = answered
    value = {(r["model"], r["task"], r["metric"]): r["value"] for r in rows}
    gains = [r for r in rows if r["provenance"].get("kind") == "gain"]
    for r in gains:
        p = r["provenance"]
        task, metric, best = p["of_task"], p["of_metric"], p["best_single"]
        assert r["value"] == pytest.approx(value[r["model"], task, metric] - value[best, task, metric], abs=1e-5)
        assert best == max(p["held_out_scores"], key=p["held_out_scores"].get)
        assert p["gain_over_best_on_test"] <= r["value"] + 1e-9
        assert r["low"] <= r["value"] <= r["high"] and set(p["members"]) <= set(SPECS)
    by = {(r["model"], r["provenance"]["of_metric"]): r["value"] for r in gains}
    fused = "+".join(SPECS)
    assert by[fused, "pose"] == pytest.approx(by[f"standardised:{fused}", "pose"], abs=1e-4)  # each feature is scaled
    assert {r["provenance"]["variant"] for r in gains} == {"plain", "standardised", "control"}


def test_the_same_command_replaces_its_results(tmp_path):
    first, second = ask(tmp_path), ask(tmp_path)
    rows = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(rows) == len(first) == len(second)
    assert [r.value for r in first] == [r.value for r in second]
    assert not (tmp_path / "out" / "figures").exists()


def test_tasks_on_maps_and_several_sets(tmp_path, capsys):
    """A head on maps per backbone and fusion; the table says what cannot be told apart."""
    given = ["diagnose", "complementarity", "--backbone", *SPECS[1:], "--task", "segmentation", "--budget=0.00003"]
    given += ["--fit-batch=4", "--train", "scenes:24:0:24", "--test", "scenes:12:1:24", "--size=24", "--draws=20"]
    assert call(*given, f"--out={tmp_path / 'out'}", "--no-figures", "--device=cpu") == 0
    printed = capsys.readouterr()
    assert "segmentation mean_iou" in printed.out and "rank correlation of errors" in printed.out
    assert "12 images are too few for an interval of CKA" in printed.err
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    [gain] = [r for r in rows if r["provenance"].get("kind") == "gain"]
    assert gain["metric"] == "segmentation mean_iou: gain over the best single" and gain["unit"] == "points"


def test_which_fusions_there_are():
    assert fusions_of(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert len(fusions_of(list("abcd"))) == 11 and len(fusions_of(list("abcde"))) == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": SPECS[0]}, "two different backbones or more"),
        ({"backbone": (SPECS[0], SPECS[0])}, "two different backbones or more"),
        ({"backbone": (SPECS[0], "+".join(SPECS[1:]))}, "is a fusion: name single backbones, those of"),
        ({"control": (SPECS[2], SPECS[2])}, "is one of the backbones that it should be compared with"),
        ({"control": SPECS[0]}, "is one of the backbones that it should be compared with"),
        ({"task": ("knn", "factors"), "train": (TRAIN,) * 3}, "got 2 of --task, 3 of --train, 1 of --test"),
        ({"task": "reedout"}, "unknown task 'reedout'. Did you mean 'readout'"),
        ({"task": "detection"}, "compared pairwise by `whytransfer diagnose errors`"),
        ({"task": "fewshot"}, "answers for episodes, not for each test image"),
        ({"budget": 0.1}, "no task of readout has --budget"),
        ({"test": "OUT/none"}, "no such file or folder"),
        ({"task": "landmarks", "train": "OUT/plain", "test": "OUT/plain"}, "no such file or folder"),
    ],
)
def test_refusals(tmp_path, options, message):
    options = {k: v.replace("OUT", str(tmp_path)) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(InputError, match=message):
        ask(tmp_path, **options)
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_the_help_teaches(capsys):
    assert call("diagnose", "complementarity", "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text and "whytransfer diagnose complementarity" in text and "--control" in text
