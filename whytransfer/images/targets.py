"""What an image set is labelled with inside its images: the boxes of all of them in one table, the classes of pixels.

A set of objects with masks but without label maps (COCO, generated scenes) has label maps too: each object's class is
painted over a background, see `masks.semantic`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.cache import PixelCache
from whytransfer.images.decode import shrunk_size
from whytransfer.images.subsets import Labelled, Subset, labelled_with
from whytransfer.memory import usable_cores
from whytransfer.records import ImageSet

BACKGROUND = "background"
_CHUNK = 64  # images per task
Found = tuple[tuple[int, int], NDArray[np.float32], NDArray[np.int64]]  # size, boxes (R, 4), classes (R,)


class BoxTable:
    """The boxes of the pictures of a PixelCache, in their order and at their size: 24 bytes per object, 8 per picture.

    `.classes` are their names.
    """

    def __init__(
        self,
        ends: NDArray[np.int64],
        boxes: NDArray[np.float32],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
    ) -> None:
        self._ends, self._boxes, self._labels, self.classes = ends, boxes, labels, classes

    @classmethod
    def read(cls, cache: PixelCache, progress: Callable[[int, int], None] | None = None) -> BoxTable:
        """Every annotation is read once, here: a damaged one is named before anything is trained.

        Raises InputError for a set without boxes, for an annotation of another size than its picture, and where not
        one picture has a box.
        """
        require_targets(cache, "boxes", "a table of boxes")
        images, positions = origin(cache)
        chunks = [range(k, min(k + _CHUNK, len(cache))) for k in range(0, len(cache), _CHUNK)]
        boxes, labels, counts = [np.empty((0, 4), np.float32)], [np.empty(0, np.int64)], []
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = pool.map(lambda part: [_boxes_of(images, int(positions[i])) for i in part], chunks)
            for part, tables in zip(chunks, found, strict=True):
                for i, (size, corners, classes) in zip(part, tables, strict=True):
                    boxes.append(_at_size(corners, size, cache, i))
                    labels.append(classes)
                    counts.append(len(classes))
                if progress:
                    progress(part.stop, len(cache))
        if not sum(counts):
            raise InputError(
                f"{cache.name}: none of its {len(cache):,} images has a box, so there is nothing to learn."
            )
        return cls(np.cumsum(counts), np.concatenate(boxes), np.concatenate(labels), box_classes(cache))

    def __len__(self) -> int:
        return len(self._ends)

    def boxes(self, i: int) -> torch.Tensor:
        """(R, 5) float32 of picture i: xyxy in pixel edges of cache.pixels(i), and the class."""
        rows = slice(int(self._ends[i - 1]) if i else 0, int(self._ends[i]))
        classes = self._labels[rows, None].astype(np.float32)  # exact up to 2^24 classes
        return torch.from_numpy(np.hstack([self._boxes[rows], classes]))

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self._ends.nbytes + self._boxes.nbytes + self._labels.nbytes


def box_classes(images: Labelled) -> tuple[str, ...]:
    """Names of the classes of objects; () where there are none."""
    return getattr(origin(images)[0], "box_classes", ())


def pixel_classes(images: Labelled) -> tuple[str, ...]:
    """Names of the classes of pixels: of the set's label maps, else background and the classes of its objects."""
    if "semantic" in labelled_with(images):
        return getattr(origin(images)[0], "semantic_classes", ())
    return (BACKGROUND, *box_classes(images)) if "masks" in labelled_with(images) else ()


def require_targets(images: Labelled, need: str, why: str) -> None:
    """Raise InputError unless the set has what is needed: "boxes", or "semantic" (masks of objects will do)."""
    there = labelled_with(images)
    if need in there or (need == "semantic" and "masks" in there):
        return
    words = {"boxes": "boxes", "semantic": "label maps or masks"}[need]
    found = f"labelled with {' and '.join(there)}" if there else "not labelled"
    raise InputError(
        f"{why} needs {words}, and {images.name} is {found}: choose a set that has them (coco:ROOT, voc:ROOT, "
        "scenes:COUNT, ...; docs/images.md lists what each is labelled with), or another method."
    )


def origin(images: Any) -> tuple[Any, NDArray[np.int64]]:
    """The set in which images are annotated, and the position there of each image."""
    positions = np.arange(len(images))
    while isinstance(images, PixelCache | Subset):
        positions = (images.positions if isinstance(images, PixelCache) else images.indices)[positions]
        images = images.images
    return images, positions


def _boxes_of(images: ImageSet, i: int) -> Found:
    """Of image i, undecoded where annotations lie in files of their own."""
    if hasattr(images, "annotations"):
        known = images.annotations.read(i, ("boxes",))
        return known.size, known.boxes, known.box_labels
    sample = images[i]
    if sample.boxes is None or sample.box_labels is None:
        raise InputError(f"{images.name}: image {sample.name} has no boxes or no classes of boxes.")
    size = int(sample.image.shape[1]), int(sample.image.shape[2])
    return size, sample.boxes.numpy().astype(np.float32), sample.box_labels.numpy()


def _at_size(boxes: NDArray[np.float32], size: tuple[int, int], cache: PixelCache, i: int) -> NDArray[np.float32]:
    """Boxes in an image of (H, W) `size` -> in cache.pixels(i)."""
    height, width = cache.size(i)
    if shrunk_size(size[::-1], cache.max_side_px) != (width, height):
        raise InputError(
            f"{cache.name}: the boxes of image {int(cache.positions[i])} are for {size[1]} x {size[0]} px, which does "
            f"not shrink to its {width} x {height} px: take images and annotations from the same release."
        )
    scale = np.array([width / size[1], height / size[0]] * 2, dtype=np.float32)
    return boxes * scale
