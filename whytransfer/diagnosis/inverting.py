"""Pictures from features: N hourglasses fitted at once until a backbone sees in their pictures what it saw in others.

For each picture x0 the weights of a fresh network r with a fixed noise z0 are fitted so that the mean squared
difference between f(r(z0)) and f(x0) falls: Adam at 1e-3 for 3,000 steps, f frozen, in evaluation mode; what r(z0)
shows last is what f kept of x0 [Zhao 2021, arXiv 2006.06606, section 2.3 and appendix D; Ulyanov 2018]. Pictures leave
the network normalised, without a sigmoid; the published 224 pixels are the upper left of its 256.

Shape letters: N pictures (jobs), S side in pixels, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from whytransfer.backbones import Backbone
from whytransfer.diagnosis.hourglass import Hourglass
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.records import Features
from whytransfer.tasks.fitting import SAVE_EVERY_S, Diverged, Schedule, fit

STEPS, LR = 3000, 1e-3

Watch = Callable[[int, Tensor], object]  # called with (steps done, pictures (N, 3, S, S) in [0, 1])


@dataclass(frozen=True)
class Job:
    """One picture (3, S, S) in [0, 1] to be made again from what one frozen backbone sees of it.

    The seeds decide the initial weights and the noise. Its device and precision are those of the fit.
    """

    backbone: Backbone
    picture: Tensor
    seeds: tuple[int, int]


@dataclass(frozen=True)
class Inverted:
    """Pictures (N, 3, S, S) in [0, 1], and the loss of each before every step (N, steps)."""

    pictures: Tensor
    losses: Tensor
    scales: Tensor  # (N,) mean square of the features that were aimed at: a loss as large has told nothing


def invert(
    jobs: Sequence[Job],
    stage: str | None = None,
    steps: int = STEPS,
    network: Hourglass | None = None,
    *,
    folder: Path | None = None,
    label: str = "inversion",
    watch: Watch | None = None,
    watch_every: int = 300,
    together: int | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> Inverted:
    """Fit all jobs at once; their pictures are of one size, their backbones may differ.

    `stage` is a stage of the backbones ("layer3"), "vector", or None for the last map (layer4 after its ReLU). With a
    folder the state is saved there and a later call with the same jobs goes on from it; `together` is Hourglass's.
    Raises InputError for an unknown stage and for features that do not depend on the image or are not finite, RunError
    at a loss that is no number.
    """
    batch = _Batch(jobs, stage, steps, network or Hourglass(), together)
    optimizer = torch.optim.Adam(batch.weights.values(), lr=LR, fused=True)

    def loss_of(step: int) -> Tensor:
        if watch is not None and step and step % watch_every == 0:
            watch(step, batch.finished())
        return batch.loss(step)

    try:
        fit(batch, lambda step: step, loss_of, Schedule(steps, len(jobs), LR), folder=folder, label=label,
            optimizer=optimizer, save_every_s=save_every_s)  # fmt: skip
    except Diverged:
        raise RunError(
            f"{label}: a loss is no number any more after {int(batch.losses.isfinite().all(0).sum())} steps. Another "
            "--seed starts from other weights."
        ) from None
    return Inverted(batch.finished().cpu(), batch.losses.cpu(), batch.scales.cpu())


class _Batch(nn.Module):
    """The networks of N jobs, their inputs and the features they are after; the backbones stay outside."""

    noise: Tensor
    losses: Tensor

    def __init__(self, jobs: Sequence[Job], stage: str | None, steps: int, network: Hourglass, together: int | None):
        super().__init__()
        self.jobs, self.stage, self.network, self.together = tuple(jobs), stage, network, together
        like, self.size_px = jobs[0].picture, jobs[0].picture.shape[-1]  # its device and precision are those of all
        started = [network.start(job.seeds[0]) for job in jobs]
        stacked = {name: torch.stack([weights[name] for weights in started]) for name in started[0]}
        self.weights = nn.ParameterDict({name: nn.Parameter(values.to(like)) for name, values in stacked.items()})
        noise = torch.stack([network.noise_of(job.seeds[1], self.size_px) for job in jobs])
        self.register_buffer("noise", noise.to(like), persistent=False)
        self.register_buffer("losses", torch.full_like(like[0, 0, :1], float("nan")).repeat(len(jobs), steps))
        self.backbones = list(dict.fromkeys(job.backbone for job in jobs))
        self.rows = [[n for n, job in enumerate(jobs) if job.backbone is b] for b in self.backbones]
        pictures = torch.stack([job.picture for job in jobs])
        with torch.no_grad():
            self.targets = [self._aim(b, pictures[rows]) for b, rows in zip(self.backbones, self.rows, strict=True)]
        scales = like.new_empty(len(jobs))
        for rows, target in zip(self.rows, self.targets, strict=True):
            scales[rows] = target.square().flatten(1).mean(1)
        self.scales = scales

    def _aim(self, backbone: Backbone, pictures: Tensor) -> Tensor:
        """What the backbone sees of the pictures; InputError where it sees nothing that could be aimed at."""
        target = _features(backbone, pictures, self.stage)
        blank = _features(backbone, torch.full_like(pictures[:1], 0.5), self.stage)
        named = f"backbone {backbone.spec or backbone.arch}: the features of {self.stage or 'the last map'}"
        if not bool(target.isfinite().all()):
            raise InputError(f"{named} are not finite for these images, so nothing can be inverted: check its weights")
        apart = (target - blank).abs().flatten(1).amax(1)
        if bool((apart <= 1e-6 * target.abs().flatten(1).amax(1)).any()):
            raise InputError(
                f"{named} are those of an even grey picture, so they say nothing of the image: there is nothing to "
                "invert. Check its weights, or choose another --stage"
            )
        return target

    def made(self) -> Tensor:
        """(N, 3, S, S) what the networks show now, in the backbones' normalised colours."""
        pictures = self.network.pictures(dict(self.weights), self.noise, self.together)
        return pictures[..., : self.size_px, : self.size_px]

    def loss(self, step: int) -> Tensor:
        """The sum over jobs, whose gradients are those of each alone; the loss of each is kept."""
        made = self.made()
        losses: list[Tensor] = [made.new_empty(0)] * len(self.jobs)
        for backbone, rows, target in zip(self.backbones, self.rows, self.targets, strict=True):
            seen = _features(backbone, _in_colours(made[rows], backbone), self.stage)
            for row, value in zip(rows, (seen - target).square().flatten(1).mean(1), strict=True):
                losses[row] = value
        each = torch.stack(losses)
        self.losses[:, step] = each.detach()
        return each.sum()

    @torch.no_grad()
    def finished(self) -> Tensor:
        """(N, 3, S, S) in [0, 1], beyond which colours are cut off."""
        made = self.made()
        for backbone, rows in zip(self.backbones, self.rows, strict=True):
            made[rows] = _in_colours(made[rows], backbone)
        return made.clamp(0, 1)


def _in_colours(normalised: Tensor, backbone: Backbone) -> Tensor:
    """Undo the backbone's normalisation, which it will apply again."""
    return normalised * backbone.std[:, None, None] + backbone.mean[:, None, None]


def _features(backbone: Backbone, pictures: Tensor, stage: str | None) -> Tensor:
    """(N, ...) features of one stage. Not through __call__, which refuses colours beyond [0, 1] that a net may pass."""
    features: Features = backbone.forward(pictures.contiguous(memory_format=torch.channels_last))
    if stage is None:
        return features.map
    if stage == "vector":
        return features.vector
    if stage not in features.stages:
        raise unknown_name("feature stage", stage, ["vector", *features.stages])
    return features.stages[stage]
