"""Our detectors beside torchvision's with the same weights, beside written-out losses, and what frozen means."""

import math

import pytest
import torch
from thin import Thin
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.roi_heads import RoIHeads

from whytransfer.backbones import build as build_backbone
from whytransfer.backbones import fingerprint
from whytransfer.backbones.fused import Fused
from whytransfer.errors import InputError
from whytransfer.tasks import detectors
from whytransfer.tasks.detectors import Counts, anchors_px, backbone_of, build, detect, training


def images_and_targets(count=2, side=64, objects=(2, 1), classes=3):
    torch.manual_seed(5)
    images = [torch.rand(3, side, side + 16) for _ in range(count)]
    targets = []
    for n in objects[:count]:
        corner = torch.rand(n, 2) * side / 2
        boxes = torch.cat([corner, corner + 8 + torch.rand(n, 2) * side / 3], 1)
        masks = torch.zeros(n, side, side + 16, dtype=torch.uint8)
        for mask, (x, y, x1, y1) in zip(masks, boxes.round().int().tolist(), strict=True):
            mask[y:y1, x:x1] = 1
        labels = torch.randint(1, classes + 1, (n,))
        targets.append({"boxes": boxes, "labels": labels, "masks": masks})
    return images, targets


def seeded(model, *arguments):
    torch.manual_seed(3)
    return model(*arguments)


def test_fpn_equals_torchvisions_mask_rcnn():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = detectors._fpn(build_backbone("resnet18"), 4, True, True, 1.0, False, norm=None)
        theirs = MaskRCNN(
            resnet_fpn_backbone(
                backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
            ),
            4, min_size=64, max_size=200, rpn_post_nms_top_n_train=1000, _skip_resize=True,  # which would draw
        )  # fmt: skip
    state = {k.replace("backbone.body.trunk.", "backbone.body."): v for k, v in ours.state_dict().items()}
    theirs.load_state_dict(state)  # strict: the structure is the same
    images, targets = images_and_targets()
    found = seeded(ours.train(), images, targets), seeded(theirs.train(), images, targets)
    assert set(found[0]) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])
        assert found[0][name] > 0
    for losses in found:
        sum(losses.values()).backward()
    gradients = {k.replace("backbone.body.trunk.", "backbone.body."): p.grad for k, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        expected = theirs.eval()([images[0]])[0]
    result = detect(ours, images[0], (64, 80))
    assert len(result["boxes"]) == len(expected["boxes"]) > 0
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, rtol=1e-3, atol=1e-3)


def test_c4_has_the_published_parts_and_nothing_else():
    backbone = build_backbone("resnet50")
    model = build("c4", backbone, 20, masks=True)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    rpn = 1024 * 1024 * 9 + 1024 + 15 * (1024 + 1) + 60 * (1024 + 1)
    boxes = 2 * 2048 + 21 * (2048 + 1) + 84 * (2048 + 1)  # the extra batch norm, classes, boxes
    mask = 2048 * 256 * 4 + 256 + 21 * (256 + 1)
    assert count(model.rpn) == rpn and count(model) == count(backbone) + rpn + boxes + mask
    heads = model.roi_heads
    assert heads.pool.output_size == (14, 14) and heads.pool.spatial_scale == 1 / 16 and heads.pool.aligned
    assert isinstance(heads.norm, nn.BatchNorm2d) and heads.norm.num_features == 2048
    assert heads.rules.fg_bg_sampler.batch_size_per_image == 512 and heads.rules.detections_per_img == 100
    assert model.rpn._pre_nms_top_n == {"training": 12_000, "testing": 6_000}
    assert model.rpn._post_nms_top_n == {"training": 2_000, "testing": 1_000}
    assert model.rpn.anchor_generator.sizes == ((32, 64, 128, 256, 512),)
    assert all(p.requires_grad for p in model.parameters()) and all(m.training for m in model.modules())
    with torch.no_grad():
        maps = heads.eval().regions({"0": torch.randn(1, 1024, 4, 5)}, [torch.tensor([[0.0, 0, 40, 30]] * 2)])
    assert maps.shape == (2, 2048, 7, 7)


def test_c4_losses_are_torchvisions_on_the_same_proposals():
    model = build("c4", Thin(), 3, masks=True)
    heads = model.roi_heads
    for module in heads.modules():  # torchvision runs layer4 again on the foreground: equal when norms hold still
        if isinstance(module, nn.BatchNorm2d):
            module.eval()

    class Pool(nn.Module):
        def forward(self, features, boxes, shapes):
            return heads.pool(features["0"], boxes)

    region, mean = nn.Sequential(heads.last, heads.norm), nn.AdaptiveAvgPool2d(1)
    theirs = RoIHeads(
        Pool(), nn.Sequential(region, mean, nn.Flatten()), heads.box, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100,
        Pool(), region, heads.mask,
    )  # fmt: skip
    images, targets = images_and_targets()
    features = {"0": torch.randn(2, 8, 8, 10)}
    proposals = [torch.cat([t["boxes"] + 2, torch.rand(9, 4) * 20 + torch.tensor([0, 0, 25, 25])]) for t in targets]
    shapes = [(64, 80)] * 2
    _, ours = seeded(heads, features, proposals, shapes, targets)
    _, expected = seeded(theirs, features, proposals, shapes, targets)
    assert set(ours) == set(expected) == {"loss_classifier", "loss_box_reg", "loss_mask"}
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)
    for part in (heads, theirs):
        part.eval()
    with torch.no_grad():
        (one, *_), (other, *_) = heads(features, proposals, shapes)[0], theirs(features, proposals, shapes)[0]
    for name, value in other.items():
        torch.testing.assert_close(one[name], value)


