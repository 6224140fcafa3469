"""Run folders: atomic, refusing another configuration by its keys, honest about a full disk."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from whytransfer.errors import InputError, RunError
from whytransfer.runs import RunFolder, atomic_write, versions, writable_folder


def card(**config):
    return {"config": {"lr": 0.1, "crop": [0.2, 1.0], **config}, "arch": "resnet18"}


def test_a_new_folder_gets_its_card_and_an_equal_one_reopens_it(tmp_path):
    run = RunFolder.open(tmp_path / "run", card())
    assert not run.finished and run.load() is None
    assert RunFolder.open(tmp_path / "run", card()).card["config"] == card()["config"]


def test_of_two_that_start_here_the_second_finds_the_card_of_the_first(tmp_path, monkeypatch):
    start = RunFolder._start

    def late(self, mine):
        monkeypatch.setattr(RunFolder, "_start", start)
        (self.path / "card.json").write_text(json.dumps({**card(lr=0.2), "finished": False}))  # the first one's
        start(self, mine)

    monkeypatch.setattr(RunFolder, "_start", late)
    with pytest.raises(InputError, match="lr: 0.2 there, 0.1 asked for"):
        RunFolder.open(tmp_path, card())
    with RunFolder.open(tmp_path, card(lr=0.2)).locked():
        RunFolder.open(tmp_path, card(lr=0.2))  # another rank of the run that holds the lock


def test_sources_are_part_of_the_version():
    assert re.fullmatch(r"\d\S*, sources [0-9a-f]{12}", versions()["whytransfer"])


def test_another_configuration_is_refused_naming_the_keys(tmp_path):
    RunFolder.open(tmp_path, card())
    with pytest.raises(InputError, match=r"(?s)Differing keys:\n  lr: 0.1 there, 0.2 asked for\n  new: None there, 1"):
        RunFolder.open(tmp_path, card(lr=0.2, new=1))
    assert json.loads((tmp_path / "card.json").read_text())["config"]["lr"] == 0.1


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and holds no card.json"):
        RunFolder.open(tmp_path, card())
    with pytest.raises(InputError, match="is a file"):
        RunFolder.open(tmp_path / "thesis.tex", card())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_card_that_holds_its_number_of_processes_goes_on_with_another(tmp_path):
    """As cards were before several processes computed what one does."""
    RunFolder.open(tmp_path, card())
    (tmp_path / "card.json").write_text(json.dumps({**card(world_size=2), "finished": False}))
    run = RunFolder.open(tmp_path, card())
    assert run.changed_versions({"processes": "1"}) == ["processes: 2 then, 1 now"]


FOREIGN = {
    "half a file": ('{"config": {', "cannot be read as a run's card"),
    "not text": (b"\xff\xfe\x00", "cannot be read as a run's card"),
    "a list": ("[1, 2]", "is not the card of a pretraining run"),
    "another program's": ('{"name": "me", "finished": true}', "is not the card of a pretraining run"),
    "no config": ('{"config": null, "finished": false}', "is not the card of a pretraining run"),
    "no result": ('{"config": {}, "finished": true}', "holds no result"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_or_damaged_card_is_refused_and_kept(tmp_path, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        RunFolder.open(tmp_path, card())
    assert (tmp_path / "card.json").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"half a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    run = RunFolder.open(tmp_path, card())
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint.pt cannot be read: .*delete it to start this run again"):
        run.load()


def test_a_folder_is_made_and_left_empty_where_it_can_be_written(tmp_path):
    assert writable_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_missing_folder_can_be_tried_without_making_it(tmp_path):
    (tmp_path / "file").write_text("")
    assert writable_folder(tmp_path / "a" / "b", make=False) == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
    for bad in ("file", "file/run"):
        with pytest.raises(InputError, match="is a file|Not a directory"):
            writable_folder(tmp_path / bad, make=False)


def test_a_folder_that_cannot_be_written_is_refused_with_the_systems_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        writable_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"nothing can be written in .*run \(Not a directory\).*another --out"):
        writable_folder(tmp_path / "file" / "run")

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match=r"\(Permission denied\).*make the folder writable"):
        writable_folder(tmp_path)
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InputError, match="Permission denied"):
        RunFolder.open(tmp_path / "new", card())


def test_checkpoints_come_back_as_they_were(tmp_path):
    run = RunFolder.open(tmp_path, card())
    run.save({"step": 7, "w": torch.arange(5.0), "metrics": [{"epoch": 1, "loss": 2.5}]})
    again = RunFolder.open(tmp_path, card())
    assert torch.equal(again.load()["w"], torch.arange(5.0)) and again.last_saved == 7
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"epoch": 1, "loss": 2.5}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_says_what_to_do(tmp_path, number):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("unexpected pos 64 vs 0") from error  # as torch.save reports it

    with pytest.raises(RunError, match=r"the disk is full: .*checkpoint.pt.*run the same command again\.$"):
        atomic_write(path, write)
    with pytest.raises(RunError, match=r"What was saved before is intact. Draw it elsewhere.$"):
        atomic_write(path, write, "Draw it elsewhere.")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["checkpoint.pt"]


def test_only_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    run = RunFolder.open(tmp_path, card())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="the run goes on from its last checkpoint"):
        run.save({"step": 1, "metrics": []})


def test_other_failures_keep_their_traceback_and_leave_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "x", lambda file: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_a_second_process_is_kept_out(tmp_path):
    run = RunFolder.open(tmp_path, card())
    code = (
        "import sys; from whytransfer.runs import RunFolder\n"
        f"run = RunFolder.open({str(tmp_path)!r}, {card()!r})\n"
        "with run.locked(): pass"
    )
    with run.locked():
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process is working in" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
def test_what_a_killed_process_had_half_written_is_removed_and_nothing_else(tmp_path):
    code = (
        "import os, signal, sys, pathlib; from whytransfer.runs import atomic_write\n"
        "atomic_write(pathlib.Path(sys.argv[1]), lambda file: os.kill(os.getpid(), signal.SIGKILL))"
    )
    run = RunFolder.open(tmp_path, card())
    names = ["card.json", "config.yaml", "checkpoint.pt", "metrics.jsonl", "backbone.safetensors"]
    for name in ("checkpoint.pt", "thesis.tex"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], capture_output=True)
    for name in names:
        (tmp_path / f".{name}.ab_1cd23.tmp").write_bytes(b"half")
    others = [".metrics.jsonl.swp", ".checkpoint.pt.mine.tmp", ".notes.ab_1cd23.tmp", "checkpoint.pt.ab_1cd23.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"kept")
    assert len(list(tmp_path.glob(".checkpoint.pt.????????.tmp"))) == 2
    with run.locked():
        left = sorted(p.name for p in tmp_path.iterdir())
    [half] = [name for name in left if name.startswith(".thesis.tex.")]
    assert left == sorted([*others, half, "card.json", ".lock"])


def test_versions_name_what_pixels_and_numbers_depend_on():
    found = versions()
    assert torch.__version__.startswith(found["torch"]) and "jpeg" in found["jpeg decoder"]
    assert {"numpy", "pillow", "numba", "processor", "threads"} <= found.keys()


def test_files_are_readable_by_whom_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "card.json", lambda file: file.write(b"{}"))
    finally:
        os.umask(before)
    assert (tmp_path / "card.json").stat().st_mode & 0o777 == 0o640
