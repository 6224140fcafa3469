"""Instance discrimination: every image is a class of its own, whose weight is what the network last saw in it.

[Wu 2018, "Unsupervised feature learning via non-parametric instance-level discrimination"], with the paper's letters:
v features, T, Z. One view of each image, and a memory bank of all images. The paper's form (`instdisc`) estimates by
noise contrast; the softmax form (`instdisc-softmax`) is its eq. 2, as in the authors' later release. paper: negatives
drawn for each image, a proximal term; here one draw for the batch of a step, and none, as in the authors' code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.errors import InputError
from whytransfer.nn import heads
from whytransfer.nn.bank import MemoryBank
from whytransfer.nn.gather import gather
from whytransfer.nn.losses import info_nce, nce, unit
from whytransfer.nn.schedules import Training
from whytransfer.records import Views


class Instances(nn.Module):
    """What both forms share: one linear layer onto unit features, and the bank (m: what an entry keeps of itself)."""

    recipe = "moco-v1"  # its first view: the augmentation that MoCo v1 took over from this paper
    defaults = Training("sgd", lr_per_256=0.03, schedule="step", changes_every="epoch", epochs=200, batch=256)
    views = 1
    needs: tuple[str, ...] = ()

    def __init__(self, backbone: Any, images: int, seed: int, dim: int, negatives: int, m: float, T: float) -> None:
        super().__init__()
        self.negatives, self.m, self.T = negatives, m, T
        self.backbone = backbone
        self.projector = heads.linear(backbone.width, dim, seed)
        self.bank = MemoryBank(images, dim, seed)
        self.steps = 0

    def check_batch(self, batch: int, parts: int = 1) -> None:
        """InputError for a batch of one: its batch norm has nothing to average over."""
        if batch // parts < 2:
            raise InputError(f"InstDisc needs at least 2 images per forward pass, got {batch} in {parts} parts")

    def encode(self, images: Tensor) -> Tensor:
        return unit(self.projector(self.backbone(images).vector))

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        """The entries of this step's images, of all processes, move towards what was seen."""
        self.bank.update(gather(out["index"]), gather(out["features"]), self.m)
        self.steps += 1

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


class InstDisc(Instances):
    """The paper's form: noise contrast with 4096 drawn entries, Z estimated from the first batch and kept."""

    Z: Tensor  # (), 0 until the first step

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        negatives: int = 4096,
        m: float = 0.5,
        T: float = 0.07,
    ) -> None:
        super().__init__(backbone, images, seed, dim, negatives, m, T)
        self.register_buffer("Z", torch.zeros(()))

    def loss(self, views: Views) -> dict[str, Tensor]:
        v = self.encode(views.images[0])  # (B, dim)
        own, noise = self.bank.rows[views.index], self.bank.rows[self.bank.draw(self.negatives, self.steps)]
        Z = self.Z if self.steps else self.estimate(v, own, noise)
        loss = nce(v, own, noise, self.T, len(self.bank.rows), Z)
        return {"loss": loss, "Z": Z, "features": v.detach(), "index": views.index}

    @torch.no_grad()
    def estimate(self, v: Tensor, own: Tensor, noise: Tensor) -> Tensor:
        """Z = N times the mean of exp(v.n/T) over the own and the drawn entries of this batch  [Wu 2018, eq. 8]."""
        with torch.autocast(v.device.type, enabled=False):
            s = torch.cat([(v * own).sum(dim=1, keepdim=True), v @ noise.T], dim=1) / self.T  # (B, 1 + K)
            return len(self.bank.rows) * gather(s.exp().mean()[None]).mean()

    def after_step(self, out: dict[str, Tensor], progress: float) -> None:
        if self.steps == 0:
            self.Z.copy_(out["Z"].mean())
        super().after_step(out, progress)


class InstDiscSoftmax(Instances):
    """Softmax over 65,536 drawn entries, or over the whole bank, exactly, where that holds no more."""

    def __init__(
        self,
        backbone: Any,
        *,
        classes: int | None,
        images: int,
        seed: int = 0,
        dim: int = 128,
        negatives: int = 65536,
        m: float = 0.5,
        T: float = 0.07,
    ) -> None:
        super().__init__(backbone, images, seed, dim, negatives, m, T)

    def loss(self, views: Views) -> dict[str, Tensor]:
        v = self.encode(views.images[0])  # (B, dim)
        rows, index = self.bank.rows, views.index
        everyone = torch.arange(len(rows), device=index.device)
        others = self.bank.draw(self.negatives, self.steps) if self.negatives < len(rows) else everyone
        loss = info_nce(v, rows[index], rows[others], self.T, keep=others != index[:, None])
        return {"loss": loss, "features": v.detach(), "index": index}
