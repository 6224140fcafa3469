"""Losses as functions of tensors; rows are features, nothing is remembered.

Those that compare the images of a batch with each other (`nt_xent`, `supcon`) take the rows of all processes as keys
and those of their own process as anchors: the mean over processes is the loss of the joined batch, its gradient too.

Shape letters: B batch, G all processes' batches together, V views, D feature width, K queue, N images in all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.nn.gather import gather, gather_with_grad, own_rows


def full_precision(x: Tensor) -> Tensor:
    """float32 at least: logits divided by a small temperature do not survive bfloat16; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Rows of length one, (B, D) -> (B, D), in float32 at least; a zero row stays zero."""
    return F.normalize(full_precision(x), dim=1)


def info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float, keep: Tensor | None = None) -> Tensor:
    """InfoNCE of B queries, each with one own positive and a shared bank of negatives; the mean over B, a scalar.

    -log( exp(q.k/T) / (exp(q.k/T) + sum over kept negatives of exp(q.n/T)) )   [van den Oord 2018; He 2020, eq. 1]

    q, k (B, D); negatives (K, D); keep (B, K) bool, False drops that negative for that query (None keeps all).
    Rows are used as they are: the caller normalises. It works in float32 at least, whatever autocast says.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, negatives = full_precision(q), full_precision(k), full_precision(negatives)
        l_pos = (q * k).sum(dim=1) / temperature  # (B,)
        l_neg = (q / temperature) @ negatives.T  # (B, K)
        if keep is not None:
            l_neg = l_neg.masked_fill_(~keep, -torch.inf)  # in place: a queue of a million is a gigabyte
        return (torch.logaddexp(l_pos, l_neg.logsumexp(dim=1)) - l_pos).mean()


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent: each of the 2 B views finds its image's other view among all other views; the mean over 2 B, a scalar.

    -log( exp(z_i.z_j/T) / sum over k != i of exp(z_i.z_k/T) )   [Chen 2020, eq. 1]

    z1, z2 (B, D), normalised here, in float32 at least, whatever autocast says.
    """
    with torch.autocast(z1.device.type, enabled=False):
        z = torch.stack([unit(z1), unit(z2)], dim=1)  # (B, 2, D)
        logits, own = _among_all(z, temperature)  # (2 B, 2 G), (2 B,)
        return F.cross_entropy(logits, own ^ 1)  # the views of an image stand beside each other


def supcon(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SupCon: each view is drawn to every other view of its class, the mean over them outside the logarithm; a scalar.

    mean over i of -1/|P(i)| sum over p in P(i) of log( exp(z_i.z_p/T) / sum over a != i of exp(z_i.z_a/T) )
    [Khosla 2020, eq. 2, "out"]

    z (B, V, D), normalised here; labels (B,) int64. P(i): the other views of the image, and those of all images with
    its label (a label below 0 is no class: own views only). An image that is alone in its class has its own views, as
    in NT-Xent; a view without any positive (V = 1, alone in its class) adds 0 to the mean. Unique labels and two views
    make it NT-Xent. The published code multiplies by T / 0.07, which only changes the learning rate.
    """
    views, everyone = z.shape[1], gather(labels)  # (G,)
    if len(everyone) * views < 2:
        raise InputError("supcon: one view of one image has nothing to be compared with")
    with torch.autocast(z.device.type, enabled=False):
        logits, own = _among_all(unit(z.flatten(0, 1)).view(z.shape), temperature)  # (V B, V G), (V B,)
        images = torch.arange(len(everyone), device=z.device)
        same_image = torch.div(own, views, rounding_mode="floor")[:, None] == images  # (V B, G)
        positive = same_image | same_class(labels.repeat_interleave(views), everyone)
        positive = positive.repeat_interleave(views, dim=1).scatter_(1, own[:, None], False)  # (V B, V G)
        return _mean_over_positives(logits, positive)


def supcon_queue(q: Tensor, k: Tensor, labels: Tensor, keys: Tensor, key_labels: Tensor, temperature: float) -> Tensor:
    """SupCon of B queries whose keys come from a queue: the positives are the own key and all queued ones of the class.

    q, k (B, D); labels (B,); keys (K, D), key_labels (K,), -1 where a key has none. Rows are used as they are. The
    denominator has the own key and the whole queue; the mean over positives is outside the logarithm, as in `supcon`.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, keys = full_precision(q), full_precision(k), full_precision(keys)
        logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ keys.T], dim=1) / temperature  # (B, 1 + K)
        own = torch.ones(len(q), 1, dtype=torch.bool, device=q.device)
        return _mean_over_positives(logits, torch.cat([own, same_class(labels, key_labels)], dim=1))


def byol(p: Tensor, z: Tensor) -> Tensor:
    """The squared distance of unit rows, 2 - 2 cos, averaged over B: a scalar between 0 and 4  [Grill 2020, eq. 2].

    p predictions (B, D), z targets (B, D), which the caller detaches; normalised here, in float32 at least.
    """
    with torch.autocast(p.device.type, enabled=False):
        return (2 - 2 * (unit(p) * unit(z)).sum(dim=1)).mean()


def nce(q: Tensor, k: Tensor, noise: Tensor, temperature: float, images: int, z: Tensor) -> Tensor:
    """Noise-contrastive estimation of P(i|q) = exp(q.v_i/T) / Z: tell the own entry from K drawn at random; a scalar.

    -mean over B of ( log h(k) + sum over noise of log(1 - h(n)) ),  h = P / (P + K / N)   [Wu 2018, eq. 4-7]

    q, k (B, D), k the own entries; noise (K, D), drawn evenly from N = `images` entries; z the constant Z, a scalar.
    Rows are used as they are, in float32 at least.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, noise = full_precision(q), full_precision(k), full_precision(noise)
        offset = (z * len(noise) / images).log()  # h is the logistic function of q.v/T - offset
        own = (q * k).sum(dim=1) / temperature - offset  # (B,)
        others = (q / temperature) @ noise.T - offset  # (B, K)
        return -(F.logsigmoid(own) + F.logsigmoid(-others).sum(dim=1)).mean()


def same_class(labels: Tensor, others: Tensor) -> Tensor:
    """(B,) and (K,) labels -> (B, K) bool: whether both have the same one; below 0 there is none."""
    return (labels[:, None] == others[None, :]) & (labels[:, None] >= 0)


def _among_all(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Unit rows z (B, V, D) -> logits (V B, V G) against the rows of all processes, -inf at oneself, and where that is.

    Rows and columns have the views of an image beside each other.
    """
    rows = z.flatten(0, 1)  # (V B, D)
    keys = gather_with_grad(rows)  # (V G, D)
    own = own_rows(rows)
    return (rows / temperature @ keys.T).scatter(1, own[:, None], -torch.inf), own


def _mean_over_positives(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows of the mean over positives of -log softmax; rows without a positive count as 0."""
    log_p = logits.log_softmax(dim=1).masked_fill(~positive, 0.0)
    return -(log_p.sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()
