"""Why does it transfer? Every diagnosis of given backbones, on real photographs and on generated scenes.

Question   What do Default, Spatial, Appearance, Supervised and Random features ignore; do they fail on the same images;
           what do their fusions gain on every task at hand; what can be made again from them; why do detectors err?
Command    uv run python studies/diagnosis.py --data FOLDER --out runs/diagnosis --backbones default=RUN spatial=RUN
           appearance=RUN supervised=RUN wide=RUN [--fused default spatial appearance] [--cells fusion errors ...]
Minutes    of one core, measured: invariance-caltech 1 for each backbone, errors 1/2; expected, for each backbone: the
           other invariances 1 to 2, latent 4, inversion 3; in all: fusion 20, fusion-maps 60, detectors 15 each;
           --small: five in all, scenes for every set, numbers without meaning
Expect     spatial most invariant to geometry, appearance to colour [Ericsson 2022]; pose is read better from
           appearance, colour from spatial; all three fused have the best mean rank; inversions of supervised features
           recover less than those of MoCo [Zhao 2021]; on sets as small as these many intervals hold 0

FOLDER holds tiny_imagenet_40, caltech101_128, faces68, voc100, camvid and rgbd_depth. Nothing is tuned. A cell that is
in the folder is not run again; a stopped one goes on where it was. `fusion` runs first: its scores go into the transfer
maps of the invariance cells, which need four backbones. Nothing is pretrained here; `random` is added to the backbones
that are named. The first three, or those of --fused, are fused; the others stand beside as controls, best with a wide
one among them that has as many features as the three together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import whytransfer
from whytransfer.files import atomic_write

TINY, CALTECH = "{data}/tiny_imagenet_40/tiny_imagenet_40.zip", "{data}/caltech101_128/caltech101_128.zip"
FACES, ROOMS = "landmarks:{data}/faces68", "rgbd:{data}/rgbd_depth/7scenes"
STREETS, VOC = "camvid:{data}/camvid", "{data}/voc100"
SCENES = ("scenes:3000:11", "scenes:1000:12")

CELLS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> which diagnosis, its settings
    "fusion": (
        "complementarity",
        {
            "task": ["readout", "readout", "ridge-readout", "readout", "factors"], "size": 64,
            "train": [TINY + "/train", CALTECH + "/train", FACES, SCENES[0], SCENES[0]],
            "test": [TINY + "/val", CALTECH + "/test", FACES + ":test", SCENES[1], SCENES[1]],
        },
    ),
    "fusion-distances": (  # where the scale of the members matters
        "complementarity",
        {
            "task": "knn", "size": 64, "standardised": True, "train": [TINY + "/train", CALTECH + "/train"],
            "test": [TINY + "/val", CALTECH + "/test"],
        },
    ),
    "fusion-maps": (
        "complementarity",
        {
            "task": ["segmentation", "depth", "landmarks"], "size": 64, "budget": 0.004, "fit_batch": 8,
            "mode": "frozen", "train": [STREETS, ROOMS + "/train", FACES],
            "test": [STREETS + ":test", ROOMS + "/test", FACES + ":test"],
        },
    ),
    "invariance-tiny": ("invariance", {"images": TINY + "/train", "size": 64, "values": 6}),
    "invariance-caltech": ("invariance", {"images": CALTECH + "/train", "size": 64, "values": 6}),
    "invariance-scenes": ("invariance", {"images": SCENES[0], "size": 64, "values": 6, "latent": SCENES}),
    "inversion": ("inversion", {"images": CALTECH + "/test", "size": 64, "budget": 0.05}),
    "errors": (
        "errors",
        {"truth": VOC + "/detections/gt_coco.json", "detections": [VOC + "/detections/dets_coco_results.json"]},
    ),
    "detectors": (
        "detectors",
        {
            "train": "voc:" + VOC + ":train", "test": "voc:" + VOC + ":val", "size": 128, "architecture": "fpn",
            "budget": 0.02, "fit_batch": 4,
        },
    ),
}  # fmt: skip


def small(settings: dict[str, Any]) -> dict[str, Any]:
    """The same on a few scenes, with a hundredth of its budget, 3 pictures and 2 strengths."""
    few = {"train": "scenes:80:1:48", "test": "scenes:60:2:48", "images": "scenes:40:1:48", "size": 32}
    few |= {"latent": ("scenes:80:1:48", "scenes:60:2:48"), "budget": settings.get("budget", 0) / 100 or None}
    changed = {**settings, **{name: few[name] for name in few if name in settings}}
    if "task" in changed:
        changed |= {"task": list(dict.fromkeys(_list(changed["task"]))), "draws": 50}
    return {name: value for name, value in changed.items() if name not in ("truth", "detections")}


def filled(value: Any, data: Path) -> Any:
    """{data} in every text of a setting."""
    if isinstance(value, list | tuple):
        return [filled(part, data) for part in value]
    return value.format(data=data) if isinstance(value, str) else value


def run(name: str, specs: dict[str, str], a: argparse.Namespace) -> list[Any]:
    """The Results of one cell."""
    kind, settings = CELLS[name]
    settings = {key: filled(value, a.data) for key, value in (small(settings) if a.small else settings).items()}
    own = {"out": a.out / name}
    if kind == "complementarity":
        fused = [specs[name] for name in a.fused or list(specs)[:3]]
        controls = [spec for spec in specs.values() if spec not in fused]
        return whytransfer.diagnose_complementarity(backbone=fused, control=controls, **own, **settings)
    if kind == "invariance":
        scores = a.out / "fusion"
        known = {"scores": [scores]} if len(specs) > 3 and (scores / "finished").exists() else {}
        few = {"count": 3, "values": 2} if a.small else {}
        return whytransfer.diagnose_invariance(backbone=list(specs.values()), **own, **settings, **known, **few)
    if kind == "inversion":
        few = {"count": 1} if a.small else {}
        return whytransfer.diagnose_inversion(backbone=list(specs.values()), **own, **settings, **few)
    if kind == "errors" and not a.small:
        return whytransfer.diagnose_errors(**own, **settings)
    return detectors(specs, a.out / name, CELLS["detectors"][1], a)


def detectors(specs: dict[str, str], out: Path, settings: dict[str, Any], a: argparse.Namespace) -> list[Any]:
    """Train a detector on the first two backbones that are not random, and compare their errors."""
    settings = {key: filled(value, a.data) for key, value in (small(settings) if a.small else settings).items()}
    chosen = {name: spec for name, spec in specs.items() if name != "random"} or specs
    folders = {name: out / f"detector-{name}" for name in list(chosen)[:2]}
    for name, folder in folders.items():
        whytransfer.transfer(backbone=chosen[name], task="detection", out=folder, **settings)
    found = [str(folder) for folder in folders.values()]
    given = {"truth": found[0], "detections": found, "names": list(folders)}
    return whytransfer.diagnose_errors(out=out, draws=20 if a.small else 1000, **given)


def headlines(name: str, results: list[Any]) -> list[Any]:
    """What of a cell's results is worth a line."""
    kept = {
        "complementarity": lambda r: r.task == "complementarity" and r.provenance["kind"] in ("gain", "rank", "cka"),
        "invariance": lambda r: "group" in r.provenance or r.task in ("trade-off", "factors"),
        "inversion": lambda r: True,
        "errors": lambda r: r.metric in ("AP", "AP50", "normalised AP50") or "dAP" in r.metric,
        "detectors": lambda r: r.metric in ("AP", "AP50", "normalised AP50") or "dAP" in r.metric,
    }[CELLS[name][0]]
    return [r for r in results if kept(r)]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("."), help="FOLDER, see above; --small needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one below it for each cell")
    parser.add_argument("--backbones", nargs="+", default=[], metavar="NAME=RUN", required=True)
    parser.add_argument("--fused", nargs="+", metavar="NAME", help="those of the backbones that are fused")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--small", action="store_true", help="a few generated scenes for every set")
    a = parser.parse_args()
    specs = {**dict(pair.split("=", 1) for pair in a.backbones), "random": "random:resnet18"}
    if strangers := set(a.fused or ()) - set(specs):
        parser.error(f"--fused names no backbone: {', '.join(sorted(strangers))}")
    for name in a.cells:
        finished = a.out / name / "finished"
        if finished.exists():
            print(f"{name:18} is there: {finished.parent}")
            continue
        for r in headlines(name, run(name, specs, a)):
            interval = "" if r.low is None else f"[{r.low:.3f}, {r.high:.3f}]"
            print(f"{name:18} {r.model:40} {r.metric:52} {r.value:8.3f} {r.unit:6} {interval}", flush=True)
        atomic_write(finished, lambda file: file.write(b"\n"))


if __name__ == "__main__":
    main()
