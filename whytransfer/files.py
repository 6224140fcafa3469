"""Writing files so that a kill at any moment leaves the old content or the new one, never half of it."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from whytransfer.errors import InputError, RunError


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], advice: str = "Free some space and run the same command again."
) -> None:
    """Write aside, flush, rename: `path` holds the old content or the new one, never half of it.

    Raises RunError, which ends in `advice`, when the disk is full; the old file stays and the partial one is removed.
    """
    with full_disk_told(path, advice):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                _as_others_are_made(file.fileno())
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file against other processes (advisory; released by the system when the process dies).

    Yields whether it was got: with wait=False it is False at once where another holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield True
        return
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def full_disk_told(path: Path, advice: str) -> Iterator[None]:
    """Turn what is raised when `path` is written to a full disk, however it is wrapped, into a RunError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # TensorBoard and torch.save hide it in their own
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise RunError(
            f"the disk is full: {path} could not be written ({free / 2**20:.0f} MiB free now). What was saved "
            f"before is intact. {advice}"
        ) from None


def remove_asides(folder: Path, names: Iterable[str]) -> None:
    """Remove what `atomic_write` to these files in `folder` left beside them when it was killed.

    Only for who alone writes these files: another's write that is under way would be lost.
    """
    for name in names:
        for aside in folder.glob(f".{glob.escape(name)}.????????.tmp"):  # as mkstemp names them
            aside.unlink(missing_ok=True)


def remove_asides_below(folder: Path) -> None:
    """The same for all files below a folder that this process alone writes into."""
    for aside in folder.rglob(".*.????????.tmp"):
        aside.unlink(missing_ok=True)


def writable_folder(path: Path | str, make: bool = True) -> Path:
    """The folder, made where it was missing, after one file was written into it and removed.

    With make=False a missing folder stays missing, and the nearest one above it is tried instead. Called before the
    work starts; raises InputError naming the system's reason where nothing can be written.
    """
    path = Path(path)
    try:
        if make or path.exists():
            path.mkdir(parents=True, exist_ok=True)
        tried = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
        with tempfile.TemporaryFile(dir=tried):
            pass
    except FileExistsError:
        raise InputError(f"{path} is a file; a folder is needed to write into. Choose another --out.") from None
    except OSError as error:
        raise InputError(
            f"nothing can be written in {path} ({error.strerror or error}). Choose another --out, or make the folder "
            "writable."
        ) from None
    return path


def _as_others_are_made(descriptor: int) -> None:
    """mkstemp makes files for their owner alone; readers of a result are those that the umask allows."""
    if hasattr(os, "fchmod"):  # not on Windows
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, 0o666 & ~mask)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, also one of our messages about it.

    torch.save hides the operating system's error behind a RuntimeError, so the whole chain is looked at.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__ or error.__context__
    return False
