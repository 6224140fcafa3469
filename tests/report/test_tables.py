import itertools

import pytest
from report_rows import BACKBONES, row, study_rows
from scipy import stats

from whytransfer.report.numbers import collect
from whytransfer.report.tables import Column, Table, main_column, overview, rank_text, ranks_of, tables_of


def cells(values: dict[str, list[float]], metric: str = "top1", half: float = 1.0) -> Column:
    rows = [
        {**row("default", "class", metric, value, seed), "backbone": name, "low": value - half, "high": value + half}
        for name, all_ in values.items()
        for seed, value in enumerate(all_)
    ]
    found = {number.name: number for number in collect(rows)}
    return Column(metric, found, ranks_of(found))


def by_item(rows: list[dict]) -> dict[str, Table]:
    return {table.item: table for table in tables_of(collect(rows))}


def test_ranks_by_seeds_agree_with_paired_t_tests_corrected_by_hand():
    values = {"a": [60.0, 61.0, 62.0], "b": [59.9, 60.95, 61.85], "c": [50.0, 51.1, 52.0]}
    p = {pair: stats.ttest_rel(values[pair[0]], values[pair[1]]).pvalue for pair in itertools.combinations("abc", 2)}
    assert 3 * p["a", "c"] < 0.05 and 2 * p["b", "c"] < 0.05 and p["a", "b"] > 0.05  # Holm: times 3, 2, 1
    assert cells(values).ranks == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}
    assert cells(values, "rmse").ranks == {"a": (2, 3), "b": (2, 3), "c": (1, 1)}  # where less is better


def test_of_one_seed_overlapping_intervals_are_ties():
    column = cells({"a": [60.0], "b": [58.5], "c": [57.0], "d": [10.0]})
    assert column.ranks == {"a": (1, 2), "b": (1, 3), "c": (2, 3), "d": (4, 4)}


def test_no_rank_without_a_comparison():
    assert cells({"a": [60.0, 61.0]}).ranks == {}
    bare = {n.name: n for n in collect([{**row(b, "class", "top1", 1.0, 0), "low": None} for b in ("random", "fused")])}
    assert ranks_of(bare) == {}


def test_bold_is_not_beaten_and_beats_something():
    column = cells({"a": [60.0], "b": [58.5], "c": [57.0], "d": [10.0]})
    assert [name for name in "abcd" if column.bold(name)] == ["a", "b"]
    tied = cells({"a": [60.0], "b": [59.5]})
    assert not tied.bold("a") and not tied.bold("missing")
    bare = Column("top1", collect_by_name({"a": 60.0, "b": 10.0}), {"a": (1, 1), "b": (2, 2)})
    assert not bare.bold("a")  # no number is bold without an interval
    wild = cells({"a": [20.0, 60.0, 70.0], "b": [29.0, 29.5, 30.0], "c": [24.0, 24.5, 25.0]})
    assert wild.ranks == {"a": (1, 3), "b": (1, 2), "c": (2, 3)}
    assert not any(wild.bold(name) for name in "abc")  # b is surely better than c, but a may be better still


def collect_by_name(values: dict[str, float]) -> dict:
    rows = [{**row("default", "class", "top1", value, 0), "backbone": b, "low": None} for b, value in values.items()]
    return {number.name: number for number in collect(rows)}


def test_a_table_per_item_with_every_number_of_it():
    rows = study_rows()
    tables = by_item(rows)
    assert list(tables) == ["", "class", "factors", "parts", "depth", "invariance", "errors", "inversion", "masks"]
    held = [number.index for table in tables.values() for column in table.columns for number in column.cells.values()]
    assert sorted(held) == list(range(len(collect(rows))))
    assert all(not column.ranks for column in tables[""].columns)  # a cost is no contest
    assert tables["invariance"].is_wide and not tables["class"].is_wide
    orders = [
        [name for name in table.backbones if name != "random"] for table in tables.values() if table.item != "masks"
    ]
    assert all(order == [name for name in orders[0] if name in order] or order[:4] == orders[0] for order in orders)


def test_the_column_of_a_task_is_its_first_metric_with_all_labels():
    table = by_item(study_rows())["class"]
    assert [column.first.metric for column in table.columns] == ["top1", "mean_per_class", "top1", "top1"]
    assert main_column(table).first.data == "scenes"


def test_mean_ranks_by_hand():
    values = {"a": ([3.0, 1.0], [3.0, 3.0]), "b": ([2.0, 2.0], [2.0, 2.0]), "c": ([1.0, 3.0], [1.0, 1.0])}
    rows = [
        {**row("default", item, "top1", value, seed), "backbone": name}
        for name, tasks in values.items()
        for item, all_ in zip(("one", "two"), tasks, strict=True)
        for seed, value in enumerate(all_)
    ]
    found = overview(tables_of(collect(rows)))
    assert found is not None
    means = {standing.backbone: standing.mean_rank for standing in found.rows}
    assert {name: mean.value for name, mean in means.items() if mean} == {"a": 1.5, "b": 2.0, "c": 2.5}
    a = means["a"]  # 1 at the first seed, (3 + 1) / 2 at the second
    assert a and (a.low, a.high) == pytest.approx(stats.t.interval(0.95, 1, loc=1.5, scale=stats.sem([1.0, 2.0])))


def test_who_was_not_run_on_every_task_has_no_mean_rank():
    rows = [r for r in study_rows() if not (r["item"] == "depth" and r["backbone"] == "fused")]
    found = overview(tables_of(collect(rows)))
    assert found is not None
    ranked = {standing.backbone for standing in found.rows if standing.mean_rank}
    assert ranked == {"random", "supervised", "default", "spatial", "appearance"}
    assert next(s for s in found.rows if s.backbone == "fused").cells[3] is None


def test_no_overview_without_tasks():
    assert overview(tables_of(collect([r for r in study_rows() if r["stage"] != "transfer"]))) is None


def test_ranks_in_words():
    assert rank_text((2, 2)) == "2" and rank_text((1, 3)) == "1–3" and rank_text(None) == ""


def test_columns_name_their_images_only_where_these_differ():
    tables = by_item([
        *(row("default", "class", "top1", 1.0, 0, data=d, provenance={"labels_percent": p}) for d, p in
          (("photos", 100), ("photos (1 % of the labels)", 1))),
        *(row("default", "far", "top1", 1.0, 0, data=d) for d in ("photos", "drawings")),
        *(row("default", "shots", f"linear_5way_{k}shot", 1.0, 0, data=f"photos, {k} shots") for k in (1, 5)),
    ])  # fmt: skip
    titles = {item: [column.title for column in table.columns] for item, table in tables.items()}
    assert titles == {
        "class": ["top-1", "top-1, 1 % of the labels"], "far": ["top-1, photos", "top-1, drawings"],
        "shots": ["linear 5-way 1-shot", "linear 5-way 5-shot"],
    }  # fmt: skip


def test_an_overview_has_its_tasks_and_backbones_in_the_order_of_the_study():
    found = overview(tables_of(collect(study_rows())))
    assert found.items == ("class", "factors", "parts", "depth")
    assert [standing.backbone for standing in found.rows] == list(BACKBONES)
