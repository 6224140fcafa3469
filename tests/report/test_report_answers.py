import re

import pytest
from chart_rows import chart_rows
from report_rows import row, study_rows
from scipy import stats

from whytransfer.report.answers import Answer, Said, answers, difference
from whytransfer.report.numbers import collect
from whytransfer.report.tables import tables_of


def by_question(rows: list[dict]) -> dict[str, Answer]:
    return {answer.question: answer for answer in answers(tables_of(collect(rows)))}


@pytest.fixture(scope="module")
def found() -> dict[str, Answer]:
    return by_question(study_rows())


def test_every_question_that_the_study_asked_is_answered_and_no_other(found: dict[str, Answer]):
    assert len(found) == 9
    only = by_question([r for r in study_rows() if r["item"] == "factors"])
    assert list(only) == [
        "Which backbone transfers best?", "What did pretraining give?", "Does setting backbones side by side help?"
    ]  # fmt: skip


def test_a_winner_is_named_only_where_the_intervals_show_one(found: dict[str, Answer]):
    text = found["Which backbone transfers best?"].text
    assert re.search(r"On class \(top-1\), fused has 63\.\d+ % \[.*?\], surely better than every other", text)
    assert "On parts (mean IoU), fused has" in text and "cannot be told apart from it" in text
    tied = by_question([row(b, "class", "top1", 50.0 + k / 10, 0) for k, b in enumerate(("default", "spatial"))])
    assert "the 2 backbones cannot be told apart" in tied["Which backbone transfers best?"].text
    bare = [{**row(b, "class", "top1", v, 0), "low": None} for b, v in (("default", 90.0), ("spatial", 1.0))]
    assert "nothing can be told apart" in by_question(bare)["Which backbone transfers best?"].text


def test_a_complementarity_says_who_is_alike_and_what_surely_gains():
    question = "Does setting backbones side by side help?"
    text = by_question([r for r in chart_rows() if r["item"] == "fusion"])[question].text
    assert "features of moco 1 with supervised 5 are the least alike (CKA 0.2" in text
    assert "those of moco 1 with moco 5 the most (0." in text
    gained = text.partition("On fusion (factors pose) ")[2]
    assert re.match(r"moco 5\+supervised 5 gains most over the best of its members, by 0\.0\d+ R2 \[0\.", gained), (
        gained
    )
    assert "of 2 fusions. " in gained and "may be chance" not in gained
    lost = by_question([{**r, "value": -r["value"]} for r in chart_rows() if r["metric"].endswith("best single")])
    assert "which may be chance" in lost[question].text


def test_random_features_are_the_floor_and_being_below_them_is_said(found: dict[str, Answer]):
    text = found["What did pretraining give?"].text
    assert "default and spatial are worse than features that learned nothing" in text  # in pose
    assert "appearance and fused are better; supervised is not told apart from them" in text
    without = by_question([r for r in study_rows() if r["backbone"] != "random"])
    assert "What did pretraining give?" not in without


def test_a_fusion_is_held_against_its_best_member_by_seed():
    one, other = collect([
        row(name, "class", "top1", value, seed)
        for name, values in (("fused", (64.0, 65.5, 64.0)), ("default", (61.0, 61.5, 62.0)))
        for seed, value in enumerate(values)
    ])  # fmt: skip
    low, high = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem([3.0, 4.0, 2.0]))
    said = difference(one, other)
    assert said.text == f"+3.0 points [{low:.1f}, {high:.1f}]" and said.numbers == (one, other)


def test_every_number_in_an_answer_is_linked_to_numbers_of_the_table(found: dict[str, Answer]):
    known = set(range(len(collect(study_rows()))))
    for answer in found.values():
        for part in answer.parts:
            if isinstance(part, Said):
                assert part.numbers and {number.index for number in part.numbers} <= known
            else:  # outside of links, numbers are only counts and shares of labels
                assert not re.search(r"\d\.\d+ (?!minutes|hours)", part), part


def test_a_value_and_its_interval_are_those_of_the_number(found: dict[str, Answer]):
    said = [part for part in found["What is left of a picture?"].parts if isinstance(part, Said)]
    assert len(said) == 6
    for part in said:
        value, low, high = map(float, re.findall(r"-?\d+\.\d+", part.text))
        (number,) = part.numbers
        assert (value, low, high) == pytest.approx((number.value, *number.ends), abs=0.05)


def test_labels_and_cost(found: dict[str, Answer]):
    assert re.search(
        r"with 1 % of the labels fused reaches .* not told apart from", found["How many labels does it take?"].text
    )
    assert "12 pretrainings took 18.9 minutes together" in found["What did it cost?"].text


def test_the_trade_off_is_a_rank_correlation_over_backbones(found: dict[str, Answer]):
    rows = [r for r in study_rows() if r["item"] == "invariance"]
    values = {(r["backbone"], r["metric"], r["seed"]): r["value"] for r in rows}
    names = list(dict.fromkeys(r["backbone"] for r in rows))
    each = [
        stats.spearmanr(
            *([values[b, f"{g} similarity", seed] for b in names] for g in ("spatial", "appearance"))
        ).statistic
        for seed in range(3)
    ]
    assert f"a rank correlation of {sum(each) / 3:.2f}" in found["What does each backbone ignore?"].text
