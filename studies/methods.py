"""Which pretraining method is the best start, when all see the same pictures equally often?

Question   On tiny_imagenet_40 (64 px, 40 classes), ResNet-18: the small preset of every method, and the papers' MoCo
           and Exemplar with a queue that fits, read out on its own val images and on caltech101_128.
Command    uv run python studies/methods.py --data FOLDER --out runs/methods [--seeds 0 1 2] [--models simclr-small ...]
Minutes    about 15 per model and seed on one core (bf16), twice that where both views take gradients; --small: minutes
Expect     supervised and supcon-small first on the classes they were trained on; the presets above random features;
           exemplar-v2 above moco-v2, which has no labels to say which keys are no negatives

FOLDER holds tiny_imagenet_40.zip and caltech101_128.zip. Nothing is tuned on the val images. Running the command again
goes on where it was stopped; models may be run one at a time, in any order, into the same folder.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path

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
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--small", action="store_true", help="a few hundred generated scenes, one epoch")
    a = parser.parse_args()
    tiny, caltech = a.data / "tiny_imagenet_40.zip", a.data / "caltech101_128.zip"
    train, val = f"{tiny}/train", f"{tiny}/val"
    sets = {"tiny_imagenet_40": (train, val), "caltech101_128": (f"{caltech}/train", f"{caltech}/test")}
    if a.small:
        train, val, a.epochs = "scenes:300:0", "scenes:100:1", 1
        sets = {"scenes": (train, val)}
    for seed in a.seeds:
        for name in a.models:
            out = str(a.out / f"{name}-{seed}")
            common = {"images": train, "val": val, "epochs": a.epochs, "batch": 128, "seed": seed}
            summary = whytransfer.pretrain(out=out, backbone="resnet18", size=64, **common, **MODELS[name])
            peak = (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            )  # MiB, of all models so far in this process
            print(json.dumps({"run": out, **summary, "peak_mib_so_far": round(peak)}, default=str))
            for data, (fit_on, score_on) in sets.items():
                for task in ("knn", "readout"):
                    read = {"train": fit_on, "test": score_on, "task": task, "size": 64, "seed": seed}
                    specs = [f"random:resnet18:{seed}", out]
                    for r in whytransfer.transfer(backbone=specs, out=a.out / "results" / f"{data}-{task}", **read):
                        value = f"{r.value:6.2f} [{r.low:.2f}, {r.high:.2f}]"
                        print(f"{data:18} {r.task:8} {r.metric:15} {r.model:32} {value}")


if __name__ == "__main__":
    main()
