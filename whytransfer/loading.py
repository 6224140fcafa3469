"""Which images make which batch, and having their views ready in time.

The order is a function of (seed, epoch); a rank takes its slice of every global batch, so every world size sees the
same data.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from whytransfer.chance import permutation
from whytransfer.errors import InputError
from whytransfer.memory import usable_cores

T = TypeVar("T")


def steps_per_epoch(images: int, batch: int) -> int:
    """Full batches in one epoch (the last, smaller one is dropped). Raises InputError when not even one fits."""
    if batch > images:
        raise InputError(
            f"--batch {batch} is larger than the data: {images} images. Give --batch of at most {images}: the method's "
            "own, which counts when none is given, can be larger."
        )
    return images // batch


def check_parts(batch: int, accumulate: int, world: int) -> None:
    """InputError unless the parts of a batch are equal: each one's mean loss weighs the same."""
    if batch % (accumulate * world):
        over = f"{accumulate} parts (--accumulate)" + (f" in each of {world} processes" if world > 1 else "")
        raise InputError(
            f"--batch {batch} cannot be split evenly into {over}; choose a multiple of {accumulate * world}."
        )


def batch_indices(seed: int, epoch: int, images: int, batch: int, rank: int = 0, world: int = 1) -> np.ndarray:
    """(steps, batch / world) image indices of one epoch for one rank."""
    steps = steps_per_epoch(images, batch)
    if batch % world:
        raise InputError(f"--batch {batch} cannot be split over {world} processes; choose a multiple of {world}.")
    order = permutation(seed, epoch, images)[: steps * batch].reshape(steps, world, batch // world)
    return order[:, rank]


def pictures(pixels: Any, indices: Iterable[int]) -> list[NDArray[np.uint8]]:
    """pixels.pixels(i) of each; those of a set that does not fit its cache are decoded on all cores."""
    rows = [int(i) for i in indices]
    if not getattr(pixels, "decodes", False):
        return [pixels.pixels(i) for i in rows]
    return list(_decoders().map(pixels.pixels, rows))


@functools.cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="decoding")


def ahead(make: Callable[[T], object], items: Iterable[T], depth: int) -> Iterator:
    """make(item) for each item, in order; with depth > 0 a thread works that many results ahead.

    On a CPU the views and the step want the same cores, so depth 0 (in turn) is the faster choice there; beside a
    GPU the thread hides the views behind the step. An exception in the thread is raised where the result is taken.
    """
    if depth <= 0:
        yield from map(make, items)
        return
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in items:
                _put(ready, (make(item), None), stop)
                if stop.is_set():
                    return
            _put(ready, (None, StopIteration()), stop)
        except BaseException as error:
            _put(ready, (None, error), stop)

    thread = threading.Thread(target=work, name="views-ahead", daemon=True)
    thread.start()
    try:
        while True:
            result, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield result
    finally:
        stop.set()
        thread.join()


def _put(ready: queue.Queue, item: object, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return
        except queue.Full:
            continue
