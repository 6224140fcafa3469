"""Every comparison of this folder in one go, and one table: ratio, interval over repeats, machine.

    uv run --extra bench python benchmarks/all.py --out speed/                 3 repeats, an hour or two
    uv run --extra bench python benchmarks/all.py --out speed/ --quick         tiny sizes: that it runs, no measurement
    uv run --extra bench python benchmarks/all.py --out speed/ --only views readout
    ... --images FOLDER           photographs for the comparisons that read files; generated JPEGs when not given
    ... --tidecv "COMMAND"        a Python with tidecv, which needs an environment of its own (see detection_errors.py)

Each script runs as its own page says, in a process of its own, repeat by repeat through the whole list, so that a busy
minute falls on all of them. A ratio above 1 says that ours is faster than what it stands beside (shares: ours over the
ceiling). Where a script tells processor time, that is taken: other work on the machine disturbs it less. Intervals are
Student's t over repeats. What was printed is kept (OUT/NAME-REPEAT.txt), with OUT/rows.jsonl and OUT/table.md; a repeat
that is there is not run again. Exit status 1 where something did not run; a ratio below what is asked is only marked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
N = r"(\d[\d,]*\.?\d*)"  # a number in a pattern; thousands may be parted by commas


@dataclass(frozen=True)
class Reading:
    """One ratio in what a script prints: `pattern` has a group for it, or one for each of two numbers to divide."""

    what: str
    beside: str
    pattern: str
    asked: float | None = None
    inverse: bool = False  # the script prints ours / theirs in seconds, or theirs / ours in images per second

    def of(self, said: str) -> float | None:
        """The ratio; None where the text has none."""
        if not (found := re.search(self.pattern, said)):
            return None
        values = [float(x.replace(",", "")) for x in found.groups()]
        ratio = values[0] / values[1] if len(values) == 2 else values[0]
        return 1 / ratio if self.inverse else ratio


@dataclass(frozen=True)
class Script:
    """A comparison: its file with arguments in full and in short, and what is read off."""

    name: str
    file: str
    full: str
    quick: str
    readings: tuple[Reading, ...]
    needs: str = ""  # "images" or "tidecv": the argument of ours that it takes

    def command(self, quick: bool, images: str, tidecv: str) -> list[str]:
        words = [sys.executable, str(HERE / self.file), *shlex.split(self.quick if quick else self.full)]
        return words + {"images": ["--images", images], "tidecv": ["--peer", tidecv]}.get(self.needs, [])


def views(picture: str, side: int) -> Reading:
    """A case of views.py."""
    pattern = rf"{picture.replace(' x ', ' x +')} *-> 2 x +{side} px.* ratio {N}"
    return Reading(f"two MoCo v2 views, {picture} -> {side} px", "lightly", pattern, 3.0)


def pretraining(method: str, asked: float | None) -> Script:
    readings = (
        Reading(f"{method}, files to optimiser", "lightly's example", rf"ours / lightly: median {N}", asked),
        Reading(f"{method}, files to optimiser", "its step on ready tensors", rf"share .* step: median {N}", 0.85),
    )
    arguments = f"--method {method} --rounds 1 --seconds"
    return Script(f"pretraining-{method}", "pretraining.py", f"{arguments} 40", f"{arguments} 5", readings, "images")


def detcon(batch: int) -> Script:
    kinds = {"loss-b": "DetCon-B's loss", "loss-s": "DetCon-S's loss", "regions": "features of regions"}
    readings = tuple(
        Reading(f"{what}, batch {batch}, forward and backward", "lightly", rf"{kind} +batch.*: time {N}")
        for kind, what in kinds.items()
    )
    return Script(f"detcon-{batch}", "detcon.py", f"--sizes {batch}", f"--sizes {batch // 16} --rounds 1", readings)


PROCESSOR = rf"[\d.]+ \(processor {N}\)"
SCRIPTS = (
    Script(
        "views", "views.py", "", "--count 4 --rounds 1",
        (views("500 x 375", 64), views("500 x 375", 224), views("64 x 64", 64)),
    ),
    pretraining("moco-v2", 2.2),
    pretraining("simclr", None),
    pretraining("byol", None),
    detcon(64),
    detcon(256),
    Script(
        "regions", "regions.py", "--engines felzenszwalb felzenszwalb-skimage",
        "--engines felzenszwalb felzenszwalb-skimage --count 2 --rounds 1",
        (Reading("Felzenszwalb regions, equal ones", "scikit-image",
                 rf"(?s)felzenszwalb +{N} images/s.*felzenszwalb-skimage +{N} images/s", 3.0),),
        "images",
    ),
    Script(
        "logistic", "readout.py", "--warm", "--warm --count 400 --width 16 --repeats 1",
        (Reading("logistic path, 45 C x 5 folds", "scikit-learn", rf"(?m)^ratio {PROCESSOR}", 20.0),
         Reading("logistic path, 45 C x 5 folds", "scikit-learn, warm starts", rf"warm starts: .*ratio {PROCESSOR}")),
    ),
    Script(
        "logistic-2048", "readout.py", "--width 2048 --tol 1e-6", "--count 200 --width 64 --repeats 1 --tol 1e-6",
        (Reading("the same on 2,048 features", "scikit-learn", rf"(?m)^ratio {PROCESSOR}", 20.0),),
    ),
    Script(
        "ridge", "readout.py", "--part ridge", "--part ridge --count 200 --width 16 --repeats 1",
        (Reading("ridge path, 45 alphas x 5 folds", "scikit-learn, ONE fit", rf"/ one fit {PROCESSOR}", 1 / 3, True),),
    ),
    Script(
        "features", "readout.py", "--part features", "--part features --images 16 --repeats 1 --batch 8 --size 32",
        (Reading("features of decoded pictures", "the forward pass alone", rf"the forward pass {PROCESSOR}", 0.9),),
    ),
    Script(
        "detection-step", "detection.py", "--part step", "--part step --size 64 --rounds 1",
        (Reading("step of Mask R-CNN with FPN", "torchvision's loop", rf"ours / torchvision {PROCESSOR}", None, True),),
    ),
    Script(
        "detection-ap", "detection.py", "--part ap", "--part ap --images 40 --rounds 1",
        (Reading("COCO's AP, checks included", "faster-coco-eval", rf"/ faster-coco-eval {PROCESSOR}", None, True),),
    ),
    Script(
        "detection-errors", "detection_errors.py", "--images 5000", "--images 20 --rounds 1",
        (Reading("error analysis, both taxonomies", "tidecv", rf"ours / tidecv: analysis {N}", 10.0, True),),
        "tidecv",
    ),
    Script(
        "invariance", "invariance.py", "", "--values 2 --pictures 1 --rounds 1 --transforms rotation hue blur h_flip",
        (Reading("views of 17 transforms", "the published route", rf"whole diagnosis: ratio {N}", 4.0),
         Reading("views of 17 transforms", "it, at equal pixels", rf"equal pixels {N}"),
         Reading("the same in mode paper", "the published route", rf"mode paper {N}")),
    ),
    Script(
        "inversion", "inversion.py", "", "--backbone random:resnet18-small --size 32 --pictures 2 --steps 2 --narrow",
        (Reading("8 inversions at once", "one at a time, as published", rf"(?m)^ratio {PROCESSOR}", 2.0),),
    ),
    Script(
        "shards", "shards.py", "--images 100000", "--small",
        (Reading("images of shards, in random order", "their folder",
                 rf"(?s).*folder: {N} images/s read.*?shards: {N} images/s read", 0.9, True),),
    ),
)  # fmt: skip


def photographs(folder: Path, count: int) -> str:
    """A folder of generated JPEGs of 160 x 120 px, for want of photographs: smooth colours with a little noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i % 4}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((160, 120), Image.Resampling.BICUBIC)).astype(int)
        noisy = (smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path, quality=92)
    return str(folder)


