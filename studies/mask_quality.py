"""How well do regions cover what people drew? Every engine on photographs with human segmentations, and with objects.

Question   Mean best overlap (IoU, %) of grids, Felzenszwalb and MCG, ranked by generated scenes and by photographs, on
           BSDS500's test images against all human segmentations and on COCO's val2017 against instances.
Command    uv run --extra masks python studies/mask_quality.py --data FOLDER --out runs/quality
Minutes    30 on one core, nearly all of them MCG's; --small: one minute, three generated scenes
Expect     MCG > Felzenszwalb > grid [Henaff 2021 and the papers it cites], where they have about as many regions

FOLDER holds bsds500_subset and coco128. MCG's ranking learns on BSDS's val and on COCO's train2017, never on the images
that are scored. Engines were not tuned on either set. Each is compared, paired, with the first of --engines. A set that
was measured is not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import whytransfer
from whytransfer.files import atomic_write

ENGINES = (
    "felzenszwalb", "felzenszwalb-opencv", "felzenszwalb:500,1000,1500", "grid:3", "grid:5", "grid:10", "mcg", "learned"
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--small", action="store_true", help="three generated scenes")
    a = parser.parse_args()
    bsds, coco = a.data / "bsds500_subset", a.data / "coco128"
    sets = {  # images and truth to score on, images and truth that MCG learns its ranking on
        "bsds": [part for s in ("test", "val") for part in (bsds / "images" / s, f"annotated:{bsds}/groundTruth/{s}")],
        "coco": [f"coco:{coco}:val2017", "annotated", f"coco:{coco}:train2017", "annotated"],
    }  # fmt: skip
    if a.small:
        sets = {"scenes": ["scenes:3:1:96", "annotated", "scenes:3:2:96", "annotated"]}
    a.out.mkdir(parents=True, exist_ok=True)
    for data, (images, truth, learn_on, learn_truth) in sets.items():
        kept, engines = a.out / f"{data}.jsonl", list(a.engines)
        if "learned" in engines:
            ranking = a.out / f"{data}.ranking"
            if not (ranking.exists() or kept.exists()):
                whytransfer.rank_masks(images=str(learn_on), truth=str(learn_truth), out=ranking)
            engines[engines.index("learned")] = f"mcg:{ranking}"
        if not kept.exists():
            found = whytransfer.masks_quality(images=str(images), truth=str(truth), engine=engines)
            lines = "".join(json.dumps(dataclasses.asdict(r), sort_keys=True) + "\n" for r in found)
            atomic_write(kept, lambda file, lines=lines: file.write(lines.encode()))
        for row in map(json.loads, kept.read_text().splitlines()):
            if row["metric"] in ("best overlap", "best overlap, difference"):
                ends = f"[{row['low']:.2f}, {row['high']:.2f}]"
                print(f"{data:8} {row['model']:40} {row['value']:.2f} {row['unit']} {ends} n {row['n']}", flush=True)


if __name__ == "__main__":
    main()
