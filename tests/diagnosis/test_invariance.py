"""The invariance diagnosis on a backbone whose features are known; against the published formulas, step by step."""

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer.diagnosis import grids, transforms
from whytransfer.diagnosis.invariance import SyntheticInvariance, mean_interval, whitenings
from whytransfer.errors import InputError, RunError
from whytransfer.records import Features

SIZE = 14


class Photos:
    """Noise of unequal sizes, as a PixelCache shows it."""

    name, classes = "photos", ()

    def __init__(self, count=30, seed=0):
        self.rng_seed, self.labels, self.fingerprint = seed, np.full(count, -1), f"photos {count} {seed}"

    def __len__(self):
        return len(self.labels)

    def pixels(self, i):
        rng = np.random.default_rng([self.rng_seed, i])
        return (rng.random((18 + i % 2, 20, 3)) * rng.uniform(60, 255, 3)).astype(np.uint8)


class Colours(nn.Module):
    """Features: mean colour and its mean square, which no shuffling of pixels changes; `last` adds what broke."""

    spec = arch = "colours"

    def __init__(self, last=0.0, moves=False):
        super().__init__()
        self.one, self.last, self.moves, self.calls = nn.Parameter(torch.ones(1)), last, moves, 0

    def forward(self, images):
        self.calls += len(images)
        if self.moves:
            self.one.data += 1
        maps = torch.cat([images, images.square()], dim=1) * self.one
        return Features(maps.mean((2, 3)) + self.last, maps, {"stem": maps[:, :4]})


class Constant(Colours):
    """A collapsed backbone."""

    def forward(self, images):
        found = super().forward(images)
        return Features(found.vector * 0 + 1, found.map, found.stages)


def diagnosis(**options):
    given = {"images": Photos(6, 1), "statistics": Photos(), "size_px": SIZE, "most": 4, "draws": 50} | options
    return SyntheticInvariance(**given)


def by_metric(results):
    return {r.metric: r for r in results}


def test_it_is_the_published_computation():
    asked = diagnosis(transforms=("rotation", "contrast"))
    results, backbone = by_metric(asked.run(Colours())), Colours()
    clean = lambda images, mode="corrected": torch.cat([  # noqa: E731
        transforms.clean(transforms.pictures_of([images.pixels(i)], SIZE, mode, "cpu"), SIZE, mode)
        for i in range(len(images))
    ])  # fmt: skip
    x = backbone(clean(asked.statistics)).vector.detach().double().numpy()
    mean, inverse = x.mean(0), np.linalg.inv(np.cov(x, rowvar=False))
    root, f = np.linalg.cholesky(inverse), backbone(clean(asked.images)).vector.detach().double().numpy()
    for name in asked.names:
        s, d = np.zeros((6, 4)), np.zeros((6, 4))
        for i in range(6):
            picture = transforms.pictures_of([asked.images.pixels(i)], SIZE, "corrected", "cpu")
            views = transforms.transformed(name, picture, grids.grid(name, most=4), SIZE, "corrected")[0]
            g = backbone(views).vector.detach().double().numpy()
            a, b = (mean - f[i]) @ root, (mean - g) @ root
            s[i] = b @ a / np.linalg.norm(b, axis=1) / np.linalg.norm(a)
            d[i] = np.sqrt(np.einsum("jd,de,je->j", g - f[i], inverse, g - f[i]))
        assert results[f"{name} similarity"].value == pytest.approx(s.mean(), rel=0.01)
        assert results[f"{name} distance"].value == pytest.approx(d.mean(), rel=0.01)
        assert results[f"{name} similarity"].provenance["curve"] == pytest.approx(s.mean(0).tolist(), abs=0.01)
        low, high = results[f"{name} similarity"].low, results[f"{name} similarity"].high
        assert (low, high) == pytest.approx(mean_interval(s.mean(1), 50, 0), abs=0.02)


