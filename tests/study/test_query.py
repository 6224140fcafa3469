"""SQL over the rows, and what the rest of a study will take."""

import csv
import json
from pathlib import Path

import pytest
from fake_stages import STAGES, STUDY, Lab

from whytransfer.errors import InputError
from whytransfer.study.cells import Cell, Stage
from whytransfer.study.costs import Costs, disk
from whytransfer.study.executors import InProcess
from whytransfer.study.query import query, write_csv
from whytransfer.study.store import rows


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    path = tmp_path_factory.mktemp("study") / "o'clock"  # a quote in a path is no end of a text
    Lab(path).run(STUDY, InProcess())
    return rows(path)


def test_a_query_agrees_with_the_same_sum_in_python(table: list[dict]):
    columns, found = query(table, "SELECT item, sum(value) AS total FROM results GROUP BY item ORDER BY item")
    by_hand: dict[str, float] = {}
    for row in table:
        by_hand[row["item"]] = by_hand.get(row["item"], 0.0) + row["value"]
    assert columns == ["item", "total"] and dict(found) == by_hand and list(dict(found)) == sorted(by_hand)


def test_every_value_comes_back_as_it_was(table: list[dict]):
    columns, found = query(table, "SELECT * FROM results")
    back = [dict(zip(columns, row, strict=True)) for row in found]
    assert [{**row, "provenance": json.loads(row["provenance"])} for row in back] == table
    odd = [{**table[0], "value": 0.1 + 0.2, "low": None, "backbone": "<b>'\"\n;"}]
    columns, [found_one] = query(odd, "SELECT value, low, backbone FROM results")
    assert found_one == (0.1 + 0.2, None, "<b>'\"\n;")


def test_what_is_no_number_in_a_provenance_is_null(table: list[dict]):
    odd = [{**table[0], "provenance": {"each": [1.5, float("nan"), float("inf")], "of": {"x": float("nan")}}}]
    [[text]] = query(odd, "SELECT provenance FROM results")[1]
    assert json.loads(text) == {"each": [1.5, None, None], "of": {"x": None}}


def test_provenance_can_be_asked(table: list[dict]):
    assert query(table, "SELECT count(*) FROM results WHERE (provenance->>'ran')::BOOLEAN")[1] == [(len(table),)]


@pytest.mark.parametrize(
    "sql, said",
    [("SELECT valu FROM results", "valu.*\nColumns of results: study"), ("SELEC 1", "syntax error"), (" ", "is empty")],
)
def test_a_query_that_cannot_be_answered_is_told_with_the_columns(table: list[dict], sql: str, said: str):
    with pytest.raises(InputError, match=f"(?s){said}"):
        query(table, sql)


def test_a_query_sees_no_file(table: list[dict], tmp_path: Path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="(?i)disabled|permission"):
        query(table, f"SELECT * FROM '{tmp_path / 'secret.csv'}'")
    with pytest.raises(InputError):
        query(table, f"COPY results TO '{tmp_path / 'out.csv'}'")
    assert not (tmp_path / "out.csv").exists()


def test_csv_keeps_all_digits(tmp_path: Path):
    write_csv(tmp_path / "a.csv", ["x", "y"], [(0.1 + 0.2, "a,b")])
    with open(tmp_path / "a.csv") as file:
        [row] = csv.DictReader(file)
    assert float(row["x"]) == 0.1 + 0.2 and row["y"] == "a,b"


def timed(calls: list[str]) -> dict[str, Stage]:
    def effort(cell: Cell, sizes: dict[str, int]) -> tuple[str, float]:
        return f"kind of size {cell.settings['size']}", 10.0 * sizes[cell.settings["images"]]

    def calibrate(cell: Cell) -> float:
        calls.append(cell.name)
        return 0.5

    like = STAGES["pretrain"]
    pretrain = Stage(
        like.run, like.check, like.takes, like.images, effort=effort, calibrate=calibrate, bytes=lambda s: 7
    )
    return {**STAGES, "pretrain": pretrain}


def test_a_kind_is_calibrated_once_per_machine_and_kept(tmp_path: Path):
    calls: list[str] = []
    stages = timed(calls)
    lab = Lab(tmp_path, stages)
    entries = lab.entries({**STUDY, "backbones": {**STUDY["backbones"], "two": {"size": 99}}})
    costs = Costs(lab.store, "machine", {"a": 7, "b": 7})
    costs.calibrate(entries, stages)
    assert calls == ["pretrain/one/0", "pretrain/two/0"]  # two sizes are two kinds
    assert costs.seconds(entries[0], STAGES["transfer"]) is None  # a stage that says nothing of its work
    assert costs.seconds(entries[0], stages["pretrain"]) == 0.5 * 70
    Costs(lab.store, "machine", costs.sizes).calibrate(entries, stages)
    assert len(calls) == 2
    Costs(lab.store, "another machine", costs.sizes).calibrate(entries, stages)
    assert len(calls) == 4
    (tmp_path / "calibration.json").write_text("{")
    Costs(lab.store, "machine", costs.sizes).calibrate(entries, stages)
    assert len(calls) == 6 and disk(entries, stages) == 4 * 7


def test_finished_cells_are_better_evidence_than_a_calibration(tmp_path: Path):
    stages = timed([])
    lab = Lab(tmp_path, stages)
    entries = lab.entries(STUDY)
    first = Costs(lab.store, "m", {"a": 7, "b": 7})
    first.calibrate(entries, stages)
    for entry, seconds in ((entries[0], 140.0), (entries[1], 70.0)):
        card = lab.store.begin(
            entry.cell, entry.key, entry.decided, {"machine": "m", "effort": ["kind of size 16", 70.0]}
        )
        lab.store.finish(card, [], seconds)
    assert first.seconds(entries[0], stages["pretrain"]) == 35
    assert Costs(lab.store, "m", first.sizes).seconds(entries[0], stages["pretrain"]) == 105  # the median of 2 and 1 s
    assert Costs(lab.store, "other", first.sizes).seconds(entries[0], stages["pretrain"]) is None
    assert disk(lab.entries(STUDY), stages) == 2 * 7


def test_a_kind_that_cannot_be_measured_stays_unknown(tmp_path: Path):
    def fails(cell: Cell) -> float:
        raise InputError("too few images")

    like = timed([])["pretrain"]
    stages = {
        **STAGES,
        "pretrain": Stage(like.run, like.check, "seed", like.images, effort=like.effort, calibrate=fails),
    }
    lab = Lab(tmp_path, stages)
    entries, costs = lab.entries(STUDY), Costs(lab.store, "m", {"a": 7, "b": 7})
    costs.calibrate(entries, stages)
    assert costs.seconds(entries[0], stages["pretrain"]) is None
