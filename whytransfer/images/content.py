"""What image files contain: a fingerprint of it, and a stamp that tells cheaply whether it may have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from whytransfer.images.decode import Unreadable
from whytransfer.images.index import Names
from whytransfer.memory import usable_cores
from whytransfer.records import ImageSet

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Stamp:
    """What is known of the files without reading them, as git's index does it."""

    files: str  # digest of place, names, sizes and times of change
    sizes: str  # digest of names and sizes: equal for a copy elsewhere
    newest_ns: int  # the latest change, nanoseconds since 1970


@runtime_checkable
class Encoded(ImageSet, Protocol):
    """An ImageSet whose images are encoded files (or members of an archive)."""

    @property
    def names(self) -> Sequence[str] | Names: ...

    def encoded(self, i: int) -> bytes: ...
    def stamp(self) -> Stamp: ...


@runtime_checkable
class Annotated(Encoded, Protocol):
    """An Encoded set with annotations in files of their own: fingerprint and stamp cover those files too."""

    def annotations_digest(self) -> bytes: ...


def digest(content: bytes) -> bytes:
    """16 bytes that stand for the content (blake2b)."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def stamp_of(place: str, files: Iterable[tuple[str, int, int]]) -> Stamp:
    """The stamp of (name, size in bytes, time of change in ns) triples."""
    times, sizes = hashlib.blake2b(os.fsencode(place), digest_size=16), hashlib.blake2b(digest_size=16)
    newest = 0
    for name, size, changed_ns in files:
        line = b"%s\0%d\n" % (os.fsencode(name), size)
        sizes.update(line)
        times.update(line + b"%d\n" % changed_ns)
        newest = max(newest, changed_ns)
    return Stamp(times.hexdigest(), sizes.hexdigest(), newest)


def fingerprint_of(images: Encoded) -> str:
    """The fingerprint of the files as they are now: every byte is read, by all processors."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        return combine(images, pool.map(lambda i: _digest_of(images, i), range(len(images)), chunksize=64))


def _digest_of(images: Encoded, i: int) -> bytes:
    """As it is when a cache entry is built: b"" stands for what cannot be read."""
    try:
        return digest(images.encoded(i))
    except Unreadable:
        return b""


def combine(images: Encoded, digests: Iterable[bytes]) -> str:
    """The fingerprint from the digests of all files, in order; names, labels and annotations count, not the place."""
    total = Fingerprint(images)
    for name, part in zip(images.names, digests, strict=True):
        total.add(name, part)
    return total.hexdigest()


class Fingerprint:
    """The fingerprint of a set while its files come by: nothing is held per file."""

    def __init__(self, images: ImageSet) -> None:
        self._total = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._total.update(repr(images.classes).encode(errors="surrogateescape"))
        self._total.update(np.ascontiguousarray(images.labels).tobytes())
        if isinstance(images, Annotated):
            self._total.update(images.annotations_digest())

    def add(self, name: str, part: bytes) -> None:
        """The next file and its digest."""
        self._total.update(os.fsencode(name) + b"\0" + part)

    def hexdigest(self) -> str:
        """Of all files so far."""
        return self._total.hexdigest()
