"""A method end to end from JPEG files, ours beside lightly's documented example: images per second, and the ratio.

Question   How many images a second does a whole pretraining step see, files to optimiser, on this machine?
Command    uv run --extra bench python benchmarks/pretraining.py --images FOLDER [--method moco-v2 | simclr | byol]
Minutes    about 2 per round (--rounds 3 --seconds 40)
Expect     ours at least 2.2 x lightly, and at least 85 % of our own step on ready tensors (two cores, bf16, moco-v2)

Both train ResNet-18 at 64 px, batch 128, two views by the method's recipe, in turns A B A B on the same files, each
turn in a process of its own; MoCo's queue holds 4096 keys, BYOL's heads are 1024 wide as in lightly's example.
lightly runs as its documentation shows: PIL transforms in two loader workers, fp32.
Ours runs as the command line does: decoded cache (built before the clock starts, seconds printed), fused views, bf16.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE, BATCH, QUEUE = 64, 128, 4096
OURS: dict[str, dict[str, int]] = {"moco-v2": {"queue": QUEUE}, "simclr": {}, "byol": {"hidden": 1024}}


def ours(name: str, images: str, seconds: float) -> dict[str, float]:
    """images/s of `pretrain` over about `seconds`, and of the same step on ready tensors."""
    import numpy as np
    import torch

    from whytransfer import methods, speed
    from whytransfer.commands import pretrain as p
    from whytransfer.commands.method import build_method
    from whytransfer.pretraining import Pretraining

    settings = {"images": images, "method": name, **OURS[name], "batch": BATCH, "size": SIZE, "monitor": False}
    began = time.perf_counter()
    plan = p.PretrainSettings.made_from(settings | {"out": Path("unused")})
    pixels = p.open_pixels(plan, images)
    cache_s = time.perf_counter() - began
    stop_at, run = 0.0, None

    def step_until(self, *arguments):
        nonlocal stop_at, run
        run = self
        stop_at = stop_at or time.perf_counter() + seconds
        self._stop.asked = time.perf_counter() > stop_at and len(self._speeds) > 5
        return original(self, *arguments)

    original, Pretraining._step = Pretraining._step, step_until
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        p.pretrain(**settings, epochs=1000, out=Path(folder) / "run", save_minutes=1000)
    method = build_method(plan, pixels, methods.options_of(name) | OURS[name])
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    views = speed.make_views(pixels, Viewer(recipe(method.recipe), SIZE, 0), np.arange(BATCH))
    ready = speed.step_rate(
        method, views, method.defaults, torch.device("cpu"), p.has_bf16(torch.device("cpu")), seconds / 3
    )
    times = [BATCH / s for s in run._speeds[3:]]  # the compilation's start
    if not times:
        raise SystemExit(f"{seconds:.0f} s were too short for four steps: --seconds {4 * seconds:.0f}")
    rate = BATCH * len(times) / sum(times)
    return {"end_to_end": rate, "ready_tensors": ready, "share_of_ready": rate / ready, "cache_s": cache_s}


def lightly(name: str, images: str, seconds: float, epochs: int = 10**6, save: Path | None = None) -> dict[str, float]:
    """images/s of lightly's documented example of a method: its blocks and loop, its defaults but for the sizes.

    With `epochs` and `save` it trains to the end (cosine schedule from lr 0.06) and leaves the backbone's weights.
    """
    import torch
    from lightly.data import LightlyDataset
    from lightly_steps import STEPS

    torch.manual_seed(0)
    step = STEPS[name](SIZE, QUEUE)
    data = LightlyDataset(images, transform=step.transform)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=2)
    weights = [p for module in step.trained for p in module.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.06, momentum=0.9, weight_decay=step.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    times: list[float] = []
    began = last = time.perf_counter()
    for epoch in range(epochs):
        for batch in loader:
            loss = step.loss(*batch[0])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - last)
            last += times[-1]
            if last - began > seconds:
                break
        if last - began > seconds:
            break
        schedule.step()
        print(f"epoch {epoch + 1}/{epochs}  loss {loss.item():.3f}  {last - began:.0f} s", file=sys.stderr, flush=True)
    if len(times) <= 3:
        raise SystemExit(f"{seconds:.0f} s were too short for four steps: --seconds {4 * seconds:.0f}")
    if save:
        torch.save({"backbone." + k: v for k, v in step.trained[0].state_dict().items()}, save)
    return {
        "end_to_end": BATCH * len(times[3:]) / sum(times[3:]),
        "seconds": last - began,
    }  # without the loader's start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of JPEG files")
    parser.add_argument("--method", choices=list(OURS), default="moco-v2")
    parser.add_argument("--seconds", type=float, default=40.0, help="of a turn that are timed (40)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--side", choices=("ours", "lightly"), help="one side alone, as JSON (what the rounds call)")
    parser.add_argument("--lightly-epochs", type=int, help="train lightly's side to the end and keep its weights")
    parser.add_argument("--save", type=Path, help="file for those weights")
    a = parser.parse_args()
    if a.lightly_epochs:
        print(json.dumps(lightly(a.method, a.images, float("inf"), a.lightly_epochs, a.save)))
        return
    if a.side:
        print(json.dumps({"ours": ours, "lightly": lightly}[a.side](a.method, a.images, a.seconds)))
        return
    found: dict[str, list[dict[str, float]]] = {"ours": [], "lightly": []}
    for _ in range(a.rounds):
        for side, rows in found.items():
            command = [sys.executable, __file__, "--images", a.images, "--seconds", str(a.seconds)]
            command += ["--method", a.method, "--side", side]
            rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
            print(side, {k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
    ratios = [o["end_to_end"] / b["end_to_end"] for o, b in zip(found["ours"], found["lightly"], strict=True)]
    shares = [o["share_of_ready"] for o in found["ours"]]
    for what, values, asked in (("end to end, ours / lightly", ratios, 2.2), ("share of the ready step", shares, 0.85)):
        print(f"{what}: median {statistics.median(values):.2f} of {[round(v, 2) for v in values]} (asked: {asked})")


if __name__ == "__main__":
    main()
