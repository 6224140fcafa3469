"""The cache folder on disk: entries that appear whole or not at all, one builder at a time, oldest removed first.

FOLDER/entries/<key>/      pixels.bin, offsets.npy, sides.npy, entry.json     (published by a rename)
FOLDER/building/<key>/     an entry in the making, owned by whoever holds the lock of <key>
FOLDER/locks/<key>         empty files, locked with flock: a killed builder lets go of its lock
FOLDER/stamps/<stamp>      the fingerprint of the files that had this stamp
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import time
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from whytransfer.errors import InputError, RunError
from whytransfer.images.content import Stamp
from whytransfer.parsing import json_of

logger = logging.getLogger(__name__)
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG  # of a disk, a quota, a limit on files
LOCKED = errno.EACCES, errno.EPERM, errno.EROFS  # another user's folder, a disk that can only be read
_FINGERPRINT = re.compile(rb"[0-9a-f]{32}")
_SETTLED_NS = 2_000_000_000  # younger files could change again within the clock's grain (git: "racy")


@dataclass(frozen=True)
class Entry:
    """What entry.json says of one cached image set."""

    fingerprint: str  # of the files
    sizes: str  # Stamp.sizes of the files, "" where there are none
    policy: str  # how pixels were made of them
    count: int  # images readable
    cached: int  # the first so many are in pixels.bin
    bytes: int  # length of pixels.bin
    dropped: tuple[tuple[int, str, str], ...] = ()  # (position, name, reason) of unreadable images
    unread: int = 0  # of these, files that could not even be read: a chmod mends them without a trace in their stamp


def readable(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.2f} MB"


def disk_full(folder: Path, error: OSError, needed: str = "", held: int = 0) -> RunError:
    """The error that says how much there is (`held` bytes of it are ours, and given back) and what to do."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = readable(shutil.disk_usage(there).free + held)
    return RunError(
        f"disk full while caching pixels in {folder}: {needed}{free} are free "
        f"({error.strerror}). Free some, set WHYTRANSFER_CACHE to a larger disk, or bound the cache with --cache-gb "
        "(max_bytes=): images beyond it are decoded at each use. Nothing was kept."
    )


def not_ours(path: Path, error: OSError) -> InputError:
    """The error where nothing can be written; a cache that is whole can be used all the same."""
    return InputError(
        f"cannot write the pixel cache {path} ({error.strerror}): "
        "set WHYTRANSFER_CACHE to a folder that can be written."
    )


