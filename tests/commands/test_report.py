import json
import shlex
from pathlib import Path

import pytest
from console import call
from report_rows import CLAIMS, data_of, study_rows, written

import whytransfer
from whytransfer import cli
from whytransfer.commands.report import command_of
from whytransfer.commands.study_stages import STAGES
from whytransfer.study.cells import Cell, decided_by
from whytransfer.study.store import StudyFolder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return written([r for r in study_rows() if r["item"] in ("", "class", "factors")], tmp_path / "study")


def test_a_study_becomes_a_page_and_tables(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (study / "claims.json").write_text(json.dumps(CLAIMS))
    assert call("report", study, "--markdown", tmp_path / "md", "--latex", tmp_path / "tex") == 0
    assert str(study / "report.html") in capsys.readouterr().out
    assert "C16" in (study / "report.html").read_text() and "holds" in (tmp_path / "md" / "report.md").read_text()
    assert {p.name for p in (tmp_path / "tex").iterdir()} == {
        "tasks.tex", "claims.tex", "class.tex", "factors.tex", "pretraining.tex"
    }  # fmt: skip


def test_from_python_with_a_place_of_its_own(study: Path, tmp_path: Path):
    assert whytransfer.write_report(study, out=tmp_path / "new" / "page.html") == tmp_path / "new" / "page.html"
    links = [cell["link"] for cell in data_of(tmp_path / "new" / "page.html")["evidence"]["cells"]]
    assert any(link.startswith("../study/cells/transfer-") for link in links)  # from where the page lies


def test_what_cannot_be_reported_is_said(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    empty = StudyFolder.create(tmp_path / "empty")
    empty.keep_study("none", [(Cell("class/a/0", "transfer", {}), "transfer-0")], {})
    for arguments, message in (
        ((tmp_path / "empty",), "none of 1 cells is finished"),
        ((tmp_path / "missing",), "it does not exist"),
        ((study, "--study", "other"), "has no study 'other'; it has: trade-off"),
        ((study, "--out", tmp_path), "is a folder: give the name of a file"),
    ):
        assert call("report", *arguments) == 2
        assert message in capsys.readouterr().err
    (study / "claims.json").write_text("[{}]")
    assert call("report", study) == 2
    assert "claims.json is damaged" in capsys.readouterr().err
    assert not (study / "report.html").exists()


def test_cells_that_failed_or_were_not_run_are_named_with_why(study: Path, tmp_path: Path):
    store = StudyFolder.open(study)
    cells = {name: entry["key"] for name, entry in store.studies()["trade-off"]["cells"].items()}
    lost, *_, torn = (name for name in cells if name.startswith("class/"))
    store.failed(store.card(cells[lost]), "RunError: the loss is NaN at step 7", 1.0)
    (store.cell(cells[torn]) / "results.jsonl").write_text("")
    whytransfer.write_report(study, markdown=tmp_path)
    for text in ((study / "report.html").read_text(), (tmp_path / "report.md").read_text()):
        assert "1 failed, 1 damaged" in text and "the loss is NaN at step 7" in text and lost in text


def test_the_order_of_a_study_is_that_of_its_file(study: Path):
    text = (study / "studies" / "trade-off.json").read_text()
    cells = list(json.loads(text)["cells"])
    assert cells != sorted(cells)  # pretrainings come first, random before appearance
    assert list(dict.fromkeys(r["cell"] for r in StudyFolder.open(study).rows())) == cells


def test_the_command_of_a_cell_is_read_back_as_its_settings(tmp_path: Path):
    store = StudyFolder.create(tmp_path / "study")
    given = {"task": "readout", "train": "scenes:60:0:32", "test": "scenes:60:1:32", "size": 32, "labels": [10, 100]}
    complete = STAGES["transfer"].check({**given, "backbone": ["default"], "seed": 2})
    cell = Cell(
        "class/default/2", "transfer", complete, specs={"backbone": ["<pretrain/default/2>+<pretrain/other/2>"]}
    )
    keys = {"pretrain/default/2": "pretrain-aa", "pretrain/other/2": "pretrain-bb"}
    decided = decided_by(cell, STAGES["transfer"], keys, {}, "code")
    command = command_of(store, store.begin(cell, "transfer-cc", decided, {}))
    settings = cli.parse(shlex.split(command)[1:])
    run = [str(store.files(key)) for key in ("pretrain-aa", "pretrain-bb")]
    assert settings.backbone == ("+".join(run),) and settings.seed == 2 and settings.labels == (10.0, 100.0)
    assert (settings.task, settings.train, settings.size, settings.out) == (
        "readout",
        given["train"],
        32,
        Path("again"),
    )
    assert "--batch" not in command and "--mode" not in command  # what is as it would be is not typed


def test_a_stage_that_is_no_command_has_none(tmp_path: Path):
    store = StudyFolder.create(tmp_path / "study")
    assert command_of(store, {"decided": {"stage": "grow", "settings": {}}}) == ""
