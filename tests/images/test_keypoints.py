"""Landmarks in the view that a backbone sees: torchvision's own geometry as the oracle, points outside, bad sets."""

import numpy as np
import pytest
import torch
from miniatures import celeba_landmarks, landmarks_csv
from torchvision import tv_tensors
from torchvision.transforms import v2

from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.images.keypoints import KeypointTable, in_view, keypoint_table, require_keypoints
from whytransfer.views.engine import eval_views


@pytest.mark.parametrize(("size_px", "resize_px"), [(16, None), (16, 18), (7, 8), (33, 40)])
@pytest.mark.parametrize("size", [(20, 20), (31, 20), (20, 47), (5, 8)])
def test_points_go_where_torchvision_puts_them(size, size_px, resize_px):
    points = torch.tensor([[0.0, 0.0], [3.25, 4.5], [size[1], size[0]], [7.0, 1.0]])
    marks = tv_tensors.KeyPoints(points[None], canvas_size=size)
    moved = v2.functional.resize(marks, [resize_px or size_px])
    high, wide = moved.canvas_size
    top, left = round((high - size_px) / 2), round((wide - size_px) / 2)
    mine = in_view(points.numpy()[None].astype(float), *[np.array([size])] * 2, size_px, resize_px)[0]
    np.testing.assert_allclose(mine, (moved[0] - torch.tensor([left, top])).numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (48, 48)])
@pytest.mark.parametrize("side", [None, 24])
def test_a_bright_spot_is_where_its_landmark_says(size, side):
    """Pixels through the real cache and view: the centre of a spot of light is the landmark, wherever it is."""

    class Spots:
        name, classes, labels = "spots", (), np.full(4, -1)

        def __len__(self):
            return 4

        def __getitem__(self, i):
            from whytransfer.records import Sample

            image = torch.zeros(3, *size, dtype=torch.uint8)
            x, y = size[1] // 2 - 8 + 5 * i, size[0] // 2 + 6 - 4 * i
            image[:, y - 2 : y + 2, x - 2 : x + 2] = 255
            return Sample(image, str(i), keypoints=tv_tensors.KeyPoints([[[x, y]]], canvas_size=size))

        def fingerprint(self):
            return f"spots {size}"

    images = Spots()
    cache = PixelCache.open(images, max_side_px=side)
    views = eval_views([cache.pixels(i) for i in range(4)], 16, 18).mean(1)
    at = torch.arange(16) + 0.5
    light = views.sum((1, 2))
    centre = torch.stack([(views.sum(1) * at).sum(1) / light, (views.sum(2) * at).sum(1) / light], dim=1)
    points = keypoint_table(cache, 16, 18).points[:, 0]
    np.testing.assert_allclose(points, centre.numpy(), atol=0.12)
    parts = np.array([2, 0, 2])
    assert np.array_equal(keypoint_table(cache.subset(parts), 16, 18).points[:, 0], points[parts])
    np.testing.assert_allclose(keypoint_table(subset(images, parts), 16, 18).points[:, 0], points[parts], atol=0.5)


def test_of_scenes_the_main_object():
    images = open_images("scenes:5:3:32")
    table = keypoint_table(images, 16)
    assert table.points.shape == (5, 5, 2) and table.eyes is None and table.missing == 0
    for i in range(5):
        np.testing.assert_allclose(table.points[i], images[i].keypoints[0].numpy() / 2, atol=1e-5)
    with pytest.raises(InputError, match="have no eyes: an inter-ocular distance is for faces of 5 or 68 points"):
        table.eye_distances()


def test_points_outside_and_missing_ones_are_kept_counted_and_said(tmp_path):
    lines = ["a.png,8,6,0,0,3,3,8,6,,4", "b.png,8,6,1,2,nan,1,4,3,5,5"]
    images = open_images(f"landmarks:{landmarks_csv(tmp_path, lines)}")
    table = keypoint_table(images, 6)
    assert np.isnan(table.points[0, 3]).all() and np.isnan(table.points[1, 1]).all() and table.missing == 2
    np.testing.assert_allclose(table.points[0, :3], [[-1, 0], [2, 3], [7, 6]])
    assert table.outside == 2
    assert table.note("x") == "x: of 8 landmarks 2 are missing and 2 lie outside the square view and are kept"
    whole = KeypointTable(np.full((2, 4, 2), 3, np.float32), 6, None)
    assert whole.note("x") == "" and whole.outside == whole.missing == 0


def test_the_distance_of_the_eyes_is_that_of_the_means():
    points = np.zeros((2, 68, 2), np.float32)
    points[:, 36:42], points[:, 42:48] = [1, 2], [4, 6]
    points[:, 36] += 6  # the mean of six moves by 1
    points[1, 40] = np.nan
    eyes = tuple(range(36, 42)), tuple(range(42, 48))
    distances = KeypointTable(points, 10, eyes).eye_distances()
    assert distances[0] == pytest.approx(np.hypot(2, 3)) and np.isnan(distances[1])


def test_landmarks_are_read_without_decoding_an_image(tmp_path, monkeypatch):
    images = open_images(f"celeba-landmarks:{celeba_landmarks(tmp_path)}")
    cache = PixelCache.open(images, max_side_px=4)
    monkeypatch.setattr("whytransfer.images.folder.decode", lambda *_: pytest.fail("an image was decoded"))
    table = keypoint_table(cache, 4)
    assert table.points.shape == (4, 5, 2) and table.eyes == ((0,), (1,))
    np.testing.assert_allclose(table.eye_distances(), 4 * 5 / 8, rtol=1e-5)  # 8 x 6 px became 5 x 4


def test_sets_without_landmarks_or_with_those_of_another_release_are_refused(tmp_path, photos):
    for images in (open_images(str(photos)), open_images(str(photos / "cat"))):
        with pytest.raises(InputError, match="--task x needs landmarks, and .*labelled.*: choose a set that has them"):
            require_keypoints(images, "--task x")
    root = landmarks_csv(tmp_path, ["a.png,16,6,0,0", "b.png,8,6,1,1"])
    cache = PixelCache.open(open_images(f"landmarks:{root}"))
    with pytest.raises(InputError, match="landmarks of image 0 are for 16 x 6 px, .* its 8 x 6 px: .*same source"):
        keypoint_table(cache, 4)


def test_faces_of_real_videos(real_data):
    images = open_images(f"landmarks:{real_data / 'faces68'}:test")
    table = keypoint_table(images, 64)
    assert table.points.shape == (350, 68, 2) and table.missing == 0
    assert 10 < np.median(table.eye_distances()) < 30 and table.outside < 0.02 * 350 * 68
