"""Shards as an ImageSet: any image by its place, from a disk or from afar; nothing is unpacked."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from whytransfer import progress
from whytransfer.errors import InputError
from whytransfer.images.cache import default_folder
from whytransfer.images.content import Stamp, fingerprint_of, stamp_of
from whytransfer.images.decode import decode
from whytransfer.images.folder import sample
from whytransfer.images.index import CARD, TARS, Names, first_of
from whytransfer.images.published.annotated import fields_of
from whytransfer.images.shards.annotations import About, ShardAnnotations
from whytransfer.images.shards.index import ANNOTATIONS, ShardIndex, index_of
from whytransfer.images.shards.members import BLOCK
from whytransfer.images.shards.sources import Source, optional, source_of
from whytransfer.memory import usable_cores
from whytransfer.records import Sample

FORMAT = 1
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_SHARDS, _AT_ONCE = 100_000, 16
_LISTS = ("shards", "classes", "labelled_with", "box_classes", "semantic_classes", "notes")  # of texts, in shards.json


class Shards:
    """The images of shards, in the order of the shards and of the samples in them; labels are those of KEY.cls.

    State: 36 bytes per image and its name. Reading checks the tar header before an image against the index.
    """

    def __init__(self, sources: Sequence[Source], indexes: Sequence[ShardIndex], card: Mapping[str, Any]) -> None:
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(index.labels) for index in indexes])
        self._where = np.concatenate([index.where for index in indexes])
        self._crcs = np.concatenate([index.crcs for index in indexes])
        self.names = _joined(indexes)
        self.name = str(card["name"])
        self.labels, self.classes = _labels(np.concatenate([index.labels for index in indexes]), card, self.name)
        self.labelled_with = tuple(card.get("labelled_with", ("class",) if self.classes else ()))
        self.notes = _notes(indexes, self.classes, card)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Sample:
        return sample(decode(self.encoded(i), self.names[i]), self.names[i], int(self.labels[i]))

    def encoded(self, i: int) -> bytes:
        """The bytes of image i; InputError where its shard is another one than was indexed."""
        source, (begin, size) = self._source(i), self._where[i].tolist()
        content = source.read(begin - BLOCK, BLOCK + size)
        if len(content) != BLOCK + size or zlib.crc32(content[:BLOCK]) != self._crcs[i]:
            raise InputError(f"{source.place} has changed since it was opened: start again.")
        return content[BLOCK:]

    def stamp(self) -> Stamp:
        """The state of the shards by their size and time of change (over a network what it tells of them)."""
        states = hashlib.blake2b(os.fsencode("\n".join(f"{s.identity} {s.state}" for s in self._sources)))
        sizes = ((name, size, 0) for name, size in zip(self.names, self._where[:, 1].tolist(), strict=True))
        members = stamp_of("", sizes)
        return Stamp(states.hexdigest()[:32], members.sizes, max(source.modified_ns for source in self._sources))

    def fingerprint(self) -> str:
        """What the images contain; equal to that of the files that were packed. Reads them all."""
        return fingerprint_of(self)

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.names.nbytes + self._where.nbytes + self._crcs.nbytes + self.labels.nbytes

    def member(self, i: int) -> str:
        """Where image i is, for people."""
        return f"{self._source(i).place}/{self.names[i]}"

    def _source(self, i: int) -> Source:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return self._sources[int(np.searchsorted(self._ends, i % len(self), side="right"))]


class AnnotatedShards(Shards):
    """Shards with annotations: `annotations.read(i, ("boxes",))` gives them without decoding the image."""

    def __init__(self, sources: Sequence[Source], indexes: Sequence[ShardIndex], card: Mapping[str, Any]) -> None:
        super().__init__(sources, indexes, card)
        eyes = card.get("eyes")
        about = About(
            self.labelled_with,
            tuple(card.get("box_classes", ())),
            tuple(card.get("semantic_classes", ())),
            (tuple(eyes[0]), tuple(eyes[1])) if eyes else None,
        )
        if "depth_unit" in card:
            self.depth_unit = str(card["depth_unit"])
        self.box_classes, self.semantic_classes = about.box_classes, about.semantic_classes
        self._members = {kind: _places(indexes, kind) for kind in ANNOTATIONS}
        self.annotations = ShardAnnotations(about, self._annotation, self.member)

    def __getitem__(self, i: int) -> Sample:
        plain, known = super().__getitem__(i), self.annotations.read(i)
        size = (int(plain.image.shape[1]), int(plain.image.shape[2]))
        if known.size != size:
            raise InputError(f"{self.member(i)}: its annotations are for {known.size[::-1]} px, it has {size[::-1]}.")
        fields = fields_of(known)
        if known.keypoints is not None:
            points = torch.from_numpy(known.keypoints)
            fields["keypoints"] = tv_tensors.KeyPoints(points, canvas_size=size)  # type: ignore[call-overload]
        return dataclasses.replace(plain, **fields)

    def annotations_digest(self) -> bytes:
        """What the annotations contain; reads them all."""
        with ThreadPoolExecutor(usable_cores()) as pool:
            total = hashlib.blake2b(repr((self.box_classes, self.semantic_classes)).encode(), digest_size=16)
            for part in pool.map(self._annotations_of, range(len(self)), chunksize=64):
                total.update(part)
            return total.digest()

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return super().nbytes + sum(places.nbytes for places in self._members.values())

    def _annotation(self, i: int, kind: str) -> bytes | None:
        begin, size = self._members[kind][i].tolist() if len(self._members[kind]) else (0, 0)
        if not begin:
            return None
        content = self._source(i).read(begin, size)
        if len(content) != size:
            raise InputError(f"{self._source(i).place} has changed since it was opened: start again.")
        return content

    def _annotations_of(self, i: int) -> bytes:
        parts = (self._annotation(i, kind) for kind in ANNOTATIONS)
        return hashlib.blake2b(b"".join(b"\0" if part is None else b"\1" + part for part in parts)).digest()


def open_shards(spec: str) -> Shards:
    """The shards that a path or URL names: FILE.tar, a pattern such as train-{000..012}.tar, a folder of `pack`.

    Raises InputError that names what is missing, damaged, or refused.
    """
    places, card = _places_and_card(spec)
    with ThreadPoolExecutor(_AT_ONCE if "://" in spec else 1) as pool:
        sources = list(pool.map(source_of, places))
        indexes = []
        cache = default_folder().with_name("shards")
        with progress.bar(f"index of {card['name']}", len(sources)) as update:
            for index in pool.map(lambda source: index_of(source, cache), sources):
                indexes.append(index)
                update(len(indexes))
    return (AnnotatedShards if card.get("annotated") else Shards)(sources, indexes, card)


def expanded(pattern: str) -> list[str]:
    """ "a-{00..02}.tar" -> a-00.tar, a-01.tar, a-02.tar; "{train,val}.tar" -> two; several pairs of braces multiply.

    Raises InputError for braces that are not closed, a range that runs backwards, and more than 100,000 shards.
    """
    pieces = _BRACES.split(pattern)
    if any("{" in piece or "}" in piece for piece in pieces):
        raise InputError(f"{pattern}: braces that do not match; write {{000..012}} or {{train,val}}.")
    choices = [_choices(piece, pattern) if k % 2 else [piece] for k, piece in enumerate(pieces)]
    if int(np.prod([len(choice) for choice in choices], dtype=object)) > _MOST_SHARDS:
        raise InputError(f"{pattern} names more than {_MOST_SHARDS:,} shards.")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    if not (found := _RANGE.fullmatch(inside)):
        return inside.split(",")
    first, last = found.groups()
    if int(first) > int(last):
        raise InputError(f"{pattern}: {{{inside}}} runs backwards.")
    if int(last) - int(first) >= _MOST_SHARDS:
        raise InputError(f"{pattern} names more than {_MOST_SHARDS:,} shards.")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _places_and_card(spec: str) -> tuple[list[str], Mapping[str, Any]]:
    """Paths or URLs of the shards, and what shards.json says of them (their name, where there is none)."""
    spec = spec if "://" in spec else str(Path(spec).expanduser())
    places = expanded(spec)
    if not places[0].endswith(TARS):
        folder = spec.rstrip("/")
        card = _card(folder)
        if card is None:
            raise InputError(f"there is no {folder}/{CARD}: name the shards, such as {folder}/{{000000..000012}}.tar")
        return [f"{folder}/{shard}" for shard in card["shards"]], card
    if "://" not in spec and (missing := [place for place in places if not os.path.exists(place)]):
        raise InputError(
            f"{len(missing):,} of {len(places):,} shards are missing: {first_of(missing)}. Copy them there, or name "
            "those that are."
        )
    folder = os.path.dirname(places[0]) or "."
    name = _BRACES.sub("", os.path.basename(spec)).split(".")[0].strip("-_")
    return places, _card(folder) or {"name": name or os.path.basename(os.path.abspath(folder))}


def _card(folder: str) -> Mapping[str, Any] | None:
    """What `pack` wrote beside the shards; InputError where it is damaged or of a newer version."""
    place = f"{folder}/{CARD}"
    content = optional(place)
    if content is None:
        return None
    try:
        card = json.loads(content)
        version = card["format"]
        texts = [card["name"], *(text for key in _LISTS for text in card[key])]
        eyes = [point for eye in card.get("eyes") or () for point in eye]
        fine = all(isinstance(text, str) for text in texts) and all(isinstance(point, int) for point in eyes)
        fine &= all(re.fullmatch(r"\w[\w.-]*\.tar", shard) for shard in card["shards"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{place} is damaged, or no card of shards ({error!r:.100}).") from None
    if version != FORMAT:
        raise InputError(f"{place} is of format {version!r}, this version reads {FORMAT}: pack the images again.")
    if not fine:
        raise InputError(f"{place} has names of shards or classes that cannot be: pack the images again.")
    return card


def _joined(indexes: Sequence[ShardIndex]) -> Names:
    blocks = [index.names.blocks for index in indexes]
    shifts = np.concatenate([[0], np.cumsum([len(blob) for blob, _ in blocks])])
    ends = [ends[1:] + shift for (_, ends), shift in zip(blocks, shifts, strict=False)]
    return Names.of_blocks(b"".join(blob for blob, _ in blocks), np.concatenate([np.zeros(1, np.int64), *ends]))


def _labels(
    numbers: NDArray[np.int64], card: Mapping[str, Any], name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels and names of classes: of the card; without one the numbers that occur are their own names."""
    if "classes" in card:
        classes = tuple(card["classes"])
        if (numbers >= len(classes)).any():
            raise InputError(f"{name}: an image is of class {numbers.max()}, and {CARD} names {len(classes)} classes.")
        return numbers, classes
    known = np.unique(numbers[numbers >= 0])
    labels = np.where(numbers >= 0, np.searchsorted(known, numbers), -1)
    return labels.astype(np.int64), tuple(str(number) for number in known.tolist())


def _notes(indexes: Sequence[ShardIndex], classes: tuple[str, ...], card: Mapping[str, Any]) -> tuple[str, ...]:
    left_out: Counter[str] = Counter()
    for index in indexes:
        left_out.update(index.left_out)
    notes = list(map(str, card.get("notes", ())))
    if bare := left_out.pop("without an image", 0):
        notes.append(f"{bare:,} samples without an image left out")
    if left_out:
        found = ", ".join(f"{count:,} {suffix}" for suffix, count in left_out.most_common(5))
        notes.append(f"{sum(left_out.values()):,} other members left out ({found})")
    if not classes and "classes" not in card:
        notes.append("no sample has a .cls member (the number of its class), so all are read as unlabelled")
    return tuple(notes)


def _places(indexes: Sequence[ShardIndex], kind: str) -> NDArray[np.int64]:
    """(N, 2) begin and size of a kind of annotation, (0, 2) where no image has it."""
    if not any(kind in index.annotations for index in indexes):
        return np.empty((0, 2), dtype=np.int64)
    none = {len(index.labels): np.zeros((len(index.labels), 2), np.int64) for index in indexes}
    return np.concatenate([index.annotations.get(kind, none[len(index.labels)]) for index in indexes])
