"""The pretraining loop: views, step, after_step, log, save, resume. All it draws is a function of (seed, step)."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whytransfer import progress
from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.recorded import record
from whytransfer.errors import RunError
from whytransfer.files import full_disk_told
from whytransfer.loading import ahead, batch_indices, pictures, steps_per_epoch
from whytransfer.memory import peak_mib
from whytransfer.monitor import Monitor
from whytransfer.nn.bank import MemoryBank
from whytransfer.nn.joined_norm import average_statistics, join_batch_norm
from whytransfer.nn.queue import KeyQueue
from whytransfer.nn.schedules import Training, build_optimizer, lr_at
from whytransfer.records import Views
from whytransfer.runs import GO_ON, RunFolder
from whytransfer.stopping import Stop, stop_between_steps

WARMUP_STEPS = 10  # left out of the speed figures
LOOK_AHEAD = 3  # batches of views prepared beside a GPU


@dataclass(frozen=True)
class Plan:
    """How long and how: `batch` images per optimiser step over all ranks, in `accumulate` equal parts."""

    training: Training
    epochs: int
    batch: int
    seed: int
    accumulate: int = 1
    save_minutes: float = 5.0  # also saved at every epoch's end
    iterations: int | None = None  # optimiser steps, instead of epochs: the last epoch may end early

    def steps(self, per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        return self.iterations or self.epochs * per_epoch


@dataclass
class State:
    """What a checkpoint holds besides the networks."""

    step: int = 0
    seconds: float = 0.0
    random: dict[str, Any] = field(default_factory=dict)  # the untrained backbone's standing ...
    watched: str = ""  # ... on these queries
    metrics: list[dict[str, Any]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)  # of the epoch that is under way


class _Step(nn.Module):
    """The method's loss as a forward over plain tensors: what Fabric's precision and DDP wrappers understand."""

    method: Any

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method
        # DDP would send every buffer of the first process around before each step, a queue of a million keys too
        self._ddp_params_and_buffers_to_ignore = _kept_alike(self)

    def forward(
        self, images: list[Tensor], index: Tensor, labels: Tensor, regions: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        return self.method.loss(Views(tuple(images), index, labels, tuple(regions), tuple(boxes)))


def _kept_alike(module: nn.Module) -> list[str]:
    """Names of the buffers that all processes keep alike: queues and banks by what they gather, batch norms."""
    kinds = KeyQueue | MemoryBank | _BatchNorm
    stores = [(name, m) for name, m in module.named_modules() if isinstance(m, kinds)]
    return [f"{name}.{buffer}" for name, store in stores for buffer, _ in store.named_buffers()]


class Pretraining:
    """One run: `fit` trains `method` on `pixels` seen through `viewer` and leaves everything in `run`.

    `regions`, where the method needs them: `.regions(i)` is the label map (H, W) or stack (R, H, W) of `pixels(i)`;
    likewise `boxes`: `.boxes(i)` is the table (R, 5) of `pixels(i)`, xyxy and class.
    """

    def __init__(
        self,
        method: Any,
        pixels: Any,
        viewer: Any,
        plan: Plan,
        run: RunFolder,
        fabric: Fabric,
        monitor: Monitor | None,
        regions: Any | None = None,
        boxes: Any | None = None,
    ) -> None:
        self.method, self.pixels, self.viewer, self.monitor = method, pixels, viewer, monitor
        self.regions, self.boxes = regions, boxes
        self.plan, self.run, self.fabric = plan, run, fabric
        self.per_epoch = steps_per_epoch(len(pixels), plan.batch)
        self.steps = plan.steps(self.per_epoch)
        self.epochs = self.steps / self.per_epoch
        self.state = State()
        self._speeds: list[float] = []
        self._wait_s = 0.0
        self._scalars: dict[str, Tensor] = {}  # of the last step, on the device
        self._stop = Stop()
        self._good: int | None = None  # step of the checkpoint on disk, whose losses and weights are finite

    def fit(self) -> dict[str, Any]:
        """Train to the end of the plan, from the last checkpoint if there is one; return what `--json` prints."""
        if self.fabric.world_size > 1:
            join_batch_norm(self.method)
        method = self.method.to(self.fabric.device, memory_format=torch.channels_last)
        optimizer = build_optimizer(self.plan.training, method)
        saved = self.run.load() or {}
        random, watched = self._random_features(saved)  # untrained, so before a checkpoint changes them
        if saved:
            self._restore(saved, optimizer)
        self.state.random, self.state.watched = random, watched
        step_module, fabric_optimizer = self.fabric.setup(_Step(method), optimizer)
        method.train()
        with stop_between_steps(self._stop), progress.bar("pretraining", self.steps, self.state.step) as update:
            while self.state.step < self.steps:
                self._epoch(self.state.step // self.per_epoch, step_module, fabric_optimizer, update)
                self._end_epoch(optimizer)
                if self._agreed(self._stop.asked)[0] and self.state.step < self.steps:
                    raise KeyboardInterrupt
        return self._finish()

    def _random_features(self, saved: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """The standing of the untrained backbone: the saved one, unless other queries are watched now than then."""
        random, watched = saved.get("random", {}), saved.get("watched", "")
        if self.monitor is None or not self.fabric.is_global_zero or (random and watched == self.monitor.identity):
            return random, watched
        return self.monitor.look(self.method.backbone).as_dict(), self.monitor.identity

    def _epoch(self, epoch: int, step_module: Any, optimizer: Any, update: progress.Update) -> None:
        fabric, plan = self.fabric, self.plan
        order = batch_indices(plan.seed, epoch, len(self.pixels), plan.batch, fabric.global_rank, fabric.world_size)
        first, last = self.state.step - epoch * self.per_epoch, min(self.per_epoch, self.steps - epoch * self.per_epoch)
        losses: list[Tensor] = []
        last_save = began = time.perf_counter()
        parts = (part for batch in order[first:last] for part in np.array_split(batch, plan.accumulate))
        views = ahead(lambda part: self._views(part, epoch), parts, LOOK_AHEAD if fabric.device.type == "cuda" else 0)
        for i in range(first, last):
            losses.append(self._step(views, step_module, optimizer))
            now = time.perf_counter()
            self._speeds.append(plan.batch / (now - began))
            self.state.seconds += now - began
            began = now
            self._check(losses)
            self._log_step(losses[-1], optimizer, update)
            stop, save = self._agreed(self._stop.asked, now - last_save > 60 * plan.save_minutes)
            if (stop or save) and i + 1 < last:  # the end of an epoch saves anyway, with the epoch's row
                self._save(optimizer.optimizer, losses)
                losses = []
                last_save = began = time.perf_counter()
                if stop:
                    raise KeyboardInterrupt
        self._keep(losses)

    def _agreed(self, *wishes: bool) -> list[bool]:
        """Each wish as any process has it: clocks and signals differ, but all processes must meet to save."""
        if self.fabric.world_size == 1:
            return list(wishes)
        found = torch.tensor(wishes, dtype=torch.int32, device=self.fabric.device)
        return [bool(wish) for wish in self.fabric.all_reduce(found, reduce_op="max")]

    def _step(self, views: Iterator[Views], step_module: Any, optimizer: Any) -> Tensor:
        """One optimiser step; returns the mean loss of its parts, still on the device."""
        lr = lr_at(self.plan.training, self.state.step, self.per_epoch, self.epochs, self.plan.batch)
        for group in optimizer.param_groups:
            group["lr"] = lr
        outs = []
        for part in range(self.plan.accumulate):
            waiting = time.perf_counter()
            v = next(views).to(self.fabric.device)
            images = [x.contiguous(memory_format=torch.channels_last) for x in v.images]
            self._wait_s += time.perf_counter() - waiting
            with self.fabric.no_backward_sync(step_module, enabled=part + 1 < self.plan.accumulate):
                out = step_module(images, v.index, v.labels, list(v.regions), list(v.boxes))
                self.fabric.backward(out["loss"] / self.plan.accumulate)
            outs.append({k: t.detach() for k, t in out.items()})
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        merged = {k: (torch.cat if outs[0][k].ndim else torch.stack)([o[k] for o in outs]) for k in outs[0]}
        average_statistics(self.method)
        self.method.after_step(merged, self.state.step / self.steps)
        self._scalars = self._over_processes({k: x.mean() for k, x in merged.items() if not outs[0][k].ndim})
        return self._scalars["loss"]

    def _over_processes(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """Their means over processes, in one exchange, so that all of them log, and stop at, the same numbers."""
        if self.fabric.world_size == 1:
            return scalars
        means = cast(Tensor, self.fabric.all_reduce(torch.stack(list(scalars.values())), reduce_op="mean"))
        return dict(zip(scalars, means.unbind(), strict=True))

    def _views(self, indices: np.ndarray, epoch: int) -> Views:
        pixels = pictures(self.pixels, indices)
        regions = None if self.regions is None else [self.regions.regions(int(i)) for i in indices]
        boxes = None if self.boxes is None else [self.boxes.boxes(int(i)) for i in indices]
        return self.viewer(pixels, indices, self.pixels.labels[indices], epoch, regions, boxes)

    def _check(self, losses: list[Tensor], always: bool = False) -> None:
        """Stop at a NaN or infinite loss. On a GPU only now and then: asking for the value waits for the device."""
        if not (always or self.fabric.device.type == "cpu" or len(losses) % 20 == 0):
            return
        recent = torch.stack(losses if always else losses[-20:])
        if bool(torch.isfinite(recent).all()):
            return
        first = int((~torch.isfinite(recent)).nonzero()[0])
        step = self.state.step - len(recent) + first
        raise self._diverged(f"the loss became {float(recent[first])} at step {step} (epoch {step // self.per_epoch})")

    def _check_weights(self) -> None:
        """Stop where a weight or a statistic is NaN, infinite, or so large that the squares overflow: at saves only."""
        state = [*self.method.parameters(), *self.method.buffers()]
        norm = nn.utils.get_total_norm([t.detach() for t in state if t.is_floating_point()])
        if not bool(torch.isfinite(norm)):
            raise self._diverged(f"the weights were found to be NaN, infinite or overflowing at step {self.state.step}")

    def _diverged(self, what: str) -> RunError:
        kept = "none" if self._good is None else f"step {self._good}"
        return RunError(
            f"{what}. Last good checkpoint: {kept}, in {self.run.path}. Try a lower --lr, a longer --warmup-epochs, a "
            "larger --batch, or --precision 32; then start in a new --out."
        )

    def _keep(self, losses: list[Tensor]) -> None:
        """Move the losses since the last save into the state, once they and the weights are known to be finite."""
        if losses:
            self._check(losses, always=True)
            self.state.epoch_losses += torch.stack(losses).float().tolist()
        self._check_weights()

    def _log_step(self, loss: Tensor, optimizer: Any, update: progress.Update) -> None:
        every = 1 if self.fabric.device.type == "cpu" else 20
        if self.state.step % every == 0:
            speed = statistics.median(self._speeds[-50:])
            update(self.state.step, f"loss {float(loss):.3f}  {progress.rate(speed)}")
            if self.state.step % max(10, every) == 0:
                lr = optimizer.param_groups[0]["lr"]
                said = {k: float(v) for k, v in self._scalars.items()}  # loss, and what else the method tells of itself
                self._log({**said, "lr": lr, "images_per_second": speed})

    def _log(self, values: dict[str, float]) -> None:
        """Into TensorBoard's file; RunError where the disk is full, which its logger would call another thing."""
        with full_disk_told(self.run.path / "tensorboard", GO_ON):
            self.fabric.log_dict(values, step=self.state.step)

    def _end_epoch(self, optimizer: Any) -> None:
        done = self.state.step / self.per_epoch  # epochs; broken where --iterations end inside one
        if self.fabric.is_global_zero:
            losses, self.state.epoch_losses = self.state.epoch_losses, []
            epoch = int(done) if done == int(done) else done
            row: dict[str, Any] = {"epoch": epoch, "loss": statistics.fmean(losses), **self._speed()}
            row |= {"seconds": self.state.seconds, "peak_mib": peak_mib(self.fabric.device)}
            if self.monitor:
                row |= self.monitor.look(self.method.backbone).as_dict()
            self.state.metrics.append(row)
            self._log({f"epoch/{k}": v for k, v in row.items() if isinstance(v, float)})
            left = (self.steps - self.state.step) * self.state.seconds / self.state.step
            words = describe(row, self.state.random)
            where = f"epoch {done:g}/{self.epochs:g}"
            if self.plan.iterations:  # told in the unit that was asked for
                where = f"iteration {self.state.step}/{self.steps}"
            progress.say(f"{where}  {words}  ETA {progress.duration(left)}")
        self._save(optimizer)

    def _speed(self) -> dict[str, float]:
        timed = self._speeds[WARMUP_STEPS:] or self._speeds
        busy = sum(self.plan.batch / s for s in self._speeds)
        return {"images_per_second": statistics.median(timed), "waiting_for_data": self._wait_s / busy} if timed else {}

    def _save(self, optimizer: Any, losses: list[Tensor] | None = None) -> None:
        if losses:
            self._keep(losses)
        if self.fabric.is_global_zero:
            self.run.save(
                {
                    "method": self.method.state_dict(),
                    "backbone": self.method.backbone.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    **vars(self.state),
                }
            )
        self._good = self.state.step
        self.fabric.barrier()

    def _restore(self, saved: dict[str, Any], optimizer: Any) -> None:
        self.method.load_state_dict(saved["method"])
        optimizer.load_state_dict(saved["optimizer"])
        self.state = State(**{k: saved[k] for k in vars(self.state) if k in saved})
        self._check_weights()
        self._good = self.state.step
        progress.say(f"continuing {self.run.path} at step {self.state.step} of {self.steps}")

    def _finish(self) -> dict[str, Any]:
        last = self.state.metrics[-1] if self.state.metrics else {}  # kept by the first rank alone
        result = {
            **last,
            "width": self.method.backbone.width,
            "random": self.state.random,
            "knn_queries": self.monitor.queries_from if self.monitor else None,
            "knn_query_count": self.monitor.query_count if self.monitor else None,
            "pair_count": self.monitor.pair_count if self.monitor else None,
        }
        if self.fabric.is_global_zero:
            backbone = self.method.backbone
            recorded = record(backbone) if isinstance(backbone, Backbone) else None  # a plain module has no features
            self.run.finish(backbone.state_dict(), result, self.state.metrics, recorded)
        return result


def describe(row: dict[str, Any], random: dict[str, Any]) -> str:
    """One epoch in words: loss, standing against random features, speed."""
    words = [f"loss {row['loss']:.3f}"]
    if row.get("knn") is not None:
        words.append(f"kNN {row['knn']:.1f} % (random features {_percent(random.get('knn'), 1)})")
    if "pairs" in row:
        words.append(f"pairs {row['pairs']:.0f} % (random {_percent(random.get('pairs'), 0)})")
        spread, rank = (math.nan if row[k] is None else row[k] for k in ("spread", "rank"))
        words.append(f"spread {spread:.2f}  rank {rank:.0f}")
    if "images_per_second" in row:
        words.append(progress.rate(row["images_per_second"]))
    return "  ".join(words)


def _percent(value: float | None, digits: int) -> str:
    return "not measured" if value is None else f"{value:.{digits}f} %"
