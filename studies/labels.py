"""What should a backbone be supervised with: classes, boxes or masks?

Question   ResNet-18 pretrained on the same generated scenes to tell the class of a scene, to detect all its objects
           (boxes) or to segment them (masks); readout of what it learned on other scenes and on photographs.
Command    uv run python studies/labels.py --data FOLDER --out runs/labels [--seeds 0 1 2]
Minutes    on one core about 3 for each model and seed and 2 for its readouts; --small: two in all
Expect     classes first where classes are read out; boxes and masks above random features, which have to tell objects
           apart without their names being asked for on their own

FOLDER holds caltech101_128.zip. Nothing is tuned. Running the command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from read_out import read_out

import whytransfer

METHODS = ("random", "supervised", "supervised-boxes", "supervised-masks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=10, help="of each pretraining (10)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--small", action="store_true", help="a few generated scenes, one epoch, and no photographs")
    a = parser.parse_args()
    caltech = a.data / "caltech101_128.zip"
    images, sets = "scenes:3000:11", {"scenes": ("scenes:2000:12", "scenes:1000:13")}
    if a.small:
        images, a.epochs, sets = "scenes:64:11", 1, {"scenes": ("scenes:200:12", "scenes:80:13")}
    else:
        sets["caltech101_128"] = (f"{caltech}/train", f"{caltech}/test")
    for seed in a.seeds:
        for method in a.methods:
            run = f"random:resnet18:{seed}"
            if method != "random":
                run = str(a.out / f"{method}-{seed}")
                common = {"images": images, "backbone": "resnet18", "size": 64, "epochs": a.epochs, "batch": 32}
                whytransfer.pretrain(out=run, method=method, seed=seed, monitor=False, **common)
            read_out(run, sets, a.out / "results", f"{method}-{seed}", 64, seed)


if __name__ == "__main__":
    main()
