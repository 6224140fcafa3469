"""Where the images of a shard lie: read from its headers once, then kept beside it or in the cache.

A sample is what WebDataset means by it: members side by side whose names are equal up to the first dot of their last
part, the key; what is behind that dot says what a member is. KEY.jpg (.jpeg, .png, .webp, .bmp) is the image, KEY.cls
the number of its class. `whytransfer pack` adds KEY.path, the name of the image where the key could not be it, and
annotations (see annotations.py). Other members are left out and counted.

Source: the format as described by webdataset (github.com/webdataset/webdataset, docs: "The WebDataset Format").
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, RunError
from whytransfer.files import atomic_write
from whytransfer.images.index import SUFFIXES, Names
from whytransfer.images.shards.members import Member, Tar
from whytransfer.images.shards.sources import Source
from whytransfer.parsing import json_of

logger = logging.getLogger(__name__)
ANNOTATIONS = ("objects.json", "semantic.png", "depth.npy")
_IMAGE = tuple(suffix[1:] for suffix in SUFFIXES)
_MAGIC, _FORMAT = b"WTSHARD1", 1
_DIGEST = 16
_LARGEST_IMAGE, _LONGEST_PATH, _LARGEST_CLASS = 1 << 30, 1 << 16, 2**31 - 1


@dataclass(frozen=True)
class ShardIndex:
    """N images of one shard: 36 bytes each beside the name, and 16 for each kind of annotation."""

    names: Names
    where: NDArray[np.int64]  # (N, 2) begin and size in bytes
    crcs: NDArray[np.uint32]  # (N,) of the header before each image
    labels: NDArray[np.int64]  # (N,) as KEY.cls says, -1 where there is none
    annotations: dict[str, NDArray[np.int64]]  # kind -> (N, 2) begin and size, 0 where there is none
    left_out: dict[str, int]  # members that are nothing of the above, by their suffix
    size: int  # bytes of the shard

    def to_bytes(self, state: str) -> bytes:
        """For a file; `state` is the source's."""
        blob, ends = self.names.blocks
        arrays: list[NDArray] = [ends, self.where, self.crcs, self.labels, *self.annotations.values()]
        head = {
            "format": _FORMAT,
            "bytes": self.size,
            "state": state,
            "images": len(self.labels),
            "names": len(blob),
            "annotations": list(self.annotations),
            "left_out": self.left_out,
        }
        told = json.dumps(head).encode()
        content = b"".join((_MAGIC, struct.pack("<I", len(told)), told, blob, *(_little(a).tobytes() for a in arrays)))
        return content + _digest(content)


def index_of(source: Source, cache: Path) -> ShardIndex:
    """The index of a shard: what lies beside it, else what the cache folder holds, else made now and kept there.

    An index of another state of the shard, or a damaged one, is not used. Raises InputError as Tar does, and for
    members of a sample that are not side by side, for a class that is no number, and where there is no image.
    """
    kept = cache / f"{hashlib.blake2b(os.fsencode(source.identity), digest_size=16).hexdigest()}.index"
    beside = source.index()
    for content, state, where in ((beside, None, f"{source.place}.index"), (_read(kept), source.state, str(kept))):
        if content is not None and (known := _known(content, source, state, where)) is not None:
            return known
    made = build(source)
    _keep(kept, made.to_bytes(source.state))
    return made


def build(source: Source) -> ShardIndex:
    """Read the headers of a shard from its beginning to its end."""
    tar = Tar(source)
    names, rows, numbers = [], array("q"), array("q")  # begin, size, CRC; label
    places: dict[str, array[int]] = {kind: array("q") for kind in ANNOTATIONS}
    left_out: Counter[str] = Counter()
    for key, parts in _samples(tar):
        image = _image_of(source, key, parts)
        for kind in parts:
            if kind not in ("cls", "path", *ANNOTATIONS) and (image is None or parts[kind] is not image):
                left_out[f".{kind}"] += 1
        if image is None:
            left_out["without an image"] += 1
            continue
        names.append(_content(tar, parts["path"], _LONGEST_PATH) if "path" in parts else os.fsencode(image.name))
        rows.extend((image.begin, image.size, image.crc))
        numbers.append(_class_of(tar, parts["cls"]) if "cls" in parts else -1)
        for kind, place in places.items():
            place.extend((parts[kind].begin, parts[kind].size) if kind in parts else (0, 0))
    if not names:
        found = ", ".join(f"{count:,} {suffix}" for suffix, count in left_out.most_common(5)) or "nothing"
        raise InputError(f"no image in shard {source.place}: looked for {', '.join(SUFFIXES)}, found {found}.")
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    annotated = {kind: np.array(place, dtype=np.int64).reshape(-1, 2) for kind, place in places.items() if any(place)}
    return ShardIndex(
        Names(map(os.fsdecode, names)),
        np.ascontiguousarray(table[:, :2]),
        table[:, 2].astype(np.uint32),
        np.array(numbers, dtype=np.int64),
        annotated,
        dict(left_out),
        source.size,
    )


