"""Cells are run once, in order, through failures, stops, deaths and damage; the table says what is finished."""

import copy
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from fake_stages import STUDY, FakeImages, Lab

from whytransfer.errors import InputError
from whytransfer.files import full_disk_told, locked
from whytransfer.runs import command_line
from whytransfer.study import schedule, sources, store
from whytransfer.study.executors import InProcess
from whytransfer.study.running import Outcome
from whytransfer.study.store import StudyFolder, finished, rows


def with_setting(part: str, name: str, **settings: Any) -> dict[str, Any]:
    """The study with some settings of one backbone, task or diagnosis changed."""
    study = copy.deepcopy(STUDY)
    study[part][name].update(settings)
    return study


def states(lab: Lab, study: Any) -> dict[str, str]:
    return {entry.cell.name: entry.state for entry in lab.entries(study)}


def test_every_cell_is_run_once_and_never_again(tmp_path: Path):
    lab = Lab(tmp_path)
    assert set(states(lab, STUDY).values()) == {"new"}
    assert not lab.run(STUDY, InProcess()).failed
    assert set(states(lab, STUDY).values()) == {"finished"}
    before = lab.runs()
    assert set(before.values()) == {1} and len(before) == 18
    lab.run(STUDY, InProcess())
    assert lab.runs() == before


def test_a_card_tells_the_processors_time_from_time_that_passed(tmp_path: Path):
    """Waiting takes none; the work of a child process counts; attempts add up."""
    study = with_setting("backbones", "one", wait=0.2)
    study["backbones"]["two"] |= {"does": "once work"}
    lab = Lab(tmp_path)
    lab.run(study, InProcess())
    cards = {entry.cell.name: lab.store.card(entry.key) for entry in lab.entries(study)}
    waited, worked = cards["pretrain/one/0"], cards["pretrain/two/0"]
    assert waited["seconds"] >= 0.2 and waited["cpu_seconds"] < 0.18 <= worked["cpu_seconds"]
    lab.store.finish(worked, [], 1.0, 2.0)
    again = lab.store.card(worked["key"])
    assert again["cpu_seconds"] == worked["cpu_seconds"] + 2 and again["seconds"] == worked["seconds"] + 1


def test_the_rows_are_those_computed_by_hand(tmp_path: Path):
    Lab(tmp_path).run(STUDY, InProcess())
    found = {(r["cell"], r["backbone"]): r["value"] for r in rows(tmp_path)}
    assert found["pretrain/one/0", "one"] == 10 and found["pretrain/two/1", "two"] == 20
    assert found["class/one/0", "one"] == 11  # its own level and that of its backbone's pretraining
    assert found["class/both/1", "both"] == 31 and found["class/random/0", "random"] == 1
    assert found["all/0", "one"] == 11 and found["all/0", "both"] == 31  # one cell, two backbones
    assert found["errors/0", "one"] == 1 and found["errors/0", "two"] == 1
    assert len(found) == len(rows(tmp_path)) == 2 + 2 + 8 + 2 + 4 + 2 + 1


def test_a_row_has_the_columns_of_the_contract(tmp_path: Path):
    lab = Lab(tmp_path)
    lab.run(STUDY, InProcess())
    row = next(r for r in rows(tmp_path, "s") if r["cell"] == "class/one/1")
    key = row.pop("key")
    assert row.pop("model") == str(lab.store.files(lab.entries(STUDY)[11].key)) and row.pop("folder") == f"cells/{key}"
    assert row == {
        "study": "s", "cell": "class/one/1", "stage": "transfer", "item": "class", "backbone": "one", "seed": 1,
        "metric": "level", "value": 11.0, "low": 0.0, "high": 9.0, "unit": "%", "direction": "higher", "n": 10,
        "data": "b", "task": "fake", "provenance": {"ran": True, "command": command_line()},
    }  # fmt: skip


