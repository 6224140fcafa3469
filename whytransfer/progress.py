"""Progress for people: a bar with an ETA on a terminal, a line now and then in a log. Always on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Update = Callable[..., None]  # update(done, text="...")
LINE_EVERY_S = 20.0

# names are shown as they are: in felzenszwalb:100:100 rich would see the emoji :100:, in [a] a style
_console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
_quiet = False
_also: list[Path] = []  # files that are told what people are told


def be_quiet(quiet: bool = True) -> None:
    """Silence `say` and `bar` (other ranks of a distributed run, library use)."""
    global _quiet
    _quiet = quiet


@contextlib.contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Within it `say` and `bar` are silent, where asked or where they were already."""
    before = _quiet
    be_quiet(quiet or before)
    try:
        yield
    finally:
        be_quiet(before)


def is_quiet() -> bool:
    """Whether `say` and `bar` are silent."""
    return _quiet


def say(message: str) -> None:
    """One line to the user, on standard error."""
    for path in _also:
        with open(path, "a") as file:
            file.write(message + "\n")
    if not _quiet:
        _console.print(message)


@contextlib.contextmanager
def also_in(path: Path) -> Iterator[None]:
    """Within it, what is said is appended to a file too, also by a process that is quiet."""
    _also.append(path)
    try:
        yield
    finally:
        _also.remove(path)


@contextlib.contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Update]:
    """Show work of `total` units; call update(done, text) with the units done so far."""
    if _quiet or total <= 0:
        yield lambda done, text="": None
    elif sys.stderr.isatty():
        with _terminal_bar(label, total, done) as update:
            yield update
    else:
        yield _log_lines(label, total, done)


@contextlib.contextmanager
def _terminal_bar(label: str, total: int, done: int) -> Iterator[Update]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=_console, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done, text="")
        yield lambda done, text="": progress.update(task, completed=done, text=text)


def _log_lines(label: str, total: int, start: int) -> Update:
    last = time.monotonic()
    first: tuple[float, int] | None = None  # when and at how many the work was under way: compiling comes before

    def update(done: int, text: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None and done > start:
            first = now, done
        if now - last >= LINE_EVERY_S and first:
            last = now
            pace = (now - first[0]) / (done - first[1]) if done > first[1] else None
            eta = duration((pace or 0.0) * (total - done)) if pace or done >= total else "not known yet"
            say(f"{label} {done}/{total}  ETA {eta}  {text}".rstrip())

    return update


def rate(images_per_second: float) -> str:
    """211.4 -> '211 images/s'; slow ones keep digits: 2.83 -> '2.8 images/s', 0.0183 -> '0.018 images/s'."""
    slow = f"{images_per_second:.1f}" if images_per_second >= 1 else f"{images_per_second:.2g}"
    return f"{images_per_second:,.0f} images/s" if images_per_second >= 10 else f"{slow} images/s"


def several(count: float, thing: str) -> str:
    """1 -> '1 epoch', 1200 -> '1,200 epochs', 0.667 -> '0.667 epochs'."""
    shown = f"{count:,}" if isinstance(count, int) else f"{count:.3g}"
    return f"{shown} {thing}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """95 -> '1 min 35 s'."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, s = divmod(seconds, 60)
    return f"{minutes} min {s:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
