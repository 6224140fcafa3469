"""Contrastive detection: each region against itself in the image's other view, and against every other region.

[Henaff 2021, "Efficient visual pretraining with contrastive detection", arXiv:2103.10957, eq. 3], with several
positives in one softmax as in the authors' published loss. A full batch has 2 G M keys for each of 2 B M anchors, so
the logits are made, used and dropped a few images at a time, and their gradient is taken on the spot.

Shape letters: B images of this process, G of all, M regions drawn per view, R = 2 M of both views, D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from whytransfer.errors import InputError
from whytransfer.nn.gather import gather, gather_with_grad, world

NEVER = -1e9  # a logit that leaves the softmax; finite, so that a row without any key has a gradient (of weight 0)
# Logits made at a time. On a CPU 8 MiB, which stay in its caches: 0.84 of the time of all at once (128 images, M 16,
# D 128), 0.88 at 256 images; on a GPU (not measured) 256 MiB, half of what 32 images have among the paper's 4096.
LOGITS = {"cpu": 2**21, "cuda": 2**26}


def detcon(
    q1: Tensor,
    q2: Tensor,
    z1: Tensor,
    z2: Tensor,
    ids1: Tensor,
    ids2: Tensor,
    temperature: float = 0.1,
    local_negatives: bool = True,
    cut: int = 1,
) -> Tensor:
    """The DetCon loss of both directions, a scalar; rows are normalised here, in float32 at least.

    q1, q2 (B, M, D): anchors of view 1 and 2; z1, z2 (B, M, D): keys, detached by the caller where the paper stops the
    gradient; ids1, ids2 (B, M) int: the region of each row, rows with equal ids of an image being one region. An id
    below 0 is no region: it has weight 0 and is nobody's negative.

    An anchor's positives are its region's keys in the other view, the target being uniform over them; keys of its
    region in its own view are left out; all other keys of all processes are negatives. It weighs 1 / (times its region
    was drawn in its view), or 0 where the other view lacks it. Summed over the views, divided by B M.
    local_negatives=False leaves out the other regions of the anchor's image; `cut` deals the G images into so many
    equal parts, and an anchor sees the keys of its part only (the paper's /128). M = 1 with equal ids is twice NT-Xent.
    """
    _check(q1, q2, z1, z2, ids1, ids2, temperature)
    with torch.autocast(q1.device.type, enabled=False):
        q, k = (_unit(torch.stack(pair, dim=1)) for pair in ((q1, q2), (z1, z2)))  # (B, 2, M, D)
        ids = torch.stack((ids1, ids2), dim=1)  # (B, 2, M)
        images = part_of(len(q), cut)
        if images > len(q):
            first = world()[0] * len(q) // images * images
            keys = (gather_with_grad if k.requires_grad else gather)(k)[first : first + images]
            absent = gather(ids)[first : first + images] < 0
            return _contrast(q, keys, ids, absent, world()[0] * len(q) - first, temperature, local_negatives)
        parts = zip(q.split(images), k.split(images), ids.split(images), strict=True)
        return torch.stack([_contrast(a, b, i, i < 0, 0, temperature, local_negatives) for a, b, i in parts]).mean()


def part_of(batch: int, cut: int) -> int:
    """Images whose keys an anchor sees, when each process has `batch` of them; InputError for unequal parts."""
    total = batch * world()[1]
    part = total // cut if cut > 0 else 0
    if part < 1 or total % cut or (batch % part and part % batch):
        raise InputError(
            f"the keys of {total} images ({batch} per process) cannot be cut into {cut} equal parts of whole batches "
            f"or of equal shares of one: choose a divisor of {batch}, or 1 for all keys"
        )
    return part


def _check(q1: Tensor, q2: Tensor, z1: Tensor, z2: Tensor, ids1: Tensor, ids2: Tensor, temperature: float) -> None:
    shapes = [tuple(x.shape) for x in (q1, q2, z1, z2, ids1, ids2)]
    if q1.ndim != 3 or len(set(shapes[:4])) > 1 or {*shapes[4:]} != {shapes[0][:2]}:
        raise InputError(f"detcon needs q1, q2, z1, z2 (B, M, D) and ids1, ids2 (B, M), got {shapes}")
    if not temperature > 0:
        raise InputError(f"detcon needs a temperature above 0, got {temperature}")


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


def _contrast(
    q: Tensor, k: Tensor, ids: Tensor, absent: Tensor, first: int, temperature: float, local_negatives: bool
) -> Tensor:
    """Anchors q (B, 2, M, D) against keys k (G, 2, M, D), of which `first` on are the anchors' own images'."""
    batch, _, draws, width = q.shape
    ids, view = ids.flatten(1), torch.arange(2, device=q.device).repeat_interleave(draws)  # (B, R), (R,)
    same = (ids[:, :, None] == ids[:, None, :]) & (ids >= 0)[:, :, None]  # (B, R, R)
    across = view[:, None] != view[None, :]  # (R, R)
    positive, removed = same & across, same & ~across
    drawn, found = removed.sum(-1), positive.sum(-1)  # (B, R): of the anchor's region, in its view and in the other
    weight = (found > 0).to(q.dtype) / drawn.clamp(min=1) / (batch * draws)
    target = positive.to(q.dtype) / found.clamp(min=1)[:, :, None]
    if not local_negatives:
        removed = ~positive
    shift = torch.where(absent.flatten(), NEVER, 0.0).to(q.dtype)  # (G R,)
    out: Tensor = _CrossEntropy.apply(
        q.reshape(-1, width), k.reshape(-1, width), target, removed, weight, shift, first, temperature
    )
    return out


class _CrossEntropy(torch.autograd.Function):
    """sum of weight * (logsumexp(logits) - target . logits), with its gradient, a few images at a time.

    q (B R, D), k (G R, D), target and removed (B, R, R) over the keys of the anchor's own image, weight (B, R),
    shift (G R,).
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        target: Tensor,
        removed: Tensor,
        weight: Tensor,
        shift: Tensor,
        first: int,
        temperature: float,
    ) -> Tensor:
        rows = target.shape[1]  # R
        step = max(1, LOGITS.get(q.device.type, 2**24) // (rows * len(k)))  # images at a time
        for_q, for_k = ctx.needs_input_grad[:2]
        dq, dk = torch.empty_like(q) if for_q else None, torch.zeros_like(k) if for_k else None
        total = q.new_zeros(())
        for i in range(0, len(target), step):
            part = slice(i, min(i + step, len(target)))
            anchors = q[i * rows : part.stop * rows]  # (c R, D)
            logits = torch.addmm(shift, anchors, k.T, alpha=1 / temperature)  # (c R, G R)
            images = logits.view(-1, rows, len(k) // rows, rows)[:, :, first + i : first + part.stop]
            own, wanted = images.diagonal(dim1=0, dim2=2), target[part].permute(1, 2, 0)  # (R, R, c), own: a view
            aligned = (own * wanted).sum(dim=1).T  # (c, R)
            own.masked_fill_(removed[part].permute(1, 2, 0), NEVER)
            norm = logits.logsumexp(dim=1)  # (c R,)
            total += (weight[part] * (norm.view_as(aligned) - aligned)).sum()
            if for_q or for_k:
                logits.sub_(norm[:, None]).exp_()  # the softmax
                own.sub_(wanted)
                logits.mul_(weight[part].reshape(-1, 1) / temperature)
            if dq is not None:
                torch.mm(logits, k, out=dq[i * rows : part.stop * rows])
            if dk is not None:
                dk.addmm_(logits.T, anchors)
        ctx.save_for_backward(dq, dk)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dq, dk = ctx.saved_tensors
        return (None if dq is None else grad * dq), (None if dk is None else grad * dk), *[None] * 6
