"""The landmark task: its head and schedule as published, its loop written out, its scores by the formula."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import tv_tensors

from whytransfer.backbones import fingerprint, load_backbone
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.keypoints import KeypointTable, keypoint_table
from whytransfer.records import Features, Sample
from whytransfer.tasks import TASKS, landmarks, predictions
from whytransfer.tasks.fitting import Schedule, batch_of
from whytransfer.tasks.landmarks import SCHEDULES, Head, Landmarks, Net, eyes_told, scores
from whytransfer.views.engine import eval_views


class Blurred(nn.Module):
    """A backbone whose map is the image at 4 x 4, through weights and a batch norm that could move."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1, bias=False)
        self.mix.weight.data = torch.eye(3)[..., None, None].clone()
        self.norm = nn.BatchNorm2d(3)
        self.spec, self.arch = "toy:blurred", "toy"

    def forward(self, images):
        last = self.norm(self.mix(F.adaptive_avg_pool2d(images, 4)))
        return Features(last.mean((2, 3)), last, {"layer1": self.mix(F.adaptive_avg_pool2d(images, 2))})


class Spots:
    """A spot of light on black; its landmarks are its middle and the mirror of it, which nothing shows."""

    classes, labelled_with = (), ("keypoints",)

    def __init__(self, count, seed=0, points=2, eyes=False):
        self.name, self.labels, self.seed, self.points = f"spots-{seed}", np.full(count, -1), seed, points
        self.annotations_of_eyes = eyes

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x, y = np.random.default_rng([self.seed, i]).uniform(4, 12, 2)
        at = torch.arange(16) + 0.5
        light = torch.exp(-((at[None] - x).square() + (at[:, None] - y).square()) / 8)
        marks = [[x, y], [16 - x, y], [3.0, 4.0]][: self.points]
        image = (255 * light).to(torch.uint8).expand(3, 16, 16)
        return Sample(image.contiguous(), str(i), keypoints=tv_tensors.KeyPoints([marks], canvas_size=(16, 16)))

    def fingerprint(self):
        return f"{self.name} {len(self)} {self.points}"


def cached(*args, **settings):
    return PixelCache.open(Spots(*args, **settings))


def by_metric(results):
    return {r.metric: r for r in results}


