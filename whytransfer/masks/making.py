"""Making the regions of many images: what is not in the store yet, in this process, on all cores, or on a Ray cluster.

Work is done in short ranges of images. An image is known by what it contains, so a run that was stopped anywhere, or
one on a copy of the images, computes only what is missing; regions are kept 20 s after they were made at the latest.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import whytransfer
from whytransfer.errors import InputError, RunError
from whytransfer.images import open_images
from whytransfer.images.content import Annotated as AnnotatedSet
from whytransfer.images.decode import Unreadable
from whytransfer.masks.annotated import Annotated
from whytransfer.masks.regions import Engine
from whytransfer.masks.store import RegionStore, content_of
from whytransfer.records import ImageSet

_LONGEST, _ABOUT_S = 64, 0.5  # images of a range; how long a range is to take
_RAY_RANGE = 512  # images of a task: each task writes a part
FAILURES = {"InputError": InputError, "RunError": RunError}


@dataclass(frozen=True)
class Job:
    """What a process needs to know to make regions of images begin ... end - 1."""

    images: str  # spec
    engine: str  # spec
    store: str  # folder
    skip_unreadable: bool = False
    missing_ok: bool = False
    at: str = ""  # folder in which the paths of images and engine begin, for processes that start elsewhere


@dataclass(frozen=True)
class Made:
    """What was done; sums of it are sums of its numbers."""

    done: int = 0  # images looked at
    made: int = 0  # of these, regions made now; the others were in the store, or are unreadable
    unreadable: int = 0
    empty: int = 0  # made, and without any region
    crowded: int = 0  # made, and with regions left out because there were more than 255
    pixels: int = 0  # of the images made
    bytes: int = 0
    seconds: float = 0.0  # wall time of the processes while they made regions: reading, decoding, coding, writing too
    cpu_seconds: float = 0.0  # of these, on a processor: far fewer where others use the machine too
    timed: int = 0  # images that the seconds are of: the first of a process is not, it waits for compiled kernels

    def __add__(self, other: Made) -> Made:
        return Made(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def images_per_second(self) -> float:
        """Per core; 0 when nothing was timed."""
        return self.timed / self.seconds if self.seconds else 0.0


class Maker:
    """Makes the regions of ranges of a set's images that are not in the store."""

    def __init__(
        self, images: ImageSet, engine: Engine, store: RegionStore, skip_unreadable: bool = False, warm: bool = False
    ) -> None:
        self.images, self.engine, self.store, self.skip_unreadable = images, engine, store, skip_unreadable
        self._writer, self._warm = store.writer(), warm

    def __call__(self, begin: int, end: int) -> Made:
        """Images begin ... end - 1; raises InputError for an unreadable one, unless they are to be skipped."""
        total = Made()
        for i in range(begin, end):
            try:
                total += self._one(i)
            except Unreadable as error:
                if not self.skip_unreadable:
                    raise InputError(
                        f"{error}. Repair or delete it, or leave out what cannot be read with --skip-unreadable. What "
                        "was made is kept: the same command goes on."
                    ) from None
                total += Made(done=1, unreadable=1)
        return total

    def close(self) -> None:
        """Write what is not written yet."""
        self._writer.flush()

    def _one(self, i: int) -> Made:
        began, worked = time.perf_counter(), time.process_time()
        key = content_of(self.images, i)
        if key in self.store:
            return Made(done=1)
        sample = self.images[i]
        regions = self.engine(sample)
        if regions.size != tuple(sample.image.shape[-2:]):
            raise InputError(f"{sample.name}: regions of size {regions.size} for an image of {sample.image.shape[-2:]}")
        size = self._writer.add(key, regions)
        spent = (time.perf_counter() - began, time.process_time() - worked, 1) if self._warm else (0.0, 0.0, 0)
        self._warm = True
        pixels, empty = regions.size[0] * regions.size[1], not (regions.areas() > 0).any()
        return Made(1, 1, 0, int(empty), int(regions.left_out > 0), pixels, size, *spent)


def full_recipe(engine: Engine, images: ImageSet) -> str:
    """The engine's recipe; of the samples' own annotations with what these are, which the engine cannot know."""
    if not getattr(engine, "own", False):
        return engine.recipe
    known = images.annotations_digest().hex() if isinstance(images, AnnotatedSet) else images.fingerprint()
    return f"{engine.recipe} content={known}"


def make(
    images: ImageSet,
    engine: Engine,
    store: RegionStore,
    progress: Callable[[Made], None] | None = None,
    skip_unreadable: bool = False,
) -> Made:
    """Make what is missing of these images in this process; `progress` is told the sum after each image.

    Open the store again to read what was added.
    """
    maker, total = Maker(images, engine, store, skip_unreadable), Made()
    try:
        for i in range(len(images)):
            total += maker(i, i + 1)
            if progress:
                progress(total)
    finally:
        maker.close()
    return total


