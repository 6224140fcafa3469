"""Ctrl-C that loses nothing: the first one lets the step end, so that its state can be saved."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from whytransfer import progress


@dataclass
class Stop:
    """Whether someone asked the work to stop."""

    asked: bool = False


@contextlib.contextmanager
def stop_between_steps(stop: Stop) -> Iterator[Stop]:
    """The first Ctrl-C (or SIGTERM) sets `stop.asked`; the second one raises KeyboardInterrupt at once."""

    def on_signal(number: int, frame: object) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        progress.say("stopping after this step; the run will be saved (again to stop at once)")

    try:
        before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are the caller's business
        yield stop
        return
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
