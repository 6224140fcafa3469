"""Does a kill at any moment lose anything? Work is killed with SIGKILL and continued, fifty times.

Question   Training (a checkpoint is written at every step), building a pixel cache, making regions, packing shards, a
           study (a pretraining, a fusion, a task on three backbones): does each, killed at a random moment and started
           again, end as if it had never been stopped? Is every file that a kill leaves behind whole or absent?
Command    uv run python studies/soak.py --kills 50 --out runs/soak
Minutes    10 on two cores; --small: one kill of each kind
Expect     every line ends in "equal"; no file is broken. Exit code 1, and the trial's folder kept, where one is not.

The work of a kind is done once without a kill and timed. Then, as often as needed: it is started, killed, looked at,
started again, perhaps killed again, and at last left to end. Every second kill comes at a time drawn evenly between 0
and the whole duration; the others as soon as a file that is just being written aside (".NAME.xxxxxxxx.tmp", or a cache
entry in the making) is seen for the n-th time, n drawn, so that writing is hit far more often than by its share of the
time. Weights, losses, pixels, regions, shards and a study's rows (all but speed and memory) are compared bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import whytransfer
from whytransfer import progress
from whytransfer.images import Folder
from whytransfer.images.cache import PixelCache
from whytransfer.masks import RegionStore
from whytransfer.study.store import StudyFolder

# what the work imports on its way, here once for all its processes
NEEDED = (
    "lightning_fabric.loggers", "torch.utils.tensorboard", "whytransfer.pretraining", "whytransfer.views.engine",
    "whytransfer.methods", "whytransfer.masks.making", "whytransfer.images.shards", "whytransfer.commands.pretrain",
    "whytransfer.commands.masks", "whytransfer.commands.pack", "whytransfer.commands.study",
    "whytransfer.commands.study_stages", "whytransfer.commands.study_plan", "whytransfer.commands.transfer",
    "whytransfer.study.schedule", "whytransfer.study.executors", "whytransfer.tasks.knn", "whytransfer.tasks.readout",
)  # fmt: skip
WAIT_S = 600.0  # longer than any of the work takes on a busy machine
LOOK_S = 0.0005


@dataclass(frozen=True)
class Work:
    """What is killed: `run` leaves its results below a folder, `result` reads them, `check` what a kill left."""

    run: Callable[[Path, Path], object]  # (images, folder)
    result: Callable[[Path], str]
    check: Callable[[Path], None]


def digest(*parts: bytes) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


# ---- training: three epochs of three steps, saved at each


def train(images: Path, out: Path) -> object:
    settings = {"method": "moco-v2-small", "size": 24, "batch": 16, "epochs": 3, "accelerator": "cpu"}
    return whytransfer.pretrain(
        images=str(images), out=out / "run", save_minutes=0, monitor=False, threads=1, **settings
    )


def weights_and_losses(out: Path) -> str:
    weights = load_file(out / "run" / "backbone.safetensors")
    rows = [json.loads(line)["loss"] for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    left = [path.name for path in (out / "run").glob(".*.tmp")]
    assert json.loads((out / "run" / "card.json").read_text())["finished"] and not left, left
    return digest(*(key.encode() + weights[key].numpy().tobytes() for key in sorted(weights)), repr(rows).encode())


def checkpoint_whole(out: Path) -> None:
    for card in out.glob("run/card.json"):
        json.loads(card.read_text())
    for checkpoint in out.glob("run/checkpoint.pt"):
        torch.load(checkpoint, weights_only=True)
    for weights in out.glob("run/backbone.safetensors"):
        load_file(weights)


# ---- the pixel cache


def cache(images: Path, out: Path) -> object:
    return PixelCache.open(Folder(images), 48, out / "pixels")


def entries(out: Path) -> str:
    assert not list((out / "pixels" / "building").iterdir()), "something is left in the making"
    (entry,) = (out / "pixels" / "entries").iterdir()
    return digest(*((entry / name).read_bytes() for name in ("pixels.bin", "offsets.npy", "sides.npy")))


def entries_whole(out: Path) -> None:
    for entry in out.glob("pixels/entries/*"):
        told, sides = json.loads((entry / "entry.json").read_text()), np.load(entry / "sides.npy")
        assert (entry / "pixels.bin").stat().st_size == told["bytes"] == 3 * int(sides.prod(axis=1).sum())


# ---- regions


def regions(images: Path, out: Path) -> object:
    return whytransfer.make_masks(images=str(images), engine="grid:4", out=out / "store", workers=1)


def stored(out: Path) -> str:
    store = RegionStore.open(out / "store")
    return digest(*(bytes(key).ljust(16, b"\0") + bytes(store.code(i)) for i, key in enumerate(store._keys)))


def store_whole(out: Path) -> None:
    if (out / "store" / "store.json").exists() and (out / "store" / "parts").exists():
        RegionStore.open(out / "store")  # reads every part's index


# ---- shards


def shards(images: Path, out: Path) -> object:
    return whytransfer.pack(images=str(images), out=out / "shards", shard_size=4)


def packed(out: Path) -> str:
    assert not list((out / "shards").glob(".*.tmp")) and not (out / "shards" / "packing.json").exists()
    return digest(*(path.read_bytes() for path in sorted((out / "shards").glob("*.tar"))))


def shards_whole(out: Path) -> None:
    for shard in out.glob("shards/*.tar"):
        with tarfile.open(shard) as tar:
            assert all(len(tar.extractfile(member).read()) == member.size for member in tar)  # type: ignore[union-attr]


# ---- a study: its pretraining is saved at every step, its tasks are short

MEASURED = ("images_per_second", "seconds", "peak_mib")


def study(images: Path, out: Path) -> object:
    seen = {"images": str(images), "size": 24, "batch": 16, "epochs": 2, "accelerator": "cpu", "save_minutes": 0}
    content = {
        "study": "soak",
        "pretrain": {"backbone": "resnet18", "monitor": False, "threads": 1, **seen},
        "transfer": {"train": str(images), "test": str(images), "size": 24},
        "backbones": {"random": "random:resnet18", "trained": {"method": "moco-v2-small"}, "both": "random + trained"},
        "tasks": {"near": {"task": "knn"}},
    }
    return whytransfer.run_study(content, out / "study", calibrate=False, workers=1)


def table(out: Path) -> str:
    left = [path.name for path in (out / "study").rglob("*.tmp")]
    rows = [row for row in whytransfer.results(out / "study") if row["metric"] not in MEASURED]
    assert rows and not left, left
    return digest(
        *(repr([row[k] for k in ("cell", "backbone", "metric", "value", "low", "n")]).encode() for row in rows)
    )


def cells_whole(out: Path) -> None:
    store = StudyFolder(out / "study")
    for place in out.glob("study/cells/*"):
        card = store.card(place.name)
        assert card.get("state") in (None, "started", "finished"), f"{place.name}: {card}"
        assert card.get("state") != "finished" or store.damage(place.name) is None, store.damage(place.name)
    for checkpoint in out.glob("study/cells/*/files/checkpoint.pt"):
        torch.load(checkpoint, weights_only=True)
    for weights in out.glob("study/cells/*/files/backbone.safetensors"):
        load_file(weights)


WORK = {
    "training": Work(train, weights_and_losses, checkpoint_whole),
    "cache": Work(cache, entries, entries_whole),
    "regions": Work(regions, stored, store_whole),
    "shards": Work(shards, packed, shards_whole),
    "study": Work(study, table, cells_whole),
}


# ---- killing


def start(work: Work, images: Path, out: Path) -> int:
    """The work in a process of its own, a fork of this one; its number."""
    out.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        progress.be_quiet()
        os.environ["WHYTRANSFER_CACHE"] = str(out / "cache")
        with open(out / "log.txt", "a") as log, contextlib.redirect_stderr(log):
            try:
                work.run(images, out)
                status = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=log)
    finally:
        os._exit(status)


def ended(child: int) -> int | None:
    """The exit status of a process, None while it runs."""
    number, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def being_written(out: Path) -> frozenset[str]:
    """Files aside and entries in the making, at this moment."""
    found = [str(path) for path in out.rglob("*.tmp")] + [str(path) for path in out.glob("pixels/building/*")]
    return frozenset(found)


def kill(child: int, out: Path, at_s: float, at_write: int | None) -> tuple[bool, str]:
    """SIGKILL after so many seconds, or at the n-th file being written; whether it was in time, and when it was."""
    began, seen, found = time.monotonic(), 0, frozenset[str]()
    while (status := ended(child)) is None and time.monotonic() - began < WAIT_S:
        before, found = found, being_written(out) if at_write is not None else found
        seen += len(found - before)
        if (at_write is None and time.monotonic() - began >= at_s) or (at_write is not None and seen >= at_write):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            break
        time.sleep(LOOK_S)
    when = f"at {time.monotonic() - began:.3f} s" if at_write is None else f"at write {seen}"
    return status == -signal.SIGKILL, when


def finish(work: Work, images: Path, out: Path) -> None:
    child, began = start(work, images, out), time.monotonic()
    while (status := ended(child)) is None:
        if time.monotonic() - began > WAIT_S:
            os.kill(child, signal.SIGKILL)
            raise AssertionError(f"no end after {WAIT_S:.0f} s: {out}")
        time.sleep(0.005)
    assert status == 0, f"exit code {status}: {(out / 'log.txt').read_text()[-500:]}"


def trial(work: Work, images: Path, out: Path, took_s: float, rng: np.random.Generator, kills: list[str]) -> None:
    """Start, kill, look, perhaps once more, end; `kills` is told when they came."""
    for _ in range(int(rng.integers(1, 3))):
        at_write = int(rng.integers(1, 8)) if rng.random() < 0.5 else None
        hit, when = kill(start(work, images, out), out, float(rng.uniform(0, took_s)), at_write)
        work.check(out)
        if not hit:  # it was quicker than the kill
            break
        kills.append(when)
    finish(work, images, out)


def photos(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((120 + i, 90), Image.Resampling.BICUBIC).save(file, "JPEG")
        path = folder / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return folder


def soak(kind: str, wanted: int, images: Path, out: Path, rng: np.random.Generator) -> int:
    """Trials of one kind until there were so many kills; how many trials did not end as the whole one."""
    whole = out / f"{kind}-whole"
    began = time.monotonic()
    finish(WORK[kind], images, whole)
    took, expected = time.monotonic() - began, WORK[kind].result(whole)
    print(f"{kind}: {took:.2f} s without a kill", flush=True)
    killed = number = wrong = 0
    while killed < wanted and number < 20 * wanted:
        folder, kills, began = out / f"{kind}-{number}", list[str](), time.monotonic()
        try:
            trial(WORK[kind], images, folder, took, rng, kills)
            equal, why = WORK[kind].result(folder) == expected, "another result"
        except Exception as error:  # whatever it is, it is what is looked for
            equal, why = False, f"{type(error).__name__}: {error}"
        took = took if kills else time.monotonic() - began  # a machine may be more or less busy than it was
        killed, number, wrong = killed + len(kills), number + 1, wrong + (not equal)
        verdict = "equal" if equal else f"NOT EQUAL ({why}); kept: {folder}"
        print(f"{kind} {number}: {'killed ' + ', '.join(kills) if kills else 'was quicker'}: {verdict}", flush=True)
        if equal:
            shutil.rmtree(folder)
    shutil.rmtree(whole)
    print(f"{kind}: {killed} kills in {number} trials, {wrong} not equal", flush=True)
    return wrong + (killed < wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="in all, shared out evenly")
    parser.add_argument("--kinds", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in; trials that end well leave nothing")
    parser.add_argument("--small", action="store_true", help="one kill of each kind")
    a = parser.parse_args()
    for name in NEEDED:
        importlib.import_module(name)
    torch.set_num_threads(1)  # the processes are forks of this one, which must have no threads
    rng = np.random.default_rng(a.seed)
    images = photos(a.out / "photos", 48)
    each = 1 if a.small else -(-a.kills // len(a.kinds))
    wrong = sum([soak(kind, each, images, a.out, rng) for kind in a.kinds])
    print(f"{'every' if not wrong else 'NOT every'} run ended as the uninterrupted one")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
