"""What `pretrain` decides before it trains: views, learning rate, arithmetic, and the words at the end."""

from pathlib import Path

import pytest
import torch

from whytransfer.commands import pretrain
from whytransfer.commands.pretrain import PretrainSettings, in_bf16, training_of, views_for
from whytransfer.errors import InputError
from whytransfer.nn.schedules import Training, lr_at
from whytransfer.views.recipes import RECIPES, recipe

PAPER = Training("sgd", lr_per_256=0.03, weight_decay=1e-4, epochs=200, batch=256)


def settings(**given):
    return PretrainSettings.made_from({"images": "scenes:8", "out": Path("unused"), **given})


def test_a_recipe_gives_as_many_views_as_the_method_reads():
    two, one = recipe("moco-v2"), recipe("supervised")
    assert views_for(two, 2) == two
    assert views_for(two, 1).views == two.views[:1] and views_for(two, 1).name == "moco-v2"
    assert views_for(one, 2).views == one.views * 2
    for name in RECIPES:
        assert [len(views_for(recipe(name), count).views) for count in (1, 2)] == [1, 2], name


def test_the_learning_rate_is_the_papers_in_proportion_or_the_one_asked_for():
    paper = training_of(settings(batch=64), PAPER)
    assert paper.lr_per_256 == 0.03 and paper.batch == 64 and paper.epochs == 200
    assert lr_at(paper, 0, 10, 200, paper.batch) == pytest.approx(0.03 / 4)
    own = training_of(settings(batch=64, lr=0.5, epochs=3), PAPER)
    assert lr_at(own, 0, 10, own.epochs, own.batch) == pytest.approx(0.5)
    assert training_of(settings(), PAPER) == PAPER


def test_zero_weight_decay_and_warmup_are_wishes_too():
    asked = training_of(settings(weight_decay=0.0, warmup_epochs=0.0), Training("sgd", 0.1, warmup_epochs=5))
    assert asked.weight_decay == 0.0 and asked.warmup_epochs == 0.0


def test_auto_takes_bfloat16_where_it_is_there_and_reproducible(monkeypatch):
    monkeypatch.setattr(pretrain, "has_bf16", lambda: True)
    assert [in_bf16("auto", size) for size in (8, 16, 17, 224)] == [False, False, True, True]
    assert in_bf16("bf16", 8) and not in_bf16("32", 224)
    monkeypatch.setattr(pretrain, "has_bf16", lambda: False)
    assert not in_bf16("auto", 224)


def test_no_gpu_is_said_and_not_replaced(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pretrain.device_of("auto") == pretrain.device_of("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="a GPU was asked for and PyTorch sees none"):
        pretrain.device_of("cuda")


STANDING = {"knn": 40.0, "pairs": 50.0, "spread": 0.3, "rank": 90.0}


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (STANDING, {**STANDING, "knn": 30.0}, "kNN 40.0 %, random features 30.0 %: 10.0 points above random features"),
        (STANDING, {**STANDING, "knn": 42.5}, "2.5 points BELOW random features; healthy"),
        ({**STANDING, "knn": None}, {"knn": None, "pairs": 20.0}, "pair matching 50.0 %, random features 20.0 %"),
        ({**STANDING, "rank": 1.1}, STANDING, "collapsed: nearly one feature"),
        (STANDING, {}, "not watched"),
        ({}, STANDING, "not watched"),  # watched at first, continued with --no-monitor
    ],
)  # fmt: skip
def test_a_run_ends_with_its_standing_in_words(now, before, words):
    summary = pretrain._summary(Path("run"), {"loss": 1.0, "epoch": 3, "width": 512, "random": before, **now})
    assert words in summary["standing"] and summary["run"] == "run" and summary["loss"] == 1.0