def test_a_changed_cell_is_run_again_with_all_above_it_and_the_plan_says_why(tmp_path: Path):
    lab = Lab(tmp_path)
    lab.run(STUDY, InProcess())
    study = with_setting("backbones", "two", level=25)
    why = {entry.cell.name: entry.why for entry in lab.entries(study) if entry.state != "finished"}
    assert why["pretrain/two/0"] == "level: 20 then, 25 now"
    assert why["class/two/0"] == "backbone: what it needs changed" and "pretrain/one/0" not in why
    lab.run(study, InProcess())
    found = {(r["cell"], r["backbone"]): r["value"] for r in rows(tmp_path)}
    assert found["class/both/0", "both"] == 36 and lab.runs()["pretrain/one/0"] == 1
    assert set(states(lab, STUDY).values()) == {"finished"}  # what was there before still is


def test_the_plan_names_changed_images_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "closure", lambda modules: {"tasks.x": "1", "tasks.y": "1"})
    lab = Lab(tmp_path)
    lab.run(STUDY, InProcess())
    monkeypatch.setitem(FakeImages.content, "b", "other")
    assert {e.why for e in lab.entries(STUDY) if e.cell.item == "class"} == {"the content of b changed"}
    monkeypatch.setitem(FakeImages.content, "b", "2")
    monkeypatch.setattr(sources, "closure", lambda modules: {"tasks.x": "2", "tasks.y": "1"})
    assert lab.entries(STUDY)[0].why == "code changed since: tasks.x"
    accepted = lab.entries(STUDY, accept_code=True)
    assert {e.state for e in accepted} == {"finished"}
    assert accepted[-1].why == "accepted: code changed since: tasks.x"
    lab.run(STUDY, InProcess(), accept_code=True)
    assert set(lab.runs().values()) == {1} and len(rows(tmp_path)) == 21


def test_two_studies_share_cells_and_call_them_what_they_like(tmp_path: Path):
    lab = Lab(tmp_path)
    lab.run(STUDY, InProcess())
    other = {
        "study": "t", "seeds": [1], "pretrain": {"size": 16}, "backbones": {"uno": {"level": 10}},
        "tasks": {"klasse": {"level": 1, "images": "b"}},
    }  # fmt: skip
    lab.run(other, InProcess())
    assert set(lab.runs().values()) == {1}
    assert {(r["cell"], r["backbone"], r["value"]) for r in rows(tmp_path, "t")} == {
        ("pretrain/uno/1", "uno", 10), ("klasse/uno/1", "uno", 11)
    }  # fmt: skip
    assert len(rows(tmp_path)) == 21 + 2
    with pytest.raises(InputError, match="no study 'u'; it has: s, t"):
        rows(tmp_path, "u")


@pytest.mark.parametrize(
    "does, said",
    [
        ("input", "no images here"),
        ("run", "nan"),
        ("bug", "KeyError: 'a defect"),
        ("memory", ". Memory was short: run fewer cells at a time (--workers)"),
    ],
)
def test_a_failing_cell_stops_only_what_needs_it(tmp_path: Path, does: str, said: str):
    lab = Lab(tmp_path)
    study = with_setting("backbones", "two", does=does)
    ended = lab.run(study, InProcess())
    assert [o.name for o in ended.failed] == ["pretrain/two/0", "pretrain/two/1"] and said in ended.failed[0].message
    assert (
        ended.left["class/two/0"] == "it needs pretrain/two/0" and ended.left["errors/0"] == "it needs pretrain/two/0"
    )
    assert {r["cell"] for r in rows(tmp_path)} == {
        "pretrain/one/0", "class/one/0", "class/random/0", "pose/one/0", "masks",
        "pretrain/one/1", "class/one/1", "class/random/1",
    }  # fmt: skip
    entry = next(e for e in lab.entries(study) if e.cell.name == "pretrain/two/0")
    log = (lab.store.cell(entry.key) / "log.txt").read_text()
    assert entry.state == "failed" and said in entry.why and "Traceback" in log and said in log


def test_what_failed_is_run_again(tmp_path: Path):
    lab = Lab(tmp_path)
    study = with_setting("backbones", "two", does="once run")
    assert len(lab.run(study, InProcess()).failed) == 2
    assert not lab.run(study, InProcess()).failed
    assert lab.runs()["pretrain/two/0"] == 2 and lab.runs()["pretrain/one/0"] == 1 and len(rows(tmp_path)) == 21


