"""Fitting a task's network: a schedule that can be scaled down honestly, and a loop that a kill does not hurt.

Every task with weights of its own (finetune, landmarks, detection, segmentation, depth) is fitted here. Batch t is a
pure function of (seed, t), so a fit that was killed and started again ends in the same weights (CPU: bit for bit).
"""

from __future__ import annotations

import dataclasses
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whytransfer import progress
from whytransfer.chance import permutation
from whytransfer.errors import InputError, RunError
from whytransfer.files import atomic_write
from whytransfer.loading import ahead
from whytransfer.stopping import Stop, stop_between_steps

GO_ON = (
    "Free some space and run the same command again: the fit goes on from its last checkpoint, or starts again where "
    "there is none."
)
SAVE_EVERY_S = 300.0


@dataclass(frozen=True)
class Schedule:
    """SGD over a number of iterations; what a paper says of training a task, as data.

    `drops` are shares of all iterations after which the learning rate is multiplied by `drop` (shape "step"); poly is
    (1 - share) ** power, cosine half a period, both to 0. Warm-up is linear from `warmup_from` times the rate.
    """

    iterations: int
    batch: int
    lr: float
    shape: Literal["constant", "step", "poly", "cosine"] = "constant"
    drops: tuple[float, ...] = ()
    drop: float = 0.1
    power: float = 0.9
    warmup: int = 0  # iterations
    warmup_from: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_biases_and_norms: bool = True

    def __post_init__(self) -> None:
        if self.shape not in ("constant", "step", "poly", "cosine"):
            raise InputError(f"unknown shape {self.shape!r} of a schedule. Known: constant, cosine, poly, step.")
        if self.iterations < 1 or self.batch < 1 or self.lr <= 0 or self.warmup < 0:
            raise InputError(
                f"a schedule needs iterations >= 1, batch >= 1, lr > 0 and warmup >= 0, got {self.iterations}, "
                f"{self.batch}, {self.lr} and {self.warmup}"
            )

    def lr_at(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0. Warm-up multiplies the schedule, as detectron2 does."""
        share = iteration / self.iterations
        factor = 1.0
        if self.shape == "step":
            factor = self.drop ** sum(iteration >= round(s * self.iterations) for s in self.drops)
        elif self.shape == "poly":
            factor = (1 - share) ** self.power
        elif self.shape == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * share))
        if iteration < self.warmup:
            factor *= self.warmup_from + (1 - self.warmup_from) * iteration / self.warmup
        return self.lr * factor

    def scaled(self, budget: float = 1.0, batch: int | None = None) -> Schedule:
        """The same schedule over a share of the images seen, in batches of another size.

        Iterations are `budget` times as many images, at least one; the learning rate is proportional to the batch
        [Goyal 2017]; the warm-up keeps its share.
        """
        if not 0 < budget <= 1:
            raise InputError(f"--budget is the share of the schedule's images to see, over 0 and at most 1: {budget}")
        new = batch or self.batch
        iterations = max(1, round(self.iterations * self.batch * budget / new))
        warmup = round(self.warmup * iterations / self.iterations)
        return dataclasses.replace(
            self, iterations=iterations, batch=new, lr=self.lr * new / self.batch, warmup=min(warmup, iterations - 1)
        )

    def told(self, asked: Schedule) -> str:
        """One sentence on how this schedule differs from the one of the paper; "" where it does not."""
        if self == asked:
            return ""
        seen, all_ = self.iterations * self.batch, asked.iterations * asked.batch
        return (
            f"{self.iterations:,} iterations of {self.batch} images, {100 * seen / all_:.3g} % of the images of the "
            f"full schedule ({asked.iterations:,} of {asked.batch}); learning rate {self.lr:g} ({asked.lr:g} in full)"
        )


def batch_of(seed: int, iteration: int, images: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The images of one iteration and the epoch that each belongs to; batches run on over the ends of epochs."""
    at = np.arange(iteration * batch, (iteration + 1) * batch)
    epochs, places = at // images, at % images
    order = {int(e): permutation(seed, int(e), images) for e in np.unique(epochs)}
    return np.array([order[int(e)][p] for e, p in zip(epochs, places, strict=True)]), epochs


def sgd(module: nn.Module, schedule: Schedule) -> torch.optim.SGD:
    """The optimiser of the parameters that take gradients; InputError when there is none."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise InputError("nothing to train: every parameter is frozen")
    decay = schedule.weight_decay
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": decay * schedule.decay_biases_and_norms},
    ]
    return torch.optim.SGD(
        [g for g in groups if g["params"]], schedule.lr, schedule.momentum, nesterov=schedule.nesterov
    )


def fit(
    module: nn.Module,
    batch_at: Callable[[int], Any],
    loss_of: Callable[[Any], Tensor],
    schedule: Schedule,
    *,
    folder: Path | None = None,
    label: str = "fitting",
    optimizer: torch.optim.Optimizer | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> dict[str, Any]:
    """Train `module` for the iterations of the schedule; returns what a Result's provenance should say of it.

    batch_at(t) makes batch t (on a GPU a thread works ahead), loss_of(batch) is the mean loss of it. With a folder the
    state is saved there (checkpoint.pt) every few minutes, on Ctrl-C and at the end, and a later call with the same
    folder goes on from it, or returns at once when it was finished. RunError at a loss that is not finite.
    """
    optimizer = optimizer or sgd(module, schedule)
    state = _Checkpoint(folder, module, optimizer)
    start = state.load(label)
    device = next(module.parameters()).device
    batches = ahead(batch_at, range(start, schedule.iterations), 2 if device.type == "cuda" else 0)
    saved_at = began = time.perf_counter()
    with stop_between_steps(Stop()) as stop, progress.bar(label, schedule.iterations, start) as update:
        for t, batch in zip(range(start, schedule.iterations), batches, strict=True):
            loss = _step(batch, loss_of, optimizer, schedule.lr_at(t))
            state.add(t, loss, time.perf_counter() - began)
            began = time.perf_counter()
            update(t + 1, f"loss {state.recent:.3f}")
            if stop.asked or began - saved_at > save_every_s:
                state.save()
                saved_at = began = time.perf_counter()
            if stop.asked and t + 1 < schedule.iterations:
                raise KeyboardInterrupt
    if start < schedule.iterations:
        state.save()
    return state.summary(schedule)


def _step(batch: Any, loss_of: Callable[[Any], Tensor], optimizer: torch.optim.Optimizer, lr: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(batch)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


class _Checkpoint:
    """The state of a fit: in memory, and on disk where there is a folder."""

    def __init__(self, folder: Path | None, module: nn.Module, optimizer: torch.optim.Optimizer):
        self.path = None if folder is None else folder / "checkpoint.pt"
        self.module, self.optimizer = module, optimizer
        self.iteration, self.seconds = 0, 0.0
        self.losses: list[float] = []

    def load(self, label: str) -> int:
        """The iteration to go on with, 0 without a checkpoint."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            self.module.load_state_dict(kept["module"])
            self.optimizer.load_state_dict(kept["optimizer"])
        except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"{self.path} cannot be read: {reason}. Delete it to fit again from the start.") from None
        self.iteration, self.seconds, self.losses = kept["iteration"], kept["seconds"], kept["losses"]
        progress.say(f"{label}: going on from iteration {self.iteration} in {self.path.parent}")
        return self.iteration

    def add(self, iteration: int, loss: float, seconds: float) -> None:
        """Count one iteration; RunError where its loss is not finite."""
        if not math.isfinite(loss):
            raise RunError(
                f"the loss became {loss} at iteration {iteration}. Try a lower --lr, or a larger --batch; what was "
                "saved before is from an earlier iteration and intact."
            )
        self.iteration, self.seconds = iteration + 1, self.seconds + seconds
        self.losses.append(loss)

    @property
    def recent(self) -> float:
        """The mean loss of the last 20 iterations."""
        last = self.losses[-20:]
        return sum(last) / len(last)

    def save(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in ("iteration", "seconds", "losses")},
        }
        atomic_write(self.path, lambda file: torch.save(content, file), GO_ON)

    def summary(self, schedule: Schedule) -> dict[str, Any]:
        """For a Result's provenance: the schedule, the loss along the way, the seconds."""
        every = max(1, len(self.losses) // 20)
        return {
            "schedule": dataclasses.asdict(schedule),
            "loss_first": self.losses[0],
            "loss_last": round(self.recent, 6),
            "losses_along_the_way": [round(x, 4) for x in self.losses[::every]],
            "fit_seconds": round(self.seconds, 3),
        }


def in_batches(count: int, batch: int) -> Iterator[range]:
    """Consecutive ranges that cover `count`."""
    return (range(start, min(start + batch, count)) for start in range(0, count, batch))


def trainable(module: nn.Module, names: Iterable[str] = ("",)) -> nn.Module:
    """The module with gradients on for the parameters under these names (all of them for "")."""
    names = tuple(names)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(names))
    return module