class Store:
    """A cache folder; raises InputError when it cannot be made or written, the OSError itself when the disk is full."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        for part in ("entries", "building", "locks", "stamps"):
            try:
                (folder / part).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if error.errno in FULL:
                    raise
                raise not_ours(folder / part, error) from None

    def path(self, key: str) -> Path:
        """Where the entry of this key is, or would be."""
        return self.folder / "entries" / key

    def find(self, key: str) -> Entry | None:
        """The entry of this key if it is there and whole; marks it as used now."""
        path = self.path(key)
        entry = _read(path)
        if entry is None or not _whole(path, entry):
            return None
        try:
            os.utime(path / "entry.json")
        except OSError as error:  # another user's cache, or one on a disk that can only be read, serves as well
            if error.errno not in LOCKED:
                raise
        return entry

    def has_copy(self, stamp: Stamp, policy: str) -> bool:
        """Whether an entry was made of files of these names and sizes: then reading them may save decoding them."""
        return any(entry.sizes == stamp.sizes and entry.policy == policy for _, entry in self._entries())

    def recall(self, stamp: Stamp) -> str | None:
        """The fingerprint of the files that had this stamp; None where none, or a damaged one, is noted."""
        path = self.folder / "stamps" / stamp.files
        noted = path.read_bytes() if path.exists() else b""
        return noted.decode() if _FINGERPRINT.fullmatch(noted) else None

    def remember(self, stamp: Stamp, fingerprint: str) -> None:
        """Note a fingerprint, unless the files are so new that they could change again unseen."""
        if time.time_ns() - stamp.newest_ns > _SETTLED_NS:
            path = self.folder / "stamps" / stamp.files
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                temporary.write_text(fingerprint)
                temporary.replace(path)
            except OSError as error:
                if error.errno not in (*FULL, *LOCKED):
                    raise
                logger.warning("pixel cache: could not note these files (%s); next time they are read again", error)
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)

    @contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """A fresh folder to build in, for one process at a time (others wait); removed at the end, however it ends."""
        with self._lock(key, wait=True):
            folder = self.folder / "building" / key
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, built: Path, key: str, entry: Entry) -> None:
        """Give a built folder its place by a rename; an entry that is there already stays (its content is the same)."""
        (built / "entry.json").write_text(json.dumps(asdict(entry)))
        self.make_room(entry.bytes)
        if self.find(key) is None:
            shutil.rmtree(self.path(key), ignore_errors=True)  # a damaged one
            try:
                built.rename(self.path(key))
            except OSError:  # another process was first, from a copy of the same files
                if self.find(key) is None:
                    raise

    def make_room(self, coming: int) -> None:
        """Remove the entries unused for longest until `coming` bytes fit; and what killed builders left."""
        for left in (self.folder / "building").iterdir():
            with self._lock(left.name, wait=False) as mine:
                if mine:
                    shutil.rmtree(left, ignore_errors=True)
        entries = sorted(self._entries(), key=lambda item: _used(item[0]))
        total = coming + sum(entry.bytes for _, entry in entries)
        for path, entry in entries:
            if total <= self.max_bytes:
                return
            shutil.rmtree(path, ignore_errors=True)
            total -= entry.bytes
            logger.warning(
                "pixel cache: removed %s (%s, %d images), the one unused for longest, to stay under %s in %s",
                *(path.name, readable(entry.bytes), entry.count, readable(self.max_bytes), self.folder),
            )

    def _entries(self) -> list[tuple[Path, Entry]]:
        read = ((path, _read(path)) for path in (self.folder / "entries").iterdir())
        return [(path, entry) for path, entry in read if entry is not None]

    @contextmanager
    def _lock(self, key: str, wait: bool) -> Iterator[bool]:
        """Hold the lock of a key; yields whether it was got."""
        with open(self.folder / "locks" / key, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                logger.warning("pixel cache: another process is decoding the same images; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield True


def _read(path: Path) -> Entry | None:
    """What entry.json says; None where it is damaged, not ours, or being removed by another process."""
    try:
        values = json_of((path / "entry.json").read_bytes())
        values["dropped"] = tuple((int(position), str(name), str(why)) for position, name, why in values["dropped"])
        entry = Entry(**values)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    numbers = entry.count, entry.cached, entry.bytes
    return entry if isinstance(entry.fingerprint, str) and all(isinstance(n, int) for n in numbers) else None


def _whole(path: Path, entry: Entry) -> bool:
    """Whether pixels, offsets and sides of every image are there and agree."""
    try:
        size = (path / "pixels.bin").stat().st_size
        offsets, sides = (np.lib.format.open_memmap(path / f"{name}.npy", mode="r") for name in ("offsets", "sides"))
    except (FileNotFoundError, NotADirectoryError, ValueError, tokenize.TokenError):  # the last: NumPy, of its header
        return False
    kinds = [(array.dtype, array.shape) for array in (offsets, sides)]
    if kinds != [(np.int64, (entry.count,)), (np.int32, (entry.count, 2))] or not 0 <= entry.cached <= entry.count:
        return False
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sides.astype(np.int64).prod(axis=1) * 3)])
    return bool((sides > 0).all() and np.array_equal(offsets, ends[:-1]) and size == entry.bytes == ends[entry.cached])


def _used(path: Path) -> float:
    try:
        return (path / "entry.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0
