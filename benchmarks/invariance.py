"""Question: what do the views of the invariance diagnosis cost, next to the per-image route over PIL?

Command:  python benchmarks/invariance.py       (a few minutes, one core)
Expected: all transforms at their published numbers of values: 10 times as many views per second as the published
          route, 4 times at equal pixel work, twice in mode paper (the published order of steps).

Pictures of 500 x 375 px, views of 224. Three ways of making the views of one transform, one thread each, CPU time,
in alternating rounds in one process:
published    each copy by torchvision on a PIL image of its own size, then resized to 256, cropped to 224, made a tensor
equal pixels each copy by torchvision on the PIL image of 256 x 256 (resized once), cropped, made a tensor
ours         whytransfer.diagnosis.transforms, mode corrected (the resize is counted) and mode paper
Nobody normalises: here that belongs to the backbone. Deformation is left out: torchvision on PIL images has none.
The last line weighs each transform by its number of values (256, 7 or 2), as a whole diagnosis does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from whytransfer.diagnosis import grids, transforms
from whytransfer.memory import keep_freed_memory

SIZE, SQUARE, TAPS = 224, 256, 23
WANTED = 4.0


def pictures(count: int) -> list[np.ndarray]:
    """Smooth coloured noise: (375, 500, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)) for _ in range(count)]
    return [np.asarray(image.resize((500, 375), Image.Resampling.BICUBIC)) for image in coarse]


def by_pil(name: str, image: Image.Image, row: list[float], stray: float) -> Image.Image:
    """One value of one transform, as the published code calls it."""
    if name in grids.SWITCHED:
        changes: dict[str, Callable[[Image.Image], Image.Image]] = {
            "h_flip": tv.hflip, "v_flip": tv.vflip, "invert": tv.invert, "equalize": tv.equalize,
            "grayscale": lambda im: tv.rgb_to_grayscale(im, 3),
        }  # fmt: skip
        return changes[name](image) if row[0] else image
    calls: dict[str, Callable[[], Image.Image]] = {
        "rotation": lambda: tv.rotate(image, row[0]),
        "translation": lambda: tv.affine(image, 0, row, 1, [stray, 0.0]),
        "scale": lambda: tv.affine(image, 0, [0, 0], row[0], [stray, 0.0]),
        "shear": lambda: tv.affine(image, 0, [0, 0], 1, row),
        "resized_crop": lambda: tv.resized_crop(image, *row, [SIZE, SIZE]),
        "brightness": lambda: tv.adjust_brightness(image, row[0]),
        "contrast": lambda: tv.adjust_contrast(image, row[0]),
        "saturation": lambda: tv.adjust_saturation(image, row[0]),
        "hue": lambda: tv.adjust_hue(image, row[0]),
        "sharpness": lambda: tv.adjust_sharpness(image, row[0]),
        "posterize": lambda: tv.posterize(image, int(row[0])),
        "blur": lambda: tv.gaussian_blur(image, [TAPS, TAPS], [row[0], row[0]]),
    }
    return calls[name]()


def published(name: str, pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Views of one picture, each from its own size."""
    views = []
    for row in rows.tolist():
        made = by_pil(name, Image.fromarray(pixels), row, 1.0)
        views.append(tv.to_tensor(made if name == "resized_crop" else tv.center_crop(tv.resize(made, 256), [SIZE] * 2)))
    return torch.stack(views)


def equal_pixels(name: str, pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Views of one picture, resized once."""
    square = tv.center_crop(tv.resize(Image.fromarray(pixels), SQUARE), [SQUARE, SQUARE])
    made = (by_pil(name, square, row, 0.0) for row in rows.tolist())
    return torch.stack([tv.to_tensor(m if name == "resized_crop" else tv.center_crop(m, [SIZE, SIZE])) for m in made])


def ours(name: str, pixels: list[np.ndarray], rows: np.ndarray, mode: grids.Mode) -> torch.Tensor:
    """Views of some pictures, batched."""
    images = transforms.pictures_of(pixels, SIZE, mode, "cpu")
    return transforms.transformed(name, images, rows, SIZE, mode)


def cpu_ms(work: Callable[[], torch.Tensor]) -> float:
    """CPU milliseconds of this process per view of one call."""
    begin = time.process_time()
    made = work()
    return 1e3 * (time.process_time() - begin) / (made.numel() // (3 * SIZE * SIZE))


def main() -> None:
    """All transforms; exit status 1 if the whole misses the wanted ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transforms", nargs="*", default=[n for n in grids.NAMES if n != "deform"])
    parser.add_argument("--pictures", type=int, default=16, help="at a time, for ours")
    parser.add_argument("--values", type=int, default=16, help="of each transform")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # for all of them, as the command does
    pixels = pictures(args.pictures)
    total = np.zeros(4)
    print("ms per view: published route, equal pixels, ours, ours in mode paper; ratios to the first two")
    for name in args.transforms:
        rows = grids.grid(name, "paper")
        rows = rows[:: max(1, len(rows) // args.values)]
        ways: list[Callable[[], torch.Tensor]] = [
            partial(published, name, pixels[0], rows),
            partial(equal_pixels, name, pixels[0], rows),
            partial(ours, name, pixels, rows, "corrected"),
            partial(ours, name, pixels[:1], rows, "paper"),
        ]
        ways[2]()  # compiles
        ms = [median(times) for times in zip(*([cpu_ms(way) for way in ways] for _ in range(args.rounds)), strict=True)]
        total += np.array(ms) * len(grids.grid(name, "paper"))
        numbers = "".join(f"{value:8.3f}" for value in ms)
        print(f"{name:13}{numbers}   ratio {ms[0] / ms[2]:6.1f} {ms[1] / ms[2]:6.1f}   paper {ms[0] / ms[3]:5.1f}")
    whole, equal, paper = total[0] / total[2], total[1] / total[2], total[0] / total[3]
    print(f"whole diagnosis: ratio {whole:.1f}, wanted {WANTED:.0f}; equal pixels {equal:.1f}; mode paper {paper:.1f}")
    raise SystemExit(whole < WANTED)


if __name__ == "__main__":
    main()
