"""Which settings let each small preset learn on 10,000 small pictures? Chosen where no test image is seen.

Question   Of a few settings per small preset, which gives the best readout after a short run?
Command    uv run python studies/tune_small.py --data FOLDER --out runs/tuning [--models simclr-small ...] [--epochs 3]
Minutes    3 to 5 per trial on one core (bf16); --small: seconds per trial, numbers without meaning
Expect     every row above random features; the best row of a preset becomes its defaults, by hand

FOLDER holds tiny_imagenet_40.zip. Of its training images a sixth of every class, 2,000, are held out; the val images
are not opened. One seed per trial, so differences within the intervals decide nothing. Running the command again goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import whytransfer
from whytransfer.images import holdout, open_images

# settings of pretrain beside the preset's own, which are the first row
TRIALS: dict[str, list[dict[str, Any]]] = {
    "moco-v2-small": [{}],
    "simclr-small": [{}, {"temperature": 0.1}, {"temperature": 0.5}, {"lr": 0.5}],
    "byol-small": [{}, {"momentum": 0.9}, {"lr": 0.4}, {"hidden": 2048}],
    "instdisc-small": [{}, {"temperature": 0.1}, {"temperature": 0.07}, {"lr": 0.15}, {"lr": 0.03}],
    "supcon-small": [{}, {"temperature": 0.2}, {"temperature": 0.3}, {"lr": 0.1}],
}


def split(images: str, out: Path) -> tuple[str, str]:
    """Folders of the pictures to train on and of those held out, written once."""
    parts = holdout(open_images(images), 1 / 6, seed=123)
    for name, part in zip(("train", "held-out"), parts, strict=True):
        for i, file in enumerate(part.names):
            path = out / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(part.encoded(i))
    return str(out / "train"), str(out / "held-out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    parser.add_argument("--epochs", type=int, default=3, help="of each trial (3)")
    parser.add_argument("--size", type=int, default=64, help="of the views, in pixels (64)")
    parser.add_argument("--models", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--small", action="store_true", help="a few hundred generated scenes, one epoch")
    a = parser.parse_args()
    if a.small:
        train, held_out, a.epochs = "scenes:300:0", "scenes:100:1", 1
    else:
        train, held_out = split(f"{a.data / 'tiny_imagenet_40.zip'}/train", a.out / "pictures")
    for model in a.models:
        for settings in TRIALS[model]:
            name = "-".join([model, *(f"{key}={value}" for key, value in settings.items())])
            common = {"images": train, "val": held_out, "epochs": a.epochs, "batch": 128, "backbone": "resnet18"}
            whytransfer.pretrain(method=model, out=a.out / name, size=a.size, **common, **settings)
            read = {"train": train, "test": held_out, "size": a.size, "backbone": [str(a.out / name)]}
            for task in ("knn", "readout"):
                for r in whytransfer.transfer(task=task, out=a.out / f"{task}-{name}", **read):
                    print(
                        f"{name:40} {r.task:8} {r.metric:15} {r.value:6.2f} {r.unit} [{r.low:.2f}, {r.high:.2f}]",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