def test_what_features_ignore_is_1_and_0_and_groups_are_means():
    results = by_metric(diagnosis(stages=("vector", "stem")).run(Colours()))
    assert len(results) == 2 * 2 * (18 + 2)
    for name in ("h_flip", "v_flip"):  # the view is the middle of the square, so mirrored it has the same colours
        for at in ("", " at stem"):
            assert results[f"{name} similarity{at}"].value == pytest.approx(1, abs=1e-5)
            assert results[f"{name} distance{at}"].value == pytest.approx(0, abs=1e-3)
    assert results["invert similarity"].value < 0.5 and results["invert distance"].value > 1
    for group, members in grids.GROUPS.items():
        for measure in ("similarity", "distance"):
            mean = np.mean([results[f"{name} {measure}"].value for name in members])
            assert results[f"{group} {measure}"].value == pytest.approx(mean)
    first = results["rotation similarity"]
    assert (first.n, first.unit, first.direction, first.seed) == (6, "cosine", "higher", 0)
    assert first.low <= first.value <= first.high and first.provenance["directions"] == 6
    assert first.provenance["unrelated_distance"] == pytest.approx(np.sqrt(12), abs=1e-3)


def test_mode_paper_has_off_among_its_values_and_takes_pictures_of_any_size():
    results = by_metric(diagnosis(mode="paper", transforms=("h_flip", "invert", "translation"), most=3).run(Colours()))
    invert = results["invert similarity"].provenance["curve"]
    assert invert[0] == pytest.approx(1, abs=1e-6) and len(invert) == 2
    assert results["invert similarity"].value == pytest.approx((1 + invert[1]) / 2, abs=1e-5)
    assert results["invert distance"].provenance["curve"][0] == 0
    assert results["translation similarity"].value < 1


def test_batches_and_pictures_at_a_time_change_nothing():
    one, many = (by_metric(diagnosis(batch=b, transforms=("hue", "deform")).run(Colours())) for b in (1, 64))
    assert {m: r.value for m, r in one.items()} == pytest.approx({m: r.value for m, r in many.items()}, rel=1e-4)


def test_what_is_kept_is_not_computed_again(tmp_path):
    first, backbone = diagnosis(folder=tmp_path, transforms=("hue", "blur")), Colours()
    before = list(first.run(backbone))
    calls, again = backbone.calls, list(first.run(backbone))
    assert backbone.calls == calls and [r.value for r in again] == [r.value for r in before]
    assert again[0].provenance == before[0].provenance
    ticks: list[tuple[int, int]] = []
    more = diagnosis(
        folder=tmp_path, transforms=("hue", "blur", "scale"), progress=lambda done, total: ticks.append((done, total))
    )
    added = by_metric(more.run(backbone))
    assert backbone.calls - calls == 30 + 6 + 6 * 4  # statistics, clean pictures, one transform
    assert added["hue similarity"].value == before[0].value
    assert ticks[-1][0] == ticks[-1][1] and all(a <= b for a, b in zip(ticks, ticks[1:], strict=False))
    kept = np.load(tmp_path / before[0].provenance["predictions"])
    assert kept["similarity_vector"].shape == (6, 4)
    other = diagnosis(folder=tmp_path, transforms=("hue",), images=Photos(6, 2))
    assert list(other.run(backbone))[0].value != before[0].value


def test_few_pictures_are_shrunk_and_it_is_said(capsys):
    results = by_metric(diagnosis(statistics=Photos(5), transforms=("hue",)).run(Colours()))
    assert 0 < results["hue similarity"].provenance["shrinkage"] <= 1
    assert "5 images do not determine the covariance of 6 features" in capsys.readouterr().err


def test_a_broken_backbone_is_refused():
    with pytest.raises(InputError, match="colours, vector: 30 of 30 images have features that are not finite"):
        list(diagnosis(transforms=("hue",)).run(Colours(last=float("nan"))))
    with pytest.raises(InputError, match="colours, vector: all 6 features are the same in all 30 images"):
        list(diagnosis(transforms=("hue",)).run(Constant()))
    with pytest.raises(RunError, match="changed while it was diagnosed"):
        list(diagnosis(transforms=("hue",)).run(Colours(moves=True)))
    with pytest.raises(InputError, match="unknown feature stage 'layer9'"):
        list(diagnosis(transforms=("hue",), stages=("layer9",)).run(Colours()))
    with pytest.raises(InputError, match="no transform to try"):
        diagnosis(transforms=())


def test_one_picture_has_no_interval():
    (hue, *_) = diagnosis(images=Photos(1), transforms=("hue",)).run(Colours())
    assert hue.low is None and hue.high is None and hue.n == 1


def test_the_covariance_takes_a_ridge():
    made = whitenings(Colours(), Photos(), SIZE, ridge=0.5)["vector"]
    plain = whitenings(Colours(), Photos(), SIZE)["vector"]
    assert float(made.matrix.norm()) < float(plain.matrix.norm())
