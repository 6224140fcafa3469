"""Pixels at the speed of memory: every image decoded once, kept on disk, mapped into memory, found again by content."""

from __future__ import annotations

import copy
import logging
import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, RunError
from whytransfer.images.build import Policy, Progress, build, pixels_of
from whytransfer.images.content import Encoded, Stamp, digest
from whytransfer.images.store import FULL, LOCKED, Entry, Store, disk_full, not_ours, readable
from whytransfer.records import ImageSet

logger = logging.getLogger(__name__)
MAX_BYTES = 20_000_000_000  # of one image set
MAX_FOLDER_BYTES = 50_000_000_000  # of all of them together


class PixelCache:
    """The decoded images of a set; open it with PixelCache.open.

    >>> cache = PixelCache.open(open_images("photos/"), max_side_px=96)  # doctest: +SKIP
    >>> cache.pixels(0).shape, cache.labels[0], cache.fingerprint  # doctest: +SKIP
    """

    def __init__(self, images: ImageSet, entry: Entry, path: Path, max_side_px: int | None) -> None:
        self.images, self.max_side_px, self.path = images, max_side_px, path
        self.name, self.classes, self.fingerprint = images.name, images.classes, entry.fingerprint
        self.dropped = tuple(name for _, name, _ in entry.dropped)
        self.kept = _kept(len(images), [position for position, _, _ in entry.dropped])
        self.labels: NDArray[np.int64] = images.labels if self.kept is None else images.labels[self.kept]
        self.cached = entry.cached  # the first so many are mapped, the rest is decoded at each use
        self._rows: NDArray[np.int64] | None = None  # of a subset: positions in the entry
        self._offsets, self._sides = np.load(path / "offsets.npy"), np.load(path / "sides.npy")
        self._pixels = _mapped(path / "pixels.bin")
        self.notes = _notes(entry, self._sides, images.name)

    @classmethod
    def open(
        cls,
        images: ImageSet,
        max_side_px: int | None = None,
        folder: Path | None = None,
        max_bytes: int = MAX_BYTES,
        progress: Progress | None = None,
        *,
        skip_unreadable: bool = False,
        max_folder_bytes: int | None = None,
    ) -> PixelCache:
        """The cache of these images, found by their content or built now.

        max_side_px bounds the shorter side; larger images are shrunk (antialiased), none is enlarged. Images beyond
        max_bytes are decoded at each use; all caches of the folder together stay under max_folder_bytes, 50 GB or
        max_bytes if that is more. Files unchanged in name, size and time of change are taken as unchanged
        (nothing is read); a copy elsewhere is recognised by reading it, without decoding.
        Raises InputError naming an unreadable image unless skip_unreadable, RunError when the disk is full.
        """
        if max_side_px is not None and max_side_px < 1:
            raise InputError(
                f"max_side_px is {max_side_px}: give the longest shorter side allowed, 1 or more, or None."
            )
        room = max(MAX_FOLDER_BYTES, max_bytes) if max_folder_bytes is None else max_folder_bytes
        policy = Policy(max_side_px, min(max_bytes, room), skip_unreadable)
        folder = folder or default_folder()
        try:
            entry, path = _find_or_build(images, Store(folder, room), policy, progress)
            cache = cls(images, entry, path, max_side_px)
        except FileNotFoundError as error:
            if not _below(folder, error):
                raise
            raise RunError(f"{error.filename} was removed by another process that made room; run again") from None
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(folder, error) from None
            if error.errno in LOCKED and _below(folder, error):
                raise not_ours(folder, error) from None
            raise
        for note in cache.notes:
            logger.warning("%s", note)
        return cache

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, i: int) -> NDArray[np.uint8]:
        """Image i (H, W, 3) uint8, contiguous, read-only: a view of the mapped file, or beyond the bound decoded."""
        row = i if self._rows is None else self._rows[i]
        if row < self.cached:
            height, width = self._sides[row]
            offset = self._offsets[row]
            return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)
        pixels = pixels_of(self.images, int(row if self.kept is None else self.kept[row]), self.max_side_px)
        pixels.flags.writeable = False
        return pixels

    @property
    def decodes(self) -> bool:
        """Whether some pictures did not fit and are decoded at each use."""
        return self.cached < len(self._sides)

    def size(self, i: int) -> tuple[int, int]:
        """(H, W) of image i, without reading it."""
        height, width = self._sides[i if self._rows is None else self._rows[i]]
        return int(height), int(width)

    @property
    def positions(self) -> NDArray[np.int64]:
        """(N,) which image of `images` each one is: unreadable ones are passed over, a subset has its own order."""
        rows = np.arange(len(self)) if self._rows is None else self._rows
        return rows if self.kept is None else self.kept[rows]

    def subset(self, indices: NDArray[np.int64]) -> PixelCache:
        """The images at these positions, in this order, on the same mapped file."""
        part = copy.copy(self)
        part._rows = indices if self._rows is None else self._rows[indices]
        part.labels = self.labels[indices]
        part.fingerprint = digest(self.fingerprint.encode() + part._rows.tobytes()).hex()
        return part

    @property
    def state_bytes_per_image(self) -> float:
        """Memory that grows with the number of images, once open: the index of the set, labels, offsets and sides.

        Opening takes more for a moment: a zip's directory is about 650 bytes per member as zipfile reads it, a folder's
        names are strings until they are in a row.
        """
        own = sum(a.nbytes for a in (self._offsets, self._sides, self.labels, self._rows, self.kept) if a is not None)
        return (own + getattr(self.images, "nbytes", 0)) / max(len(self), 1)


