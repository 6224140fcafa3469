"""Advice says what the numbers bear, and no more: winners, ties with what would break them, floors, needs."""

import dataclasses

import numpy as np
import pytest

from whytransfer.diagnosis.advice import Candidate, Measured, equally_fast, is_recommended, sentences
from whytransfer.diagnosis.advice_results import answer_of, results_of

SPEEDS = [(5.0, "resnet18"), (11.0, "resnet18"), (3.0, "resnet50")]
N, P, V = 300, 50, 4
LABELS = np.arange(N) % 3


def right(share, seed, n=N):
    """So large a share of pictures right, at the same places for the same seed."""
    return np.random.default_rng(seed).random(n) < share


def candidate(name, share, seed=0, fewer=None, speed=100.0, falls=0.0, untrained=False):
    correct = {100.0: right(share, seed), 50.0: right(share if fewer is None else fewer, seed)}
    changed = np.repeat(correct[100.0][:P, None], V, axis=1) & (np.random.default_rng(9).random((P, V)) >= falls)
    offered = dict.fromkeys(("spatial", "appearance"), np.full(P, 0.4))
    return Candidate(
        name, untrained, correct, {50.0: 120.0, 100.0: 240.0}, offered,
        {"spatial": changed, "appearance": np.repeat(correct[100.0][:P, None], V, axis=1)}, speed, 64, 512, 11.2,
    )  # fmt: skip


def measured(*candidates, alone=(0.34, 0.34), **settings):
    alone = {"spatial": right(alone[0], 5), "appearance": right(alone[1], 6)}
    return Measured(candidates, LABELS, np.arange(P), LABELS == 0, alone, **settings)


FLOOR = candidate("random:resnet18", 0.4, 3, untrained=True)


def test_a_clear_winner_is_recommended_without_ties():
    m = measured(candidate("a", 0.9), candidate("b", 0.6, 1), FLOOR)
    lines = sentences(m)
    assert lines[0].startswith("Take a: ") and lines[0].endswith("ahead of every other candidate beyond chance.")
    assert "on 300 pictures that it was not fitted on" in lines[0]
    assert lines[1].startswith("Pretraining: +") and "beyond chance" in lines[1]
    assert is_recommended(m) and m.tied_with_best() == []


def test_a_tie_says_so_and_how_many_pictures_would_break_it():
    m = measured(candidate("a", 0.80), candidate("b", 0.78, 1, speed=300.0), FLOOR)
    lines = sentences(m)
    names = {"a", "b"}
    best = m.candidates[m.best].name
    (other,) = names - {best}
    assert f"Take {best} if you must choose now" in lines[0] and f"cannot be told apart from {other}" in lines[0]
    pair = m.comparison.pair(m.best, m.tied_with_best()[0])
    assert f"300 pictures show differences from {pair.detectable:.1f} points on; label about" in lines[1]
    assert pair.low < 0 < pair.high
    if best == "a":
        assert lines[2] == "Of those tied b is 3.0 times as fast: prefer it where speed counts."


def test_one_network_has_one_speed():
    """Of two runs of one architecture the busier moment is not the slower network."""
    made = [dataclasses.replace(candidate("abc"[i], 0.8, i, speed=v), arch=x) for i, (v, x) in enumerate(SPEEDS)]
    assert [c.images_per_second for c in equally_fast(made)] == [11.0, 11.0, 3.0]


def test_the_same_answers_are_called_that():
    lines = sentences(measured(candidate("a", 0.8), candidate("b", 0.8), FLOOR))
    assert lines[1] == "b is right on the very same pictures: nothing here can tell the two apart."


@pytest.mark.parametrize(("share", "how"), [(0.42, "which may be chance"), (0.2, "BELOW them beyond chance")])
def test_nothing_is_recommended_that_is_not_above_random_features(share, how):
    m = measured(candidate("a", share), FLOOR)
    assert not is_recommended(m)
    lines = sentences(m)
    assert lines[0].startswith("None of these is shown to help: the best, a,") and how in lines[1]
    assert answer_of(m, "mine", ("x", "y", "z"), [])["recommended"] is None


def test_random_weights_alone_are_a_floor_and_no_advice():
    assert sentences(measured(FLOOR))[0].startswith("All candidates are untrained")


@pytest.mark.parametrize(("fewer", "says"), [(0.6, "more labels still pay"), (0.895, "cannot be told")])
def test_whether_more_labels_pay(fewer, says):
    line = next(x for x in sentences(measured(candidate("a", 0.9, fewer=fewer), FLOOR)) if x.startswith("Labels: "))
    assert "from 120 to 240 labelled pictures" in line and says in line


def test_what_the_labels_need_and_what_changes_cost():
    m = measured(candidate("a", 0.9, falls=0.5), candidate("b", 0.6, 1), FLOOR, alone=(0.34, 0.8))
    pose, colour = (next(x for x in sentences(m) if x.startswith(word)) for word in ("Pose", "Colour"))
    assert "pose alone is not shown to tell the labels" in pose and "least falls b (0.0)." in pose
    assert "colour alone tells some of the labels" in colour and "a is 0.0 points [0.0, 0.0] less often right" in colour
    fall = m.fall(m.candidates[0], "spatial")
    assert fall.low > 25 and fall.difference == pytest.approx(45, abs=12)


def test_what_folds_share_widens_comparisons_of_readouts_and_not_the_fall_of_one():
    m = measured(candidate("a", 0.9, falls=0.5), candidate("b", 0.6, 1))
    a, b = (100.0 * c.correct[100.0] for c in m.candidates)
    assert m.comparison.pair(0, 1).error == pytest.approx(1.5 * np.std(a - b, ddof=1) / np.sqrt(N))
    fallen = a[:P] - 100 * m.candidates[0].correct_changed["spatial"].mean(1)
    assert m.fall(m.candidates[0], "spatial").error == pytest.approx(np.std(fallen, ddof=1) / np.sqrt(P))


def test_every_class_can_count_alike():
    few = np.concatenate([np.zeros(280, np.int64), np.ones(20, np.int64)])
    lazy = candidate("lazy", 0.5)
    lazy.correct[100.0][:] = few == 0
    by_picture, by_class = (
        Measured([lazy], few, np.arange(P), few == 0, {}, per_class).comparison.means[0] for per_class in (False, True)
    )
    assert by_picture == pytest.approx(100 * 280 / 300) and by_class == pytest.approx(50)


def test_the_answer_and_the_results_hold_the_same_numbers():
    m = measured(candidate("a", 0.9, falls=0.5), FLOOR)
    answer, results = answer_of(m, "mine", ("x", "y", "z"), ["a note"]), results_of(m, m.candidates[0], "mine")
    top = answer["candidates"][0]
    by = {(r.data, r.metric): r for r in results}
    assert by["mine", "top1"].value == pytest.approx(top["value"], abs=1e-3)
    assert by["mine (50 % of the labels)", "top1"].provenance["labelled_images"] == 120
    assert by["mine", "fall under spatial changes"].value == pytest.approx(top["falls"]["pose"]["value"], abs=1e-3)
    assert by["mine", "spatial similarity"].value == pytest.approx(top["ignores"]["pose"]) == 0.4
    assert answer["classes"] == {"x": 100, "y": 100, "z": 100} and answer["notes"] == ["a note"]
    assert all(r.low <= r.value <= r.high for r in results if "similarity" not in r.metric)
