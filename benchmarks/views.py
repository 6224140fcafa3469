"""Question: what do the two views of a picture cost, next to lightly's?

Command:  python benchmarks/views.py            (needs the extra `bench`; about a minute, one core)
Expected: a third of lightly's time per picture and core at most, at 64 and at 224 px.

Same pixels (500 x 375 or 64 x 64 RGB, already decoded: lightly gets them as PIL images), same recipe (MoCo v2), same
view size, one thread each, CPU time, in alternating rounds in one process; the ratio is the median over rounds.
lightly's time includes its normalisation, which here belongs to the backbone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from PIL import Image

from whytransfer.views import Viewer, recipe

CASES = [((375, 500), 64), ((375, 500), 224), ((64, 64), 64)]  # picture (height, width), side of the view
WANTED = 3.0


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth coloured noise: (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)) for _ in range(count)]
    return [np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in coarse]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process for one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def compare(size: tuple[int, int], size_px: int, count: int, rounds: int) -> float:
    """Print images/s per core of both and return the median ratio."""
    from lightly.transforms.moco_transform import MoCoV2Transform

    pixels = pictures(count, *size)
    images = [Image.fromarray(p) for p in pixels]
    viewer, peer = Viewer(recipe("moco-v2"), size_px, seed=0, threads=1), MoCoV2Transform(input_size=size_px)
    index, labels = np.arange(count), np.zeros(count, np.int64)
    viewer(pixels, index, labels, epoch=0)  # compiles
    ours, theirs = [], []
    for epoch in range(rounds):
        ours.append(cpu_seconds(lambda epoch=epoch: viewer(pixels, index, labels, epoch)) / count)
        theirs.append(cpu_seconds(lambda: torch.stack([torch.stack(peer(image)) for image in images])) / count)
    ratio = median(t / o for o, t in zip(ours, theirs, strict=True))
    print(
        f"{size[1]:4d} x {size[0]:<3d} -> 2 x {size_px:3d} px"
        f"   whytransfer {1 / median(ours):7.0f} images/s/core ({median(ours) * 1e3:.3f} ms)"
        f"   lightly {1 / median(theirs):6.0f} ({median(theirs) * 1e3:.3f} ms)   ratio {ratio:.1f}"
    )
    return ratio


def main() -> None:
    """All cases; exit status 1 if one of them misses the wanted ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="pictures per round (64)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side; the median counts (9)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratios = [compare(size, size_px, args.count, args.rounds) for size, size_px in CASES]
    print(f"smallest ratio {min(ratios):.1f}, wanted {WANTED:.0f}")
    raise SystemExit(min(ratios) < WANTED)


if __name__ == "__main__":
    main()
