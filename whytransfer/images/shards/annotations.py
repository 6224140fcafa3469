"""What is known of an image as members of its sample, and back.

KEY.objects.json   {"size": [H, W], "boxes_xyxy": [[x0, y0, x1, y1]...], "box_labels": [...], "difficult": [...],
                   "masks": [[lengths of runs down the columns, background first: COCO's counts]...],
                   "keypoints": [[[x, y]...]...]}, what there is of it; floats are the float32 that they were, null: NaN
KEY.semantic.png   (H, W) 8-bit grey, the class of every pixel, 255 where it has none
KEY.depth.npy      (H, W) float32, NaN where it is not known
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images.published.annotated import ALL, Known
from whytransfer.images.published.instances import from_runs
from whytransfer.records import Sample

_LARGEST_PX, _LARGEST_STACK = 178_956_970, 1 << 32  # pixels of an image (PIL's limit), of all its masks together
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, SyntaxError, OSError, EOFError)


@dataclass(frozen=True)
class Everything(Known):
    """What is known of one image, landmarks and difficult objects too."""

    keypoints: NDArray[np.float32] | None = None  # (R, P, 2) xy pixels, NaN where one is missing
    difficult: NDArray[np.bool_] | None = None  # (R,)


@dataclass(frozen=True)
class About:
    """What holds for all annotations of a set."""

    labelled_with: tuple[str, ...]
    box_classes: tuple[str, ...] = ()
    semantic_classes: tuple[str, ...] = ()
    eyes: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # landmarks whose means are the eyes


class ShardAnnotations:
    """The annotations of a set of shards; `member(i, kind)` is the content of a member of sample i, None without it."""

    def __init__(self, about: About, member: Callable[[int, str], bytes | None], where: Callable[[int], str]) -> None:
        self.labelled_with, self.box_classes = about.labelled_with, about.box_classes
        self.semantic_classes, self.eyes = about.semantic_classes, about.eyes
        self._member, self._where = member, where

    def read(self, i: int, want: Collection[str] = ALL) -> Everything:
        """Of image i; masks, label map and depth are decoded only where they are wanted."""
        told = self._member(i, "objects.json")
        if told is None:
            raise InputError(f"{self._where(i)} has no .objects.json beside it: pack the images again.")
        try:
            return from_members(told, lambda kind: self._member(i, kind), want, self)
        except _DAMAGE as error:
            raise InputError(f"{self._where(i)}: its annotations cannot be read ({error!r:.200}).") from None

    def difficult(self, i: int) -> NDArray[np.bool_] | None:
        """(R,) whether each object is difficult (VOC); None where nothing says so."""
        return self.read(i, ()).difficult


def from_members(
    told: bytes, member: Callable[[str], bytes | None], want: Collection[str], about: About | ShardAnnotations
) -> Everything:
    """Annotations from the content of members; one of _DAMAGE is raised by what is none."""
    given = json.loads(told)
    height, width = size = tuple(given["size"])
    if not all(type(side) is int and side > 0 for side in size) or height * width > _LARGEST_PX:
        raise ValueError(f"a size of {size}")
    boxes = labels = masks = keypoints = difficult = None
    if "boxes_xyxy" in given:
        boxes = _floats(given["boxes_xyxy"], (4,))
        labels = np.array(given["box_labels"], dtype=np.int64).reshape(-1)
        if len(labels) != len(boxes) or not ((labels >= 0) & (labels < len(about.box_classes))).all():
            raise ValueError(f"{len(boxes)} boxes with the classes {labels.tolist()[:8]}")
    if "difficult" in given:
        difficult = np.array(given["difficult"], dtype=bool).reshape(-1)
    if "masks" in given and "masks" in want:
        masks = _masks(given["masks"], size)
    if "keypoints" in given:
        keypoints = _floats(given["keypoints"], (np.shape(given["keypoints"])[1], 2))
    for told_of in (masks, difficult):
        if told_of is not None and (boxes is None or len(told_of) != len(boxes)):
            raise ValueError(f"{len(told_of)} masks or difficult objects, another number of boxes")
    semantic = _semantic(member("semantic.png"), size) if "semantic" in want else None
    depth = _depth(member("depth.npy"), size) if "depth" in want else None
    return Everything(size, boxes, labels, masks, semantic, depth, keypoints, difficult)


def to_members(known: Mapping[str, Any]) -> dict[str, bytes]:
    """Annotations, by the names of the fields of Everything, -> members by kind."""
    told: dict[str, Any] = {"size": list(known["size"])}
    if (boxes := known.get("boxes")) is not None:
        told |= {"boxes_xyxy": _plain(boxes), "box_labels": np.asarray(known["box_labels"]).tolist()}
    if (masks := known.get("masks")) is not None:
        told["masks"] = [runs(mask) for mask in np.asarray(masks)]
    if (points := known.get("keypoints")) is not None:
        told["keypoints"] = _plain(points)
    if (difficult := known.get("difficult")) is not None:
        told["difficult"] = [int(one) for one in difficult]
    members = {"objects.json": json.dumps(told, allow_nan=False, separators=(",", ":")).encode()}
    if (semantic := known.get("semantic")) is not None:
        file = io.BytesIO()
        Image.fromarray(np.asarray(semantic)).save(file, "PNG")
        members["semantic.png"] = file.getvalue()
    if (depth := known.get("depth")) is not None:
        file = io.BytesIO()
        np.lib.format.write_array(file, np.ascontiguousarray(depth, dtype="<f4"), allow_pickle=False)
        members["depth.npy"] = file.getvalue()
    return members


def of_sample(sample: Sample) -> dict[str, Any]:
    """What a sample carries, for `to_members`."""
    names = ("boxes", "box_labels", "masks", "semantic", "depth", "keypoints")
    fields = {name: getattr(sample, name) for name in names}
    return {"size": sample.image.shape[1:]} | {k: None if v is None else v.numpy() for k, v in fields.items()}


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """(H, W) -> lengths of runs down the columns, of background first (0 where it begins with the object)."""
    flat = mask.T.reshape(-1)
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], starts, [len(flat)]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def _masks(counts: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    if len(counts) * size[0] * size[1] > _LARGEST_STACK:
        raise ValueError(f"{len(counts)} masks of {size[0]} x {size[1]} pixels are too many")
    masks = np.zeros((len(counts), *size), dtype=bool)
    for mask, lengths in zip(masks, counts, strict=True):
        mask[:] = from_runs({"counts": lengths, "size": list(size)}, size)
    return masks


def _semantic(content: bytes | None, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    if content is None:
        return None
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.mode != "L" or image.size != size[::-1]:
            raise ValueError(f"a label map of mode {image.mode} and {image.size[0]} x {image.size[1]} px")
        return np.array(image)


def _depth(content: bytes | None, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """The header is believed only where it says what there must be: NumPy would make an array of any size it names."""
    if content is None:
        return None
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("no depth map")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    values = content[file.tell() :]
    if shape != size or by_columns or dtype.str != "<f4" or len(values) != 4 * size[0] * size[1]:
        raise ValueError(f"a depth map of {shape} {dtype}")
    return np.frombuffer(values, dtype="<f4").reshape(size).astype(np.float32)


def _plain(values: NDArray[np.float32]) -> list[Any]:
    """Nested lists; NaN becomes None, which JSON has."""

    def told(item: Any) -> Any:
        return [told(part) for part in item] if isinstance(item, list) else None if math.isnan(item) else item

    return told(np.asarray(values, dtype=np.float32).tolist())


def _floats(values: list[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = np.array(values, dtype=np.float64).reshape(-1, *shape)
    return array.astype(np.float32)
