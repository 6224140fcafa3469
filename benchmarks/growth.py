"""How does cost grow with the work? Pretraining, regions, readout, invariance, error analysis and a study, 1x to 8x.

    python benchmarks/growth.py                        all, about 5 minutes of one core
    python benchmarks/growth.py --stages readout study --times 1 2 4 8 16
    python benchmarks/growth.py --small                that it runs, no measurement

What grows is the number of images (of detections' images, of cells in a study); sizes in pixels stay. Each stage works
through its own command or function, on generated scenes, in this process and on one thread, start-up and files
included; it has run once before anything is timed. Times are processor time, which other work on the machine disturbs
little, and the least of the rounds. Printed: seconds at each multiple, the exponent p of "time ~ work^p" over all of
them and over the last doubling, and the part that does not grow (least squares of fixed + slope x work).
Expected: p near 1 over the last doubling for everything, below 1 over all where starting costs as much as the work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import whytransfer
from whytransfer import progress

Work = Callable[[int, Path], object]  # (times the least work, a new folder)


def pretraining(times: int, folder: Path) -> None:
    """One epoch of SimCLR's preset on 160 scenes of 32 px."""
    settings = {"method": "simclr-small", "size": 32, "batch": 32, "epochs": 1, "monitor": False, "accelerator": "cpu"}
    whytransfer.pretrain(images=f"scenes:{160 * times}:{times}:32", out=folder / "run", **settings)


def regions(times: int, folder: Path) -> None:
    """Felzenszwalb's segments of 24 scenes of 128 px."""
    whytransfer.make_masks(images=f"scenes:{24 * times}:{times}:128", out=folder / "regions", workers=1)


def readout(times: int, folder: Path) -> None:
    """The logistic path, 45 C x 5 folds, on 500 x 64 features of 10 classes."""
    from whytransfer.tasks.logistic import fit_path

    g = torch.Generator().manual_seed(times)
    labels = torch.arange(500 * times) % 10
    features = torch.randn(500 * times, 64, generator=g) + torch.randn(10, 64, generator=g)[labels] / 3
    fit_path(features, labels, 10)


def invariance(times: int, folder: Path) -> None:
    """Two transforms at four strengths on 40 scenes of 48 px, whitened by them."""
    whytransfer.diagnose_invariance(
        backbone="random:resnet18", images=f"scenes:{40 * times}:{times}:48", size=48, count=40 * times, values=4,
        transforms=("rotation", "hue"), figures=False, device="cpu", out=folder / "why",
    )  # fmt: skip


def errors(times: int, folder: Path) -> None:
    """Both taxonomies and all costs of 20,000 detections on 200 images, reading included."""
    from detection_errors import made, ours

    made(folder, 200 * times, 0)
    ours(folder, warm=False)


def study(times: int, folder: Path) -> None:
    """A readout of a random backbone at two seeds, each a cell of its own."""
    grid = {
        "study": "growth",
        "seeds": list(range(2 * times)),
        "transfer": {"size": 32, "train": "scenes:60:0:32", "test": "scenes:60:1:32"},
        "backbones": {"random": "random:resnet18:{seed}"},
        "tasks": {"class": {"task": "readout"}},
    }
    found = whytransfer.run_study(grid, out=folder, workers=1, calibrate=False)
    assert len({row["cell"] for row in found}) == 2 * times


STAGES: dict[str, tuple[Work, str]] = {
    "pretraining": (pretraining, "images"),
    "regions": (regions, "images"),
    "readout": (readout, "images"),
    "invariance": (invariance, "images"),
    "errors": (errors, "images with 100 detections each"),
    "study": (study, "cells"),
}


def processor_seconds(work: Work, times: int) -> float:
    """Of one run in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        work(times, Path(folder))
        return time.process_time() - began


def told(name: str, unit: str, multiples: list[int], seconds: list[float]) -> str:
    """One line of the table."""
    x, t = np.array(multiples, float), np.array(seconds)
    over_all = np.polyfit(np.log(x), np.log(t), 1)[0]
    last = np.log(t[-1] / t[-2]) / np.log(x[-1] / x[-2])
    slope, fixed = np.polyfit(x, t, 1)
    times = "  ".join(f"{k}x {s:6.2f} s" for k, s in zip(multiples, seconds, strict=True))
    return (
        f"{name:12} {times}   exponent {over_all:.2f} over all, {last:.2f} at the end; "
        f"{max(fixed, 0):.2f} s + {slope:.2f} s per multiple of {unit}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--times", nargs="+", type=int, default=[1, 2, 4, 8], help="multiples of the work (1 2 4 8)")
    parser.add_argument("--rounds", type=int, default=1, help="of each; the least counts (1)")
    parser.add_argument("--small", action="store_true", help="multiples 1 and 2 only")
    args = parser.parse_args()
    multiples = [1, 2] if args.small else sorted(args.times)
    torch.set_num_threads(1)
    progress.be_quiet()
    for name in args.stages:
        work, unit = STAGES[name]
        processor_seconds(work, multiples[0])  # imports, compilation
        seconds = [min(processor_seconds(work, k) for _ in range(args.rounds)) for k in multiples]
        print(told(name, unit, multiples, seconds), flush=True)


if __name__ == "__main__":
    main()
