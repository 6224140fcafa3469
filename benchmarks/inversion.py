"""Inversions per hour beside the published way: one picture at a time, the network as written.

    python benchmarks/inversion.py                                    ResNet-50, 224 px, 8 pictures, 6 steps
    python benchmarks/inversion.py --backbone A B --steps 50          loss curves over more steps
    python benchmarks/inversion.py --threads 1 --pictures 4 --steps 3 on a busy machine: look at processor s
    python benchmarks/inversion.py --device cuda --pictures 32        on a GPU

The published way here: for one picture after the other convolve, average, double and join as the paper's network does,
torch.optim.Adam as it comes, a batch of one through the frozen backbone (whose weights take no gradients, which is kind
to it). Ours: whytransfer.diagnosis.inverting.invert on all pictures at once. Both start from the same weights, noise
and pictures and take the same steps, set-up included; each runs one step before anything is timed, rounds alternate and
medians count. Pictures per hour are for 3,000 steps. Loss curves are compared step by step. In single precision they
part, since Adam's first steps are as large for a gradient of rounding errors as for any other: the published way in
another memory layout, which only orders its sums otherwise, is the control, and --double shows them without rounding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from whytransfer import progress
from whytransfer.backbones import load_backbone
from whytransfer.diagnosis.hourglass import Hourglass
from whytransfer.diagnosis.inverting import LR, STEPS, Job, invert
from whytransfer.memory import keep_freed_memory


def as_written(w: dict[str, Tensor], noise: Tensor, scales: int) -> Tensor:
    """One picture (1, 3, S, S) from the weights of one network, layer by layer."""

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, w[f"{name}_weight"], w[f"{name}_bias"], padding=w[f"{name}_weight"].shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.batch_norm(x, None, None, w[f"{name}_weight"], w[f"{name}_bias"], training=True)

    def active(x: Tensor, name: str) -> Tensor:
        return F.leaky_relu(norm(x, name), 0.2, inplace=True)

    def scale(x: Tensor, i: int) -> Tensor:
        skip = active(conv(x, f"{i}_skip"), f"{i}_skip_norm")
        x = active(F.avg_pool2d(conv(x, f"{i}_down"), 2), f"{i}_down_norm")
        x = active(conv(x, f"{i}_inner"), f"{i}_inner_norm")
        x = scale(x, i + 1) if i + 1 < scales else x
        x = norm(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="nearest")], dim=1), f"{i}_joined_norm")
        return active(conv(active(conv(x, f"{i}_up"), f"{i}_up_norm"), f"{i}_mix"), f"{i}_mix_norm")

    return conv(scale(noise, 0), "out")


def one_at_a_time(jobs: Sequence[Job], steps: int, network: Hourglass, layout=torch.contiguous_format) -> Tensor:
    """(N, steps) losses of the published way; another memory layout changes the order of its sums alone."""
    found = []
    for job in jobs:
        size = job.picture.shape[-1]
        weights = {k: v.to(job.picture).requires_grad_() for k, v in network.start(job.seeds[0]).items()}
        noise = network.noise_of(job.seeds[1], size)[None].to(job.picture).contiguous(memory_format=layout)
        mean, std = job.backbone.mean[:, None, None], job.backbone.std[:, None, None]
        optimizer = torch.optim.Adam(weights.values(), lr=LR)
        with torch.no_grad():
            target = job.backbone(job.picture[None]).map
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            made = as_written(weights, noise, len(network.channels))[..., :size, :size]
            loss = F.mse_loss(job.backbone.forward(made * std + mean).map, target)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        found.append(losses)
    return torch.tensor(found, dtype=torch.float64)


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """Losses, seconds, seconds of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    losses = work()
    return losses, time.perf_counter() - wall, time.process_time() - processor


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["random:resnet50"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--together", type=int, default=None, help="pictures as groups of one convolution")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--double", action="store_true", help="double precision: for the curves, not for speed")
    parser.add_argument("--narrow", action="store_true", help="a tiny network: that the script runs, no measurement")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    progress.be_quiet()
    network = Hourglass((4, 4), (3, 3), 2, 4) if args.narrow else Hourglass()
    precision = torch.float64 if args.double else torch.float32
    backbones = [load_backbone(spec, args.device).to(precision) for spec in args.backbone]
    coarse = torch.rand((args.pictures, 3, 14, 14), generator=torch.Generator().manual_seed(0))
    pictures = F.interpolate(coarse, size=(args.size, args.size), mode="bicubic").clamp(0, 1).to(args.device, precision)
    jobs = [Job(b, picture, (n, 1000 + n)) for n, picture in enumerate(pictures) for b in backbones]
    published = lambda steps: one_at_a_time(jobs, steps, network)  # noqa: E731
    ours = lambda steps: invert(jobs, None, steps, network, together=args.together).losses  # noqa: E731
    one_at_a_time(jobs[:1], 1, network)
    ours(1)
    rounds = [(timed(lambda: published(args.steps)), timed(lambda: ours(args.steps))) for _ in range(args.rounds)]
    control = one_at_a_time(jobs[:1], args.steps, network, torch.channels_last)
    report(args, len(jobs), rounds, control)


def report(args: argparse.Namespace, jobs: int, rounds: Sequence[tuple], control: Tensor) -> None:
    """Both sides, the ratio, and how far the curves are apart."""
    print(
        f"{jobs} inversions at {args.size} px, {', '.join(args.backbone)}, {args.steps} steps, {args.threads} threads"
    )
    seconds = {}
    for side, name in enumerate(("published way", "ours")):
        wall, processor = (median([r[side][k] for r in rounds]) for k in (1, 2))
        seconds[name] = wall, processor
        per_hour = 3600 * jobs * args.steps / (STEPS * wall)
        print(f"{name}: {wall / jobs / args.steps:.3f} s per step and picture ({processor / jobs / args.steps:.3f} "
              f"processor s), {per_hour:.2f} pictures per hour at {STEPS:,} steps")  # fmt: skip
    ratios = [a / b for a, b in zip(seconds["published way"], seconds["ours"], strict=True)]
    print(f"ratio {ratios[0]:.2f} (processor {ratios[1]:.2f})")
    theirs, ours = (rounds[-1][side][0] for side in (0, 1))
    fallen = (theirs[:, -1] / theirs[:, 0]).mean()
    at = sorted({0, args.steps // 4, args.steps // 2, 3 * args.steps // 4, args.steps - 1})
    print(f"losses fell to {fallen:.3f} of the first; relative differences between the curves of the first picture")
    for name, curve in (("the published way with its sums ordered otherwise", control), ("ours", ours[:1])):
        apart = ((curve - theirs[:1]).abs() / theirs[:1])[0]
        print(f"{name}: " + ", ".join(f"step {k} {apart[k]:.1e}" for k in at))


if __name__ == "__main__":
    main()