@pytest.mark.parametrize("architecture", ["c4", "fpn"])
def test_frozen_trains_heads_alone_and_finetune_everything(architecture):
    backbone = Thin()
    before = fingerprint(backbone)
    images, targets = images_and_targets()
    for mode in ("frozen", "finetune"):
        model = build(architecture, backbone, 3, masks=True, mode=mode, scale=0.1)
        parts = backbone_of(model)
        start = fingerprint(parts)
        loss = sum(model(images, targets).values())
        loss.backward()
        inside = {id(p) for p in parts.parameters()}
        moved = {name for name, p in model.named_parameters() if p.grad is not None}
        trained = {name for name, p in model.named_parameters() if mode == "finetune" or id(p) not in inside}
        unused = {name for name in trained - moved if not name.startswith("backbone")}
        assert moved <= trained and not unused
        norms = [m for m in parts.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == 4 and all(m.training == (mode == "finetune") for m in norms)
        assert (fingerprint(parts) == start) == (mode == "frozen")  # statistics move when they are trained
        assert model.training and (architecture == "fpn" or model.roi_heads.norm.training)
    assert fingerprint(backbone) == before and not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("architecture", ["c4", "fpn"])
def test_images_without_objects_and_detections_inside_the_image(architecture):
    model = build(architecture, Fused([Thin(1), Thin(2, width=2)]), 3, masks=True, scale=0.1)
    images, targets = images_and_targets(objects=(1, 0))
    losses = model(images, targets)
    assert all(math.isfinite(x.item()) for x in losses.values())
    assert all(math.isfinite(x.item()) for x in model(images[1:], targets[1:]).values())
    result = detect(model, images[0], (128, 160))
    assert len(result["boxes"]) > 0 and result["masks"].shape[1:] == (1, 128, 160)
    assert (result["boxes"] >= 0).all() and (result["boxes"].max(0).values <= torch.tensor([160, 128] * 2)).all()
    assert (result["scores"].diff() <= 0).all() and set(result["labels"].tolist()) <= {1, 2, 3}
    model.roi_heads.eval()
    heads = getattr(model.roi_heads, "rules", model.roi_heads)
    heads.score_thresh = 2.0  # nothing is found
    empty = detect(model, images[0], (64, 80))
    assert len(empty["boxes"]) == 0 and empty["masks"].shape == (0, 1, 64, 80)


def test_images_are_normalised_once_and_padded_with_the_mean_colour():
    backbone = Thin().normalise_with((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    model = build("c4", backbone, 3, mode="frozen")
    images, _ = images_and_targets(1)
    batch, _ = model.transform.train()(images)
    expected = torch.tensor([0.5, 0.4, 0.3])[:, None, None].repeat(1, 64, 96)
    expected[:, :, :80] = images[0]
    with torch.no_grad():
        torch.testing.assert_close(model.backbone(batch.tensors)["0"], backbone(expected[None]).stages["layer3"])


def test_smaller_images_scale_anchors_and_regions():
    assert anchors_px(1) == (32, 64, 128, 256, 512) and anchors_px(0.01) == (2, 2, 2, 2.56, 5.12)
    assert Counts((12_000, 2_000), (6_000, 1_000)).scaled(0.25) == Counts((12_000, 500), (6_000, 250), roi_samples=128)
    assert Counts((9, 8), (7, 6)).scaled(1) == Counts((9, 8), (7, 6))
    assert Counts((9_000, 2_000), (7_000, 1_000)).scaled(0.01) == Counts((9_000, 200), (7_000, 200), roi_samples=64)


def test_new_weights_follow_the_seed_and_leave_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = (build("fpn", Thin(), 3, seed=s) for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert fingerprint(one) == fingerprint(two) != fingerprint(other)


def test_bf16_is_near_and_outputs_are_float32():
    images, targets = images_and_targets()
    for architecture in ("c4", "fpn"):
        exact, rough = (build(architecture, Thin(), 3, bf16=b, seed=1) for b in (False, True))
        one, other = seeded(exact, images, targets), seeded(rough, images, targets)
        for name in one:
            assert other[name].dtype == torch.float32 and abs(one[name] - other[name]) < 0.1 * one[name] + 0.05


def test_bf16_where_it_pays(monkeypatch):
    for has in (True, False):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda has=has: has, raising=False)
        assert detectors.bf16_pays("c4", torch.device("cpu")) == has
        assert not detectors.bf16_pays("fpn", torch.device("cpu"))


def test_batch_norm_is_shared_by_all_processes_where_there_are_some(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    kinds = {type(m) for m in build("fpn", Thin(), 3).modules()}
    assert nn.SyncBatchNorm in kinds and nn.BatchNorm2d not in kinds
    assert nn.SyncBatchNorm not in {type(m) for m in build("c4", Thin(), 3, mode="frozen").modules()}


def test_training_mode_spares_what_is_frozen():
    model = build("fpn", Thin(), 3, mode="frozen").eval()
    assert training(model).training and not model.backbone.body.trunk.training and model.backbone.fpn.training


def test_refusals():
    with pytest.raises(InputError, match="unknown detector 'c5'. Did you mean 'c4'"):
        build("c5", Thin(), 3)
    with pytest.raises(InputError, match="unknown mode 'freeze'"):
        build("c4", Thin(), 3, mode="freeze")
    with pytest.raises(InputError, match="one class or more, got 0"):
        build("c4", Thin(), 0)
