"""The tasks detection and instances: what they yield and keep, resumed bit for bit, and what they refuse."""

import dataclasses
import os
import signal
import sys
from functools import partial

import pytest
import torch
from thin import Changed, Thin, with_boxes
from torch import nn

from whytransfer import progress
from whytransfer.backbones import fingerprint
from whytransfer.backbones.fused import Fused
from whytransfer.errors import InputError
from whytransfer.images.scenes import Scenes
from whytransfer.images.subsets import subset
from whytransfer.tasks import TASKS, detection, reads_annotations, settings_of
from whytransfer.tasks.average_precision import Coco
from whytransfer.tasks.detection import SCHEDULES, Detection, add_truth, as_results, optimizer, renew_norms
from whytransfer.tasks.detection_data import AnnotatedImages
from whytransfer.tasks.detectors import build
from whytransfer.tasks.fitting import Schedule

TRAIN, TEST = Scenes(4, 0, 64), Scenes(3, 1, 64)
SHORT = {"size_px": 64, "schedule": "voc07", "budget": 2.8e-5, "fit_batch": 2, "draws": 20}  # 2 iterations
BOX = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]


def said_by(monkeypatch):
    notes = []
    monkeypatch.setattr(progress, "say", notes.append)
    return notes


def test_the_published_schedules():
    full = {
        name: (s.iterations, s.batch, s.lr, s.warmup) for name, s in ((n, r.schedule) for n, r in SCHEDULES.items())
    }
    assert full == {
        "voc07": (9_000, 16, 0.02, 100),
        "voc0712": (24_000, 16, 0.02, 100),
        "coco-1x": (90_000, 16, 0.02, 1000),
        "coco-12ep": (88_715, 16, 0.02, 1000),
        "coco-24ep": (177_430, 16, 0.02, 1000),
        "detcon-12": (22_500, 64, 0.3, 500),
        "detcon-24": (45_000, 64, 0.3, 500),
    }
    drops = {name: [t for t in range(1, r.schedule.iterations) if r.schedule.lr_at(t) < 0.2 * r.schedule.lr_at(t - 1)]
             for name, r in SCHEDULES.items() if name in ("voc07", "voc0712", "coco-1x", "detcon-12")}  # fmt: skip
    assert drops == {
        "voc07": [6_000, 8_000],
        "voc0712": [18_000, 22_000],
        "coco-1x": [60_000, 80_000],
        "detcon-12": [15_000, 20_000],
    }
    assert SCHEDULES["detcon-12"].schedule.lr_at(0) == pytest.approx(0.0067)
    assert {r.schedule.weight_decay for r in SCHEDULES.values()} == {1e-4, 4e-5}


def test_they_are_tasks_on_annotated_sets():
    for name in ("detection", "instances"):
        assert reads_annotations(name)
        asked = {"mode", "architecture", "schedule", "budget", "fit_batch", "lr", "folder"}
        assert asked <= settings_of(name) and "masks" not in settings_of(name)
    assert TASKS["instances"](TRAIN, TEST, size_px=64).schedule == "coco-1x"
    assert TASKS["detection"](TRAIN, TEST, size_px=64).schedule == "voc07"
    assert TASKS["detection"](TRAIN, TEST, size_px=64, schedule="detcon-24").architecture == "fpn"


