"""Any image set as shards: tar files in WebDataset's layout, each with its index, and a card that names the classes.

FOLDER/000000.tar ...      so many images each, in the order of the set; encoded files are copied as they are
FOLDER/000000.tar.index    where they lie
FOLDER/shards.json         name and classes, written last
FOLDER/packing.json        what is being packed, while it is
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.files import atomic_write, locked, remove_asides, writable_folder
from whytransfer.images.content import Encoded
from whytransfer.images.index import CARD, SUFFIXES
from whytransfer.images.shards.annotations import of_sample, to_members
from whytransfer.images.shards.index import build
from whytransfer.images.shards.reading import FORMAT
from whytransfer.images.shards.sources import INDEX_SUFFIX, Local
from whytransfer.images.subsets import labelled_with
from whytransfer.images.targets import box_classes, origin, pixel_classes
from whytransfer.parsing import json_of
from whytransfer.records import ImageSet, Sample

Progress = Callable[[int], None]  # images done
_UNFINISHED = "packing.json"
_MAGIC = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"BM": "bmp"}
_ONE_NUMBER = {"class", "identity", "scene"}  # kinds of labels that need no annotation


@dataclass(frozen=True)
class Packed:
    """What `pack` made: sums over all shards, those of an earlier try too."""

    folder: Path
    shards: int
    images: int
    bytes: int
    labelled_with: tuple[str, ...]
    notes: tuple[str, ...]


def pack(images: ImageSet, folder: Path, per_shard: int, progress: Progress | None = None) -> Packed:
    """Write the images, with labels and annotations, as shards of `per_shard` images into `folder`.

    Killed anywhere, the same call goes on: a shard is there as a whole or not at all; where all are there it does
    nothing. Encoded images are copied byte
    for byte, so the fingerprint of the shards is that of the files; others become PNG.
    Raises InputError for a folder that holds something else, and for an image that cannot be read.
    """
    writable_folder(folder)
    with locked(folder / ".lock", wait=False) as mine:
        if not mine:
            raise InputError(f"another process is packing into {folder}; wait for it or choose another --out.")
        card = _card_of(images, per_shard)
        _start(folder, card)
        source = _Packer(images, card["annotated"])
        for k, shard in enumerate(card["shards"]):
            begin, end = k * per_shard, min((k + 1) * per_shard, len(images))
            if not (folder / f"{shard}{INDEX_SUFFIX}").exists():
                _write(folder / shard, source, range(begin, end))
            if progress:
                progress(end)
        _write_json(folder / CARD, card)
        (folder / _UNFINISHED).unlink(missing_ok=True)
    sizes = sum((folder / shard).stat().st_size for shard in card["shards"])
    return Packed(folder, len(card["shards"]), len(images), sizes, tuple(card["labelled_with"]), tuple(card["notes"]))


def _card_of(images: ImageSet, per_shard: int) -> dict[str, Any]:
    kinds = labelled_with(images)
    source = origin(images)[0]
    notes = []
    if getattr(getattr(source, "annotations", None), "path", None) and getattr(source, "notes", ()):
        notes.append("crowds (COCO) were not packed: evaluate detection on the original images")
    if hasattr(source, "factor_names"):
        notes.append("latent factors were not packed: measure them on the original images")
    card = {
        "format": FORMAT,
        "name": images.name,
        "images": len(images),
        "classes": list(images.classes),
        "labelled_with": list(kinds),
        "annotated": bool(set(kinds) - _ONE_NUMBER),
        "box_classes": list(box_classes(images)),
        "semantic_classes": list(pixel_classes(images)) if "semantic" in kinds else [],
        "eyes": getattr(getattr(source, "annotations", None), "eyes", None),
        "notes": notes,
        "per_shard": per_shard,
        "packed_from": images.stamp().files if isinstance(images, Encoded) else images.fingerprint(),
        "shards": [f"{k:06d}.tar" for k in range(-(-len(images) // per_shard))],
    }
    return card | ({"depth_unit": source.depth_unit} if hasattr(source, "depth_unit") else {})


def _start(folder: Path, card: dict[str, Any]) -> None:
    """Note what is being packed; InputError where the folder is full of other things or of another packing."""
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    told = next((name for name in (CARD, _UNFINISHED) if name in held), None)
    if told is None and held:
        raise InputError(f"{folder} is not empty: it holds {', '.join(held[:5])}. Choose another --out.")
    if told is None:
        _write_json(folder / _UNFINISHED, card)
    elif json_of((folder / told).read_text()) != json.loads(json.dumps(card)):
        what = "shards" if told == CARD else "an unfinished packing"
        raise InputError(
            f"{folder} holds {what} of other images, or of another --shard-size (or the images have changed since): "
            "choose another --out, or delete it."
        )
    remove_asides(
        folder, [CARD, _UNFINISHED, *(name for shard in card["shards"] for name in (shard, shard + INDEX_SUFFIX))]
    )


def _write(path: Path, source: _Packer, part: range) -> None:
    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
            for name, content in source.members(part):
                about = tarfile.TarInfo(name)  # owner and time stay 0: the same images make the same bytes
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))

    atomic_write(path, write)
    shard = Local(str(path))
    known = build(shard).to_bytes(shard.state)  # from what is on the disk: that it can be read is thereby known
    atomic_write(path.with_name(path.name + INDEX_SUFFIX), lambda file: file.write(known))


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1).encode() + b"\n"
    atomic_write(path, lambda file: file.write(text))


class _Packer:
    """Images as members of a tar."""

    def __init__(self, images: ImageSet, annotated: bool) -> None:
        self._images, self._annotated = images, annotated

    def members(self, part: range) -> Iterator[tuple[str, bytes]]:
        """(name, content) of all that belongs to these images, side by side for each."""
        used: set[str] = set()
        for i in part:
            content, name, sample = self._encoded(i)
            key, kind = _key_of(name, content, i, used)
            yield f"{key}.{kind}", content
            if f"{key}.{kind}" != name:
                yield f"{key}.path", os.fsencode(name)
            if (label := int(self._images.labels[i])) >= 0:
                yield f"{key}.cls", str(label).encode()
            if self._annotated:
                yield from ((f"{key}.{what}", told) for what, told in to_members(self._known(i, sample)).items())

    def _encoded(self, i: int) -> tuple[bytes, str, Sample | None]:
        """The file of image i and its name; the sample as well where there is no file."""
        images = self._images
        if isinstance(images, Encoded):
            return images.encoded(i), images.names[i], None
        sample = images[i]
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())).save(file, "PNG")
        return file.getvalue(), sample.name, sample

    def _known(self, i: int, sample: Sample | None) -> dict[str, Any]:
        source, positions = origin(self._images)
        annotations, place = getattr(source, "annotations", None), int(positions[i])
        if annotations is None:
            return of_sample(self._images[i] if sample is None else sample)
        known = vars(annotations.read(place))
        difficult = getattr(annotations, "difficult", None)
        return known if difficult is None else {**known, "difficult": difficult(place)}


def _key_of(name: str, content: bytes, i: int, used: set[str]) -> tuple[str, str]:
    """What a sample is called in its shard, and its suffix: the image's own name where a reader would find it again."""
    key, _, suffix = name.rpartition(".")
    if f".{suffix.lower()}" not in SUFFIXES:
        key, suffix = name, next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")
        if not suffix:
            raise InputError(f"{name} is no JPEG, PNG, WebP or BMP (it begins with {content[:8]!r}): convert it first.")
    base = key.rpartition("/")[2]
    plain = base and "." not in base and not base.startswith("__") and not key.startswith("/")
    plain = plain and not ("\\" in key or key[1:2] == ":" or {"..", "."} & {*key.split("/")} or "\0" in key)
    if not plain or key in used:
        key = f"{i:09d}"
        while key in used:
            key = f"_{key}"
    used.add(key)
    return key, suffix
