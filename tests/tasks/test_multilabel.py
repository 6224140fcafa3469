"""Several classes per image: label matrices, average precision by the devkit's loop, one-vs-rest by scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.tasks import bootstrap, logistic, multilabel
from whytransfer.tasks.softmax import OneVsRest

RNG = np.random.default_rng(0)


# ---------------------------------------------------------------- label matrices


def test_the_matrix_of_scenes_is_what_their_samples_show(tmp_path):
    images = open_images("scenes:12:5:32")
    cache = PixelCache.open(images, folder=tmp_path)
    rows = np.array([7, 2, 2, 11])
    for part, positions in ((cache, range(12)), (cache.subset(rows), rows)):
        matrix = multilabel.label_matrix(part)
        for row, i in zip(matrix, positions, strict=True):
            assert set(np.flatnonzero(row)) == set(images[i].box_labels.tolist())


def coco(root, objects):
    """A COCO folder with images of one colour and these (image, category) objects of categories 3 and 9."""
    from PIL import Image

    (root / "train2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 12), (40 * i, 9, 9)).save(root / "train2017" / f"{i}.jpg")
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 12, "width": 16} for i in range(4)],
        "categories": [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c, "bbox": [1, 1, 5, 5], "iscrowd": 0, "area": 25}
            for k, (i, c) in enumerate(objects)
        ],
    }
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return PixelCache.open(open_images(f"coco:{root}"), folder=root / "cache")


def test_the_matrix_of_coco_and_columns_matched_by_name(tmp_path):
    cache = coco(tmp_path, [(0, 3), (0, 3), (1, 9), (3, 3), (3, 9)])
    matrix = multilabel.label_matrix(cache)
    assert matrix.tolist() == [[True, False], [False, True], [False, False], [True, True]]  # by category number
    assert multilabel.matched(matrix, cache, ("cat", "cow", "dog")).T.tolist() == [
        matrix[:, 1].tolist(), [False] * 4, matrix[:, 0].tolist()
    ]  # fmt: skip
    with pytest.raises(InputError, match="has objects of 1 classes that the training set lacks: cat"):
        multilabel.matched(matrix, cache, ("dog",))
    only_dogs = np.stack([matrix[:, 0], np.zeros(4, dtype=bool)], 1)
    assert multilabel.matched(only_dogs, cache, ("dog",)).shape == (4, 1)  # a class without an object is no stranger


def test_the_stratum_of_an_image_is_its_rarest_class():
    present = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 0]], dtype=bool)
    assert multilabel.strata(present).tolist() == [1, 0, 2, 2, 3, 1]


# ---------------------------------------------------------------- average precision


def devkit(present: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Area and eleven points as the VOC devkit computes them, image by image; recalls as fractions of whole numbers."""
    order = np.argsort(-scores)
    found, precision, recall = 0, [], []
    for rank, i in enumerate(order, 1):
        found += int(present[i])
        precision.append(found / rank)
        recall.append(found)
    total = found
    eleven = sum(
        max([p for p, r in zip(precision, recall, strict=True) if 10 * r >= k * total], default=0) for k in range(11)
    )
    p, r = [0.0, *precision, 0.0], [0.0, *(x / total for x in recall), 1.0]
    for k in range(len(p) - 2, -1, -1):
        p[k] = max(p[k], p[k + 1])
    return sum((r[k] - r[k - 1]) * p[k] for k in range(1, len(r))), eleven / 11


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_average_precision_is_the_devkits(share):
    for trial in range(5):
        present = np.random.default_rng(trial).random(60) < share
        scores = RNG.normal(size=60) + present
        area, eleven, _ = multilabel.average_precision(present, scores)
        assert (area[0], eleven[0]) == pytest.approx(devkit(present, scores), rel=1e-12)


def test_eleven_points_from_one_are_those_of_scikit_learns_curve():
    """As ssl-transfer computes them: thresholds of linspace on precision_recall_curve; 7 images avoid its rounding."""
    present = np.zeros(50, dtype=bool)
    present[RNG.permutation(50)[:7]] = True
    for scores in (RNG.normal(size=50), np.where(present, 1.0, 2.0) + 0.1 * RNG.normal(size=50)):
        precision, recall, _ = precision_recall_curve(present, scores)
        expected = np.mean([precision[recall >= t].max() for t in np.linspace(0, 1, 11)])
        assert multilabel.mean_ap(present[:, None], scores[:, None])[0, 2] == pytest.approx(100 * expected)


def test_closed_forms():
    present = np.array([True, True, False, False])
    ranked = np.array([4.0, 3.0, 2.0, 1.0])
    assert [v[0] for v in multilabel.average_precision(present, ranked)] == [1, 1, 1]
    worst = multilabel.average_precision(present, -ranked)  # precisions 1/3 and 1/2, made monotone 1/2 and 1/2
    assert [v[0] for v in worst] == pytest.approx([1 / 2, 1 / 2, 1 / 2])
    tied = multilabel.average_precision(present, np.zeros(4))  # one group: the share of the class
    assert [v[0] for v in tied] == pytest.approx([1 / 2, 1 / 2, 1 / 2])
    assert np.isnan(multilabel.average_precision(~present & present, ranked)[0]).all()
    both = np.stack([present, np.zeros(4, dtype=bool)], 1)  # a class that no image has does not count
    assert multilabel.mean_ap(both, np.stack([ranked, ranked], 1))[0].tolist() == [100, 100, 100]