def run(script: Script, command: list[str], log: Path) -> None:
    """Run it and keep what it printed, unless that is there already; the last lines where it failed."""
    if log.exists():
        return
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout
    if all(reading.of(said) is None for reading in script.readings):  # exit status 1 may be a goal that was missed
        said += f"FAILED with exit status {done.returncode}: {' '.join(done.stderr.split()[-40:])}\n"
    log.with_suffix(".part").write_text(said)
    log.with_suffix(".part").rename(log)


def rows(script: Script, logs: list[Path]) -> Iterator[dict[str, Any]]:
    """A row for each reading: its ratios over the repeats, their mean and interval; or why there are none."""
    from whytransfer.study.statistics import mean_interval

    said = [log.read_text() for log in logs]
    for reading in script.readings:
        ratios = [ratio for ratio in map(reading.of, said) if ratio is not None]
        row: dict[str, Any] = {"name": script.name, "what": reading.what, "beside": reading.beside, "ratios": ratios}
        if ratios:
            interval = mean_interval(ratios)
            row |= {"mean": interval.value, "low": interval.low, "high": interval.high} if interval.known else {}
            row["median"] = statistics.median(ratios)
        else:
            row["failed"] = said[-1].strip().splitlines()[-1][-200:]
        yield row | {"asked": reading.asked}


