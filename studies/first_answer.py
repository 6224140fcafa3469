"""Does pretraining on 12,000 small pictures help, and which one?

Question   On tiny_imagenet_40 (64 px, 40 classes): how do supervised, MoCo v2 (the paper's settings) and moco-v2-small
           under three recipes stand against random features, read out on its own val images and on caltech101_128?
Command    uv run python studies/first_answer.py --data FOLDER --out runs/first-answer [--seeds 0 1 2] [--epochs 15]
Minutes    about 50 per seed on two cores (bf16); --small: one minute, numbers without meaning
Expect     supervised first on its own classes; moco-v2-small above random features under default views; the paper's
           moco-v2 and the spatial and appearance views: open (docs/results/first-answer.md has what came out)

FOLDER holds tiny_imagenet_40.zip and caltech101_128.zip. Nothing is tuned on the val images: moco-v2-small's settings
were chosen on a held-out sixth of the training images. Running the command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import whytransfer

# name -> settings of pretrain beyond the common ones
MODELS = {
    "supervised": {"method": "supervised", "recipe": "moco-v2", "batch": 128},
    "small-default": {"method": "moco-v2-small", "recipe": "default"},
    "small-spatial": {"method": "moco-v2-small", "recipe": "spatial"},
    "small-appearance": {"method": "moco-v2-small", "recipe": "appearance"},
    "moco-v2": {"method": "moco-v2", "recipe": "default", "batch": 128, "queue": 4096},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=15, help="of each pretraining (15)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="all when not given")
    parser.add_argument("--small", action="store_true", help="a few hundred generated scenes, one epoch")
    a = parser.parse_args()
    tiny, caltech = a.data / "tiny_imagenet_40.zip", a.data / "caltech101_128.zip"
    sets = {
        "tiny_imagenet_40": (f"{tiny}/train", f"{tiny}/val"),
        "caltech101_128": (f"{caltech}/train", f"{caltech}/test"),
    }
    if a.small:
        sets, a.epochs = {"scenes": ("scenes:300:0", "scenes:100:1")}, 1
    train, val = next(iter(sets.values()))
    for seed in a.seeds:
        specs = [f"random:resnet18:{seed}"]
        for name in a.models:
            specs.append(str(a.out / f"{name}-{seed}"))
            settings = {**MODELS[name], "images": train, "val": val, "epochs": a.epochs, "seed": seed}
            whytransfer.pretrain(out=specs[-1], backbone="resnet18", size=64, **settings)
        for name, (fit_on, score_on) in sets.items():
            for task in ("knn", "readout"):
                common = {"train": fit_on, "test": score_on, "task": task, "size": 64, "seed": seed}
                for r in whytransfer.transfer(backbone=specs, out=a.out / "results" / f"{name}-{task}", **common):
                    value = f"{r.value:6.2f} {r.unit} [{r.low:.2f}, {r.high:.2f}]"
                    print(f"{name:18} {r.task:8} {r.metric:15} {r.model:40} {value}")


if __name__ == "__main__":
    main()
