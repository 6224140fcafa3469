"""`whytransfer study` and `results`: a real study of generated scenes, the plan, refusals and exit codes."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from console import call

import whytransfer
from whytransfer.commands import study_stages
from whytransfer.commands.results import table_of
from whytransfer.commands.study import answer_of, ray_address, run_study, seconds_of
from whytransfer.commands.study_plan import values_of
from whytransfer.errors import InputError, RunError
from whytransfer.study.scores import Scores

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from fake_stages import STAGES, FakeImages, run  # noqa: E402

REAL: dict[str, Any] = {
    "study": "small",
    "values": {"train": "scenes:60:0:32", "test": "scenes:40:1:32"},
    "pretrain": {"backbone": "resnet18", "size": 32, "epochs": 1, "batch": 16, "images": "{train}", "monitor": False},
    "transfer": {"size": 32, "train": "{train}", "test": "{test}"},
    "backbones": {
        "random": "random:resnet18:{seed}", "spatial": {"method": "moco-v2-small", "recipe": "spatial"},
        "fused": "random + spatial",
    },
    "tasks": {"class": {"task": "knn"}},
    "diagnoses": {"masks": {"diagnose": "masks", "engine": "grid:2", "images": "{test}", "truth": "annotated"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    run_study(REAL, out)
    return out


def test_a_study_gives_what_its_parts_give_alone(small: Path, tmp_path: Path):
    """The oracle: the same pretraining and tasks by their own functions."""
    spatial = tmp_path / "spatial"
    whytransfer.pretrain(
        images="scenes:60:0:32", out=spatial, method="moco-v2-small", recipe="spatial", backbone="resnet18", size=32,
        epochs=1, batch=16, monitor=False,
    )  # fmt: skip
    specs = {"random": "random:resnet18:0", "spatial": str(spatial), "fused": f"random:resnet18:0+{spatial}"}
    scores = Scores(whytransfer.results(small))
    for name, spec in specs.items():
        for alone in whytransfer.transfer(
            backbone=spec, task="knn", train="scenes:60:0:32", test="scenes:40:1:32", size=32, out=tmp_path / "t"
        ):
            row = scores.row(name, "class", alone.metric, 0)
            assert (row["value"], row["low"], row["high"], row["n"]) == (alone.value, alone.low, alone.high, alone.n)
    [mean, *_] = whytransfer.masks_quality(images="scenes:40:1:32", engine="grid:2", truth="annotated")
    assert next(r for r in scores.rows if r["item"] == "masks")["value"] == mean.value


def test_a_pretraining_leaves_weights_rows_and_no_checkpoint(small: Path):
    [speed] = whytransfer.results(small, "SELECT value, folder FROM results WHERE metric = 'images_per_second'")
    files = small / speed["folder"] / "files"
    assert speed["value"] > 0 and (files / "backbone.safetensors").is_file() and not (files / "checkpoint.pt").exists()
    card = json.loads((small / speed["folder"] / "cell.json").read_text())
    assert card["state"] == "finished" and card["settings"]["recipe"] == "spatial" and "out" not in card["settings"]


def test_nothing_is_run_twice(small: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("results.jsonl")}
    rows = run_study(REAL, small)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("results.jsonl")} == before
    assert "5 finished, 0 to run" in capsys.readouterr().err and len(rows) > 5


def test_a_stopped_pretraining_goes_on_from_its_checkpoint_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from whytransfer.pretraining import Pretraining

    study = {
        "pretrain": {"images": "scenes:32:0:24", "size": 24, "batch": 16, "epochs": 2, "monitor": False},
        "backbones": {"a": {"method": "moco-v2-small", "backbone": "resnet18-small"}},
    }  # fmt: skip
    end_epoch = Pretraining._end_epoch

    def stop(self: Any, optimizer: Any) -> None:
        end_epoch(self, optimizer)
        raise KeyboardInterrupt  # as the first Ctrl-C does once the state is saved

    monkeypatch.setattr(Pretraining, "_end_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "stopped", calibrate=False)
    monkeypatch.undo()
    capsys.readouterr()
    run_study(study, tmp_path / "stopped", calibrate=False)
    told = capsys.readouterr().err
    assert "was stopped, goes on" in told and "at step 2 of 4" in told
    run_study(study, tmp_path / "whole", calibrate=False)
    [one], [other] = (list((tmp_path / out).rglob("backbone.safetensors")) for out in ("stopped", "whole"))
    assert one.read_bytes() == other.read_bytes()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of milliseconds instead of ours, and image sets that are only names."""
    from whytransfer.study import contents

    monkeypatch.setattr(study_stages, "STAGES", STAGES)
    monkeypatch.setattr(contents, "_open_images", FakeImages)