def test_the_head_and_the_schedule_are_the_published_ones():
    head = Head((2048, 7, 7), torch.zeros(10), torch.ones(10))
    assert sum(p.numel() for p in head.parameters()) == 2048 * 128 + 2 * 128 + 6272 * 10 + 10
    assert [type(layer).__name__ for layer in head.layers] == [
        "Conv2d",
        "BatchNorm2d",
        "LeakyReLU",
        "Flatten",
        "Linear",
    ]
    asked = SCHEDULES["mafl"]
    assert (asked.batch, asked.lr, round(asked.iterations * 128 / 19_000)) == (128, 0.02, 200)
    task = Landmarks(cached(300), cached(4, 1), 16, budget=0.5, fit_batch=64)
    full, scaled = task._schedules()
    assert full.iterations == round(200 * 300 / 128) and (scaled.iterations, scaled.lr) == (469, 0.01)


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_the_fit_is_torchs_sgd_written_out(mode):
    train, test, toy = cached(20), cached(6, 1), Blurred().eval().requires_grad_(False)
    toy.norm.running_mean += 0.1
    task = Landmarks(train, test, 16, mode=mode, budget=0.02, fit_batch=8, lr=0.01)
    _, schedule = task._schedules()
    predicted, summary = task._fitted(toy, schedule, None, 3)
    steps = schedule.iterations
    assert steps == 10 == summary["schedule"]["iterations"]  # 2 % of 200 epochs of 20 images, in batches of 8

    head = task._head(toy, 3)
    net = Net(copy.deepcopy(toy), head, None).requires_grad_(True)
    net.backbone.requires_grad_(mode == "finetune")
    parameters = [p for p in net.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(parameters, 0.01, 0.9)
    truth = torch.from_numpy(keypoint_table(train, 16).points).flatten(1)
    mean, std = truth.mean(0), truth.std(0, correction=0)
    for t in range(steps):
        net.train()
        net.backbone.train(mode == "finetune")
        sgd.param_groups[0]["lr"] = 0.005 * (1 + np.cos(np.pi * t / steps))
        index, _ = batch_of(3, t, 20, 8)
        out = head.layers(net.backbone(eval_views([train.pixels(i) for i in index], 16)).map)
        sgd.zero_grad()
        F.smooth_l1_loss(out, (truth[index] - mean) / std).backward()
        sgd.step()
    net.eval()
    with torch.no_grad():
        theirs = net(eval_views([test.pixels(i) for i in range(6)], 16)).reshape(6, 2, 2)
    np.testing.assert_allclose(predicted, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_spot_is_found_and_the_callers_backbone_stays(mode, tmp_path):
    train, test, toy = cached(120), cached(40, 1), Blurred().eval().requires_grad_(False)
    before = fingerprint(toy)
    task = TASKS["landmarks"](train, test, size_px=16, mode=mode, fit_batch=16, lr=0.01, budget=0.25, folder=tmp_path)
    found = by_metric(task.run(toy, 1))
    assert list(found) == ["error_diagonal", "r2"] and fingerprint(toy) == before and not toy.training
    assert not any(p.requires_grad for p in toy.parameters())
    result = found["error_diagonal"]
    assert result.value < 4 and result.low <= result.value <= result.high and found["r2"].value > 0.85
    assert result.task == ("landmarks" if mode == "finetune" else "landmarks-frozen") and result.n == 40
    told = json.loads(result.to_json())["provenance"]
    assert told["weights_sha256"] == before and told["mode"] == mode and "25 % of the images" in told["scaled_down"]
    kept = predictions.read(tmp_path, told["predictions"])
    errors = np.linalg.norm(kept["predicted"] - kept["truth"], axis=2).mean(1)
    assert result.value == pytest.approx(100 * errors.mean() / (16 * 2**0.5), rel=1e-4)
    again = by_metric(task.run(toy, 1))["error_diagonal"]  # the fit is finished: it is read, not made again
    assert again.value == result.value and again.provenance["fit_seconds"] == result.provenance["fit_seconds"]


def test_frozen_maps_are_the_same_held_or_made_again(monkeypatch):
    train, test, toy = cached(30), cached(7, 1), Blurred().eval().requires_grad_(False)
    settings = dict(mode="frozen", budget=0.1, fit_batch=8, batch=4)
    held = by_metric(Landmarks(train, test, 16, **settings).run(toy))
    monkeypatch.setattr(landmarks, "MAPS_BYTES", 0)
    again = by_metric(Landmarks(train, test, 16, **settings).run(toy))
    assert again["r2"].value == held["r2"].value
    other = by_metric(Landmarks(train, test, 16, **settings, stage="layer1").run(toy))
    assert other["r2"].value != held["r2"].value and other["r2"].provenance["stage"] == "layer1"
    with pytest.raises(InputError, match="unknown feature stage 'layer9'"):
        list(Landmarks(train, test, 16, **settings, stage="layer9").run(toy))


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_killed_fit_ends_as_an_unbroken_one(mode, tmp_path, monkeypatch):
    train, test, toy = cached(20), cached(6, 1), Blurred().eval().requires_grad_(False)
    settings = dict(size_px=16, mode=mode, budget=0.1, fit_batch=8)
    whole = by_metric(Landmarks(train, test, **settings).run(toy))
    monkeypatch.setattr("whytransfer.tasks.fitting.SAVE_EVERY_S", 0)
    real_fit = landmarks.fit

    def dying(module, batch_at, *args, **more):
        def batch(t):
            if t == 17:
                raise RuntimeError("killed")
            return batch_at(t)

        return real_fit(module, batch, *args, **more, save_every_s=0)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(landmarks, "fit", dying)
        list(Landmarks(train, test, **settings, folder=tmp_path).run(toy))
    assert len(list(tmp_path.glob("landmarks-*/checkpoint.pt"))) == 1
    resumed = by_metric(Landmarks(train, test, **settings, folder=tmp_path).run(toy))
    assert resumed["error_diagonal"].value == whole["error_diagonal"].value
    assert resumed["r2"].low == whole["r2"].low


def test_what_an_error_is_divided_by_is_told():
    points = np.zeros((1, 68, 2), np.float32)
    assert eyes_told(KeypointTable(points, 64, None)) == "the diagonal of the view"
    assert eyes_told(KeypointTable(points, 64, ((0,), (1,)))) == "the distance between points 0 and 1"
    told = eyes_told(KeypointTable(points, 64, (tuple(range(36, 42)), tuple(range(42, 48)))))
    assert "means of points 36 to 41 and of points 42 to 47 (inter-pupil" in told


def test_scores_by_the_formula():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 60, (9, 5, 2))
    predicted = truth + rng.normal(0, 2, truth.shape)
    truth[2, 4] = np.nan  # a missing point does not count
    truth[5, 1] = np.nan  # a missing eye: no distance to measure by
    truth[7, 1] = truth[7, 0]  # nor for eyes in one place
    table = KeypointTable(truth.astype(np.float32), 64, ((0,), (1,)))
    errors = []
    for i in (0, 1, 2, 3, 4, 6, 8):
        known = [k for k in range(5) if not np.isnan(truth[i, k, 0])]
        total = sum(np.hypot(*(predicted[i, k] - truth[i, k])) for k in known) / len(known)
        errors.append(100 * total / np.hypot(*(truth[i, 0] - truth[i, 1])))
    found = {m: (unit, n, float(s(t.sum(0))), more) for m, unit, _, n, (t, s), more in scores(truth, predicted, table)}
    assert found["error_inter_ocular"][1:3] == (7, pytest.approx(np.mean(errors), rel=1e-5))
    assert found["error_inter_ocular"][3] == {"images_without_error": 2}
    for limit in (8, 10):
        assert found[f"failures_over_{limit}"][2] == pytest.approx(100 * np.mean(np.array(errors) > limit))
    whole = [i for i in range(9) if i not in (2, 5)]
    y, f = truth[whole].reshape(7, 10), predicted[whole].reshape(7, 10)
    r2 = 1 - ((y - f) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert found["r2"][1:3] == (7, pytest.approx(r2.mean()))
    with pytest.raises(InputError, match="no test image has a known landmark and a distance between its eyes"):
        list(scores(truth[5:6], predicted[5:6], KeypointTable(table.points[5:6], 64, table.eyes)))


def test_missing_points_neither_count_in_the_loss_nor_spoil_it():
    head = Head((3, 2, 2), torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 1, 2, 2]))
    truth = torch.tensor([[1.0, 2, 5, 8], [2, 2, torch.nan, torch.nan]])
    predicted = torch.tensor([[2.0, 2, 3, 4], [2, 5, 77, 77]], requires_grad=True)
    loss = head.loss(predicted, truth)
    assert loss.item() == pytest.approx((0.5 + 0 + 0.5 + 1.5 + 0 + 2.5) / 6)  # quadratic up to 1, then linear
    loss.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[1, 2:].tolist() == [0, 0]


