"""whytransfer claims on the real study with stages that make numbers up: what is run, said, kept and refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from whytransfer.claims import CLAIMS, SCALES
from whytransfer.claims.suite import of_claims
from whytransfer.commands import claims as command
from whytransfer.commands import study_stages
from whytransfer.commands.claims import ClaimsSettings, chosen, run_claims, summary, table
from whytransfer.errors import InputError, RunError
from whytransfer.records import Result
from whytransfer.study.plan import grid_of
from whytransfer.study.study_file import read_study

METRICS = {"readout": ["top1"], "detection": ["box_AP", "box_AP50", "box_AP75"]}


def made_up(settings, folder: Path):
    """Results of a task by the recipe of the pretraining that its backbone's folder tells."""
    if "method" in settings:
        (folder / "recipe.txt").write_text(str(settings["recipe"]))
        return []
    recipe = (Path(settings["backbone"][0]) / "recipe.txt").read_text()
    if recipe == "ladder-1":
        raise RunError("the loss became nan")
    level = {"ladder-2": 1.0, "ladder-4": 3.0, "ladder-5": 2.0}.get(recipe, 0.0) + 0.01 * settings["seed"]
    return [
        Result("m", "d", settings["task"], metric, 50 + level, "%", "higher", 10, settings["seed"])
        for metric in METRICS[settings["task"]]
    ]


@pytest.fixture
def fake(monkeypatch):
    """The stages' own checks of settings, and numbers in no time."""
    stages = {
        name: dataclasses.replace(stage, run=made_up, calibrate=None, effort=None, modules=lambda settings: ())
        for name, stage in study_stages.STAGES.items()
    }
    monkeypatch.setattr(study_stages, "STAGES", stages)


@pytest.mark.parametrize("scale", SCALES)
def test_every_setting_of_every_claim_is_one_that_its_command_takes(scale):
    """Checked as `whytransfer study` does before it runs anything; no image is opened."""
    whole = of_claims(CLAIMS.values(), scale, "/data")
    grid = grid_of(read_study(whole), study_stages.STAGES)
    assert len(grid.cells) == len({cell.name for cell in grid.cells}) > 100
    for cell in grid.cells:
        if cell.stage == "pretrain":  # which the study's check does not look at
            assert (cell.settings["epochs"] is None) != (cell.settings["iterations"] is None), cell.name


def test_a_claim_is_run_judged_and_kept(fake, tmp_path):
    (answer,) = run_claims(claims=["c02"], out=tmp_path)
    gain, loss, *_ = answer.effects
    assert gain.values == pytest.approx({0: 2.0, 1: 2.0, 2: 2.0}) and loss.values == pytest.approx(
        {s: -1.0 for s in range(3)}
    )
    assert answer.verdict == "holds" and len(answer.effects) == 4
    kept = json.loads((tmp_path / "claims.json").read_text())
    assert [(row["id"], row["verdict"], len(row["effects"])) for row in kept] == [("C02", "holds", 4)]
    assert "**C02**" in (tmp_path / "claims.md").read_text()
    columns, rows = table(kept)
    assert len(columns) == len(rows[0]) == 7 and rows[0][3].startswith("+2.00 [+2.00, +2.00] points")
    assert summary(kept) == "1 hold, 0 contradicted, 0 undecided, 0 not run"


def test_claims_share_cells_stay_beside_each_other_and_name_what_failed(fake, tmp_path):
    run_claims(claims=["C02"], out=tmp_path, seeds=2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*/results.jsonl")}
    with pytest.raises(RunError, match="cells of claims-demo failed(.|\n)*the loss became nan"):
        run_claims(claims=["C01"], out=tmp_path, seeds=2)  # its flips alone fail
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*/results.jsonl")}
    assert before.items() < after.items()  # nothing was run again
    kept = {row["id"]: row for row in json.loads((tmp_path / "claims.json").read_text())}
    assert kept["C02"]["verdict"] == "holds" and kept["C01"]["verdict"] == "not run"
    assert "no finished result of default-ladder-1" in kept["C01"]["why"]
    study = json.loads((tmp_path / "studies" / "claims-demo.json").read_text())
    assert any(cell.startswith("readout/supervised-ladder-4/") for cell in study["cells"])  # C02's are still in it


def test_what_images_are_missing_is_said_and_the_others_are_run(fake, tmp_path, capsys):
    command.show(ClaimsSettings(claims=("C10",), scale="laptop", data=tmp_path / "data", out=tmp_path / "out"))
    told = capsys.readouterr()
    assert "C10 is not run: --data" in told.err and "has no faces68" in told.err and "1 not run" in told.out
    assert not (tmp_path / "out" / "cells").exists()
    assert json.loads((tmp_path / "out" / "claims.json").read_text())[0]["verdict"] == "not run"


def test_a_plan_leaves_nothing_behind(fake, tmp_path, capsys):
    command.show(ClaimsSettings(claims=("C02",), out=tmp_path / "out", dry_run=True))
    assert "27 cells" in capsys.readouterr().err  # 3 seeds of 3 pretrainings, each with 2 tasks
    assert not (tmp_path / "out" / "claims.json").exists()


def test_what_a_plan_costs_to_make_can_be_saved(fake, monkeypatch, tmp_path, capsys):
    timed = []
    more = {"calibrate": lambda cell: timed.append(cell.name) or 1.0, "effort": lambda cell, sizes: ("step", 1.0)}
    stages = {name: dataclasses.replace(stage, **more) for name, stage in study_stages.STAGES.items()}
    monkeypatch.setattr(study_stages, "STAGES", stages)
    for calibrate in (False, True):
        run_claims(claims=["C02"], out=tmp_path / "out", dry_run=True, calibrate=calibrate)
        assert bool(timed) is calibrate


def test_studies_are_written_and_nothing_is_run(tmp_path, capsys):
    command.show(ClaimsSettings(claims=("C02", "C14"), scale="gpu", write=tmp_path))
    assert capsys.readouterr().out.split() == [str(tmp_path / "c02.yaml"), str(tmp_path / "c14.yaml")]


def test_wrong_names_and_foreign_files_are_refused(tmp_path):
    assert [claim.id for claim in chosen(["c03", "C01"])] == ["C01", "C03"] and len(chosen([])) == len(CLAIMS)
    with pytest.raises(InputError, match="unknown claim 'C99'"):
        run_claims(claims=["C99"], out=tmp_path)
    (tmp_path / "claims.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match="claims.json is damaged or no answers of claims"):
        run_claims(claims=["C01"], out=tmp_path)
