"""Batch norm as if the batch were spread over several devices, on one.

A contrastive pair that shares its batch statistics can recognise itself by them, without looking at the picture. MoCo
prevents it with eight devices: each normalises its own share of the batch, and keys are dealt to other devices than
their queries [He 2020, §3.3, "Shuffling BN"]. The same arithmetic on one device: statistics per group of the batch
(`split_batch_norm`), and a random order of the keys while they are encoded (`shuffled`).

Over W processes each makes G / W of the groups of its own share, so the whole batch falls into G, whatever W is; keys
are shuffled over all processes, without which a process with one group would see pairs together. One group (G 1) of all
processes, and running statistics of all, are the work of `nn.joined_norm`.

Running statistics move once per step, by the mean over the groups; the paper keeps those of its first device, which
have the same expectation and more noise. Evaluation uses them as plain batch norm does.

A ResNet-18 step (64 px, batch 128, bfloat16, channels last, CPU) in 8 groups costs 1.02 of the plain one this way, 1.27
when the whole network runs group by group, 1.35 when groups become channels.

Shape letters: B batch, G groups, C channels, H height, W width of a map, or processes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whytransfer.errors import InputError
from whytransfer.nn.gather import gather, own_rows, world


def _normalise_groups(norm: _BatchNorm, x: Tensor, groups: int) -> Tensor:
    """Batch norm in training, each of the G contiguous parts of the batch by its own statistics."""
    groups = groups_here(groups)
    check_groups(len(x), groups)
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    stats = norm.running_mean.new_zeros(2, groups, norm.num_features)  # mean and unbiased variance, (2, G, C)
    parts = [
        F.batch_norm(part, mean, variance, norm.weight, norm.bias, training=True, momentum=1.0, eps=norm.eps)
        for part, mean, variance in zip(x.chunk(groups), *stats, strict=True)
    ]
    mean, variance = stats.mean(dim=1)  # (C,), (C,)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return torch.cat(parts)


class SplitBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d whose training statistics belong to one of `groups` parts of the batch; x (B, C)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        split = self.training and self.groups > 1
        return _normalise_groups(self, x, self.groups) if split else super().forward(x)


class SplitBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics belong to one of `groups` parts of the batch; x (B, C, H, W)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        split = self.training and self.groups > 1
        return _normalise_groups(self, x, self.groups) if split else super().forward(x)


def groups_here(groups: int) -> int:
    """How many of the groups of the whole batch this process makes; InputError where they cannot be dealt evenly."""
    processes = world()[1]
    if groups > 1 and groups % processes:
        raise InputError(
            f"batch norm in {groups} groups cannot be dealt over {processes} processes: choose --splits 1, or a "
            f"multiple of {processes}"
        )
    return max(1, groups // processes)


def check_groups(batch: int, groups: int) -> None:
    """InputError unless the batch falls into `groups` equal parts of at least two images."""
    if groups < 1 or batch % groups or batch < 2 * groups:
        raise InputError(
            f"batch norm in {groups} groups needs a batch of a multiple of {groups} with at least 2 images per group, "
            f"got {batch}: choose another --batch (--accumulate makes parts of it, which count each), or fewer --splits"
        )


def split_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """Turn every batch norm inside `module` into a split one, in place; parameters, buffers and their names stay.

    Saved weights are therefore those of the plain network.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            setattr(module, name, share(child, SplitBatchNorm1d(child.num_features, groups)))
        elif type(child) is nn.BatchNorm2d:
            setattr(module, name, share(child, SplitBatchNorm2d(child.num_features, groups)))
        else:
            split_batch_norm(child, groups)
    return module


def share(plain: _BatchNorm, split: _BatchNorm) -> nn.Module:
    """`split` with the settings, weights and statistics of `plain`."""
    split.eps, split.momentum, split.training = plain.eps, plain.momentum, plain.training
    split.weight, split.bias = plain.weight, plain.bias
    split.running_mean, split.running_var = plain.running_mean, plain.running_var
    split.num_batches_tracked = plain.num_batches_tracked
    return split


def shuffled(encode: Callable[[Tensor], Tensor], images: Tensor, order: Tensor) -> Tensor:
    """encode(images) computed in another order of the batch: row i of the answer still belongs to image i.

    images (B, ...) of each of W processes; order (W B,) a permutation of the images of all, equal in all processes:
    which image stands where while the groups are formed. Images travel between processes, as in the paper's algorithm.
    """
    mine = own_rows(images)
    encoded = gather(encode(gather(images)[order[mine]]))  # (W B, D), row j is of image order[j]
    out = torch.empty_like(encoded)
    out[order] = encoded
    return out[mine]