TEXT = """
study: quick
seeds: [0, 1]
transfer: {images: b}
backbones: {one: {level: 10}, two: {level: 20}, both: one + two}
tasks: {class: {level: 1}}
"""


def written(path: Path, text: str = TEXT) -> str:
    (path / "quick.yaml").write_text(text)
    return str(path / "quick.yaml")


def test_a_dry_run_prints_the_plan_and_makes_nothing(tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]):
    file, out = written(tmp_path), str(tmp_path / "out")
    assert call("study", file, "--out", out, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "study quick: 10 cells, 0 finished, 10 to run" in said and "class: 6 cells, to run" in said
    assert "disk: " in said and not (tmp_path / "out").exists()
    assert call("study", file, "--out", out, "--dry-run", "--json", "--only", "class/both/1") == 0
    cells = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [cell["cell"] for cell in cells] == ["pretrain/one/1", "pretrain/two/1", "class/both/1"]


def test_the_plan_says_what_changed(tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "out")
    assert call("study", written(tmp_path), "--out", out) == 0
    assert "class" in capsys.readouterr().out
    text = TEXT.replace("level: 20", "level: 21")
    assert call("study", written(tmp_path, text), "--out", out, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "10 cells, 4 finished, 6 to run" in said and "to run again (level: 20 then, 21 now)" in said
    assert "class: 4 cells, to run again (backbone: what it needs changed)" in said


def test_a_failed_cell_ends_in_exit_code_1_and_its_log_is_named(
    tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]
):
    file = written(tmp_path, TEXT.replace("level: 20", "does: input"))
    assert call("study", file, "--out", str(tmp_path / "out")) == 1
    out, err = capsys.readouterr()
    assert "2 cells of quick failed" in err and "pretrain/two/0: no images here" in err and "log.txt)" in err
    assert "class" in out and "2 cells were not run, class/two/0 first: it needs pretrain/two/0" in err
    answer = answer_of(file, tmp_path / "out")
    assert set(answer.failed) == {"pretrain/two/0", "pretrain/two/1"} and answer.finished == 4 and len(answer.rows) == 4
    with pytest.raises(RunError, match="2 cells of quick failed"):
        run_study(file, tmp_path / "out")


def test_ctrl_c_ends_in_exit_code_130_and_the_same_command_goes_on(
    tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]
):
    command = ["study", written(tmp_path, TEXT.replace("level: 20", "does: once stop")), "--out", str(tmp_path / "out")]
    assert call(*command) == 130 and "goes on from the last save" in capsys.readouterr().err
    assert call(*command) == 130 and call(*command) == 0  # a stop in each of two seeds


def test_a_budget_leaves_the_rest_for_later(tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]):
    command = ["study", written(tmp_path), "--out", str(tmp_path / "out")]
    assert call(*command, "--budget", "0s") == 0
    assert "10 cells were not run, pretrain/one/0 first: the budget is used up" in capsys.readouterr().err
    assert call("results", str(tmp_path / "out")) == 2
    assert "no results yet: none of 10 cells is finished" in capsys.readouterr().err
    assert call(*command) == 0


def test_results_as_table_csv_and_json(tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "out")
    assert call("study", written(tmp_path), "--out", out) == 0
    capsys.readouterr()
    assert call("results", out) == 0
    assert "31.00 %" in capsys.readouterr().out
    assert call("results", out, "SELECT max(value) AS best FROM results", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"best": 31.0}
    assert call("results", out, "--csv", str(tmp_path / "all.csv")) == 0
    with open(tmp_path / "all.csv") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert call("results", out, "SELECT nothing") == 2 and "Columns of results" in capsys.readouterr().err


