"""A backbone whose last stages trade stride for dilation: finer maps from the same weights, for dense tasks.

The rule is that of the algorithme a trous [Chen 2017, arXiv 1706.05587, §3.1]: a convolution that would take every
second place takes all of them, and what follows looks at every second one. Every place of the finer map is then what
the original network would say at it had the image been shifted: the first convolution of a stage keeps the dilation
of the stage before (1 for layer4 at stride 16), the others get the stage's. torchvision (replace_stride_with_dilation),
timm (output_stride) and mmsegmentation's contract_dilation do the same. "3x3 convolutions of conv5 have dilation 2 and
stride 1" [BYOL D.4, MoCo appendix] can also be read as dilating the first one too; that one would then look at places
it never looked at in pretraining, so we do not.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.foreign import TimmBackbone
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.geometry import SameConv2d
from whytransfer.backbones.standardised import Standardised
from whytransfer.errors import InputError

STRIDES = (8, 16, 32)
_STAGES = ("layer1", "layer2", "layer3", "layer4")


def dilated(backbone: Any, output_stride: int) -> Backbone:
    """A copy whose last map has a cell for every `output_stride` pixels, where the backbone's has one for 32.

    At 16 layer4 is changed, at 8 layer3 and layer4; a network that is as fine already (resnet18-small has 8) stays as
    it is. Weights, statistics and modes are those of the backbone, which is left alone; of a fusion every member is
    dilated. Raises InputError for another stride and for a backbone without such stages.
    """
    if output_stride not in STRIDES:
        raise InputError(f"an output stride is one of {', '.join(map(str, STRIDES))}, got {output_stride}")
    if isinstance(backbone, Fused):
        fused = Fused([dilated(member, output_stride) for member in backbone.members])
        fused.spec, fused.note = backbone.spec, backbone.note
        return fused.train(backbone.training)
    if isinstance(backbone, Standardised):
        fine = dilated(backbone.fused, output_stride)
        assert isinstance(fine, Fused)
        return backbone.around(fine)
    if isinstance(backbone, TimmBackbone):
        return _of_timm(backbone, output_stride)
    if not all(isinstance(getattr(backbone, name, None), nn.Sequential) for name in _STAGES):
        raise _refusal(backbone, "it has no stages layer1 to layer4")
    fine = copy.deepcopy(backbone)
    stride, rate = _stem_stride(fine), 1
    for name in _STAGES:
        stage = getattr(fine, name)
        step = max(conv.stride[0] for conv in stage[0].modules() if isinstance(conv, nn.Conv2d))
        if stride * step <= output_stride:
            stride *= step
            continue
        for i, block in enumerate(stage):
            _dilate(block, rate if i == 0 else rate * step, rate * step)
        rate *= step
    return fine


def _refusal(backbone: Any, why: str) -> InputError:
    name = getattr(backbone, "spec", "") or getattr(backbone, "arch", type(backbone).__name__)
    return InputError(
        f"{name} cannot trade stride for dilation: {why}. Maps of stride 8 and 16 can be had of ResNets (our own, "
        "torchvision's), of timm models that know output_stride, and of fusions of these."
    )


def _stem_stride(backbone: Any) -> int:
    strides = [m.stride for part in (backbone.conv1, backbone.maxpool) for m in part.modules() if hasattr(m, "stride")]
    total = 1
    for stride in strides:
        total *= stride if isinstance(stride, int) else stride[0]
    return total


def _dilate(block: nn.Module, before: int, after: int) -> None:
    """Convolutions of a block take every place; those up to the one with the stride look `before` apart, then `after`.

    In a bottleneck the 3x3 convolution carries the stride, in a basic block the first of two.
    """
    rate = before
    for name in ("conv1", "conv2", "conv3"):
        conv = getattr(block, name, None)
        if not isinstance(conv, nn.Conv2d):
            continue
        if isinstance(conv, SameConv2d):  # only strided ones are
            conv.trade_stride(rate)
            rate = after
            continue
        if conv.kernel_size != (1, 1):
            conv.dilation = (rate, rate)
            conv.padding = rate * (conv.kernel_size[0] // 2), rate * (conv.kernel_size[1] // 2)
        if conv.stride != (1, 1):
            conv.stride, rate = (1, 1), after
    shortcut = getattr(block, "downsample", None)
    for conv in shortcut.modules() if shortcut is not None else ():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)


def _of_timm(backbone: TimmBackbone, output_stride: int) -> Backbone:
    """The same timm model built anew with its own output_stride, which knows the kinds of blocks and shortcuts."""
    import timm

    architecture = backbone.arch.partition(".")[0]
    try:
        with torch.random.fork_rng(devices=[]):
            model = timm.create_model(architecture, num_classes=0, output_stride=output_stride)
        model.load_state_dict(backbone.model.state_dict())
    # what timm raises where a kind of model has no output_stride depends on the kind
    except (TypeError, AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it takes no output_stride"
        raise _refusal(backbone, f"timm says: {reason}") from None
    first = next(backbone.parameters())
    model.to(first.device, first.dtype).train(backbone.model.training)
    for new, old in zip(model.parameters(), backbone.model.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    fine = copy.deepcopy(backbone)
    fine.model = model
    return fine
