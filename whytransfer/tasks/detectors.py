"""Faster and Mask R-CNN around any of our backbones, from torchvision's parts: ResNet-C4 and FPN.

c4: proposals from the map of layer3, layer4 as the head of every region with one batch norm more behind it, as MoCo's
detectron2 configuration has it (Res5ROIHeadsExtraNorm) [He 2020, appendix; Ren 2015; He 2017].
fpn: a feature pyramid with batch norm, two fully connected layers for boxes, four convolutions for masks
[Lin 2017; the detection model of Cloud TPU that DetCon uses].

Nothing is frozen in mode "finetune", and every batch norm is trained; in mode "frozen" the backbone (layer4 in c4 too)
stays as it is and only what is new is trained. Losses are torchvision's: smooth L1 with beta 1/9 where detectron2 takes
L1 and the TPU model Huber with 1 on regions; batch norm keeps PyTorch's momentum and eps (TPU: 0.003 and 1e-4).

Shape letters: B images, P regions of all images, K classes with the background (0), C channels.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference, maskrcnn_loss
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, RoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from whytransfer.backbones.dense import normalised_outside, split, stages_of
from whytransfer.errors import InputError, unknown_name
from whytransfer.memory import has_bf16

ANCHORS_PX = (32, 64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
LEVELS = ("layer1", "layer2", "layer3", "layer4")
MODES = ("finetune", "frozen")


@dataclass(frozen=True)
class Counts:
    """How many proposals an image has before and after suppression, how many are sampled, and how many found."""

    train: tuple[int, int]
    test: tuple[int, int]
    rpn_samples: int = 256
    roi_samples: int = 512
    detections: int = 100

    def scaled(self, scale: float) -> Counts:
        """For images of another side: regions of training and testing in proportion, 64 and 200 at least."""
        if scale >= 1:
            return self
        train, test = (
            (before, min(after, max(200, round(after * scale)))) for before, after in (self.train, self.test)
        )
        samples = min(self.roi_samples, max(64, round(self.roi_samples * scale)))
        return Counts(train, test, self.rpn_samples, samples, self.detections)


COUNTS = {  # detectron2's R50-C4; the TPU model's FPN, numbers before suppression are per level there
    "c4": Counts(train=(12_000, 2_000), test=(6_000, 1_000)),
    "fpn": Counts(train=(2_000, 1_000), test=(1_000, 1_000)),
}


class Body(nn.Module):
    """Named maps of a backbone, in float32; in bfloat16 inside where that is asked for."""

    def __init__(self, trunk: nn.Module, names: Sequence[str], bf16: bool, out_channels: int) -> None:
        super().__init__()
        self.trunk, self.names, self.bf16, self.out_channels = trunk, tuple(names), bf16, out_channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 3, H, W), normalised -> maps under "0", "1", ... as torchvision's detectors name them."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            stages = self.trunk(images).stages
        return OrderedDict((str(i), stages[name].float()) for i, name in enumerate(self.names))


class Pyramid(nn.Module):
    """A body and the feature pyramid on it, P2 to P6."""

    def __init__(self, body: Body, fpn: FeaturePyramidNetwork, out_channels: int) -> None:
        super().__init__()
        self.body, self.fpn, self.out_channels = body, fpn, out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> maps "0" to "3" and "pool"."""
        return self.fpn(self.body(images))