def test_points_that_never_move_are_learnt_as_constants():
    train, test, toy = cached(20, points=3), cached(6, 1, points=3), Blurred().eval()
    found = by_metric(Landmarks(train, test, 16, mode="frozen", budget=0.02, fit_batch=8).run(toy))
    assert found["r2"].provenance["targets"] == 4 and found["r2"].value == pytest.approx(found["r2"].value)


def test_refusals(photos):
    train, test = cached(8), cached(4, 1)
    with pytest.raises(InputError, match="unknown mode of landmarks 'freeze'. Did you mean 'frozen'"):
        Landmarks(train, test, 16, mode="freeze")
    with pytest.raises(InputError, match="unknown schedule of landmarks '300w'. Known: mafl"):
        Landmarks(train, test, 16, schedule="300w")
    with pytest.raises(InputError, match="needs a --fit-batch of 2 or more"):
        Landmarks(train, test, 16, fit_batch=1)
    with pytest.raises(InputError, match="training images have 2 landmarks and the test images 3"):
        Landmarks(train, cached(4, 1, points=3), 16)
    with pytest.raises(InputError, match="a table of landmarks needs landmarks, and photos is labelled with class"):
        Landmarks(PixelCache.open(open_images(str(photos))), test, 16)


def test_a_fusion_of_real_backbones_on_scenes():
    train, test = (PixelCache.open(open_images(f"scenes:{count}:{seed}:16")) for count, seed in ((12, 0), (6, 1)))
    backbone = load_backbone("random:resnet18-small:1+random:resnet18-small:2")
    before = fingerprint(backbone)
    (error, r2) = Landmarks(train, test, 16, budget=0.01, fit_batch=12, draws=50).run(backbone)
    assert fingerprint(backbone) == before and error.metric == "error_diagonal" and error.value > 0
    assert error.provenance["schedule"]["iterations"] == 2
    assert isinstance(SCHEDULES["mafl"], Schedule) and r2.n == 6