def test_ctrl_c_leaves_all_resumable(tmp_path: Path):
    lab = Lab(tmp_path)
    study = with_setting("tasks", "class", does="once stop")
    with pytest.raises(KeyboardInterrupt):
        lab.run(study, InProcess())
    assert states(lab, study)["class/one/0"] == "stopped" and states(lab, study)["pretrain/two/0"] == "finished"
    for _ in range(7):  # every cell of the task stops once
        with pytest.raises(KeyboardInterrupt):
            lab.run(study, InProcess())
    assert not lab.run(study, InProcess()).failed
    assert lab.runs()["pretrain/one/0"] == 1 and set(states(lab, study).values()) == {"finished"}


def test_a_full_disk_in_the_middle_ends_the_study_and_loses_nothing(tmp_path: Path):
    lab = Lab(tmp_path)
    study = with_setting("tasks", "class", does="once full")
    ended = lab.run(study, InProcess())
    assert [o.name for o in ended.failed] == ["class/one/0"] and ended.failed[0].how == "disk full"
    assert ended.left["class/two/0"] == "the disk is full" and "masks" in ended.left
    assert states(lab, study)["pretrain/one/0"] == "finished" and len(rows(tmp_path)) == 2


def test_a_card_that_cannot_be_written_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lab, write = Lab(tmp_path), store.atomic_write
    entries = lab.entries(STUDY)

    def full(path: Path, *more: Any) -> None:
        if path.name == "results.jsonl":
            with full_disk_told(path, ""):
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *more)

    monkeypatch.setattr(store, "atomic_write", full)
    ended = lab.run(STUDY, InProcess())
    assert "the disk is full" in ended.failed[0].message and len(ended.left) == len(entries) - 1
    monkeypatch.undo()
    assert not lab.run(STUDY, InProcess()).failed and len(rows(tmp_path)) == 21


DAMAGES = {
    "results.jsonl cut": ("results.jsonl", lambda path: path.write_bytes(path.read_bytes()[:-20]), "not as it was"),
    "results.jsonl gone": ("results.jsonl", Path.unlink, "is missing"),
    "cell.json cut": ("cell.json", lambda path: path.write_bytes(path.read_bytes()[:40]), "cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_cell_is_named_set_aside_and_run_again(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]):
    name, damage, said = DAMAGES[case]
    lab = Lab(tmp_path)
    lab.run(STUDY, InProcess())
    entry = next(e for e in lab.entries(STUDY) if e.cell.name == "class/one/0")
    damage(lab.store.cell(entry.key) / name)
    after = next(e for e in lab.entries(STUDY) if e.cell.name == "class/one/0")
    assert after.state == "damaged" and said in after.why and name in after.why
    capsys.readouterr()
    assert "class/one/0" not in {r["cell"] for r in rows(tmp_path)} and said in capsys.readouterr().err
    lab.run(STUDY, InProcess())
    assert "set aside" in capsys.readouterr().err and len(rows(tmp_path)) == 21
    assert lab.runs()["class/one/0"] == 2 and lab.runs()["class/one/1"] == 1
    aside = list(lab.store.cell(entry.key).glob("*.damaged-1"))
    assert (lab.store.cell(entry.key) / f"{name}.damaged-1" in aside) == (case != "results.jsonl gone")


def test_a_cell_of_another_process_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schedule, "AGAIN_S", 0.05)
    lab, order = Lab(tmp_path), []
    entry = next(e for e in lab.entries(STUDY) if e.cell.name == "pretrain/one/0")
    lab.store.cell(entry.key).mkdir(parents=True)
    lock = locked(lab.store.cell(entry.key) / ".lock")
    lock.__enter__()

    class Watched(InProcess):
        def ended(self, wait_s: float) -> list[Outcome]:
            found = super().ended(wait_s)
            order.extend((outcome.name, outcome.how) for outcome in found)
            if order[-1] == ("masks", "finished"):
                lock.__exit__(None, None, None)  # the other process died without finishing it
            return found

    assert not lab.run(STUDY, Watched()).failed
    assert order[0] == ("pretrain/one/0", "held") and order[1] == ("pretrain/two/0", "finished")
    assert order.index(("pretrain/one/0", "finished")) > order.index(("masks", "finished"))
    assert set(lab.runs().values()) == {1}


def test_the_plan_tells_what_runs_from_what_was_stopped(tmp_path: Path):
    lab = Lab(tmp_path)
    entry = lab.entries(STUDY)[0]
    lab.store.begin(entry.cell, entry.key, entry.decided, {})
    assert (lab.entries(STUDY)[0].state, lab.entries(STUDY)[0].why) == ("stopped", "was stopped, goes on")
    with locked(lab.store.cell(entry.key) / ".lock"):
        assert (lab.entries(STUDY)[0].state, lab.entries(STUDY)[0].why) == ("running", "another process runs it")


def test_a_cell_that_another_process_finished_meanwhile_is_taken(tmp_path: Path):
    lab, other = Lab(tmp_path), Lab(tmp_path)
    entries = lab.entries(STUDY)
    other.run(STUDY, InProcess())
    ended = schedule.Schedule(entries, lab.job(entries), InProcess()).run()  # planned before the other had begun
    assert {outcome.how for outcome in ended.outcomes.values()} == {"there"} and set(lab.runs().values()) == {1}


def test_a_budget_starts_nothing_that_would_end_beyond_it(tmp_path: Path):
    lab = Lab(tmp_path)
    expected = {"pretrain": 1.0, "class": 500.0}
    options: dict[str, Any] = {"seconds": lambda entry: expected.get(entry.cell.name.split("/")[0], 0.0)}
    ended = lab.run(STUDY, InProcess(), budget_s=100.0, **options)
    assert {name.split("/")[0] for name in ended.left} == {"class"} and not ended.failed
    assert set(ended.left.values()) == {"the budget is used up"}


def test_folders_that_are_none_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no folder of a study: it does not exist"):
        rows(tmp_path / "no")
    with pytest.raises(InputError, match="it has no study.json"):
        rows(tmp_path)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="not empty and holds no study.json .but photo.jpg"):
        StudyFolder.create(tmp_path)


