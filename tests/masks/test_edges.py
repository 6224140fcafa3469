"""Half-disc gradients against histograms written out pixel by pixel, and closed forms at a straight edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2lab

from whytransfer.errors import InputError
from whytransfer.masks import edges


def step(height: int, width: int, dx: float, dy: float) -> np.ndarray:
    """A dark and a light half; (dx, dy) points across the edge, which runs through the middle."""
    y, x = np.mgrid[:height, :width]
    ahead = (x + 0.5 - width / 2) * dx + (y + 0.5 - height / 2) * dy
    return np.where(ahead[..., None] < 0, np.uint8(30), np.uint8(220)).repeat(3, axis=2)


def test_lab_agrees_with_scikit_image():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_allclose(edges.cielab(picture), rgb2lab(picture), atol=2e-3)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("direction", [0, 3, 4, 6])
def test_gradient_is_the_chi_squared_distance_of_the_two_halves(direction: int, smooth: bool):
    radius, shape = 3, (6, 9)
    codes = np.random.default_rng(direction).integers(0, 16, (shape[0] + 6, shape[1] + 6), dtype=np.uint8)
    found = np.zeros(shape)
    edges.half_disc_gradient(codes, *edges._disc(radius, direction), radius, smooth, 0.5, found)
    angle = direction * np.pi / edges.DIRECTIONS
    taps = (1, 4, 6, 4, 1) if smooth else (0, 0, 1, 0, 0)
    for i in range(shape[0]):
        for j in range(shape[1]):
            halves = np.zeros((2, 16))
            for dy in range(-3, 4):
                for dx in range(-3, 4):
                    ahead = dx * np.cos(angle) + dy * np.sin(angle)
                    if dx * dx + dy * dy <= 3.25**2 and abs(ahead) > 1e-6:
                        halves[int(ahead > 0), codes[i + 3 + dy, j + 3 + dx]] += 1
            count = halves.sum()
            halves = np.stack([np.convolve(h, taps, mode="same") / sum(taps) for h in halves])
            both = halves.sum(axis=0)
            distance = ((halves[1] - halves[0]) ** 2)[both > 0] / both[both > 0]
            assert found[i, j] == pytest.approx(0.5 * distance.sum() / count, rel=1e-6)


@pytest.mark.parametrize(("dx", "dy", "degrees"), [(1, 0, 0), (0, 1, 90), (1, 1, 45), (-1, 1, 135)])
def test_a_straight_edge_is_strongest_where_it_is_and_points_across(dx: int, dy: int, degrees: int):
    for scale in edges.boundaries(step(48, 48, dx, dy)):
        assert scale.strength.shape == scale.across.shape == (48, 48)
        along = scale.strength[23:25, 23:25]
        assert along.min() > 0.85 * scale.strength[16:32, 16:32].max()
        np.testing.assert_allclose(np.degrees(scale.across[23:25, 23:25]), degrees, atol=1e-4)
    assert edges.boundaries(step(48, 48, dx, dy))[0].strength[4, 4 if dx >= 0 else -5] == 0


def test_equal_pictures_have_equal_boundaries_when_turned():
    picture = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    upright, turned = (edges.boundaries(p)[0].strength for p in (picture, picture.transpose(1, 0, 2)))
    # the texture's five directions do not map onto themselves
    np.testing.assert_allclose(upright.T, turned, atol=edges.WEIGHTS[3] + 1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 8), (5, 40)])
def test_a_plain_image_of_any_size_has_no_boundaries(shape: tuple[int, int]):
    for scale in edges.boundaries(np.full((*shape, 3), 90, np.uint8)):
        assert scale.strength.shape == shape
        assert scale.strength.max() == 0


def write_model(path: Path) -> Path:
    """A forest of one tree in OpenCV's format: a vertical line where one gradient channel exceeds a threshold."""
    options = {
        "stride": 2, "shrinkNumber": 2, "patchSize": 32, "patchInnerSize": 16, "numberOfGradientOrientations": 4,
        "gradientSmoothingRadius": 0, "regFeatureSmoothingRadius": 2, "ssFeatureSmoothingRadius": 8,
        "gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5, "numberOfTrees": 1,
        "numberOfTreesToEvaluate": 1,
    }  # fmt: skip
    lines = ["%YAML:1.0", "---", "options:", *(f"   {name}: {value}" for name, value in options.items())]
    line = ", ".join(str(16 * y + 8) for y in range(16))
    lines += ["childs: [ 2, 0, 0 ]", f"featureIds: [ {3 * 256 + 8 * 16 + 8}, 0, 0 ]", "thresholds: [ 0.02, 0., 0. ]"]
    lines += ["edgeBoundaries: [ 0, 0, 16, 16 ]", f"edgeBins: [ {line} ]"]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_structured_forest_takes_the_place_of_the_half_discs(tmp_path: Path):
    scales = edges.structured_boundaries(step(48, 64, 1, 0), write_model(tmp_path / "model.yml"))
    assert len(scales) == 3
    for scale in scales:
        assert scale.strength.shape == scale.across.shape == (48, 64)
        assert 0 <= scale.strength.min() < scale.strength.max() <= 1
        assert 0 <= scale.across.min() <= scale.across.max() < np.pi + 1e-6


def test_an_edge_model_that_cannot_be_used_is_refused(tmp_path: Path):
    picture = step(20, 20, 1, 0)
    with pytest.raises(InputError, match="there is no such file; give OpenCV's structured-edge model"):
        edges.structured_boundaries(picture, tmp_path / "none.yml.gz")
    (tmp_path / "bad.yml").write_text("hello")
    with pytest.raises(InputError, match="OpenCV cannot read it"):
        edges.structured_boundaries(picture, tmp_path / "bad.yml")
