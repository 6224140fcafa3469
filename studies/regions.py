"""Do better regions make better pretraining? DetCon with four kinds of regions on the same small photographs.

Question   DetCon-B and -S (small presets, ResNet-18, 96 px) on grid, Felzenszwalb, MCG and annotated regions: which
           features read best on caltech101_128 and tiny_imagenet_40, and does the order follow the regions' quality?
Command    uv run --extra masks python studies/regions.py --data FOLDER --out runs/regions [--seeds 0 1 2] [--epochs 20]
Minutes    about 20 per model and seed on one core (bf16), and 30 once for MCG; --small: about two minutes
Expect     no order beyond the intervals: at 96 px a map has 3 x 3 cells, so regions are told apart coarsely

FOLDER holds coco128/ (images and annotations), caltech101_128.zip and tiny_imagenet_40.zip. All models see the 256
photographs of coco128 and the 2,200 training pictures of caltech101_128 equally often. People annotated 200 of the
photographs: to the annotated model the other pictures have no region and count for nothing. Running the command again
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from read_out import read_out

import whytransfer
from whytransfer.images import open_images

METHODS = ("detcon-b-small", "detcon-s-small")
ENGINES = ("grid:5", "felzenszwalb", "mcg", "annotated")


def gather(data: Path, out: Path) -> tuple[str, str]:
    """A flat folder of all pictures, and one COCO file of what people drew in them; written once."""
    folder, truth = out / "pictures", out / "truth.json"
    if truth.exists():
        return str(folder), str(truth)
    folder.mkdir(parents=True, exist_ok=True)
    caltech = open_images(f"{data / 'caltech101_128.zip'}/train")
    for i, name in enumerate(caltech.names):
        (folder / f"caltech_{name.replace('/', '_')}").write_bytes(caltech.encoded(i))
    merged: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for part, offset in (("train2017", 0), ("val2017", 10**7)):  # ids of the two parts must not meet
        for path in sorted((data / "coco128" / "images" / part).glob("*.jpg")):
            shutil.copyfile(path, folder / f"coco_{path.name}")
        drawn = json.loads((data / "coco128" / "annotations" / f"instances_{part}.json").read_text())
        merged["categories"] = drawn["categories"]
        for image in drawn["images"]:
            merged["images"].append({**image, "id": image["id"] + offset, "file_name": f"coco_{image['file_name']}"})
        for one in drawn["annotations"]:
            ids = {"id": one["id"] + offset, "image_id": one["image_id"] + offset}
            merged["annotations"].append({**one, **ids})
    truth.write_text(json.dumps(merged))
    return str(folder), str(truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=20, help="of each pretraining (20)")
    parser.add_argument("--size", type=int, default=96, help="of the views, in pixels (96)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--small", action="store_true", help="generated scenes, one epoch")
    a = parser.parse_args()
    tiny, caltech = a.data / "tiny_imagenet_40.zip", a.data / "caltech101_128.zip"
    sets = {
        "caltech101_128": (f"{caltech}/train", f"{caltech}/test"),
        "tiny_imagenet_40": (f"{tiny}/train", f"{tiny}/val"),
    }
    if a.small:
        images, truth, a.epochs, a.size = "scenes:256:0", None, 1, 64
        sets = {"scenes": ("scenes:150:1", "scenes:100:2")}
    else:
        images, truth = gather(a.data, a.out)
    for engine in a.engines:
        spec = f"annotated:{truth}" if engine == "annotated" and truth else engine
        store = a.out / "regions" / engine.replace(":", "-")
        whytransfer.make_masks(images=images, engine=spec, out=store, allow_missing=engine == "annotated")
        for method in a.methods:
            for seed in a.seeds:
                out = str(a.out / f"{method}-{store.name}-{seed}")
                settings = {"masks": str(store), "epochs": a.epochs, "batch": 128, "size": a.size, "seed": seed}
                whytransfer.pretrain(images=images, method=method, backbone="resnet18", out=out, **settings)
                read_out(out, sets, a.out / "results", Path(out).name, a.size, seed)
    for seed in a.seeds:
        read_out(f"random:resnet18:{seed}", sets, a.out / "results", f"random-{seed}", a.size, seed)


if __name__ == "__main__":
    main()