class C4Heads(nn.Module):
    """Boxes and masks from regions of the map of layer3: layer4, a batch norm, the mean over places, two linear layers.

    Masks are read off the same layer4 output, of the foreground regions alone in training [detectron2, Res5ROIHeads].
    """

    def __init__(self, last: nn.Module, map_stride: int, channels: int, classes: int, masks: bool, counts: Counts):
        super().__init__()
        self.pool = RoIAlign((14, 14), 1 / map_stride, sampling_ratio=0, aligned=True)
        self.last, self.norm = last, nn.BatchNorm2d(channels)
        self.box = FastRCNNPredictor(channels, classes)
        nn.init.normal_(self.box.cls_score.weight, std=0.01)
        nn.init.normal_(self.box.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.box.cls_score.bias)
        nn.init.zeros_(self.box.bbox_pred.bias)
        self.mask = MaskRCNNPredictor(channels, 256, classes) if masks else None
        rules = (0.5, 0.5, counts.roi_samples, 0.25, None, 0.05, 0.5, counts.detections)
        self.rules = RoIHeads(None, None, None, *rules)
        self.bf16 = False

    def regions(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Maps (P, C, 7, 7) of the boxes of all images."""
        x = self.pool(features["0"], boxes)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            x = self.last(x)
        return self.norm(x.float())

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """(detections, losses), one of them empty: as torchvision's RoIHeads."""
        if self.training:
            return [], self.losses(features, proposals, targets)
        logits, deltas = self.box(self.regions(features, proposals).mean((2, 3)))
        found = self.rules.postprocess_detections(logits, deltas, proposals, image_shapes)
        results = [dict(zip(("boxes", "scores", "labels"), parts, strict=True)) for parts in zip(*found, strict=True)]
        if self.mask is not None:
            logits = self.mask(self.regions(features, found[0]))
            for result, masks in zip(results, maskrcnn_inference(logits, found[2]), strict=True):
                result["masks"] = masks
        return results, {}

    def losses(
        self, features: dict[str, Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> dict[str, Tensor]:
        """Of sampled proposals against the targets of their images."""
        boxes, matched, labels, goals = self.rules.select_training_samples(proposals, targets)
        maps = self.regions(features, boxes)
        logits, deltas = self.box(maps.mean((2, 3)))
        losses = dict(
            zip(("loss_classifier", "loss_box_reg"), fastrcnn_loss(logits, deltas, labels, goals), strict=True)
        )
        if self.mask is not None and targets is not None:
            there = [label > 0 for label in labels]
            ours = [box[t] for box, t in zip(boxes, there, strict=True)]
            theirs = [match[t] for match, t in zip(matched, there, strict=True)]
            known = [t["masks"] for t in targets], [t["labels"] for t in targets]
            losses["loss_mask"] = maskrcnn_loss(self.mask(maps[torch.cat(there)]), ours, *known, theirs)
        return losses


def build(
    architecture: str,
    backbone: nn.Module,
    classes: int,
    *,
    masks: bool = False,
    mode: str = "finetune",
    scale: float = 1.0,
    bf16: bool = False,
    seed: int = 0,
) -> GeneralizedRCNN:
    """A detector of `classes` classes (without the background) on a copy of the backbone, in training mode.

    `scale` is the side of images over that of the paper: anchors and numbers of regions shrink with it. What is new is
    initialised by the seed. Called with a list of (3, H, W) images in [0, 1] and torchvision's targets it gives losses;
    `detect` gives detections. InputError for another architecture or mode, or a backbone that it cannot stand on.
    """
    if architecture not in BUILDERS:
        raise unknown_name("detector", architecture, BUILDERS)
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if classes < 1:
        raise InputError(f"a detector needs one class or more, got {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = BUILDERS[architecture](backbone, classes + 1, masks, mode == "finetune", min(scale, 1.0), bf16)
    if mode == "finetune" and torch.distributed.is_available() and torch.distributed.is_initialized():
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return training(model.to(next(backbone.parameters()).device))


def _c4(backbone: nn.Module, classes: int, masks: bool, trained: bool, scale: float, bf16: bool) -> GeneralizedRCNN:
    stages, counts = stages_of(backbone, ["layer3", "layer4"]), COUNTS["c4"].scaled(scale)
    trunk, last = split(backbone)
    for part in (trunk, last):
        part.requires_grad_(trained)
    mean_std = normalised_outside(trunk)
    c3, stride = stages["layer3"].channels, stages["layer3"].stride
    anchors = AnchorGenerator((anchors_px(scale),), (RATIOS,))
    rpn = RegionProposalNetwork(
        anchors, RPNHead(c3, len(ANCHORS_PX) * len(RATIOS)), 0.7, 0.3, counts.rpn_samples, 0.5,
        dict(zip(("training", "testing"), (counts.train[0], counts.test[0]), strict=True)),
        dict(zip(("training", "testing"), (counts.train[1], counts.test[1]), strict=True)), 0.7,
    )  # fmt: skip
    heads = C4Heads(last, stride, stages["layer4"].channels, classes, masks, counts)
    heads.bf16 = bf16
    transform = GeneralizedRCNNTransform(1, 1, *mean_std, _skip_resize=True)  # images come resized
    return GeneralizedRCNN(Body(trunk, ["layer3"], bf16, c3), rpn, heads, transform)


def _fpn(
    backbone: nn.Module,
    classes: int,
    masks: bool,
    trained: bool,
    scale: float,
    bf16: bool,
    norm: type[nn.Module] | None = nn.BatchNorm2d,
) -> GeneralizedRCNN:
    stages, counts = stages_of(backbone, LEVELS), COUNTS["fpn"].scaled(scale)
    trunk = copy.deepcopy(backbone).requires_grad_(trained)
    mean, std = normalised_outside(trunk)
    body = Body(trunk, LEVELS, bf16, 256)
    pyramid = FeaturePyramidNetwork([s.channels for s in stages.values()], 256, LastLevelMaxPool(), norm)
    anchors = AnchorGenerator(tuple((side,) for side in anchors_px(scale)), (RATIOS,) * len(ANCHORS_PX))
    settings: dict[str, Any] = {
        "image_mean": mean,
        "image_std": std,
        "rpn_anchor_generator": anchors,
        "box_batch_size_per_image": counts.roi_samples,
        "box_detections_per_img": counts.detections,
        "rpn_batch_size_per_image": counts.rpn_samples,
        "_skip_resize": True,
    }
    for split_, (before, after) in (("train", counts.train), ("test", counts.test)):
        settings[f"rpn_pre_nms_top_n_{split_}"], settings[f"rpn_post_nms_top_n_{split_}"] = before, after
    return (MaskRCNN if masks else FasterRCNN)(Pyramid(body, pyramid, 256), classes, **settings)


BUILDERS = {"c4": _c4, "fpn": _fpn}


def bf16_pays(architecture: str, device: torch.device) -> bool:
    """Whether the backbone computes in bfloat16: c4 on hardware that has its instructions, not an emulation.

    A step of c4 is mostly layer4 on regions: 0.56 of the time (ResNet-18, 256 px, AVX512-BF16); of fpn 0.92, for which
    the digits are kept.
    """
    return architecture == "c4" and has_bf16(device)


def anchors_px(scale: float) -> tuple[float, ...]:
    """Sides of the anchors on images of `scale` times the paper's side; 2 px at least, smaller ones would vanish."""
    return tuple(max(2.0, scale * side) for side in ANCHORS_PX)


def backbone_of(model: Any) -> nn.ModuleList:
    """The parts of a detector that came with the backbone."""
    body = model.backbone.body if isinstance(model.backbone, Pyramid) else model.backbone
    parts = [body.trunk, *([model.roi_heads.last] if isinstance(model.roi_heads, C4Heads) else [])]
    return nn.ModuleList(parts)


def training(model: nn.Module) -> Any:
    """The model in training mode, except what has no parameter to train: frozen batch norms keep their statistics."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
    return model


@torch.no_grad()
def detect(model: GeneralizedRCNN, image: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Detections of one image (3, h, w) in [0, 1], in pixels of the original of `size` (H, W).

    boxes (R, 4) xyxy, labels (R,) from 1, scores (R,) falling; with masks (R, 1, H, W) in [0, 1].
    """
    model.eval()
    transform = model.transform
    shown = [(int(image.shape[1]), int(image.shape[2]))]
    images = ImageList(transform.batch_images([transform.normalize(image)], transform.size_divisible), shown)
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    found, _ = model.roi_heads(features, proposals, shown)
    return transform.postprocess(found, shown, [size])[0]
