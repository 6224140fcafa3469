"""COCO's instances_*.json: boxes, classes and masks of the objects of every image, read when they are asked for."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.index import Index, Names
from whytransfer.images.published.annotated import ALL, Known
from whytransfer.images.published.jsonlists import elements
from whytransfer.parsing import json_of


class Instances:
    """The objects of every image of an instances file; images in the order of their names.

    Kept in memory: 16 bytes per image and 12 per object, beside the names; an image's objects are read from the file
    (a few kilobytes). Crowds (iscrowd) are no single objects and are left out. Boxes are as the file gives them, in
    floating-point pixel edges. Raises InputError naming the file and the record that is wrong.
    """

    semantic_classes: tuple[str, ...] = ()

    def __init__(self, path: Path, found: _Found) -> None:
        self.path = path
        self.names, self._sizes = found.names, found.sizes
        self.box_classes, self._label_of = found.classes, found.label_of
        self.labelled_with = ("boxes", "masks") if found.masks else ("boxes",)
        self.notes = found.notes
        self._spans, self._lengths, self._begins = found.spans, found.lengths, found.begins
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def open(cls, path: Path) -> Instances:
        """Read the file once, checking every record."""
        return cls(path, _Found(path))

    @property
    def nbytes(self) -> int:
        """Bytes held beside the names."""
        return self._sizes.nbytes + self._spans.nbytes + self._lengths.nbytes + self._begins.nbytes

    def read(self, i: int, want: Collection[str] = ALL) -> Known:
        """Objects of image i; polygons need pycocotools."""
        size = (int(self._sizes[i, 0]), int(self._sizes[i, 1]))
        objects = [self._object(k) for k in range(self._begins[i], self._begins[i + 1])]
        corners = np.array([item["bbox"] for item in objects], dtype=np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        labels = np.array([self._label_of[item["category_id"]] for item in objects], dtype=np.int64)
        masks = None
        if "masks" in want and "masks" in self.labelled_with:
            masks = np.zeros((len(objects), *size), dtype=bool)
            for mask, item in zip(masks, objects, strict=True):
                mask[:] = _mask(item["segmentation"], size, f"{self.path}: annotation {item.get('id')}")
        return Known(size, corners, labels, masks)

    def files(self) -> Iterator[tuple[str, str]]:
        """The one file."""
        yield self.path.name, str(self.path)

    def _object(self, k: int) -> dict[str, Any]:
        content = os.pread(self._file, int(self._lengths[k]), int(self._spans[k]))
        try:
            return json_of(content)
        except ValueError:
            raise InputError(f"{self.path} has changed since it was opened: start again.") from None


class _Found:
    """What one pass over the file gives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        images: dict[int, tuple[str, int, int]] = {}
        categories: dict[int, str] = {}
        objects: list[NDArray[np.int64]] = []  # blocks of (image id, category id, begin, length)
        block: list[tuple[int, int, int, int]] = []
        self.crowds, self.masks = 0, True
        seen = set()
        for key, begin, end, value in elements(path):
            seen.add(key)
            if key == "images":
                number = self._number(value, "id", key)  # first: it is no record where this fails
                images[number] = self._image(value)
            elif key == "categories":
                number = self._number(value, "id", key)
                categories[number] = str(value.get("name"))
            elif key == "annotations" and self._checked(value):
                block.append((value["image_id"], value["category_id"], begin, end - begin))
                if len(block) == 65536:
                    objects.append(np.array(block, dtype=np.int64))
                    block.clear()
        objects.append(np.array(block, dtype=np.int64).reshape(-1, 4))
        if lacking := {"images", "annotations", "categories"} - seen:
            raise InputError(f"{path} has no {' and no '.join(sorted(lacking))}: not an instances file of COCO.")
        self._arrange(images, categories, np.concatenate(objects))

    def _arrange(
        self, images: dict[int, tuple[str, int, int]], categories: dict[int, str], objects: NDArray[np.int64]
    ) -> None:
        ids = sorted(images, key=lambda i: images[i][0])
        self.names = Names(images[i][0] for i in ids)
        self.sizes = np.array([images[i][1:] for i in ids], dtype=np.int32).reshape(-1, 2)
        self.classes = tuple(categories[i] for i in sorted(categories))
        self.label_of = {number: label for label, number in enumerate(sorted(categories))}
        place = {number: row for row, number in enumerate(ids)}
        rows = np.fromiter((place.get(number, -1) for number in objects[:, 0].tolist()), np.int64, len(objects))
        for bad, column, list_ in (
            (rows < 0, 0, "images"),
            (~np.isin(objects[:, 1], list(categories)), 1, "categories"),
        ):
            if bad.any():
                record = objects[np.flatnonzero(bad)[0]]
                raise InputError(
                    f"{self.path}: the annotation at byte {record[2]:,} is of {('image', 'category')[column]} "
                    f"{record[column]}, which {list_} does not list."
                )
        order = np.argsort(rows, kind="stable")  # within an image: as in the file
        self.spans, self.lengths = objects[order, 2], objects[order, 3].astype(np.int32)
        self.begins = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(ids)))]).astype(np.int64)
        self.notes = (f"{self.crowds:,} crowds left out: they are no single objects",) if self.crowds else ()

    def _image(self, value: dict[str, Any]) -> tuple[str, int, int]:
        name = value.get("file_name")
        if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
            raise InputError(f"{self.path}: image {value['id']} has the file_name {name!r}, no name of a file.")
        return name, self._number(value, "height", "images"), self._number(value, "width", "images")

    def _checked(self, value: dict[str, Any]) -> bool:
        """Whether the annotation is an object; raises InputError when it is not well formed."""
        for key in ("image_id", "category_id"):
            self._number(value, key, "annotations")
        box = value.get("bbox")
        if (
            not isinstance(box, list)
            or len(box) != 4
            or not all(isinstance(x, int | float) and math.isfinite(x) for x in box)
            or min(box[2:]) < 0
        ):
            raise InputError(f"{self.path}: annotation {value.get('id')} has the bbox {box!r}, not [x, y, w, h].")
        if value.get("iscrowd"):
            self.crowds += 1
            return False
        self.masks &= bool(value.get("segmentation"))
        return True

    def _number(self, value: Any, key: str, list_: str) -> int:
        if not isinstance(value, dict) or not isinstance(value.get(key), int) or abs(value[key]) >= 2**62:
            raise InputError(f"{self.path}: an element of {list_} has no whole number {key}: {str(value)[:80]}.")
        return value[key]


