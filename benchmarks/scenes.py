"""Question: how many generated scenes a second?

Command:  python benchmarks/scenes.py            (half a minute)
Expected: at 64 px at least 500 images/s on two cores.

Two threads, wall-clock, so run it on an idle machine; images per second of processor time are printed beside it, which
a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from whytransfer.images.scenes import Scenes

GOAL_IMAGES_PER_S = 500


def images_per_second(size_px: int, count: int, threads: int) -> tuple[float, float]:
    """Per second of wall-clock, and per second of processor time."""
    scenes = Scenes(count, seed=0, size_px=size_px)
    wall, processor = time.perf_counter(), time.process_time()
    scenes.render_many(np.arange(count), threads=threads)
    return count / (time.perf_counter() - wall), count / (time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="images at 64 px; fewer in proportion at larger sizes")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    Scenes(1).render_many([0])
    print(f"first image (compiles once per installation): {time.perf_counter() - start:.1f} s")
    for size_px in (32, 64, 128, 224):
        count = max(64, options.count * 64**2 // max(size_px, 64) ** 2)
        wall, processor = images_per_second(size_px, count, options.threads)
        print(
            f"{size_px:4d} px  {wall:7.0f} images/s with {options.threads} threads"
            f"  ({processor:.0f} per second of processor time)"
        )
        if size_px == 64:
            assert wall >= GOAL_IMAGES_PER_S, f"{wall:.0f} images/s at 64 px, the goal is {GOAL_IMAGES_PER_S}"


if __name__ == "__main__":
    main()
