"""What do shards cost at a million images: to open, to hold, to index, to read? Bound: 10 s to open, 100 bytes each.

    python benchmarks/shards.py [--images 1000000] [--small] [--opening]

Opening and holding: a set of that many images in shards of 1,000, of which only the indexes are real (the tar files are
holes of the right length), and half as many for the slope. Indexing and reading: shards and a folder of 2,000 equal
JPEGs of 500 x 375 px, made here; each image is read by its place, in the same random order.
Expected on a local disk, by the processor's time of one core: 0.4 s per million to open, 1.5 s for the stamp, 66 bytes
per image (30 of them its name here); indexing 37,000 images/s, packing 6,000; reading as fast as the folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whytransfer.images import Folder, open_images
from whytransfer.images.index import Names
from whytransfer.images.shards import pack
from whytransfer.images.shards.index import ShardIndex, build
from whytransfer.images.shards.sources import INDEX_SUFFIX, Local

PER_SHARD, CLASSES, BYTES = 1000, 1000, 110_000  # ImageNet's images have 110 kB in the mean


def simulate(folder: Path, count: int) -> None:
    """Shards that are holes, with indexes as `pack` would leave them."""
    shards = [f"{k:06d}.tar" for k in range(count // PER_SHARD)]
    stride = BYTES // 512 * 512 + 2048
    for k, shard in enumerate(shards):
        numbers = range(k * PER_SHARD, (k + 1) * PER_SHARD)
        names = Names(f"n{i % CLASSES:08d}/n{i % CLASSES:08d}_{i}.JPEG" for i in numbers)
        where = np.stack([512 + stride * np.arange(PER_SHARD), np.full(PER_SHARD, BYTES)], axis=1)
        labels = np.arange(PER_SHARD, dtype=np.int64) % CLASSES
        size = stride * PER_SHARD + 1024
        with open(folder / shard, "wb") as file:
            file.truncate(size)
        index = ShardIndex(names, where, np.zeros(PER_SHARD, np.uint32), labels, {}, {}, size)
        (folder / (shard + INDEX_SUFFIX)).write_bytes(index.to_bytes(""))
    empty: dict[str, Any] = dict.fromkeys(("labelled_with", "box_classes", "semantic_classes", "notes"), [])
    classes = [f"n{k:08d}" for k in range(CLASSES)]
    card = {"format": 1, "name": "simulated", "classes": classes, "shards": shards, **empty}
    (folder / "shards.json").write_text(json.dumps(card))


def seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    began = clock()
    result = work()
    return clock() - began, result


def timed(work: Callable[[], Any]) -> tuple[tuple[float, Any], float]:
    """((seconds by the clock, result), seconds of the processor)."""
    spent, answer = seconds(lambda: seconds(work), time.process_time)
    return answer, spent


def held_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def opening(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), count)
        before = held_mib()
        (opened, images), spent = timed(lambda: open_images(folder))
        grown = held_mib() - before
        (stamped, _), stamping = timed(images.stamp)
        print(
            f"{count:>9,} images in {count // PER_SHARD:,} shards: open {opened:.2f} s = "
            f"{opened / count * 1e6:.2f} s per million ({spent / count * 1e6:.2f} of a processor), "
            f"stamp {stamped / count * 1e6:.2f} ({stamping / count * 1e6:.2f}), "
            f"{images.nbytes / count:.1f} state bytes per "
            f"image, process grew by {grown:.0f} MiB"
        )


def reading(count: int) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    encoded = io.BytesIO()
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=95)
    order = rng.permutation(count).tolist()
    with tempfile.TemporaryDirectory() as place:
        for k in range(count):
            path = Path(place) / "in" / f"c{k % 10}" / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded.getvalue())
        folder = Folder(Path(place) / "in")
        packed, _ = seconds(lambda: pack(folder, Path(place) / "out", PER_SHARD))
        print(f"pack: {count / packed:,.0f} images/s")
        shards = sorted(Path(place, "out").glob("*.tar"))
        indexed, _ = seconds(lambda: [build(Local(str(shard))) for shard in shards])
        print(f"index of a shard, from its headers: {count / indexed:,.0f} images/s")
        for _ in range(3):  # side by side
            for name, images in (("folder", folder), ("shards", open_images(str(Path(place) / "out")))):
                took, _ = seconds(lambda images=images: [images.encoded(i) for i in order])  # type: ignore[misc]
                decoded, _ = seconds(lambda images=images: [images[i] for i in order[: count // 10]])  # type: ignore[misc]
                print(
                    f"{name}: {count / took:,.0f} images/s read, {count / 10 / decoded:,.0f} images/s read and decoded"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="of the simulated set (1,000,000)")
    parser.add_argument("--small", action="store_true", help="20,000 simulated, 200 real ones")
    parser.add_argument("--opening", action="store_true", help="the simulated set alone")
    arguments = parser.parse_args()
    count = 20_000 if arguments.small else arguments.images
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for part in (2, 1):
        opening(count // part // PER_SHARD * PER_SHARD)
    if not arguments.opening:
        reading(200 if arguments.small else 2000)


if __name__ == "__main__":
    main()