def table(found: list[dict[str, Any]], machine: str) -> str:
    """Markdown."""
    lines = [
        machine,
        "",
        "| what | beside | ratio, median (95 % of the mean) | repeats | asked |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        asked = "" if row["asked"] is None else f"{row['asked']:.3g}"
        if not row["ratios"]:
            lines.append(f"| {row['what']} | {row['beside']} | not run: {row['failed']} | 0 | {asked} |")
            continue
        ends = f" ({row['low']:.3g} to {row['high']:.3g})" if "low" in row else ""
        missed = " **missed**" if row["asked"] is not None and row["median"] < row["asked"] else ""
        lines.append(
            f"| {row['what']} | {row['beside']} | {row['median']:.3g}{ends}{missed} | {len(row['ratios'])} | {asked} |"
        )
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The processor, what it has to do besides, and the libraries."""
    from whytransfer.runs import versions

    v = versions()
    return (
        f"{os.cpu_count()} cores of {v['processor']}, load {os.getloadavg()[0]:.1f} before the start; "
        f"whytransfer {v['whytransfer']}, torch {v['torch']}, {v['platform']}"
    )


def main() -> None:
    """Run, read, tell."""
    names = [script.name for script in SCRIPTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is printed, rows and the table")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and one repeat: that it runs, no measurement")
    parser.add_argument("--repeats", type=int, help="of the whole list (3; --quick: 1)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {' '.join(names)}")
    parser.add_argument("--images", help="folder of JPEG files; generated ones when not given")
    parser.add_argument("--tidecv", default="", help="command of a Python with tidecv; left out when not given")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    here, chosen = machine(), [s for s in SCRIPTS if s.name in (a.only or names) and (a.tidecv or s.needs != "tidecv")]
    images = a.images or photographs(a.out / "images", 256 if a.quick else 2000)
    logs: dict[str, list[Path]] = {script.name: [] for script in chosen}
    for repeat in range(a.repeats or (1 if a.quick else 3)):
        for script in chosen:
            print(f"repeat {repeat + 1}: {script.name}", file=sys.stderr, flush=True)
            logs[script.name].append(a.out / f"{script.name}-{repeat}.txt")
            run(script, script.command(a.quick, images, a.tidecv), logs[script.name][-1])
    found = [row for script in chosen for row in rows(script, logs[script.name])]
    (a.out / "rows.jsonl").write_text("".join(json.dumps({**row, "quick": a.quick}) + "\n" for row in found))
    (a.out / "table.md").write_text(table(found, here))
    print(table(found, here))
    raise SystemExit(any(not row["ratios"] for row in found))


if __name__ == "__main__":
    main()
