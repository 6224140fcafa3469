"""Decode every image once, on all processors, and lay the pixels in a row: the making of a cache entry."""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images.content import Encoded, Fingerprint, digest
from whytransfer.images.decode import VERSION, Unreadable, decode, shrink, shrunk_size
from whytransfer.images.store import FULL, Entry, disk_full, readable
from whytransfer.memory import usable_cores
from whytransfer.records import ImageSet

Progress = Callable[[int, int], None]  # (images done, images in all)
Decoded = tuple[bytes, NDArray[np.uint8] | Unreadable]  # digest of the file (b"" without one), pixels (H, W, 3)
_CHUNK = 4  # images per task of a thread
_REPORT_EVERY = 32


@dataclass(frozen=True)
class Policy:
    """What of an image is kept: its shorter side at most max_side_px, all images together at most max_bytes."""

    max_side_px: int | None
    max_bytes: int
    skip_unreadable: bool = False

    def __str__(self) -> str:
        return f"decoder {VERSION}, shorter side {self.max_side_px}"


def pixels_of(images: ImageSet, i: int, max_side_px: int | None) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of image i, decoded now: the same array that the cache would hold."""
    if isinstance(images, Encoded):
        return decode(images.encoded(i), images.names[i], max_side_px)
    whole = images[i].image.permute(1, 2, 0).contiguous().numpy()
    height, width = whole.shape[:2]
    size = shrunk_size((width, height), max_side_px)
    return whole if size == (width, height) else np.asarray(shrink(Image.fromarray(whole), size))


def build(
    images: ImageSet, folder: Path, policy: Policy, fingerprint: str | None, sizes: str, progress: Progress | None
) -> Entry:
    """Write pixels.bin, offsets.npy (N,) and sides.npy (N, 2) into `folder`, and say what they hold.

    Every image is decoded, also those beyond max_bytes, so that a damaged one is known before any training starts.
    Raises InputError naming an unreadable image unless the policy skips them, RunError when the disk is full.
    """
    writer = _Writer(folder / "pixels.bin", policy.max_bytes, len(images))
    total = Fingerprint(images)
    dropped: list[tuple[int, str, str]] = []
    unread = 0
    try:
        with open(folder / "pixels.bin", "wb") as file:
            for i, (part, pixels) in enumerate(_decoded(images, policy.max_side_px)):
                if isinstance(images, Encoded):
                    total.add(images.names[i], part)
                if isinstance(pixels, Unreadable):
                    _refuse(pixels, policy, images)
                    dropped.append((i, pixels.name, pixels.reason))
                    unread += not part
                else:
                    writer.add(file, pixels)
                if progress and ((i + 1) % _REPORT_EVERY == 0 or i + 1 == len(images)):
                    progress(i + 1, len(images))
            file.flush()
            os.fsync(file.fileno())
        writer.save(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise disk_full(folder.parent.parent, error, writer.needed(), writer.bytes) from None
    if not writer.sides:
        _, name, reason = dropped[0]
        raise InputError(f"none of the {len(images):,} images of {images.name} can be read; first {name}: {reason}")
    fingerprint = fingerprint or total.hexdigest()
    counts = writer.seen, writer.cached, writer.bytes
    return Entry(fingerprint, sizes, str(policy), *counts, tuple(dropped), unread)


class _Writer:
    """Pixels appended to one file until the bound; offset and sides of every image, cached or not."""

    def __init__(self, path: Path, max_bytes: int, count: int) -> None:
        self.path, self.max_bytes, self.count = path, max_bytes, count
        self.sides = array("i")  # height, width, height, width ...: 8 bytes per image
        self.bytes = self.cached = 0
        self._full = False

    @property
    def seen(self) -> int:
        """Images added, cached or not."""
        return len(self.sides) // 2

    def add(self, file: BinaryIO, pixels: NDArray[np.uint8]) -> None:
        self._full = self._full or self.bytes + pixels.nbytes > self.max_bytes
        self.sides.extend(pixels.shape[:2])
        if not self._full:
            file.write(pixels.data)
            self.bytes += pixels.nbytes
            self.cached += 1

    def save(self, folder: Path) -> None:
        sides = np.frombuffer(self.sides, dtype=np.int32).reshape(-1, 2)
        ends = np.cumsum(sides.astype(np.int64).prod(axis=1) * 3)
        np.save(folder / "sides.npy", sides)
        np.save(folder / "offsets.npy", np.concatenate([np.zeros(1, np.int64), ends])[: len(sides)])

    def needed(self) -> str:
        """About how much the whole takes, judged by the images so far; for the error of a full disk."""
        seen = int(np.frombuffer(self.sides, dtype=np.int32).reshape(-1, 2).astype(np.int64).prod(axis=1).sum()) * 3
        needed = min(seen * self.count // max(self.seen, 1), self.max_bytes)
        return f"about {readable(needed)} are needed for {self.count:,} images, "


def _refuse(unreadable: Unreadable, policy: Policy, images: ImageSet) -> None:
    if not policy.skip_unreadable:
        raise InputError(
            f"{unreadable} (one of {len(images):,} images of {images.name}). Repair or delete the file, "
            "or leave out what cannot be read: --skip-unreadable, in Python skip_unreadable=True."
        ) from None


def _decoded(images: ImageSet, max_side_px: int | None) -> Iterator[Decoded]:
    """Every image in order, decoded a few tasks ahead; what is left is called off when the consumer stops."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(usable_cores())
    try:
        for begin in range(0, len(images), _CHUNK):
            positions = range(begin, min(begin + _CHUNK, len(images)))
            waiting.append(pool.submit(_decode_some, images, positions, max_side_px))
            if len(waiting) > 2 * usable_cores():
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_some(images: ImageSet, positions: range, max_side_px: int | None) -> list[Decoded]:
    return [_decode_one(images, i, max_side_px) for i in positions]


def _decode_one(images: ImageSet, i: int, max_side_px: int | None) -> Decoded:
    part = b""
    try:
        if not isinstance(images, Encoded):
            return part, pixels_of(images, i, max_side_px)
        content = images.encoded(i)
        part = digest(content)
        return part, decode(content, images.names[i], max_side_px)
    except Unreadable as error:
        return part, error
