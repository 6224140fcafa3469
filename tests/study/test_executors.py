"""Cells in other processes: the same table, deaths that fail one cell only, Ctrl-C that is passed on."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_stages import STUDY, Lab
from test_running import with_setting

from whytransfer.study.executors import InProcess, Place, Pool, places, received, sent
from whytransfer.study.store import rows

TWO = [Place(1), Place(1)]


def told(path: Path) -> list[tuple[Any, ...]]:
    """The table without what names its folder; the command is that of the study, wherever a cell ran."""
    columns = ("cell", "key", "backbone", "metric", "value", "seed")
    return sorted((*(row[c] for c in columns), row["provenance"]["command"]) for row in rows(path))


def test_cores_are_shared_out_and_gpus_given_in_turn():
    assert places(None, 4, ()) == [Place(1)] * 4 and places(3, 8, ()) == [Place(2)] * 3
    assert places(5, 2, ()) == [Place(1)] * 5
    assert places(None, 8, ("2", "5")) == [Place(4, "2"), Place(4, "5")]
    assert places(3, 8, ("0", "1")) == [Place(2, "0"), Place(2, "1"), Place(2, "0")]


def test_a_job_survives_being_sent(tmp_path: Path):
    lab = Lab(tmp_path)
    entries = lab.entries(STUDY)
    job = lab.job(entries)(entries[0])
    assert received(sent(job)) == job and "\n" not in sent(job)


def test_a_pool_gives_the_table_of_one_process_and_survives_a_worker_that_dies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    study = with_setting("diagnoses", "masks", does="once die")
    pooled, alone = Lab(tmp_path / "pool"), Lab(tmp_path / "alone")
    ended = pooled.run(study, Pool(TWO))
    assert [o.name for o in ended.failed] == ["masks"] and "ended with status -9" in ended.failed[0].message
    assert not ended.left and "masks FAILED after" in capsys.readouterr().err
    alone.run({**study, "diagnoses": {k: v for k, v in study["diagnoses"].items() if k != "masks"}}, InProcess())
    assert told(tmp_path / "pool") == told(tmp_path / "alone")
    processes = {path.read_text().split()[0] for path in (tmp_path / "pool").rglob("runs.txt")}
    assert len(processes) >= 2 and str(os.getpid()) not in processes
    log = next((tmp_path / "pool").rglob("log.txt")).read_text()
    assert "finished after" in log and "process" in log


def test_ctrl_c_is_passed_on_and_what_runs_is_stopped(tmp_path: Path):
    lab = Lab(tmp_path)
    study = with_setting("backbones", "two", wait=60.0)

    def interrupt() -> None:
        until = time.monotonic() + 200
        key = next(e.key for e in lab.entries(study) if e.cell.name == "pretrain/two/0")
        while not (lab.store.files(key) / "runs.txt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where a shell started us behind its back
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            lab.run(study, Pool([Place(1)]))
    finally:
        signal.signal(signal.SIGINT, before)
    stopped = next(entry for entry in lab.entries(study) if entry.cell.name == "pretrain/two/0")
    assert stopped.state == "stopped" and lab.store.card(stopped.key)["seconds"] < 60  # which it would have waited
