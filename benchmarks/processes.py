"""Several processes at fixed work per process: which share of the single process's rate does each of them keep?

    python benchmarks/processes.py                 1 and 2 processes of one thread, a few minutes
    python benchmarks/processes.py --processes 1 2 4 --size 224 --backbone resnet50 --batch 64

`whytransfer pretrain --devices N` on N x --batch images a step (gloo on processors), one thread each, generated scenes.
Printed: images/s in the median of steps, by the clock, as the run itself tells it, and the share of N single processes;
and the same by processor time: seconds of all processes for a longer run less those of a shorter one, over the steps
between, which other work on the machine disturbs little, but which does not see waiting.
Expected: 0.9 by the clock where there is a core for each process; asked of 2.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

WANTED = 0.9


def ran(args: argparse.Namespace, processes: int, steps: int, folder: Path) -> tuple[float, float]:
    """Images/s of a run by its own clock, and processor seconds of all its processes, start-up included."""
    batch = args.batch * processes
    settings = {
        "images": f"scenes:{8 * batch}:0:{args.size}", "method": args.method, "backbone": args.backbone, "batch": batch,
        "size": args.size, "iterations": steps, "devices": processes, "threads": 1, "accelerator": "cpu",
        "out": folder / f"{processes}-{steps}", "warmup-epochs": 0,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in settings.items()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "whytransfer.cli", "pretrain", *flags, "--no-monitor", "--json", "--quiet"]
    said = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(said)["images_per_second"], spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="numbers of them (1 2)")
    parser.add_argument("--method", default="simclr-small")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="of the views, in pixels (64)")
    parser.add_argument("--batch", type=int, default=64, help="images of a step and process (64)")
    parser.add_argument("--steps", nargs=2, type=int, default=(4, 24), help="of the shorter and the longer run (4 24)")
    args = parser.parse_args()
    short, long = args.steps
    alone: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for processes in args.processes:
            ran(args, processes, short, Path(folder) / "first")  # compiles, fills the cache
            _, start = ran(args, processes, short, Path(folder))
            by_clock, whole = ran(args, processes, long, Path(folder))
            images = args.batch * processes * (long - short)
            by_processor = images / max(whole - start, 1e-9)  # of one core, whatever the number of processes
            alone = alone or (by_clock / processes, by_processor)
            shares = by_clock / processes / alone[0], by_processor / alone[1]
            print(
                f"{processes} processes: {by_clock:.1f} images/s by the clock, {shares[0]:.2f} of as many single ones; "
                f"{by_processor:.1f} images a processor second, {shares[1]:.2f} (asked of 2: {WANTED})",
                flush=True,
            )


if __name__ == "__main__":
    main()
