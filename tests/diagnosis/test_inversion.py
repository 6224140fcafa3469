"""The diagnosis of what is kept of a picture: same start for every backbone, scores that pool, resumption, objects."""

import dataclasses

import numpy as np
import pytest
import torch
from test_inverting import Colours

from whytransfer.diagnosis.hourglass import Hourglass
from whytransfer.diagnosis.inversion import Inversion, Inversions, objects_of, ratio, score, viewed
from whytransfer.diagnosis.likeness import recovered
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.records import Sample

NET = Hourglass(channels=(4, 6), kernels=(5, 3), skip=2, noise=4)


def small(**changed):
    settings = {"images": open_images("scenes:3:0:32"), "size_px": 32, "count": 2, "network": NET, "budget": 0.001}
    return Inversion(**{**settings, "draws": 50, **changed})


def pair():
    first, second = Colours(), Colours(2.0)
    first.spec, second.spec = "first", "second"
    return [first, second]


def test_results_of_several_backbones_with_intervals_and_differences():
    seen = []
    task = small(batch=3, previews=3)
    found = list(task.run(pair(), lambda all_: seen.append(all_.made.isnan().any().item())))
    assert task.steps == 3 and len(task.chosen) == 2 and seen[0]  # the second group was not there yet
    assert {r.model for r in found} == {"first", "second"} and len(found) == 18
    table = {(r.model, r.metric): r for r in found}
    coverage = table["second", "coverage"]
    assert coverage.n == 2 and coverage.low <= coverage.value <= coverage.high and coverage.unit == "%"
    assert coverage.provenance["steps"] == 3 and coverage.provenance["steps_of_the_paper"] == 3000
    for metric in {r.metric for r in found}:
        one, other = table["first", metric], table["second", metric]
        difference, low, high = other.provenance["minus_first"]
        assert difference == pytest.approx(other.value - one.value) and low <= difference <= high
        assert "minus_first" not in one.provenance
    each = table["first", "PSNR"].provenance["each"]
    assert table["first", "PSNR"].value == pytest.approx(np.mean(each), abs=1e-5)


def test_every_backbone_starts_alike_and_groups_change_nothing():
    whole = small(batch=8).make(pair())
    parts = small(batch=1).make(pair())
    assert torch.allclose(whole.made, parts.made, atol=1e-3) and torch.allclose(whole.losses, parts.losses, rtol=1e-3)
    same = small().make([Colours(), Colours()])
    assert torch.allclose(same.made[0], same.made[1], atol=1e-4)
    assert not torch.allclose(small(seed=1).make(pair()).made, whole.made, atol=1e-2)


def test_finished_groups_are_not_made_again(tmp_path, monkeypatch):
    task = small(batch=2, folder=tmp_path)
    first = task.make(pair())
    assert sorted(p.name for p in tmp_path.glob("*/*/*")) == ["predictions.npz", "predictions.npz"]
    monkeypatch.setattr("whytransfer.diagnosis.inversion.invert", None)  # calling it would fail
    again = dataclasses.replace(task).make(pair())
    assert torch.equal(again.made, first.made) and torch.equal(again.losses, first.losses)
    with pytest.raises(TypeError):
        dataclasses.replace(task, seed=3).make(pair())


def known_case():
    """Two pictures, the first recovered on its left half, the second not at all; objects on the left of the first."""
    chance = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 3, 12, 12), generator=chance)
    truth = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)
    made = torch.full_like(truth, 0.5)
    made[0, ..., :48] = truth[0, ..., :48]
    left = torch.zeros((96, 96), dtype=torch.bool)
    left[:, :24] = True
    return Inversions(
        ("m",), ("a", "b"), truth, (left, None), made[None], torch.tensor([[[4.0, 1.0]] * 2]), torch.full((1, 2), 2.0)
    )


def test_coverage_pools_places_of_all_pictures_and_of_annotated_objects():
    case = known_case()
    table = {metric: sums for (metric, _, _), sums in score(case, 0).items()}
    structure, there = recovered(case.truth, case.made[0])
    assert ratio(table["coverage"].sum(0)) == pytest.approx(100 * there.sum().item() / structure.sum().item())
    assert table["coverage of objects"][1].tolist() == [0, 0]  # the second picture has no annotation
    assert ratio(table["coverage of objects"].sum(0)) > 98
    assert 10 < ratio(table["coverage of background"].sum(0)) < 50
    assert ratio(table["feature error left"].sum(0)) == 50  # the last loss is half of the mean square
    assert table["hue error"][1].tolist() == [0, 0]  # grey: no hue, so it does not count


def test_objects_follow_the_view():
    image = torch.zeros((3, 40, 80), dtype=torch.uint8)
    masks = torch.zeros((2, 40, 80), dtype=torch.bool)
    masks[0, :20, :40] = True
    inside = objects_of(Sample(image, "x", masks=masks), 32)
    painted = np.zeros((40, 80, 3), dtype=np.uint8)
    painted[:20, :40] = 255
    assert torch.equal(inside, viewed(painted, 32)[0] > 0.5) and 0.2 < inside.float().mean() < 0.3
    boxes = torch.tensor([[0.0, 0.0, 40.0, 20.0]])
    assert torch.equal(objects_of(Sample(image, "x", boxes=boxes), 32), inside)
    assert objects_of(Sample(image, "x"), 32) is None


def test_the_view_is_the_published_one():
    """224 of the middle of a shorter side of 256, so one pixel in eight is left out at each end in all."""
    picture = np.zeros((256, 320, 3), dtype=np.uint8)
    picture[16:-16, 48:-48] = 255
    assert viewed(picture, 224).shape == (3, 224, 224) and viewed(picture, 224).min() == 1


def test_what_is_too_small_is_said():
    with pytest.raises(InputError, match="inversion of 20 px is too small .* give a size of 32 px or more"):
        small(size_px=20)
    task = small(images=open_images("scenes:2:0:20"))
    assert task.enlarged() == ["0000000 (20 x 20 px)", "0000001 (20 x 20 px)"]
    assert all(np.isfinite(r.value) for r in task.run([Colours()]))  # enlarged to 32 px, and defined
    with pytest.raises(InputError, match="--budget is the share of the 3,000 steps"):
        small(budget=0.0)
    with pytest.raises(InputError, match="an inversion needs an image or more: 3 are there, 0 asked for"):
        small(count=0)
