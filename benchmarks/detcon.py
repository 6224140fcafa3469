"""The DetCon step beside lightly's: the loss, and what comes before it (regions to region features).

    python benchmarks/detcon.py [--device cpu] [--rounds 5] [--sizes 64 128 256]

Loss: forward and backward of DetCon-B's (keys without gradient) and DetCon-S's (keys with) on the same vectors, against
lightly.loss.DetConBLoss and DetConSLoss, which give the same number (checked to 1e-5). M 16 regions, D 256 and 128.
Regions: from label maps of 224 x 224 px and a ResNet-50 map (2048 x 7 x 7) to region features, forward and backward.
Ours assigns cells by area, draws 16 existing regions and pools them; lightly's example takes the nearest label of each
cell and pools every id up to the largest (25 as in its example) by scattering.

Each measurement runs in a process of its own: the median of the rounds, in CPU time of one thread (GPU: wall time), and
the most memory that the process held above what it held before (on a GPU: what PyTorch allocated).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

DRAWS, IDS, SIDE, GRID, WIDTH = 16, 25, 224, 7, 2048
WHAT = ("loss-b", "loss-s", "regions")


def loss_step(kind: str, side: str, batch: int, device: str) -> Callable[[], Any]:
    """One forward and backward; returns the loss."""
    import torch

    g = torch.Generator().manual_seed(0)
    dim = 256 if kind == "loss-b" else 128
    q1, q2, z1, z2 = (torch.randn(batch, DRAWS, dim, generator=g).to(device) for _ in range(4))
    ids1, ids2 = (torch.randint(0, 8, (batch, DRAWS), generator=g).to(device) for _ in range(2))
    q1.requires_grad_(), q2.requires_grad_()
    if kind == "loss-s":
        z1, z2 = q1, q2
    if side == "ours":
        from whytransfer.nn import detcon

        def compute() -> Any:
            return detcon(q1, q2, z1, z2, ids1, ids2)
    else:
        from lightly.loss import DetConBLoss

        criterion = DetConBLoss(temperature=0.1, gather_distributed=False)

        def compute() -> Any:
            return criterion(q1, q2, z1, z2, ids1, ids2)

    def step() -> Any:
        q1.grad = q2.grad = None
        loss = compute()
        loss.backward()
        return loss

    return step


def regions_step(side: str, batch: int, device: str) -> Callable[[], Any]:
    """Label maps and feature maps -> region features -> gradient of the maps."""
    import torch
    import torch.nn.functional as F

    g = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, IDS, (batch, 1, 9, 9), generator=g).float()
    maps = F.interpolate(coarse, (SIDE, SIDE))[:, 0].to(torch.uint8).to(device)
    features = torch.randn(batch, WIDTH, GRID, GRID, generator=g).to(device)
    features.requires_grad_()
    index = torch.arange(batch, device=device)

    def ours() -> Any:
        from whytransfer.masks.pooling import chances, draw, mean_features

        return mean_features(features, draw(maps, (GRID, GRID), chances(DRAWS, 0, 0, index, 0)).cells)

    def lightlys() -> Any:
        from lightly.models.utils import pool_masked

        cells = F.interpolate(maps[:, None].float(), (GRID, GRID))[:, 0].long()
        return pool_masked(features, cells, num_cls=IDS)

    def step() -> Any:
        features.grad = None
        out = (ours if side == "ours" else lightlys)().square().mean()
        out.backward()
        return out

    return step


def measure(what: str, side: str, batch: int, device: str, rounds: int) -> dict[str, float]:
    """Median seconds and peak MiB of a step, after one that is not counted; and what it computed."""
    import torch

    torch.set_num_threads(1)
    step = regions_step(side, batch, device) if what == "regions" else loss_step(what, side, batch, device)
    before = _held(device)
    value, times = float(step().detach()), []
    clock = time.process_time if device == "cpu" else time.perf_counter
    for _ in range(rounds):
        began = clock()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - began)
    return {"seconds": statistics.median(times), "MiB": _held(device) - before, "value": value}


def _held(device: str) -> float:
    """The most MiB so far."""
    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; the median counts (5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="images per step (64 128 256)")
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "SIDE", "BATCH"), help="one measurement, as JSON")
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure(a.one[0], a.one[1], int(a.one[2]), a.device, a.rounds)))
        return
    for what in WHAT:
        for batch in a.sizes:
            found = {}
            for side in ("ours", "lightly"):
                command = [sys.executable, __file__, "--device", a.device, "--rounds", str(a.rounds)]
                done = subprocess.run([*command, "--one", what, side, str(batch)], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                found[side] = json.loads(done.stdout.splitlines()[-1])
            ours, theirs = found["ours"], found["lightly"]
            if what != "regions" and abs(ours["value"] - theirs["value"]) > 1e-5 * theirs["value"]:
                sys.exit(f"{what}, batch {batch}: ours is {ours['value']}, lightly's {theirs['value']}")
            time_ratio, memory_ratio = (theirs[k] / max(ours[k], 1e-9) for k in ("seconds", "MiB"))
            print(
                f"{what:8} batch {batch:4}  ours {1e3 * ours['seconds']:8.1f} ms {ours['MiB']:7.0f} MiB   "
                f"lightly {1e3 * theirs['seconds']:8.1f} ms {theirs['MiB']:7.0f} MiB   "
                f"lightly / ours: time {time_ratio:.2f}, memory {memory_ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