@pytest.mark.parametrize(("masks", "architecture", "mode"), [(True, "fpn", "finetune"), (False, "c4", "frozen")])
def test_results_are_scored_on_what_is_kept(tmp_path, masks, architecture, mode):
    backbone = Thin()
    before = fingerprint(backbone)
    task = Detection(TRAIN, TEST, masks=masks, architecture=architecture, mode=mode, folder=tmp_path, **SHORT)
    results = list(task.run(backbone, seed=0))
    assert fingerprint(backbone) == before and not any(p.requires_grad for p in backbone.parameters())
    names = [r.metric for r in results]
    others = [f"mask_{m}" for m in BOX] if masks else ["voc07_AP", "voc07_AP50", "voc07_AP75", "voc_AP50"]
    assert set(names) <= {f"box_{m}" for m in BOX} | set(others) and {"box_AP", others[0]} <= set(names)
    for r in results:
        assert (r.task, r.n, r.unit, r.model) == ("instances" if masks else "detection", 3, "%", "thin:0")
        assert 0 <= r.low <= r.high <= 100 and r.provenance["frozen"] == (mode == "frozen")
    said = results[0].provenance
    assert said["scale"] == 64 / 800 and said["train_images"] == 4 and said["weights_sha256"] == before
    truth, found = (tmp_path / said[key] for key in ("truth", "predictions"))
    kept = Coco(truth, found).values | (
        {f"mask_{k}": v for k, v in Coco(truth, found, "masks").values.items()} if masks else {}
    )
    for r in results:
        if not r.metric.startswith("voc"):
            assert r.value == kept[r.metric.removeprefix("box_")]


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    task = partial(Detection, TRAIN, TEST, masks=True, **{**SHORT, "budget": 5.6e-5})
    whole = list(task(folder=tmp_path / "whole").run(Thin(), seed=1))
    ours = detection._loss

    def killing(*arguments):
        loss_of = ours(*arguments)

        def loss(batch):
            if batch[0] == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return loss_of(batch)

        return loss

    monkeypatch.setattr(detection, "_loss", killing)
    with pytest.raises(KeyboardInterrupt):
        list(task(folder=tmp_path / "killed").run(Thin(), seed=1))
    monkeypatch.setattr(detection, "_loss", ours)
    resumed = list(task(folder=tmp_path / "killed").run(Thin(), seed=1))
    assert [(r.metric, r.value, r.low, r.high) for r in whole] == [(r.metric, r.value, r.low, r.high) for r in resumed]
    for key in ("predictions", "truth"):
        texts = [
            (tmp_path / way / r[0].provenance[key]).read_bytes() for way, r in (("whole", whole), ("killed", resumed))
        ]
        assert texts[0] == texts[1]
    other = list(task(folder=tmp_path / "whole").run(Thin(), seed=2))
    assert other[0].provenance["predictions"] != whole[0].provenance["predictions"]
    assert other[0].provenance["loss_first"] != whole[0].provenance["loss_first"]


@pytest.mark.slow
def test_training_finds_objects():
    """Four images in training and in testing: what was learnt is found again."""
    images = Scenes(4, 0, 64)
    task = Detection(images, images, 64, fit_batch=2, draws=5, lr=0.05, budget=600 / 144_000)
    found = {r.metric: r for r in task.run(Thin(width=16), seed=0)}
    assert found["box_AP50"].value > 15 and found["box_AP50"].high > 30
    assert found["box_AP"].provenance["loss_last"] < 0.3 * found["box_AP"].provenance["loss_first"]


def test_a_fusion_and_large_scale_jitter():
    task = Detection(TRAIN, TEST, masks=True, **{**SHORT, "schedule": "detcon-12", "budget": 1.4e-6})
    results = list(task.run(Fused([Thin(1), Thin(2, width=2)]), seed=0))
    assert results[0].provenance["sizes"]["jitter"] == (0.8, 1.25) and results[0].provenance["scale"] == 1 / 16
    assert results[0].provenance["precise_norm_batches"] == 0


def change(sample, i):
    if i == 0:
        return with_boxes(sample, torch.zeros(0, 4), box_labels=sample.box_labels[:0], masks=sample.masks[:0])
    boxes = torch.as_tensor(sample.boxes).clone()
    boxes[0, 2] = 99 if i == 1 else boxes[0, 0]
    return with_boxes(sample, boxes)


def test_what_is_wrong_with_the_images_is_said(monkeypatch):
    notes = said_by(monkeypatch)
    images = Changed(4, change=change)
    task = Detection(images, subset(images, [3, 0]), **SHORT)
    said = list(task.run(Thin(), seed=0))[0].provenance
    text = "\n".join(notes)
    for part in (
        "note: schedule voc07: 2 iterations of 2 images, 0.00278 % of the images",
        "images of 64 px where voc07 has 800: sizes in training, anchors and numbers of regions are scaled by 0.08",
        "changed: 1 boxes reached outside their image and were clipped",
        "changed: 2 objects without area",
        "1 training images have no object and are not shown; test images without objects are",
        "2 of 2 test images are training images too: the scores flatter",
    ):
        assert part in text
    assert (said["train_images"], said["train_images_without_objects"], said["test_images_in_train"]) == (3, 1, 2)
    assert said["boxes_clipped"] == [1, 0] and said["objects_dropped"] == [2, 1]


