"""Which pretraining method is the best start, when all see the same pictures equally often?

Question   On tiny_imagenet_40 (64 px, 40 classes), ResNet-18: the small presets of the methods and the papers' settings
           (queues that fit), read out on its own val images and on caltech101_128. DetCon's regions have at least 100
           of the 4,096 pixels.
Command    uv run python studies/methods.py --data FOLDER --out runs/methods [--seeds 0 1 2] [--models simclr-small ...]
Minutes    at 15 epochs about 15 per model and seed on one core (bf16), twice that where both views take gradients;
           each model in a process of its own tells its own peak of memory; --small: minutes
Expect     supervised and supcon-small first on the classes they were trained on; the presets above random features;
           exemplar-v2 above moco-v2, which has no labels to say which keys are no negatives

FOLDER holds tiny_imagenet_40.zip and caltech101_128.zip. Nothing is tuned on the val images. Running the command again
goes on where it was stopped; models may be run one at a time, in any order, into the same folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from read_out import read_out

import whytransfer

# name -> settings of pretrain beyond the common ones; the queue holds a third of an epoch
MODELS = {
    "supervised": {"method": "supervised", "recipe": "moco-v2"},
    "moco-v2-small": {"method": "moco-v2-small"},
    "simclr-small": {"method": "simclr-small"},
    "byol-small": {"method": "byol-small"},
    "instdisc-small": {"method": "instdisc-small"},
    "supcon-small": {"method": "supcon-small"},
    "exemplar-small": {"method": "exemplar-small"},
    "moco-v1": {"method": "moco-v1", "queue": 4096},
    "moco-v2": {"method": "moco-v2", "queue": 4096},
    "exemplar-v1": {"method": "exemplar-v1", "queue": 4096},
    "exemplar-v2": {"method": "exemplar-v2", "queue": 4096},
    "instdisc": {"method": "instdisc"},
    "supcon-queue": {"method": "supcon-queue", "queue": 4096},
    "instdisc-softmax": {"method": "instdisc-softmax"},
    "simclr": {"method": "simclr"},
    "byol": {"method": "byol"},
    "supcon": {"method": "supcon"},
    "detcon-s-small": {"method": "detcon-s-small", "masks": "felzenszwalb:100"},
    "detcon-b-small": {"method": "detcon-b-small", "masks": "felzenszwalb:100"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=15, help="of each pretraining (15)")
    parser.add_argument("--size", type=int, default=64, help="of the views, in pixels (64)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="all when not given")
    parser.add_argument("--small", action="store_true", help="a few hundred generated scenes, one epoch")
    a = parser.parse_args()
    tiny, caltech = a.data / "tiny_imagenet_40.zip", a.data / "caltech101_128.zip"
    train, val = f"{tiny}/train", f"{tiny}/val"
    sets = {"tiny_imagenet_40": (train, val), "caltech101_128": (f"{caltech}/train", f"{caltech}/test")}
    if a.small:
        train, val, a.epochs = "scenes:300:0", "scenes:100:1", 1
        sets = {"scenes": (train, val)}
    for seed in a.seeds:
        for name in ("random", *a.models):
            run = f"random:resnet18:{seed}"
            if name != "random":
                run = str(a.out / f"{name}-{seed}")
                common = {"images": train, "val": val, "epochs": a.epochs, "batch": 128, "seed": seed}
                whytransfer.pretrain(out=run, backbone="resnet18", size=a.size, **common, **MODELS[name])
            read_out(run, sets, a.out / "results", f"{name}-{seed}", a.size, seed)


if __name__ == "__main__":
    main()
