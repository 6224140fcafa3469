"""Scenes of which one thing changes: what changes, what stays, and the groups they make."""

from __future__ import annotations

import numpy as np
import pytest

from whytransfer.diagnosis.view_groups import open_groups
from whytransfer.errors import InputError
from whytransfer.images.scene_layout import FACTORS, RANGES, factors_of, layout
from whytransfer.images.scene_views import CHANGES, VIEWS, SceneViews
from whytransfer.images.scenes import Scenes


def test_a_table_of_their_own_factors_changes_no_scene():
    index = np.arange(5)
    own, given = layout(7, index), layout(7, index, factors_of(7, index))
    assert all(np.array_equal(a, b) for a, b in zip(own, given, strict=True))


@pytest.mark.parametrize("change", CHANGES)
def test_the_views_of_a_scene_differ_in_one_factor_over_its_whole_range(change: str):
    views = SceneViews(change, 3, seed=7, size_px=32)
    table = np.concatenate([views.factors(VIEWS + v) for v in range(VIEWS)])  # of scene 1
    at = FACTORS.index(CHANGES[change])
    assert table[:, at] == pytest.approx(np.linspace(*RANGES[CHANGES[change]], VIEWS))
    assert (np.delete(table, at, axis=1) == np.delete(factors_of(7, np.array([1])), at, axis=1)).all()
    assert views[VIEWS + 2].factors == dict(zip(FACTORS, table[2].tolist(), strict=True))


def test_a_view_is_the_scene_with_that_factor():
    """Between the views on both sides of its own angle lies the scene itself."""
    views, scenes = SceneViews("viewpoint", 12, seed=3, size_px=48), Scenes(12, 3, 48)
    own = factors_of(3, np.arange(12))[:, FACTORS.index("rotation_1")]
    low, high = RANGES["rotation_1"]
    nearest = np.rint((own - low) / (high - low) * (VIEWS - 1)).astype(int)
    for i in range(12):
        own_picture = scenes[i].image.double()
        apart = [float((views[VIEWS * i + v].image.double() - own_picture).abs().mean()) for v in range(VIEWS)]
        assert apart[nearest[i]] <= min(apart) + 0.5 and max(apart) > 2 * apart[nearest[i]]


def test_light_moves_no_edge_and_colour_no_shadow():
    """Another colour of the light scales the channels of every pixel alike; another direction does not."""
    coloured, turned = SceneViews("light-colour", 1, 5, 48), SceneViews("light-direction", 1, 5, 48)
    ratios = []
    for views in (coloured, turned):
        first, last = (views[v].image.double() for v in (0, VIEWS - 1))
        seen = ((first > 40) & (first < 235) & (last > 40) & (last < 235)).all(0)
        ratios.append([float((last[c][seen] / first[c][seen]).std()) for c in range(3)])
    assert max(ratios[0]) < 0.05 < max(ratios[1])


def test_groups_of_scenes_are_their_views():
    groups = open_groups("scenes:light-direction:4:9:32")
    assert groups.factor == "light direction" and groups.name == "scenes:light-direction:4:9:32"
    assert len(groups.images) == 4 * VIEWS and list(groups.groups["scene 2"]) == list(range(16, 24))
    assert len({open_groups(f"scenes:{change}:4:9:32").images.fingerprint() for change in CHANGES}) == 3


@pytest.mark.parametrize(
    "spec, message",
    [
        ("scenes:viewpiont:4", "unknown change of scenes 'viewpiont'. Did you mean 'viewpoint'"),
        ("scenes:viewpoint", r"rendered groups are scenes:CHANGE:COUNT\[:SEED\[:SIZE\]\]"),
        ("scenes:viewpoint:4:x", "rendered groups are scenes:CHANGE:COUNT"),
        ("scenes:viewpoint:0", "must be at least 1, got 0"),
        ("scenes:viewpoint:4:0:8", "must be 16 to 512 pixels, got 8"),
    ],
)
def test_other_forms_are_refused(spec: str, message: str):
    with pytest.raises(InputError, match=message):
        open_groups(spec)


def test_pictures_beyond_the_last_are_an_error():
    with pytest.raises(IndexError, match="outside 0..15"):
        SceneViews("viewpoint", 2, 0, 32)[16]
