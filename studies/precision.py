"""Does bfloat16 learn what float32 learns? Two curves on the same pictures, side by side.

Question   The same pretraining in 32 bits and in bfloat16 (weights, statistics, losses stay in 32 bits): how far apart
           are the losses of each epoch, and the kNN accuracy at the end, beside the distance between two seeds?
Command    uv run python studies/precision.py --images data/tiny_imagenet_40.zip --out runs/precision
Minutes    20 on two cores; --small: 160 pictures, four epochs, 2
Expect     losses within some per cent, closer than those of two seeds; a repeated run equal in every digit

Prints a row per epoch and a verdict, and writes OUT/precision.jsonl. The pictures are the first so many of each class.
"""

from __future__ import annotations

import argparse
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import whytransfer

# name -> (precision, seed)
RUNS = {"32 bits": ("32", 0), "bf16": ("bf16", 0), "bf16 again": ("bf16", 0), "32 bits, seed 1": ("32", 1)}


def pictures(source: Path, folder: Path, classes: int, each: int) -> Path:
    """The first training pictures of the first classes of a zip, as a folder; a folder is taken as it is."""
    if source.is_dir():
        return source
    with zipfile.ZipFile(source) as archive:
        found: dict[str, list[str]] = {}
        for name in sorted(archive.namelist()):
            if match := re.search(r"train/([^/]+)/[^/]+\.\w+$", name):
                found.setdefault(match[1], []).append(name)
        for kind in sorted(found)[:classes]:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for name in found[kind][:each]:
                (folder / kind / Path(name).name).write_bytes(archive.read(name))
    return folder


def curve(name: str, images: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One run's losses by epoch, and its last kNN accuracy."""
    precision, seed = RUNS[name]
    folder = out / re.sub(r"\W+", "-", name)
    answer = whytransfer.pretrain(images=str(images), out=folder, precision=precision, seed=seed, **settings)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {"run": name, "losses": [json.loads(line)["loss"] for line in lines], "knn": answer["knn"]}


def apart(one: list[float], other: list[float]) -> float:
    """The largest distance of two curves, in per cent of the first."""
    return max(100 * abs(b - a) / abs(a) for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a zip with train/CLASS/..., or a folder of classes")
    parser.add_argument("--method", default="moco-v2-small")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="160 pictures, four epochs")
    a = parser.parse_args()
    images = pictures(a.images, a.out / "photos", *((8, 20) if a.small else (20, 100)))
    settings = {"method": a.method, "size": 32 if a.small else a.size, "epochs": 4 if a.small else a.epochs}
    settings |= {"batch": 32, "accelerator": "cpu", "threads": 1}
    rows = [curve(name, images, a.out, settings) for name in RUNS]
    by_name = {row["run"]: row["losses"] for row in rows}
    for epoch, losses in enumerate(zip(*by_name.values(), strict=True), 1):
        print(f"epoch {epoch}: " + "  ".join(f"{name} {loss:.4f}" for name, loss in zip(by_name, losses, strict=True)))
    print("kNN: " + "  ".join(f"{row['run']} {row['knn']:.1f} %" for row in rows))
    full, half = by_name["32 bits"], by_name["bf16"]
    other = apart(full, by_name["32 bits, seed 1"])
    print(f"bf16 is at most {apart(full, half):.2f} % from 32 bits; another seed {other:.2f} %")
    print("repeated: " + ("equal in every digit" if half == by_name["bf16 again"] else "NOT EQUAL"))
    (a.out / "precision.jsonl").write_text("".join(json.dumps({**settings, **row}) + "\n" for row in rows))


if __name__ == "__main__":
    main()