def test_means_are_over_seeds_with_students_t():
    from scipy import stats

    shared = {"study": "s", "stage": "transfer", "item": "i", "data": "d", "metric": "m", "backbone": "b", "unit": "%"}
    rows = [{**shared, "seed": k, "value": v, "low": 0.0, "high": 1.0} for k, v in enumerate([1.0, 2.0, 4.0])]
    _, _, [line] = table_of(rows)
    low, high = stats.t.interval(0.95, 2, 7 / 3, stats.sem([1, 2, 4]))
    assert line[-3:] == ["2.33 %", f"[{low:.2f}, {high:.2f}]", "3"]
    assert table_of(rows[:1])[2][0][-3:] == ["1.00 %", "[0.00, 1.00] of images", "1"]


@pytest.mark.parametrize("change, said", [
    ("tsaks: {class: {task: knn}}", "unknown part of a study 'tsaks'. Did you mean 'tasks'"),
    ("tasks: {class: {tsak: knn}}", "tasks: class: wrong settings: tsak: .*did you mean task"),
    ("tasks: {class: {task: knnn}}", "tasks: class: unknown task 'knnn'.*'knn'"),
    ("backbones: {a: {methd: byol}}", "backbones: a: wrong settings: methd.*did you mean method"),
    ("backbones: {a: {method: bjol}}", "backbones: a: unknown method 'bjol'.*'byol'"),
    ("backbones: {a: {queue: 5, method: byol}}", "backbones: a: --queue 5: byol has no such setting"),
    ("backbones: {a: {recipe: sptial}}", "backbones: a: unknown recipe 'sptial'.*'spatial'"),
    ("backbones: {a: b + a, b: random:resnet18}", "cycle of fusions: a -> a"),
    ("transfer: {train: no/where, test: scenes:8}", "class/a/0: train: .*no/where"),
    ("backbones: {a: no/weights.pth}", "class/a/0: backbone: there is no such file or folder as no/weights.pth"),
    ("backbones: {a: random:resnet19}", "resnet19"),
    ("diagnoses: {m: {diagnose: masks, images: scenes:8, truth: annotated, engine: [grid, 'grid:2']}}",
     "m: .*of one engine or one folder of regions, got .*'grid', 'grid:2'.*write one diagnosis for each"),
])  # fmt: skip
def test_bad_input_is_refused_before_anything_runs(tmp_path: Path, change: str, said: str):
    import yaml

    content = yaml.safe_load(
        "{backbones: {a: random:resnet18}, tasks: {class: {task: knn}}, pretrain: {images: scenes:8},"
        " transfer: {train: scenes:8, test: scenes:8, size: 32}}"
    )
    with pytest.raises(InputError, match=said):
        run_study({**content, **yaml.safe_load(change)}, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("cell.json"))


def test_lengths_of_time_addresses_and_values():
    assert [seconds_of(t) for t in ("2h", "90min", "1h30min", "45 s", "1.5h", "10m")] == [
        7200,
        5400,
        5400,
        45,
        5400,
        600,
    ]
    for wrong in ("", "2", "2d", "h"):
        with pytest.raises(InputError, match="--budget .*such as 2h, 90min"):
            seconds_of(wrong)
    assert ray_address("ray") is None and ray_address("ray:10.0.0.1:6379") == "10.0.0.1:6379"
    assert ray_address("ray://head:10001") == "ray://head:10001" and ray_address("10.0.0.1:6379") == "10.0.0.1:6379"
    with pytest.raises(InputError, match="--on slurm: cells can run here"):
        ray_address("slurm")
    assert values_of(["data=/a=b"]) == {"data": "/a=b"}
    with pytest.raises(InputError, match="--values data: NAME=TEXT"):
        values_of(["data"])


def test_only_names_what_there_is(tmp_path: Path, fakes: None):
    with pytest.raises(InputError, match="--only clas: no cell is called so. Cells are pretrain/one/0"):
        answer_of(written(tmp_path), tmp_path / "out", only=["clas"])


def test_stages_are_importable_by_name():
    import pickle

    assert all(pickle.loads(pickle.dumps(stage.run)) is stage.run for stage in study_stages.STAGES.values())
    assert pickle.loads(pickle.dumps(run)) is run
