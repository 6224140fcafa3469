"""Segmentation: published recipes by their numbers, losses by loops, and a toy set that every head learns."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from dense_toys import Blocks, Narrow
from PIL import Image
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from whytransfer.backbones import fingerprint
from whytransfer.backbones.dilated import dilated
from whytransfer.backbones.fused import Fused
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.records import Features, Sample
from whytransfer.tasks import TASKS, predictions, reads_annotations, settings_of
from whytransfer.tasks.dense_net import DenseNet
from whytransfer.tasks.fitting import fit
from whytransfer.tasks.segmentation import CROPS, SCHEDULES, Crops, Segmentation, cross_entropy
from whytransfer.tasks.segmentation_heads import ARCHITECTURES, deeplab_heads, fcn_heads

SMALL = {"budget": 60 / 30_000 / 4, "fit_batch": 4, "lr": 0.02, "draws": 50}  # 60 steps of voc-30k


def test_the_published_recipes():
    assert set(SCHEDULES) == set(CROPS) and {a.schedule for a in ARCHITECTURES.values()} <= set(SCHEDULES)
    street = SCHEDULES["cityscapes-40k"]
    assert (street.iterations, street.batch, street.lr, street.weight_decay) == (40_000, 8, 0.01, 5e-4)
    assert street.lr_at(20_000) == pytest.approx(0.01 * 0.5**0.9)
    voc = SCHEDULES["voc-30k"]
    assert [voc.lr_at(t) for t in (0, 20_999, 21_000, 27_000)] == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    assert voc.iterations * voc.batch / 10_582 == pytest.approx(45, abs=0.5)  # "about 45 epochs"
    long = SCHEDULES["cityscapes-160ep"]
    assert long.iterations * long.batch == 160 * 2975 and long.lr_at(112 * 186) == pytest.approx(0.004)
    assert CROPS["cityscapes-40k"] == Crops((512, 1024), (0.5, 2), 0.75, True)
    assert CROPS["voc-30k"].size == (513, 513) and CROPS["cityscapes-160ep"].size == (769, 769)
    assert all(s.momentum == 0.9 for s in SCHEDULES.values())
    assert (ARCHITECTURES["deeplab"].output_stride, ARCHITECTURES["fcn"].output_stride) == (8, 16)


def test_smaller_crops_shrink_the_dilations_and_say_so():
    images = Blocks()
    full = Segmentation(images, images, size_px=1024)
    assert full.recipe[3].size == (512, 1024) and full.rates() == (12, 24, 36) and full._told() == ""
    small = Segmentation(images, images, size_px=128, budget=0.5)
    assert small.recipe[3].size == (128, 256) and small.rates() == (3, 6, 9)
    assert small._told() == (
        "20,000 iterations of 8 images, 50 % of the images of the full schedule (40,000 of 8); learning rate 0.01 "
        "(0.01 in full); crops of 128 x 256 px (512 x 1024 in full), dilations of the head 3/6/9 (12/24/36 in full)"
    )
    assert Segmentation(images, images, size_px=48, architecture="fcn").rates() == (1, 1)
    assert Segmentation(images, images, 64, schedule="voc-30k").recipe[3].size == (64, 64)


def features_of(channels=2048, layer3=1024):
    return Features(torch.zeros(1, channels), torch.zeros(1, channels, 8, 8), {"layer3": torch.zeros(1, layer3, 8, 8)})


def test_deeplabs_head_is_the_recipes():
    main, auxiliary = deeplab_heads(features_of(), 19, (12, 24, 36))
    pyramid, dropout, classifier = main.layers
    spread = [m for m in pyramid.convs.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.kernel_size[0], c.dilation[0]) for c in spread] == [(1, 1), (3, 12), (3, 24), (3, 36), (1, 1)]
    assert {c.out_channels for c in spread} == {512} and pyramid.project[0].weight.shape == (512, 2560, 3, 3)
    assert dropout.p == 0.1 and not [m for m in pyramid.modules() if isinstance(m, nn.Dropout)]
    assert classifier.weight.shape == (19, 512, 1, 1)
    published = FCNHead(1024, 19)
    assert str(auxiliary.layers) == str(published) and published[0].out_channels == 256 and published[3].p == 0.1
    with pytest.raises(InputError, match="stands on layer3; this backbone has stages.0"):
        deeplab_heads(Features(torch.zeros(1, 4), torch.zeros(1, 4, 2, 2), {"stages.0": torch.zeros(1)}), 2, (1, 1, 1))


def test_fcns_head_is_two_dilated_convolutions_and_a_classifier():
    main, auxiliary = fcn_heads(features_of(3), 5, (6, 6))
    assert auxiliary is None
    main.eval()
    x = torch.rand(1, 3, 30, 30, requires_grad=True)
    out = main(dataclasses.replace(features_of(3), map=x))
    assert out.shape == (1, 5, 30, 30)
    out[0, 0, 15, 15].backward()
    seen = x.grad[0].abs().sum(0).nonzero().unique(dim=0)
    assert sorted({int(y) for y, _ in seen}) == [3, 9, 15, 21, 27]  # two dilations of 6 to each side
    shapes = [tuple(p.shape) for p in main.parameters() if p.ndim > 1]
    assert shapes == [(256, 3, 3, 3), (256, 256, 3, 3), (5, 256, 1, 1)]


def test_the_loss_is_the_mean_over_pixels_that_have_a_class():
    chance = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 5, generator=chance), torch.randint(0, 3, (2, 4, 5), generator=chance)
    labels[0, :2], labels[1, 3, 4] = 255, 255
    terms = [
        math.log(sum(math.exp(v) for v in logits[b, :, y, x])) - float(logits[b, labels[b, y, x], y, x])
        for b in range(2) for y in range(4) for x in range(5) if labels[b, y, x] != 255
    ]  # fmt: skip
    assert float(cross_entropy(logits, labels)) == pytest.approx(np.mean(terms), rel=1e-5)
    logits.requires_grad_()
    empty = cross_entropy(logits, torch.full((2, 4, 5), 255))
    empty.backward()
    assert float(empty.detach()) == 0 and (logits.grad == 0).all()


def toy_task(**options):
    train, test = Blocks(12, 0), Blocks(7, 1, sizes_differ=True)
    return Segmentation(train, test, **{"size_px": 48, "architecture": "fcn", **SMALL, **options})


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_a_toy_set_is_learned_and_the_callers_backbone_stays(mode, tmp_path):
    backbone, told = Narrow(), []
    before = fingerprint(backbone)
    task = toy_task(mode=mode, folder=tmp_path, progress=lambda done, n: told.append((done, n)), maps=3)
    results = list(task.run(backbone, seed=0))
    assert fingerprint(backbone) == before and not any(p.requires_grad for p in backbone.parameters())
    by_metric = {r.metric: r for r in results}
    assert list(by_metric) == [
        "mean_iou", "mean_accuracy", "overall_accuracy", "iou of red", "iou of green", "iou of blue",
    ]  # fmt: skip
    first = by_metric["mean_iou"]
    assert first.value > 60 and first.low < first.value < first.high and (first.n, first.unit) == (7, "%")
    assert told[-1] == (7, 7) and [n for n, _ in told] == [2, 3, 5, 6, 7]
    said = first.provenance
    assert said["frozen"] == (mode == "frozen") and said["crop_px"] == [48, 48] and said["paper_crop_px"] == [513, 513]
    assert said["weights_sha256"] == before and said["schedule"]["iterations"] == 60 and said["map_of_a_crop"] == [3, 3]
    assert said["test_images_in_train"] == 0
    kept = predictions.read(tmp_path, said["predictions"])
    valid = [int((task.test[i].semantic != 255).sum()) for i in range(7)]
    assert kept["confusion"].sum((1, 2)).tolist() == valid and kept["classes"].tolist() == ["red", "green", "blue"]
    folder = tmp_path / said["predictions"].partition("/")[0] / "maps"
    assert sorted(p.name for p in folder.iterdir()) == ["000.png", "003.png", "006.png"]
    found, truth = np.asarray(Image.open(folder / "003.png")), task.test[3].semantic.numpy()
    assert np.trace(kept["confusion"][3]) == ((found == truth) & (truth != 255)).sum()
    again = {r.metric: r.value for r in task.run(backbone, seed=0)}  # from the finished fit
    assert again == {m: r.value for m, r in by_metric.items()}


def test_deeplab_learns_it_and_a_killed_run_equals_an_unbroken_one(tmp_path, monkeypatch):
    options = {"architecture": "deeplab", "schedule": "voc-30k", "budget": 3 / 30_000 / 8, "fit_batch": 2}
    whole = {r.metric: r.value for r in toy_task(**options).run(Narrow())}
    monkeypatch.setattr("whytransfer.tasks.dense_net.fit", partial(fit, save_every_s=0))
    broken = toy_task(**options, folder=tmp_path)
    crop, calls = Segmentation._crop, []

    def dying(self, i, *rest):
        calls.append(i)
        if len(calls) == 5:
            raise RuntimeError("killed")
        return crop(self, i, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Segmentation, "_crop", dying)
        with pytest.raises(RuntimeError, match="killed"):
            list(broken.run(Narrow()))
    assert len(list(tmp_path.glob("segmentation-*/checkpoint.pt"))) == 1
    assert {r.metric: r.value for r in broken.run(Narrow())} == whole


def test_a_test_image_is_classified_as_a_whole_whatever_stands_beside_it():
    task = toy_task(budget=1 / 30_000 / 4)
    net_results = [list(dataclasses.replace(task, batch=batch).run(Narrow())) for batch in (1, 3)]
    assert [r.value for r in net_results[0]] == pytest.approx([r.value for r in net_results[1]], abs=0.5)


def test_a_fusion_is_segmented_by_its_concatenated_maps():
    both = Fused([Narrow(0), Narrow(1)])
    assert dilated(both, 16)(torch.zeros(1, 3, 48, 64)).map.shape == (1, 128, 3, 4)
    results = list(toy_task(budget=2 / 30_000 / 4).run(both))
    assert results[0].model == "narrow+narrow" and math.isfinite(results[0].value)


def test_scenes_have_label_maps_painted_from_their_masks():
    train, test = open_images("scenes:4:0:48"), open_images("scenes:3:1:48")
    task = Segmentation(train, test, 48, architecture="fcn", **{**SMALL, "budget": 1 / 30_000 / 4})
    assert task.classes[0] == "background" and len(task.classes) == 1 + len(train.box_classes)
    assert list(task.run(Narrow()))[0].metric == "mean_iou"


class Strange(Blocks):
    def __getitem__(self, i: int) -> Sample:
        sample = super().__getitem__(i)
        sample.semantic[5, 5:8] = torch.tensor([7, 3, 9], dtype=torch.uint8)
        return sample


def test_refusals(monkeypatch):
    images = Blocks()
    with pytest.raises(InputError, match="unknown segmentation architecture 'deeplap'. Did you mean 'deeplab'"):
        Segmentation(images, images, 48, architecture="deeplap")
    with pytest.raises(InputError, match="unknown segmentation schedule 'voc30k'. Did you mean 'voc-30k'"):
        Segmentation(images, images, 48, schedule="voc30k")
    with pytest.raises(InputError, match="unknown mode 'thawed'"):
        Segmentation(images, images, 48, mode="thawed")
    other = Blocks()
    other.semantic_classes = ("red", "green")
    with pytest.raises(InputError, match="same classes of pixels in one order: blocks:12:0 has red, green, blue; .*"):
        Segmentation(images, other, 48)
    bare = Blocks()
    bare.labelled_with = ()
    with pytest.raises(InputError, match="segmentation needs label maps or masks, and blocks:12:0 is not labelled"):
        Segmentation(images, bare, 48)
    with pytest.raises(InputError, match="blocks:12:0: the label map of 00.* has pixels of class 3, 7, 9; .* 0 to 2"):
        list(Segmentation(Strange(), images, 48, architecture="fcn", **SMALL).run(Narrow()))
    monkeypatch.setattr("whytransfer.tasks.segmentation.fit_dense", None)  # the test set is looked at before that
    with pytest.raises(InputError, match="blocks:12:0: the label map of 00.* has pixels of class 3, 7, 9"):
        list(Segmentation(images, Strange(), 48, architecture="fcn", **SMALL).run(Narrow()))
    with pytest.raises(InputError, match="cannot trade stride for dilation"):
        list(toy_task().run(nn.Linear(1, 1)))
    with pytest.raises(InputError, match="batch norm needs two values per channel"):
        list(toy_task(architecture="deeplab", fit_batch=1).run(Narrow()))


def test_the_command_finds_it():
    assert TASKS["segmentation"] is Segmentation and reads_annotations("segmentation")
    assert {"mode", "schedule", "budget", "fit_batch", "lr", "architecture", "folder"} <= settings_of("segmentation")


def test_camvid_is_cut_and_read(real_data):
    train, test = (open_images(f"camvid:{real_data / 'camvid'}:{split}") for split in ("train", "val"))
    task = Segmentation(train, test, 64, draws=10)
    batch = task._batch(_net(), task.recipe[3], 4, 0, _Here(), 0)
    assert batch[0].shape == (4, 3, 64, 128) and batch[1].shape == (4, 64, 128)
    assert set(batch[1].unique().tolist()) <= {*range(11), 255} and 0 <= batch[0].min() < batch[0].max() <= 1


def _net() -> DenseNet:
    return DenseNet(Narrow(), lambda f: fcn_heads(f, 3, (1, 1)), "finetune", 0, torch.device("cpu"))


class _Here:
    """A pool that works where it is."""

    map = staticmethod(map)