def make_on_cores(job: Job, count: int, workers: int, progress: Callable[[Made], None]) -> Made:
    """Images 0 ... count - 1 by `workers` processes; `progress` is told the sum after each range.

    Raises what a worker raised; what the others had made by then is kept.
    """
    ranges, lock, stop, total = _Ranges(count), threading.Lock(), threading.Event(), Made()

    def add(made: Made) -> None:
        nonlocal total
        with lock:
            total += made
            progress(total)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(_drive, job, ranges, add, stop) for _ in range(workers)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    for future in running:
        future.result()
    return total


class _Ranges:
    """Consecutive ranges of 0 ... count - 1, each as long as its taker wants, for many threads."""

    def __init__(self, count: int) -> None:
        self._next, self._count, self._lock = 0, count, threading.Lock()

    def take(self, length: int) -> tuple[int, int] | None:
        with self._lock:
            begin = self._next
            self._next = min(begin + length, self._count)
            return (begin, self._next) if begin < self._count else None


def _drive(job: Job, ranges: _Ranges, add: Callable[[Made], None], stop: threading.Event) -> None:
    """One worker process from its start to its end; ranges grow until one takes half a second."""
    root = str(Path(whytransfer.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "whytransfer.masks.worker"]
    environment = os.environ | {"PYTHONPATH": paths} | one_thread
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        length = 1
        _ask(process, asdict(job))
        while not stop.is_set() and (part := ranges.take(length)):
            began = time.monotonic()
            add(Made(**_ask(process, part)))
            took = time.monotonic() - began
            length = min(2 * length, _LONGEST) if took < _ABOUT_S else max(length // 2, 1)
        add(Made(**_ask(process, "end")))
    finally:
        with contextlib.suppress(BrokenPipeError):  # of what a dead worker did not read
            process.stdin.close()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
        process.wait()


def _ask(process: subprocess.Popen[str], what: Any) -> dict[str, Any]:
    """Send a line, read a line; raises the failure that the worker reports."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        raise RunError(
            f"a worker process ended with status {process.wait()} (negative: killed by that signal, 9 when memory runs "
            "out). What was made is kept: run the same command again, with fewer --workers if memory is short."
        )
    answer = json.loads(line)
    if "failure" in answer:
        raise FAILURES[answer["failure"]](answer["message"])
    return answer


def make_on_ray(job: Job, count: int, address: str | None, progress: Callable[[Made], None]) -> Made:
    """The same on a Ray cluster (None: one of this machine); images and store must lie on a disk that all share."""
    from whytransfer.masks.on_ray import each

    parts = [(job, begin, min(begin + _RAY_RANGE, count)) for begin in range(0, count, _RAY_RANGE)]
    total = Made()
    for made in each(made_of, parts, address):
        total += made
        progress(total)
    return total


def made_of(job: Job, begin: int, end: int) -> Made:
    """One task on its own: what it makes is in the store when it returns.

    Ray starts processes in folders of its own, where a relative path would lead nowhere: this one goes to the job's.
    """
    if job.at:
        _go_to(job.at)
    images, engine = _opened(job)
    maker = Maker(images, engine, RegionStore.open(job.store), job.skip_unreadable)
    try:
        return maker(begin, end)
    finally:
        maker.close()


def _go_to(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"{folder}, where the work was started, cannot be entered on {platform.node()} "
            f"({error.strerror or error}): all machines of the cluster must share that disk."
        ) from None


@functools.lru_cache(maxsize=1)
def _opened(job: Job) -> tuple[ImageSet, Engine]:
    """Opened once per process, for all its tasks."""
    from whytransfer.masks import open_engine

    images, engine = open_images(job.images), open_engine(job.engine)
    if isinstance(engine, Annotated):
        engine.missing_ok = job.missing_ok
    return images, engine


def maker_of(job: Job) -> Maker:
    """What a worker process works with."""
    images, engine = _opened(job)
    return Maker(images, engine, RegionStore.open(job.store), job.skip_unreadable)


def answers(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """A worker's side of the conversation: a job, ranges, "end"; without "end" (the caller died) it writes and goes."""
    maker: Maker | None = None
    try:
        for line in lines:
            what = json.loads(line)
            if maker is None:
                maker = maker_of(Job(**what))
                yield {}
            elif what == "end":
                maker.close()
                yield asdict(Made())
                return
            else:
                yield asdict(maker(*what))
    except (InputError, RunError) as failure:
        yield {"failure": type(failure).__name__, "message": str(failure)}
    finally:
        if maker is not None:
            maker.close()
