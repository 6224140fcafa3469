"""Images whose boxes, masks or label maps lie in files of their own, read when they are asked for."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from whytransfer.errors import InputError
from whytransfer.images.content import Stamp, digest, stamp_of
from whytransfer.images.folder import Files
from whytransfer.images.index import Index
from whytransfer.memory import usable_cores
from whytransfer.records import Sample

VOID = 255  # the class of a pixel that has none
ALL = ("boxes", "masks", "semantic", "depth")


@dataclass(frozen=True)
class Known:
    """What is known of one image of size (H, W); objects in one order, R of them."""

    size: tuple[int, int]
    boxes: NDArray[np.float32] | None = None  # (R, 4) xyxy in pixel edges: x1 and y1 lie behind the last pixel
    box_labels: NDArray[np.int64] | None = None  # (R,) positions in box_classes
    masks: NDArray[np.bool_] | None = None  # (R, H, W)
    semantic: NDArray[np.uint8] | None = None  # (H, W) positions in semantic_classes, VOID for none
    depth: NDArray[np.float32] | None = None  # (H, W) metres, NaN where it is not known


class Annotations(Protocol):
    """The annotations of a set, image by image."""

    @property
    def labelled_with(self) -> tuple[str, ...]: ...  # some of ALL
    @property
    def box_classes(self) -> tuple[str, ...]: ...  # () without boxes
    @property
    def semantic_classes(self) -> tuple[str, ...]: ...  # () without label maps
    @property
    def nbytes(self) -> int: ...
    def read(self, i: int, want: Collection[str] = ALL) -> Known: ...
    def files(self) -> Iterator[tuple[str, str]]: ...  # (name below the set's folder, path) of every annotation file


class AnnotatedFiles(Files):
    """Image files and their annotations: `annotations.read(i, ("boxes",))` gives them without decoding the image.

    A sample takes R H W bytes for its masks and H W for its label map while it is held; the set itself keeps none of
    them. Fingerprint and stamp cover the annotation files. Reading raises InputError that names a damaged file.
    """

    def __init__(self, root: Path, index: Index, name: str, annotations: Annotations) -> None:
        super().__init__(root, index, name, annotations.labelled_with)
        self.annotations = annotations
        self.box_classes, self.semantic_classes = annotations.box_classes, annotations.semantic_classes

    def __getitem__(self, i: int) -> Sample:
        plain = super().__getitem__(i)
        known = self.annotations.read(i)
        size = tuple(plain.image.shape[1:])
        if known.size != size:
            raise InputError(
                f"{self.name}: the annotation of {self.names[i]} is for {_px(known.size)}, the image has {_px(size)}: "
                "take both from the same release."
            )
        return dataclasses.replace(plain, **fields_of(known))

    def stamp(self) -> Stamp:
        """The state of images and annotation files by their size and time of change."""
        files = itertools.chain(self._stats(), _stats(self.annotations.files()))
        return stamp_of(os.path.realpath(self.root), files)

    def annotations_digest(self) -> bytes:
        """What the annotation files contain; reads them all."""
        with ThreadPoolExecutor(usable_cores()) as pool:
            parts = pool.map(_named_digest, self.annotations.files(), chunksize=64)
            return digest(b"".join(parts))

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.index.nbytes + self.annotations.nbytes


def boxes_around(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(R, H, W) masks with a pixel each -> (R, 4) the boxes around them, xyxy in pixel edges."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def fields_of(known: Known) -> dict[str, Any]:
    """The fields of a Sample."""
    fields: dict[str, Any] = {}
    if known.boxes is not None and known.box_labels is not None:
        boxes = torch.from_numpy(known.boxes)
        fields["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=known.size)  # type: ignore[call-overload]
        fields["box_labels"] = torch.from_numpy(known.box_labels)
    if known.masks is not None:
        fields["masks"] = tv_tensors.Mask(torch.from_numpy(known.masks))
    if known.semantic is not None:
        fields["semantic"] = tv_tensors.Mask(torch.from_numpy(known.semantic))
    if known.depth is not None:
        fields["depth"] = torch.from_numpy(known.depth)
    return fields


def _named_digest(file: tuple[str, str]) -> bytes:
    name, path = file
    return digest(os.fsencode(name) + b"\0" + read_bytes(path))


def read_bytes(path: str) -> bytes:
    """An annotation file; raises InputError with its path when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"cannot read annotation file {path}: {error.strerror or error}.") from None


def _stats(files: Iterator[tuple[str, str]]) -> Iterator[tuple[str, int, int]]:
    for name, path in files:
        try:
            stat = os.stat(path)
        except OSError:  # reported by name when it is read
            yield name, -1, 0
        else:
            yield name, stat.st_size, stat.st_mtime_ns


def _px(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} px"