def unlabelled(names: Names, notes: tuple[str, ...] = ()) -> Index:
    """The index of images without a class of their own."""
    return Index(names, np.full(len(names), -1, dtype=np.int64), (), notes)


def _mask(segmentation: Any, size: tuple[int, int], record: str) -> NDArray[np.bool_]:
    """Polygons [[x, y, x, y, ...], ...] or a run-length encoding {"counts", "size"} -> (H, W)."""
    try:
        return _polygons(segmentation, size) if isinstance(segmentation, list) else from_runs(segmentation, size)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{record} has a segmentation that cannot be read: {error!r}.") from None


def _polygons(polygons: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """COCO's rasteriser, for pairs near the image (its memory grows with their length)."""
    try:
        from pycocotools import mask
    except ImportError:
        raise InputError("masks of COCO need pycocotools: pip install 'whytransfer[masks]'") from None
    reach = 2 * max(size)
    for points in polygons:
        if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
            raise ValueError("a polygon is no list of three or more pairs")
        if not all(isinstance(x, int | float) and -reach <= x <= reach for x in points):
            raise ValueError("a polygon leaves the image by far")
    return mask.decode(mask.merge(mask.frPyObjects(polygons, *size))).astype(bool)


def from_runs(encoded: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Lengths of runs down the columns, of background first; as numbers or as COCO's compressed text.

    What is cut short is an error here; pycocotools would fill it with background in silence.
    """
    counts = encoded["counts"]
    if list(encoded["size"]) != list(size):
        raise ValueError(f"it is of size {encoded['size']}, the image of {list(size)}")
    lengths = counts if isinstance(counts, list) else _run_lengths(counts.encode("ascii"))
    if not lengths or min(lengths) < 0 or sum(lengths) != size[0] * size[1]:
        raise ValueError(f"its runs {str(lengths)[:40]} are not the {size[0] * size[1]} pixels of the image")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[::-1]).T


def _run_lengths(counts: bytes) -> list[int]:
    """Five bits a character, sign-extended; from the fourth length on, differences to that two before."""
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = character - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (1 << shift) if bits & 0x10 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
