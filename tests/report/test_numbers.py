import pytest
from report_rows import BACKBONES, row, study_rows
from scipy import stats

from whytransfer.report.numbers import Number, collect, digits, interval_text, names_of, of_unit, plain, words


def of(*values: float, **more: object) -> Number:
    (number,) = collect([row("default", "class", "top1", value, seed) for seed, value in enumerate(values)])
    return number


def test_the_interval_over_seeds_is_students():
    number = of(61.0, 63.5, 62.0)
    low, high = stats.t.interval(0.95, 2, loc=62.1666666667, scale=stats.sem([61.0, 63.5, 62.0]))
    assert number.value == pytest.approx(62.1666666667)
    assert number.over == "seeds" and number.ends == pytest.approx((low, high))


def test_of_one_seed_it_is_that_of_the_test_images_and_says_so():
    number = of(61.0)
    assert (number.over, number.ends) == ("test images", (60.0, 62.0))
    (without,) = collect([{**number.rows[0], "low": None}])
    assert (without.over, without.ends) == ("", None)


def test_rows_that_differ_in_anything_but_the_seed_are_numbers_of_their_own():
    rows = study_rows()
    numbers = collect(rows)
    assert sum(len(number.rows) for number in numbers) == len(rows)
    assert [number.index for number in numbers] == list(range(len(numbers)))
    told = {(n.item, n.metric, n.data, n.name) for n in numbers}
    assert len(told) == len(numbers)
    engines = {number.name for number in numbers if not number.backbone_is_whole}
    assert engines == {"grid:5", "felzenszwalb"}
    bare = [{**r, "backbone": ""} for r in rows if r["item"] == "masks"]
    assert {number.name for number in collect(bare)} == engines  # also where the table names no backbone


def test_names_are_in_the_order_of_the_fullest_item_whatever_ran_first():
    few = [row(b, "first", "top1", 1.0, 0) for b in ("fused", "random")]
    assert names_of(collect([*few, *study_rows()])) == [*BACKBONES, "grid:5", "felzenszwalb"]
    assert names_of(collect(few)) == ["fused", "random"]


def test_two_rows_that_only_their_value_tells_apart_are_said(capsys: pytest.CaptureFixture[str]):
    twice = [row("default", "class", "top1", value, 0) for value in (1.0, 2.0)]
    (number,) = collect(twice)
    assert number.value == 2.0
    assert "class/default/0 has two results of top1 on scenes; the last is shown" in capsys.readouterr().err


def test_a_difference_of_two_backbones_is_told_from_a_backbone():
    pair = row("a - b", "errors", "AP", 1.0, 0, model="a - b", provenance={"paired_difference_of": ["a", "b"]})
    assert collect([pair])[0].is_difference and not of(1.0).is_difference


@pytest.mark.parametrize(("half", "places"), [(12.0, 0), (9.9, 1), (1.4, 1), (0.31, 2), (0.012, 3), (0.000001, 4)])
def test_digits_are_those_that_the_interval_justifies(half: float, places: int):
    wide = {**row("default", "class", "top1", 50.0, 0), "low": 50 - half, "high": 50 + half}
    assert digits(collect([wide])) == places


def test_without_intervals_four_digits_are_shown():
    bare = {**row("default", "", "seconds", 95.123, 0), "low": None, "high": None}
    assert digits(collect([bare])) == 2
    assert digits(collect([{**bare, "value": 9512.3}])) == 0


def test_numbers_in_words():
    assert plain(1234.56, 1) == "1,234.6" and plain(-0.001, 2) == "0.00" and plain(-0.1, 1) == "-0.1"
    assert interval_text((1.0, 2.25), 1) == "[1.0, 2.2]" and interval_text(None, 1) == ""
    assert of_unit("%") == " %" and of_unit("cosine") == ""
    assert words("prototypes_3way_1shot") == "prototypes 3-way 1-shot"
    assert words("mean_iou") == "mean IoU" and words("some_thing") == "some thing"
