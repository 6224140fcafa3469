"""Asking the table of a study: values by name, and what is said of names that have none."""

from __future__ import annotations

from typing import Any

import pytest

from whytransfer.errors import InputError
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import mean_interval


def row(backbone: str, item: str, metric: str, seed: int, value: float, **more: Any) -> dict[str, Any]:
    return {
        "backbone": backbone,
        "item": item,
        "metric": metric,
        "seed": seed,
        "value": value,
        "provenance": {},
        **more,
    }


ROWS = [
    row("random", "", "images_per_second", 0, 200.0),
    row("default", "class", "top1", 2, 53.0),
    row("default", "class", "top1", 0, 51.0),
    row("default", "class", "top1", 1, 50.0),
    row("random", "class", "top1", 0, 20.0),
    row("random", "class", "mean_per_class", 0, 19.0),
    row("default", "curve", "top1", 0, 30.0, data="scenes, 1 %", provenance={"label_share": 1}),
    row("default", "curve", "top1", 0, 40.0, data="scenes, 10 %", provenance={"label_share": 10}),
]


def test_values_are_found_by_name_and_seed():
    scores = Scores(ROWS)
    assert scores.backbones == ["random", "default"] and scores.items == ["class", "curve"]
    assert scores.metrics("class") == ["top1", "mean_per_class"]
    assert scores.value("default", "class", "top1", 1) == 50.0
    assert list(scores.by_seed("default", "class", "top1").items()) == [(0, 51.0), (1, 50.0), (2, 53.0)]
    assert scores.by_seed("random", "", "images_per_second") == {0: 200.0}  # of a pretraining
    assert scores.interval("default", "class", "top1") == mean_interval([51.0, 50.0, 53.0])


def test_one_of_several_rows_is_named_by_a_column_or_by_its_provenance():
    scores = Scores(ROWS)
    assert scores.value("default", "curve", "top1", 0, label_share=10) == 40.0
    assert scores.by_seed("default", "curve", "top1", data="scenes, 1 %") == {0: 30.0}
    with pytest.raises(InputError, match=r"two results of default, curve, top1 at seed 0.*label_share=1 or 10"):
        scores.value("default", "curve", "top1", 0)
    with pytest.raises(InputError, match=r"has {'label_share': 5}; there are: {'label_share': \['1', '10'\]}"):
        scores.value("default", "curve", "top1", 0, label_share=5)


@pytest.mark.parametrize(
    "asked, message",
    [
        (("fused", "class", "top1", 0), "backbones with results: random, default"),
        (("random", "curve", "top1", 0), "random has results of: class"),
        (("random", "class", "AP", 0), "metrics there are: top1, mean_per_class"),
        (("random", "class", "top1", 3), "no class top1 at seed 3; seeds there are: 0"),
    ],
)
def test_what_is_missing_is_said_with_what_there_is(asked: tuple[str, str, str, int], message: str):
    with pytest.raises(InputError, match=message):
        Scores(ROWS).value(*asked)


def test_an_item_without_rows_is_said():
    with pytest.raises(InputError, match="no finished result of 'pose'; there are: class, curve"):
        Scores(ROWS).metrics("pose")
    with pytest.raises(InputError, match="there are: none"):
        Scores([]).metrics("pose")
