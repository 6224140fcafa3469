"""LARS: every layer moves by a fixed share of its own length, which keeps large batches stable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling [You 2017, alg. 1] as BYOL's and DetCon's published code has it.

        g <- g + weight_decay * w;  trust = coefficient * |w| / |g|  (1 where either is 0)
        v <- momentum * v + trust * g;  w <- w - lr * v

    Biases and norms (parameters of at most one dimension) have trust 1 and no weight decay. `lr_inside` is SimCLR's
    form [Chen 2020, appendix B.6]: v <- momentum * v + lr * trust * g; w <- w - v, where a change of the learning rate
    acts on new gradients only. While the rate stays, both are the same.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        lr_inside: bool = False,
    ) -> None:
        defaults = {"momentum": momentum, "weight_decay": weight_decay, "trust_coefficient": trust_coefficient}
        super().__init__(params, {"lr": lr, "lr_inside": lr_inside, **defaults})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[no-untyped-def, override]
        """One update of every parameter that has a gradient; gradients are left as they were."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            self._update([p for p in params if p.ndim <= 1], group, adapt=False)
            self._update([p for p in params if p.ndim > 1], group, adapt=True)
        return loss

    def _update(self, params: list[Tensor], group: dict, adapt: bool) -> None:
        if not params:
            return
        for p in params:
            self.state[p].setdefault("velocity", torch.zeros_like(p))
        velocity = [self.state[p]["velocity"] for p in params]
        steps = [p.grad for p in params if p.grad is not None]
        if adapt:
            steps = list(torch._foreach_add(steps, params, alpha=group["weight_decay"]))
            torch._foreach_mul_(steps, _trust(params, steps, group["trust_coefficient"]))
        torch._foreach_mul_(velocity, group["momentum"])
        inside, outside = (group["lr"], 1.0) if group["lr_inside"] else (1.0, group["lr"])
        torch._foreach_add_(velocity, steps, alpha=inside)
        torch._foreach_sub_(params, velocity, alpha=outside)


def _trust(params: list[Tensor], grads: list[Tensor], coefficient: float) -> Any:
    """coefficient * |w| / |g| of each layer, 1 where one of them is zero; scalars that stay on the device."""
    w, g = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(grads))
    return torch.where((w > 0) & (g > 0), coefficient * w / g, torch.ones_like(w)).unbind()