def test_nothing_to_learn_or_to_find():
    none = Changed(2, change=lambda s, i: change(s, 0))
    with pytest.raises(InputError, match="changed: none of its 2 images has an object, so nothing can be learnt"):
        list(Detection(none, TEST, **SHORT).run(Thin(), seed=0))
    with pytest.raises(InputError, match="changed: none of its 2 images has an object, so nothing can be found"):
        list(Detection(TRAIN, none, **SHORT).run(Thin(), seed=0))


def test_a_missing_scorer_is_named_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match=r"pip install 'whytransfer\[detection\]'"):
        Detection(TRAIN, TEST, **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "voc7"}, "unknown schedule of a detector 'voc7'. Did you mean 'voc07'"),
        ({"architecture": "fnp"}, "unknown detector 'fnp'"),
        ({"architecture": "c4", "schedule": "detcon-12"}, "schedule detcon-12 is one of fpn, not of c4"),
        ({"mode": "thaw"}, "unknown mode 'thaw'"),
        ({"size_px": 16}, "images of 32 px or more, --size is 16"),
        ({"budget": 2.0}, "over 0 and at most 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        list(Detection(TRAIN, TEST, **{**SHORT, **options}).run(Thin(), seed=0))


def test_norms_never_decay_and_biases_as_the_schedule_says():
    model = build("c4", Thin(), 3)
    norms = sum(2 * m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    biases = sum(p.numel() for n, p in model.named_parameters() if n.endswith("bias")) - norms // 2
    schedule = Schedule(10, 2, 0.02, weight_decay=1e-4)
    decayed, free = optimizer(model, schedule).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-4, 0)
    assert sum(p.numel() for p in free["params"]) == norms
    _, free = optimizer(model, dataclasses.replace(schedule, decay_biases_and_norms=False)).param_groups
    assert sum(p.numel() for p in free["params"]) == norms + biases


def test_renewed_statistics_are_means_over_batches():
    norm = nn.BatchNorm2d(2)
    batches = [torch.randn(4, 2, 3, 3) * k + k for k in range(1, 5)]
    loss_of = lambda batch: norm(batch).sum()  # noqa: E731
    norm(torch.randn(4, 2, 3, 3))
    renew_norms(norm, (loss_of, iter(batches)))
    torch.testing.assert_close(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    variance = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches]).mean(0)
    torch.testing.assert_close(norm.running_var, variance)
    assert norm.momentum == 0.1
    before = norm.running_mean.clone()
    renew_norms(norm, (loss_of, iter([])))  # none asked: they stay
    assert torch.equal(norm.running_mean, before)


def test_ground_truth_and_results_in_cocos_form():
    objects = AnnotatedImages(TEST, TEST.box_classes, True, "a test")[0]
    truth = {"images": [], "annotations": [], "categories": []}
    add_truth(truth, objects, 5)
    assert truth["images"] == [{"id": 5, "file_name": "0000000", "height": 64, "width": 64}]
    for item, box, mask in zip(truth["annotations"], objects.boxes.tolist(), objects.masks, strict=True):
        x, y, w, h = item["bbox"]
        assert [x, y, x + w, y + h] == box and item["area"] == int(mask.sum())
    found = {"boxes": objects.boxes, "scores": torch.linspace(1, 0.5, len(objects.boxes)), "labels": objects.labels}
    results = as_results({**found, "masks": objects.masks[:, None].float()}, 5)
    for item, known in zip(results, truth["annotations"], strict=True):
        assert all(item[key] == known[key] for key in ("image_id", "category_id", "bbox", "segmentation"))
    assert "segmentation" not in as_results(found, 5)[0]


def test_crowds_and_difficult_objects_reach_the_ground_truth():
    objects = AnnotatedImages(TEST, TEST.box_classes, False, "a test")[0]
    flags = torch.arange(len(objects.boxes)).numpy() % 2 == 1
    truth = {"images": [], "annotations": [], "categories": []}
    add_truth(truth, objects, 1, flags, [{"category_id": 2, "bbox": [0, 0, 9, 9], "area": 50}])
    assert [item.get("difficult") for item in truth["annotations"]] == [*flags.astype(int), None]
    assert truth["annotations"][-1] == {
        "category_id": 2, "bbox": [0, 0, 9, 9], "area": 50, "id": len(flags) + 1, "image_id": 1, "iscrowd": 1,
    }  # fmt: skip