def _samples(tar: Tar) -> Iterator[tuple[str, dict[str, Member]]]:
    """(key, members by what they are): each key once, its members side by side."""
    seen: set[str] = set()
    key, parts = "", dict[str, Member]()
    for member in tar:
        folder, _, base = member.name.rpartition("/")
        stem, _, kind = base.partition(".")
        kind = kind.lower()
        own = f"{folder}/{stem}" if folder else stem
        if not stem or base.startswith("__"):  # hidden (macOS: "._x.jpg"), or about the shard itself
            continue
        if own != key or not parts:
            if parts:
                yield key, parts
            key, parts = own, {}
            if key in seen:
                raise InputError(
                    f"{tar.source.place}, byte {member.begin:,}: sample {key!r} was there before. Members of a sample "
                    "lie side by side, and no two samples of a shard have the same name: pack it again, in order of "
                    "names."
                )
            seen.add(key)
        if kind in parts:
            raise InputError(f"{tar.source.place}, byte {member.begin:,}: member {member.name!r} was there before.")
        parts[kind] = member
    if parts:
        yield key, parts


def _image_of(source: Source, key: str, parts: dict[str, Member]) -> Member | None:
    """The one image of a sample; InputError where two could be meant, and for one that is absurdly large."""
    images = [parts[kind] for kind in _IMAGE if kind in parts]
    if len(images) > 1:
        both = " and ".join(image.name for image in images)
        raise InputError(f"{source.place}: sample {key!r} has several images ({both}): one is needed.")
    if images and images[0].size > _LARGEST_IMAGE:
        raise InputError(f"{source.place}: image {images[0].name} has {images[0].size:,} bytes; 1 GiB at most.")
    return images[0] if images else None


def _content(tar: Tar, member: Member, most: int) -> bytes:
    if member.size > most:
        raise InputError(f"{tar.source.place}: member {member.name} has {member.size:,} bytes, {most:,} at most.")
    return tar.at(member.begin, member.size)


def _class_of(tar: Tar, member: Member) -> int:
    text = _content(tar, member, 64).strip()
    number = int(text) if text.isdigit() and len(text) <= 10 else -1
    if not 0 <= number <= _LARGEST_CLASS:
        raise InputError(
            f"{tar.source.place}: member {member.name} holds {text!r}, and a class is a whole number from 0 on."
        )
    return number


def _known(content: bytes, source: Source, state: str | None, where: str) -> ShardIndex | None:
    """The index in a file; None for that of another state of the shard, or a damaged one, which is said."""
    try:
        index, was = from_bytes(content)
    except ValueError as error:
        logger.warning("%s is damaged (%s): the shard is read anew", where, error)
        return None
    return index if index.size == source.size and state in (None, was) else None


def from_bytes(content: bytes) -> tuple[ShardIndex, str]:
    """What `to_bytes` wrote, and the state; ValueError where anything in it is wrong."""
    if content[:8] != _MAGIC or content[-_DIGEST:] != _digest(content[:-_DIGEST]):
        raise ValueError("no index, or cut short")
    length = struct.unpack_from("<I", content, 8)[0]
    try:
        head = json_of(content[12 : 12 + length])
        count, blob_length, size, left_out = (head[key] for key in ("images", "names", "bytes", "left_out"))
        numbers = count, blob_length, size, *left_out.values()
        kinds = [kind for kind in ANNOTATIONS if kind in head["annotations"]]
        fine = head["format"] == _FORMAT and kinds == list(head["annotations"])
        state = str(head["state"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its head cannot be read: {error!r:.80}") from None
    if not fine or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("its head is of another version")
    reader = _Blocks(content, 12 + length)
    blob, ends = reader.take(blob_length).tobytes(), reader.array("<i8", count + 1)
    where, crcs = reader.array("<i8", count, 2), reader.array("<u4", count)
    labels = reader.array("<i8", count)
    annotations = {kind: reader.array("<i8", count, 2) for kind in kinds}
    if reader.at != len(content) - _DIGEST:
        raise ValueError("another length than its head says")
    for places in (where, *annotations.values()):
        if (places < 0).any() or (places > size).any() or (places.sum(axis=1) > size).any():
            raise ValueError("an image outside the shard")
    if ends[0] != 0 or ends[-1] != blob_length or (np.diff(ends) < 0).any() or (labels < -1).any():
        raise ValueError("names or labels that cannot be")
    return ShardIndex(Names.of_blocks(blob, ends), where, crcs, labels, annotations, left_out, size), state


class _Blocks:
    """Arrays one behind the other."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self.at = memoryview(content), at

    def take(self, length: int) -> memoryview:
        if length > len(self._content) - self.at:
            raise ValueError("cut short")
        self.at += length
        return self._content[self.at - length : self.at]

    def array(self, dtype: str, *shape: int) -> NDArray:
        kind = np.dtype(dtype)
        block = self.take(int(np.prod(shape, dtype=object)) * kind.itemsize)
        return np.frombuffer(block, kind).reshape(shape).astype(kind.newbyteorder("="), copy=True)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _little(values: NDArray) -> NDArray:
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _keep(path: Path, content: bytes) -> None:
    """Into the cache; where that cannot be written the index is made anew next time, which is said."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: file.write(content))
    except (OSError, RunError) as error:
        logger.warning("the index of a shard could not be kept (%s): it is made anew next time", error)