def test_counts_are_images_given_so_often():
    present, scores = RNG.random((40, 3)) < 0.3, RNG.normal(size=(40, 3)).round(1)  # with ties
    counts = RNG.integers(0, 3, (6, 40)).astype(float)
    for row, values in zip(counts, multilabel.mean_ap(present, scores, counts), strict=True):
        rows = np.repeat(np.arange(40), row.astype(int))
        np.testing.assert_allclose(values, multilabel.mean_ap(present[rows], scores[rows])[0])


def test_intervals_hold_the_value_where_resamples_are_all_higher():
    rng = np.random.default_rng(3)
    present, scores = rng.random((60, 80)) < 0.03, rng.normal(size=(60, 80))
    value = multilabel.mean_ap(present, scores)[0]
    plain = bootstrap.resampled(60, lambda counts: multilabel.mean_ap(present, scores, counts), 100)
    assert (bootstrap.percentiles(plain)[0] > value).all()  # images drawn twice
    low, high = multilabel.intervals(present, scores, draws=100)
    assert ((low < value) & (value < high)).all() and (low >= 0).all()
    np.testing.assert_allclose(high - low, np.diff(bootstrap.percentiles(plain), axis=0)[0])


# ---------------------------------------------------------------- one against the rest


def overlapping(n: int = 240, d: int = 8, classes: int = 3) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d)) * np.geomspace(0.3, 3, d) + 1
    hidden = x @ rng.normal(size=(d, classes)) + 3 * rng.normal(size=(n, classes))
    return torch.from_numpy(x), hidden > [np.quantile(hidden[:, k], q) for k, q in enumerate((0.5, 0.7, 0.85))]


def test_gradient_and_curvature_are_derivatives_of_the_loss():
    x, present = overlapping(30)
    ones = torch.cat([x, torch.ones(30, 1)], 1)
    member = (torch.arange(30)[:, None] % 2 != torch.arange(2)).double()
    problems = OneVsRest(ones, torch.from_numpy(present).double(), member)
    weights = 0.1 * torch.randn(9, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    every = torch.ones(6, dtype=torch.bool)
    (loss, gradient), curvature = problems.evaluate(weights, every), problems.curvature(weights)
    z = ones @ weights[:, 4, 0]  # fold 1, class 1
    losses = torch.nn.functional.binary_cross_entropy_with_logits(z, problems.present[:, 1], reduction="none")
    assert float(loss[4]) == pytest.approx(float(losses[member[:, 1] > 0].mean()))
    for at in ((0, 0, 0), (4, 3, 0), (8, 5, 0)):
        step = torch.zeros_like(weights)
        step[at] = 1e-4
        (up, g_up), (down, g_down) = problems.evaluate(weights + step, every), problems.evaluate(weights - step, every)
        assert float((up - down)[at[1]]) / 2e-4 == pytest.approx(float(gradient[at]), rel=1e-5)
        assert float((g_up - g_down)[at]) / 2e-4 == pytest.approx(float(curvature[at]), rel=1e-4)


def test_the_path_is_scikit_learn_class_by_class_on_the_same_folds():
    x, present = overlapping()
    cs = (1e-3, 1e-2, 0.1)
    fit = multilabel.fit_path(x, present, cs, folds=4, seed=2, tolerance=1e-8, max_iterations=300)
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    fold = logistic.stratified_folds(multilabel.strata(present), 4, 2)
    for i, c in enumerate(cs):
        for f in range(4):
            out = np.zeros((int((fold == f).sum()), 3))
            for k in range(3):
                oracle = LogisticRegression(C=c, tol=1e-9, max_iter=5000).fit(z[fold != f], present[fold != f, k])
                out[:, k] = oracle.decision_function(z[fold == f])
            assert fit.scores[i, f] == pytest.approx(multilabel.mean_ap(present[fold == f], out)[0, 0], abs=0.5)
    assert fit.c == cs[int(fit.scores.mean(1).argmax())] and bool(fit.done.all()) and fit.final_done
    for k in range(3):
        oracle = LogisticRegression(C=fit.c, tol=1e-9, max_iter=5000).fit(z, present[:, k])
        np.testing.assert_allclose(fit.logits(x)[:, k].numpy(), oracle.decision_function(z), atol=5e-3)


def test_a_class_in_no_or_in_all_training_images_is_harmless():
    x, present = overlapping(60)
    wide = np.concatenate([present, np.zeros((60, 1), bool), np.ones((60, 1), bool)], axis=1)
    fit = multilabel.fit_path(x.float(), wide, (1e-2, 1.0))
    logits = fit.logits(x.float())
    assert torch.isfinite(logits).all() and logits[:, 3].max() < 0 < logits[:, 4].min()


def test_refusals():
    x, present = overlapping(20)
    with pytest.raises(InputError, match="no class tells the training images apart"):
        multilabel.fit_path(x, np.ones((20, 2), dtype=bool))
    with pytest.raises(InputError, match="20 of 20 feature vectors are not finite"):
        multilabel.fit_path(x * torch.inf, present)
    with pytest.raises(InputError, match=r"classes \(N, C\), got \(20, 8\) and \(19, 3\)"):
        multilabel.fit_path(x, present[1:])


def test_real_images_of_several_classes(real_data, tmp_path):
    cache = PixelCache.open(open_images(f"coco:{real_data}/coco128:val2017"), max_side_px=32, folder=tmp_path)
    matrix = multilabel.label_matrix(cache)
    assert matrix.shape == (100, 80) and matrix.sum() > 150 and (matrix.sum(1) > 1).mean() > 0.4