def test_a_folder_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path):
    Lab(tmp_path).run(STUDY, InProcess())
    (tmp_path / "study.json").write_text(json.dumps({"format": 2}))
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    for call in (StudyFolder.create, StudyFolder.open, rows):
        with pytest.raises(InputError, match="format 2, this version reads 1.*newer whytransfer. Update"):
            call(tmp_path)
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(InputError, match="study.json is damaged"):
        rows(tmp_path)


def test_a_damaged_list_of_a_study_is_named_and_can_be_made_again(tmp_path: Path):
    lab = Lab(tmp_path)
    lab.run(STUDY, InProcess())
    (tmp_path / "studies" / "s.json").write_text('{"study": "s"}')
    with pytest.raises(InputError, match="s.json is damaged.*Delete it and run its study again"):
        rows(tmp_path)
    (tmp_path / "studies" / "s.json").unlink()
    lab.run(STUDY, InProcess())
    assert set(lab.runs().values()) == {1} and len(rows(tmp_path)) == 21


def test_finished_cells_are_told(tmp_path: Path):
    lab = Lab(tmp_path)
    lab.run(with_setting("tasks", "class", does="run"), InProcess())
    found = dict((cell, done) for _, cell, done in finished(tmp_path))
    assert found["pretrain/one/0"] and not found["class/one/0"]


def test_what_a_killed_process_left_aside_is_removed(tmp_path: Path):
    """In a cell when it is run again, beside a study's own files when they are written again; others' stay."""
    lab = Lab(tmp_path)
    entry = lab.entries(STUDY)[-1]
    files = lab.store.files(entry.key)
    files.mkdir(parents=True)
    left = [files / ".predictions.npz.ab_1cd23.tmp", lab.store.cell(entry.key) / ".cell.json.ab_1cd23.tmp"]
    left.append(tmp_path / "studies" / f".{STUDY['study']}.json.ab_1cd23.tmp")
    others = [files / "mine.tmp", tmp_path / "studies" / ".t.json.ab_1cd23.tmp"]
    for path in (*left, *others):
        path.write_bytes(b"half")
    lab.run(STUDY, InProcess())
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)
