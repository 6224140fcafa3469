"""Error analysis beside tidecv 1.0.1: both taxonomies, AP and all costs, at growing numbers of detections.

    python benchmarks/detection_errors.py --images 500 5000
    python benchmarks/detection_errors.py --images 5000 --draws 1000      the paired bootstrap of two detectors too

tidecv works in an environment of its own (it brings another OpenCV with it), by default that of
`uv run --no-project --with tidecv --with pycocotools`; --peer "" leaves it out. Both sides read the same JSON files, 7
objects and 100 detections an image, and tell their processor seconds: reading apart from analysis, for the analysis
starts from records in memory. TIDE's costs of both are compared, which have to agree: no crowds, no equal scores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEER = "uv run --no-project --with tidecv --with pycocotools python"
KINDS, OBJECTS, DETECTIONS = 80, 7, 100


def made(folder: Path, images: int, seed: int) -> None:
    """truth.json, a.json and b.json: objects of few classes an image, detections near them, elsewhere, misnamed."""
    rng = np.random.default_rng(seed)
    n = images * OBJECTS
    boxes = np.concatenate([rng.uniform(0, [520, 360], (n, 2)), np.exp(rng.uniform(3, 5.5, (n, 2)))], axis=1)
    kinds = 1 + (rng.integers(0, KINDS, (images, 1)) + 13 * rng.integers(0, 3, (images, OBJECTS))).ravel() % KINDS
    whose = np.repeat(np.arange(images), OBJECTS)
    rows = [
        {"id": k + 1, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0, "segmentation": []}
        for k, (i, c, b) in enumerate(zip(whose.tolist(), kinds.tolist(), boxes.tolist(), strict=True))
    ]
    listed = [{"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in range(images)]
    categories = [{"id": k, "name": str(k), "supercategory": str(k % 12)} for k in range(1, KINDS + 1)]
    (folder / "truth.json").write_text(json.dumps({"images": listed, "annotations": rows, "categories": categories}))
    for name, noise in (("a", 0.12), ("b", 0.15)):
        near = rng.integers(0, OBJECTS, (images, DETECTIONS)) + OBJECTS * np.arange(images)[:, None]
        near = near.ravel()
        found = boxes[near] + rng.normal(0, 1, (len(near), 4)) * noise * boxes[near, 2:].mean(1, keepdims=True)
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        found[rng.random(len(near)) < 0.3, :2] = rng.uniform(0, [520, 360])
        kind = np.where(rng.random(len(near)) < 0.8, kinds[near], rng.integers(1, KINDS + 1, len(near)))
        score = (1 + rng.permutation(len(near))) / (len(near) + 1)  # no two are equal
        columns = zip((near // OBJECTS).tolist(), kind.tolist(), found.tolist(), score.tolist(), strict=True)
        records = [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in columns]
        (folder / f"{name}.json").write_text(json.dumps(records))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result and processor seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


def peer(folder: Path) -> dict[str, Any]:
    """tidecv, from its own kind of records; its loader needs masks where boxes are scored, so ours fills them."""
    from tidecv import TIDE, Data

    def read() -> Any:
        truth = json.loads((folder / "truth.json").read_text())
        given, found = Data("truth"), Data("a")
        for item in truth["images"]:
            given.add_image(item["id"], item["file_name"])
        for item in truth["categories"]:
            given.add_class(item["id"], item["name"])
        for item in truth["annotations"]:
            given.add_ground_truth(item["image_id"], item["category_id"], item["bbox"])
        for item in json.loads((folder / "a.json").read_text()):
            found.add_detection(item["image_id"], item["category_id"], item["score"], item["bbox"])
        return given, found

    def analysed() -> dict[str, float]:
        tide = TIDE()
        run = tide.evaluate(given, found, mode=TIDE.BOX)
        costs = tide.get_all_errors()
        return {"AP50": run.ap, **costs["main"]["a"], **costs["special"]["a"]}

    with contextlib.redirect_stdout(io.StringIO()):
        (given, found), reading = timed(read)
        values, analysis = timed(analysed)
    return {"reading": reading, "analysis": analysis, "values": values}


def ours(folder: Path, warm: bool = True) -> dict[str, Any]:
    """AP at ten overlaps, both taxonomies with all costs, shares and sensitivities."""
    from whytransfer.diagnosis import detection_measures
    from whytransfer.diagnosis.detection_files import found_by, ground_truth
    from whytransfer.diagnosis.detection_measures import Measures
    from whytransfer.diagnosis.detection_table import matched_with
    from whytransfer.tasks.average_precision import COCO_RECALLS

    def read() -> Any:
        truth = ground_truth(folder / "truth.json")
        return truth, found_by(folder / "a.json", truth)

    (truth, found), reading = timed(read)
    if warm:  # kernels are compiled once per installation
        Measures(matched_with(truth, found[:1000]))
    measures, analysis = timed(lambda: Measures(matched_with(truth, found)))
    detection_measures.COCO_RECALLS = np.arange(101) / 100  # tidecv's; a few of COCO's differ in the last bit
    again = dict(zip(measures.names, measures.of(np.ones(len(truth["images"]))).tolist(), strict=True))
    names = {"FalsePos": "FP", "FalseNeg": "FN"}
    costs = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg")
    values = {name: again[f"TIDE dAP {names.get(name, name)}"] for name in costs}
    values["AP50"] = again["AP50"]
    detection_measures.COCO_RECALLS = COCO_RECALLS
    return {"reading": reading, "analysis": analysis, "values": values}


def bootstrapped(folder: Path, draws: int) -> tuple[float, float]:
    """Wall-clock and processor seconds of the paired bootstrap of detectors a and b, all numbers."""
    from whytransfer.diagnosis.detection_analysis import DetectionErrors
    from whytransfer.diagnosis.detection_files import found_by, ground_truth

    truth = ground_truth(folder / "truth.json")
    analysis = DetectionErrors(truth, {name: found_by(folder / f"{name}.json", truth) for name in "ab"}, draws=draws)
    _ = analysis.measures
    wall = time.perf_counter()
    _, processor = timed(lambda: analysis.drawn)
    return time.perf_counter() - wall, processor


def beside(folder: Path, command: str, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours and the peer's, in turns; the least seconds of each."""
    both: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for r in range(rounds):
        both["ours"].append(ours(folder, warm=r == 0))
        if command:
            done = subprocess.run(
                [*shlex.split(command), __file__, "--side", str(folder)], capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
            both["peer"].append(json.loads(done.stdout.splitlines()[-1]))
    least = {
        name: {**rows[0], **{part: min(row[part] for row in rows) for part in ("reading", "analysis")}}
        for name, rows in both.items() if rows
    }  # fmt: skip
    return least["ours"], least.get("peer", {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", default=PEER, help="command of a Python with tidecv")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(peer(args.side)))
        return
    for images in args.images:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made(folder, images, 0)
            mine, theirs = beside(folder, args.peer, args.rounds)
            total = images * DETECTIONS
            print(f"{total:,} detections on {images:,} images, processor seconds")
            per = 1e6 * mine["analysis"] / total
            print(f"  ours: {mine['analysis']:.2f} ({per:.2f} us a detection), reading {mine['reading']:.2f}")
            if theirs:
                print(f"  tidecv: {theirs['analysis']:.2f}, reading {theirs['reading']:.2f}")
                whole = [x["analysis"] + x["reading"] for x in (mine, theirs)]
                print(f"  ours / tidecv: analysis {mine['analysis'] / theirs['analysis']:.3f}, with reading "
                      f"{whole[0] / whole[1]:.3f}")  # fmt: skip
                apart = {k: abs(v - theirs["values"][k]) for k, v in mine["values"].items()}
                print(f"  largest difference of AP50 and TIDE's costs: {max(apart.values()):.1e} ({apart})")
            if args.draws:
                wall, processor = bootstrapped(folder, args.draws)
                print(f"  {args.draws} paired draws, two detectors: {wall:.1f} s ({processor:.1f} processor s)")


if __name__ == "__main__":
    main()
