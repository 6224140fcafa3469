"""Question: how many images per second does each region engine make on one core, and what would ImageNet cost?

Command:  python benchmarks/regions.py [--images FOLDER] [--engines grid:5 felzenszwalb ...]   (a minute, one core)
Expected: felzenszwalb 7.4 images/s per core at least (ImageNet on 16 cores in 3 hours; aim 15), several times
          scikit-image's rate with equal regions; reading a mask cheaper than decoding its picture.

Pictures are brought to 500 x 375 (ImageNet's mean size) and saved as JPEG at quality 92, photographs from --images or
generated ones. A rate is that of `whytransfer masks` in one process: reading, decoding, regions, coding, writing; CPU
time, median over rounds. The projection takes 1,281,167 images and 16 cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from whytransfer.commands.masks import projection_hours
from whytransfer.images import open_images
from whytransfer.images.decode import decode as decode_picture
from whytransfer.images.folder import Folder
from whytransfer.masks import Engine, RegionStore, open_engine
from whytransfer.masks.coding import decode
from whytransfer.masks.making import Maker
from whytransfer.memory import keep_freed_memory

ENGINES = ("grid:5", "felzenszwalb", "felzenszwalb:500,1000,1500", "felzenszwalb-opencv", "felzenszwalb-skimage")
WIDE, HIGH = 500, 375
WANTED = 7.4  # images/s per core of felzenszwalb


def pictures(folder: Path, source: str | None, count: int) -> Folder:
    """`count` JPEG files of 500 x 375, or 375 x 500 where the picture stands."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = open_images(source) if source else None
    for i in range(count):
        if images is not None:
            image = Image.fromarray(images[i * len(images) // count].image.permute(1, 2, 0).numpy())
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((WIDE, HIGH), Image.Resampling.BICUBIC)).astype(int)
            image = Image.fromarray((smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8))
        size = (WIDE, HIGH) if image.width >= image.height else (HIGH, WIDE)
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:04d}.jpg", quality=92)
    return Folder(folder)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process for one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def rate(images: Folder, engine: Engine, folder: Path, rounds: int) -> float:
    """Images per second of CPU time, everything included."""
    spent = []
    for k in range(rounds + 1):
        maker = Maker(images, engine, RegionStore.create(folder / str(k), engine.recipe))

        def work(maker: Maker = maker) -> None:
            maker(0, len(images))
            maker.close()

        spent.append(cpu_seconds(work) / len(images))
    return 1 / median(spent[1:])  # the first compiles


def reading(images: Folder, store: RegionStore) -> tuple[float, float, int]:
    """Milliseconds to decode a picture and to read its regions in full, and the bytes that these take; medians."""
    both, sizes = [], []
    for i in range(len(images)):
        encoded, code = images.encoded(i), store.code(i)
        sizes.append(len(code))
        picture = min(cpu_seconds(lambda e=encoded: decode_picture(e, "x")) for _ in range(5))
        both.append((picture, min(cpu_seconds(lambda c=code: decode(c)) for _ in range(5))))
    return 1e3 * median(p for p, _ in both), 1e3 * median(r for _, r in both), int(median(sizes))


def main() -> None:
    """All engines; exit status 1 if felzenszwalb is slower than wanted or a mask costs more than its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="photographs to use; generated ones when not given")
    parser.add_argument("--engines", nargs="+", default=ENGINES, help=f"by their specs ({' '.join(ENGINES)})")
    parser.add_argument("--count", type=int, default=24, help="pictures (24)")
    parser.add_argument("--rounds", type=int, default=3, help="of all pictures; the median counts (3)")
    args = parser.parse_args()
    keep_freed_memory()
    missed = False
    with tempfile.TemporaryDirectory() as name:
        images = pictures(Path(name, "images"), args.images, args.count)
        for spec in args.engines:
            engine, folder = open_engine(spec), Path(name, spec.replace(":", "_"))
            speed = rate(images, engine, folder, args.rounds)
            picture_ms, regions_ms, size = reading(images, RegionStore.open(folder / "1"))
            print(
                f"{spec:28} {speed:7.1f} images/s/core   ImageNet on 16 cores {projection_hours(speed):6.2f} h"
                f"   {size:6d} bytes   decoding a picture {picture_ms:.2f} ms, reading its regions {regions_ms:.2f} ms",
                flush=True,
            )
            missed |= (spec == "felzenszwalb" and speed < WANTED) or regions_ms > picture_ms
    raise SystemExit(missed)


if __name__ == "__main__":
    main()
