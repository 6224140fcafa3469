"""Complementarity in the report: pairs by their names in the study, gains with a line at none, tables by kind."""

import pytest
from chart_rows import GAINS, PAIRS, chart_rows

from whytransfer.report import complementarity_charts
from whytransfer.report.build import asked, of_backbones
from whytransfer.report.numbers import collect, names_of
from whytransfer.report.tables import tables_of


@pytest.fixture(scope="module")
def numbers():
    return collect(chart_rows((0, 1)))


def points_of(chart, field):
    """Rows with a field, wherever they are inside a specification."""

    def walk(part):
        values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        if isinstance(part, dict) and field in part and "shown" in part:
            yield part
        for value in values:
            yield from walk(value)

    return list(walk(chart.to_dict(validate=False)))


def test_pairs_are_a_square_of_names(numbers):
    chart = complementarity_charts.alike(numbers)
    titles = [panel["title"]["text"] for panel in chart.to_dict(validate=False)["concat"]]
    assert titles == ["fusion: unbiased linear CKA", "fusion: factors pose: kappa of errors"]
    by_pair = {(p["backbone"], p["other"]): p["value"] for p in points_of(chart, "other") if "CKA" in p["metric"]}
    assert set(by_pair) == {pair for a, b in PAIRS for pair in ((a, b), (b, a))}  # names, not the paths of runs
    assert all(by_pair[a, b] == by_pair[b, a] == pytest.approx(PAIRS[a, b], abs=0.02) for a, b in PAIRS)


def test_gains_and_ranks_are_of_fusions(numbers):
    gains = {p["backbone"]: p["value"] for p in points_of(complementarity_charts.gains(numbers), "value")}
    assert gains == {name: pytest.approx(gain, abs=0.01) for name, gain in GAINS.items()}
    ranks = {p["backbone"] for p in points_of(complementarity_charts.consistent(numbers), "value")}
    assert ranks == set(GAINS)


def test_without_one_there_is_no_chart(numbers):
    others = [n for n in numbers if n.item != "fusion"]
    drawn = (complementarity_charts.alike, complementarity_charts.gains, complementarity_charts.consistent)
    assert [draw(others) for draw in drawn] == [None, None, None]


def test_its_tables_are_by_kind_and_its_pairs_no_backbones(numbers):
    tables = {t.name: t for t in tables_of(numbers) if t.item == "fusion"}
    assert set(tables) == {"fusion: pairs", "fusion: gains", "fusion: ranks"}
    assert all(len(c.cells) == len(t.backbones) for t in tables.values() for c in t.columns)  # no cell is "not run"
    assert not any(c.ranks for c in tables["fusion: pairs"].columns)  # likeness is no contest
    assert [row["name"] for row in asked(tables.values())] == ["fusion"]
    compared = {n.backbone for n in of_backbones(numbers)}
    assert not compared & {*GAINS, *(f"{a} with {b}" for a, b in PAIRS)} and "moco 5" in compared
    names = names_of(numbers)
    of_few = names_of([n for n in numbers if n.item == "fusion" or n.backbone in ("random", "moco 5")])
    assert of_few[:2] == ["random", "moco 5"]  # in the study's order, though the fusions are more
    assert names.index("mcg") < min(names.index(f"{a} with {b}") for a, b in PAIRS)  # pairs come last
