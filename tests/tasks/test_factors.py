"""Continuous targets: factors of parts of a set, landmarks in pixels of the view, and what cannot be read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.records import Sample
from whytransfer.tasks.factors import factor_targets, landmark_targets, targets_of
from whytransfer.views import eval_views


class Faces:
    """Black pictures of unequal sizes with white blocks of 5 x 5 pixels around their landmarks."""

    name, classes, labels = "faces", (), np.full(3, -1)

    def __init__(self, points=None):
        self.sizes = [(60, 90), (84, 48), (50, 50)]
        self.points = points or [
            [[40.5, 20.5], [50.5, 40.5]],
            [[20.5, 40.5], [30.5, 50.5]],
            [[12.5, 12.5], [30.5, 20.5]],
        ]

    def __len__(self):
        return len(self.points)

    def pixels(self, i, only=None):
        picture = np.zeros((*self.sizes[i], 3), dtype=np.uint8)
        for x, y in self.points[i][slice(only, None if only is None else only + 1)]:
            picture[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = 255
        return picture

    def __getitem__(self, i):
        points = None if self.points[i] is None else torch.tensor([self.points[i]])
        shape = (3, *self.sizes[i])
        return Sample(torch.zeros(shape, dtype=torch.uint8), f"face{i}.png", keypoints=points)


@pytest.mark.parametrize(("size_px", "resize_px"), [(40, None), (32, 44)])
def test_landmarks_are_where_the_view_shows_them(size_px, resize_px):
    faces = Faces()
    targets = landmark_targets(faces, size_px, resize_px)
    assert targets.names == ("x0", "y0", "x1", "y1") and targets.kind == "landmarks"
    grid = torch.arange(size_px) + 0.5
    for i in range(3):
        for point in range(2):
            view = eval_views([faces.pixels(i, point)], size_px, resize_px)[0, 0]
            centre = [float(view.sum(axis) @ grid / view.sum()) for axis in (0, 1)]
            assert targets.table[i, 2 * point : 2 * point + 2] == pytest.approx(centre, abs=0.3)


def test_landmarks_in_files_of_their_own_need_no_image(monkeypatch):
    faces = Faces()
    expected = landmark_targets(faces, 40).table

    class Files:
        def read(self, i, want):
            return SimpleNamespace(size=faces.sizes[i], keypoints=np.array([faces.points[i]]))

    faces.annotations, faces.labelled_with = Files(), ("keypoints",)
    monkeypatch.setattr(Faces, "__getitem__", lambda *_: pytest.fail("an image was decoded"))
    np.testing.assert_allclose(landmark_targets(faces, 40).table, expected)


def test_factors_of_a_part_are_those_of_its_images(tmp_path):
    images = open_images("scenes:20:3:16")
    cache, rows = PixelCache.open(images, folder=tmp_path), np.array([7, 2, 2])
    whole = factor_targets(cache)
    np.testing.assert_array_equal(whole.table, images.factor_table())
    np.testing.assert_array_equal(factor_targets(cache.subset(rows)).table, whole.table[rows])
    assert whole.names == tuple(images.factor_names) and set(whole.groups) == {"pose", "colour"}
    points = targets_of(cache.subset(rows), 16, kind="landmarks")
    expected = np.stack([images[int(i)].keypoints[0].numpy().reshape(-1) for i in rows])
    np.testing.assert_allclose(points.table, expected, atol=1e-5)  # seen whole and at its own size
    assert targets_of(cache, 16).kind == "factors"


def test_refusals():
    with pytest.raises(InputError, match="faces: image face1.png has no landmarks"):
        targets_of(Faces([[[1.0, 2.0]], None, [[1.0, 2.0]]]), 16)
    with pytest.raises(InputError, match="faces: image 2 lacks landmark 1, one of 1 that are missing: leave such"):
        targets_of(Faces([[[1.0, 2.0]] * 2, [[1.0, 2.0]] * 2, [[1.0, 2.0], [float("nan"), 1.0]]]), 16)
    with pytest.raises(InputError, match="images have 1 to 2 landmarks: all must have as many"):
        targets_of(Faces([[[1.0, 2.0]], [[1.0, 2.0]] * 2, [[1.0, 2.0]]]), 16)
    with pytest.raises(InputError, match="faces has no latent factors"):
        targets_of(Faces(), 16, kind="factors")