def _below(folder: Path, error: OSError) -> bool:
    """Whether the error is of a file of the cache folder, not of an image."""
    return isinstance(error.filename, str | Path) and folder.absolute() in Path(error.filename).absolute().parents


def default_folder() -> Path:
    """Where caches lie: the folder named by WHYTRANSFER_CACHE, else ~/.cache/whytransfer."""
    return Path(os.environ.get("WHYTRANSFER_CACHE") or "~/.cache/whytransfer").expanduser() / "pixels"


def _find_or_build(images: ImageSet, store: Store, policy: Policy, progress: Progress | None) -> tuple[Entry, Path]:
    stamp = images.stamp() if isinstance(images, Encoded) else None
    fingerprint = recalled = store.recall(stamp) if stamp else None
    if stamp is None or (not recalled and store.has_copy(stamp, str(policy))):
        fingerprint = images.fingerprint()
    found = _found(store, fingerprint, policy)
    if found is None:
        with store.building(_key((stamp.files if stamp else fingerprint) or "", policy)) as folder:
            fingerprint = fingerprint or (store.recall(stamp) if stamp else None)
            found = _found(store, fingerprint, policy)  # by another process, while this one waited
            if found is None:
                entry = build(images, folder, policy, fingerprint, stamp.sizes if stamp else "", progress)
                key = _entry_key(entry, policy)
                store.publish(folder, key, entry)
                found = entry, store.path(key)
            _remember(store, stamp, found[0])  # before another process, waiting, looks
    elif not recalled:
        _remember(store, stamp, found[0])
    entry, path = found
    if entry.dropped and not policy.skip_unreadable:
        _, name, reason = entry.dropped[0]
        raise InputError(
            f"cannot read image {name}: {reason} (one of {len(entry.dropped)} unreadable of {len(images):,} images of "
            f"{images.name}). Repair or delete them, or leave them out: --skip-unreadable, in Python "
            "skip_unreadable=True."
        )
    return entry, path


def _remember(store: Store, stamp: Stamp | None, entry: Entry) -> None:
    """Know these files by their stamp from now on; not where some could not be read, which a chmod mends unseen."""
    if stamp and not entry.unread:
        store.remember(stamp, entry.fingerprint)


def _found(store: Store, fingerprint: str | None, policy: Policy) -> tuple[Entry, Path] | None:
    """The entry that holds every image, whatever its bound was; else the one that was cut at this very bound."""
    for bound in (None, policy.max_bytes) if fingerprint else ():
        key = _key(f"{fingerprint} {bound}", policy)
        if entry := store.find(key):
            return entry, store.path(key)
    return None


def _entry_key(entry: Entry, policy: Policy) -> str:
    return _key(f"{entry.fingerprint} {None if entry.cached == entry.count else policy.max_bytes}", policy)


def _key(text: str, policy: Policy) -> str:
    return digest(f"{text} {policy}".encode()).hex()


def _kept(count: int, dropped: list[int]) -> NDArray[np.int64] | None:
    return np.delete(np.arange(count), dropped) if dropped else None


def _mapped(path: Path) -> NDArray[np.uint8]:
    if path.stat().st_size == 0:  # nothing fitted: an empty file cannot be mapped
        return np.empty(0, dtype=np.uint8)
    with open(path, "rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def _notes(entry: Entry, sides: NDArray[np.int32], name: str) -> tuple[str, ...]:
    notes = []
    if entry.dropped:
        first = "; ".join(f"{image} ({reason})" for _, image, reason in entry.dropped[:3])
        total = entry.count + len(entry.dropped)
        notes.append(f"{name}: left out {len(entry.dropped):,} of {total:,} images that cannot be read: {first}")
    if entry.cached < entry.count:
        needed = int(sides.astype(np.int64).prod(axis=1).sum()) * 3
        notes.append(
            f"{name}: {entry.cached:,} of {entry.count:,} images ({readable(entry.bytes)} of {readable(needed)}) are "
            "in the pixel cache; the rest is decoded at each use. Raise --cache-gb (max_bytes=, and max_folder_bytes= "
            "where it was set) to hold them all."
        )
    return tuple(notes)
