"""Bytes of a shard by their place: of a local file, or over fsspec of s3://, gs://, http(s)://, memory:// ..."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from whytransfer.errors import InputError, RunError

INDEX_SUFFIX = ".index"  # of the file beside a shard that tells where its images lie
_TRIES, _PAUSE_S = 3, 0.5  # of a request; then twice as long, and so on
_AHEAD = 8 << 20  # bytes fetched at once where a shard is read from front to back
T = TypeVar("T")


class Source(Protocol):
    """A file that is read by place. Raises RunError where that fails, so that no image is skipped for it."""

    place: str  # path or URL, as it was given
    identity: str  # the same from any working folder
    name: str  # the last part of it
    size: int  # bytes
    block: int  # bytes that cost hardly more than one
    state: str  # changes with the content, as far as can be told without reading it
    modified_ns: int  # 0 where it is not told

    def read(self, begin: int, length: int) -> bytes: ...
    def index(self) -> bytes | None: ...


def source_of(place: str) -> Source:
    """The file at a path or URL; raises InputError where there is none."""
    return Remote(place) if "://" in place else Local(place)


class Local:
    """A file on a disk, opened for each read: thousands of shards stay below the limit of open files."""

    block = 1 << 16

    def __init__(self, place: str) -> None:
        self.place, self.identity, self.name = place, os.path.realpath(place), os.path.basename(place)
        try:
            stat = os.stat(place)
            with open(place, "rb"):
                pass
        except OSError as error:
            raise InputError(f"cannot open shard {place}: {error.strerror or error}.") from None
        self.size, self.modified_ns = stat.st_size, stat.st_mtime_ns
        self.state = f"{stat.st_size} {stat.st_mtime_ns}"

    def read(self, begin: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end."""
        try:
            with open(self.place, "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, begin)
        except OSError as error:
            raise RunError(f"cannot read shard {self.place}: {error.strerror or error}.") from None

    def index(self) -> bytes | None:
        """What lies beside as its index; None where there is none, or one older than the shard."""
        path = Path(self.place + INDEX_SUFFIX)
        try:
            return path.read_bytes() if path.stat().st_mtime_ns >= self.modified_ns else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}.") from None


class Remote:
    """A file that fsspec reaches (pip install 'whytransfer[remote]'). Reads from front to back fetch ahead."""

    block = 4 << 20

    def __init__(self, place: str) -> None:
        self.place = self.identity = place
        self.name = place.rstrip("/").rsplit("/", 1)[-1]
        self._files, self._path = file_system(place)
        info = self._tried(lambda: self._files.info(self._path))
        if not isinstance(info.get("size"), int):
            raise InputError(f"{place}: the server does not tell its size, so it cannot be read by place.")
        self.size, self.modified_ns = info["size"], 0
        told = next((str(info[key]) for key in ("ETag", "etag", "LastModified", "mtime", "created") if key in info), "")
        self.state = f"{self.size} {told}"
        self._lock, self._begin, self._ahead, self._next = threading.Lock(), 0, b"", 0

    def read(self, begin: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end."""
        end = min(begin + length, self.size)
        with self._lock:
            held, at = self._ahead, begin - self._begin
            onward = 0 <= begin - self._next <= _AHEAD // 8  # threads that read in order come a little out of it
            self._next = end
        if at >= 0 and at + end - begin <= len(held):
            return held[at : at + end - begin]
        wanted = min(max(end, begin + _AHEAD), self.size) if onward else end
        content = self._fetched(begin, wanted) if begin < end else b""
        if onward:
            with self._lock:
                self._begin, self._ahead = begin, content
        return content[: end - begin]

    def index(self) -> bytes | None:
        """What lies beside as its index; None where there is none."""
        return optional(self.place + INDEX_SUFFIX)

    def _fetched(self, begin: int, end: int) -> bytes:
        content = self._tried(lambda: self._files.cat_file(self._path, start=begin, end=end))
        if len(content) > end - begin:  # a server that knows no ranges answers with everything
            raise InputError(
                f"{self.place}: {end - begin:,} bytes were asked for and {len(content):,} came: this server does not "
                "answer range requests. Serve the shards by one that does, or copy them to a disk."
            )
        return content

    def _tried(self, ask: Callable[[], T]) -> T:
        return tried(ask, self.place)


def file_system(place: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it; InputError that names the missing package."""
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{place} needs fsspec: pip install 'whytransfer[remote]'") from None
    try:
        return fsspec.core.url_to_fs(place)
    except ImportError as error:
        raise InputError(
            f"{place}: {error}. pip install 'whytransfer[remote]' has what s3, gs and http need."
        ) from None
    except ValueError as error:
        raise InputError(f"{place} cannot be reached: {error}.") from None


def optional(place: str) -> bytes | None:
    """The content of a path or URL, None where there is nothing."""
    if "://" not in place:
        path = Path(place)
        return path.read_bytes() if path.is_file() else None
    files, path_there = file_system(place)

    def ask() -> bytes | None:
        try:
            return files.cat_file(path_there)
        except (FileNotFoundError, PermissionError):  # of a bucket that may not be listed S3 says the latter
            return None

    return tried(ask, place)


def tried(ask: Callable[[], T], place: str) -> T:
    """What `ask` returns, asked again after a failure of the network; InputError where nothing is there."""
    for attempt in range(_TRIES):
        try:
            return ask()
        except FileNotFoundError:
            raise InputError(f"there is no {place}.") from None
        except PermissionError as error:
            raise InputError(f"{place} may not be read: {error}.") from None
        except Exception as error:  # each file system has its own for a broken connection
            if attempt + 1 == _TRIES:
                raise RunError(
                    f"{place} could not be read, {_TRIES} times ({type(error).__name__}: {error}). What was saved is "
                    "intact: run the same command again when it can be reached."
                ) from error
            time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError
