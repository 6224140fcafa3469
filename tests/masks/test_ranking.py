"""The forest against scikit-learn's own predict, files that hold it, and the choice that values difference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import RandomForestRegressor

from whytransfer.errors import InputError
from whytransfer.masks import ranking
from whytransfer.masks.candidates import FEATURES, Candidates
from whytransfer.masks.ranking import Ranking, best_of, fit, from_trees


def table(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.random((count, len(FEATURES)))
    return features, np.clip(features[:, 3] * features[:, 14] + 0.1 * rng.normal(size=count), 0, 1)


@pytest.fixture(scope="module")
def forest() -> RandomForestRegressor:
    features, targets = table(0)
    return RandomForestRegressor(7, min_samples_leaf=2, random_state=0, n_jobs=1).fit(features, targets)


@pytest.fixture
def learnt(forest: RandomForestRegressor) -> Ranking:
    return from_trees([each.tree_ for each in forest.estimators_])


def test_scores_are_bit_for_bit_those_of_scikit_learn(forest: RandomForestRegressor, learnt: Ranking):
    features = table(1, 1000)[0]
    features[0] = forest.estimators_[0].tree_.threshold[0]  # exactly at a threshold
    np.testing.assert_array_equal(learnt(features), forest.predict(features))


def test_a_file_brings_back_the_same_forest_and_the_same_bytes(learnt: Ranking, tmp_path: Path):
    learnt.save(tmp_path / "new" / "a.safetensors")
    again = Ranking.load(tmp_path / "new" / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "new" / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert again.digest() == learnt.digest()
    np.testing.assert_array_equal(again(table(2)[0]), learnt(table(2)[0]))


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("left", 0, 10_000, "children that lie outside"),
        ("left", 0, 0, "children that lie outside their tree or before their parent"),
        ("feature", 0, 16, "a feature beyond the 16 known"),
        ("first", -1, 3, "trees that do not follow each other"),
        ("value", 0, np.nan, "not finite"),
    ],
)
def test_a_damaged_file_is_refused(learnt: Ranking, tmp_path: Path, name: str, at: int, value: float, message: str):
    path = tmp_path / "r.safetensors"
    learnt.save(path)
    arrays = load_file(path)
    arrays[name] = arrays[name].copy()
    arrays[name][at] = value
    save_file(arrays, path, {"format": ranking.FORMAT})
    with pytest.raises(InputError, match=message):
        Ranking.load(path)


def test_what_is_no_ranking_is_refused(learnt: Ranking, tmp_path: Path):
    with pytest.raises(InputError, match="there is no such file; `whytransfer masks rank` makes one"):
        Ranking.load(tmp_path / "none")
    (tmp_path / "text").write_text("cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="not a ranking file"):
        Ranking.load(tmp_path / "text")
    save_file({"weight": np.zeros(3)}, tmp_path / "model")
    with pytest.raises(InputError, match="not a ranking made by"):
        Ranking.load(tmp_path / "model")
    save_file(dataclasses.asdict(learnt) | {"left": np.zeros(3)}, tmp_path / "type", {"format": ranking.FORMAT})
    with pytest.raises(InputError, match="damaged: left of a wrong type"):
        Ranking.load(tmp_path / "type")


def strips(*ends: tuple[int, int]) -> Candidates:
    """Candidates that are ranges of ten leaves of one pixel each."""
    members = np.zeros((len(ends), 10), np.uint8)
    for row, (start, stop) in zip(members, ends, strict=True):
        row[start:stop] = 1
    return Candidates(np.arange(10)[None], members, np.ones(10), np.zeros((len(ends), len(FEATURES))))


def test_a_lower_score_wins_where_the_rest_overlaps():
    found = strips((0, 8), (6, 10), (8, 10))
    scores = np.array([0.9, 0.85, 0.6])
    # second pick: (0.85 - 2 / 10) / 2 against (0.6 - 0) / 2; below it is nearly the first: (0.85 - 8 / 9) / 2
    np.testing.assert_array_equal(best_of(found, scores, 3), [0, 1, 2])
    found = strips((0, 8), (0, 9), (8, 10))
    np.testing.assert_array_equal(best_of(found, scores, 3), [0, 2, 1])
    np.testing.assert_array_equal(best_of(found, scores, 1), [0])
    np.testing.assert_array_equal(best_of(found, scores, 16), [0, 2, 1])


def test_learning_is_a_function_of_images_and_seed():
    def images() -> list[tuple[Candidates, np.ndarray]]:
        ends = [(a, b) for a in range(10) for b in range(a + 1, 11)]
        found = strips(*ends)
        place = np.array([[a / 10] * 8 + [b / 10] * 8 for a, b in ends])
        return [(dataclasses.replace(found, features=place), np.arange(10)[None, None] < 5) for _ in range(3)]

    first, second, other = fit(images()), fit(images()), fit(images(), seed=1)
    assert first.digest() == second.digest() != other.digest()
    scores = first(np.array([[0.0] * 8 + [0.5] * 8, [0.0] * 16, [0.5] * 8 + [1.0] * 8]))
    assert scores.argmax() == 0 and scores[0] > 0.7  # the annotated one
    with pytest.raises(InputError, match="no image has any"):
        fit([(strips((0, 3)), np.zeros((0, 1, 10), bool))])
