"""How well regions cover annotated objects: for each object the best overlap with any region of its image.

Overlap is intersection over union of pixels; the mean of the best ones over objects is J_i, the "best spatial support"
of [Pont-Tuset et al. 2017, section 5]. An object is one annotated instance of COCO (crowds are none), one object of
VOC, or one region of a label map. Where several people segmented an image (BSDS500) every segment of every person is
an object, so that what people agree on counts as often as they drew it. Pixels that an annotation declares void belong
to no object, and count in a region that covers them as any other pixel does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.masks.annotated import Annotated
from whytransfer.masks.regions import Regions
from whytransfer.masks.store import RegionStore, content_of
from whytransfer.records import ImageSet, Sample


@dataclass(frozen=True)
class Covered:
    """The objects of one image, O of them, and how well the best of its regions covers each."""

    overlaps: NDArray[np.float64]  # (O,) in [0, 1]; 0 where the image has no region
    classes: NDArray[np.int64]  # (O,), -1 where there is none
    regions: int


def overlaps(objects: Regions, regions: Regions) -> NDArray[np.float64]:
    """(O, R) intersection over union of every object with every region of one image; 0 for empty ones."""
    shared = _shared(objects, regions)
    union = objects.areas()[:, None] + regions.areas() - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def best_overlaps(objects: Regions, regions: Regions) -> NDArray[np.float64]:
    """(O,) each object's best overlap; objects of no pixel are left out."""
    table = overlaps(objects, regions)[objects.areas() > 0]
    return table.max(axis=1) if table.shape[1] else np.zeros(len(table))


def _shared(objects: Regions, regions: Regions) -> NDArray[np.int64]:
    """(O, R) pixels in both."""
    if not objects.overlapping and not regions.overlapping:  # one pass: how often each pair of ids meets
        pairs = objects.maps.reshape(-1).astype(np.intp) * 256 + regions.maps.reshape(-1)
        return np.bincount(pairs, minlength=1 << 16).reshape(256, 256)[: len(objects), : len(regions)]
    if not regions.overlapping:
        counts = [np.bincount(regions.maps[mask], minlength=256)[: len(regions)] for mask in objects.stack()]
        return np.array(counts, dtype=np.int64).reshape(len(objects), len(regions))
    if not objects.overlapping:
        return _shared(regions, objects).T
    pixels = objects.size[0] * objects.size[1]
    one, other = (stack.maps.reshape(len(stack), pixels) for stack in (objects, regions))
    if pixels >= 1 << 24:  # where single precision cannot count any more
        shared = [[np.count_nonzero(a & b) for b in other] for a in one]
        return np.array(shared, dtype=np.int64).reshape(len(one), len(other))
    return (one.astype(np.float32) @ other.astype(np.float32).T).astype(np.int64)


def measure(
    images: ImageSet, regions_of: Callable[[int, Sample], Regions], truth: Annotated
) -> Iterator[tuple[int, Covered | None]]:
    """(position, Covered) of each image; None where the truth does not know the image or has no object in it.

    Raises InputError when regions or annotations are of another size than their image, and when two images would have
    the same annotations.
    """
    truth.require_own(images)
    for i in range(len(images)):
        sample = images[i]
        drawn = truth.segmentations(sample)
        objects = [(d, d.areas() > 0) for d in drawn]
        if not any(present.any() for _, present in objects):
            yield i, None
            continue
        regions = regions_of(i, sample)
        for found in (regions, *drawn):
            if found.size != tuple(sample.image.shape[-2:]):
                raise InputError(
                    f"{sample.name}: regions of {found.size}, image of {tuple(sample.image.shape[-2:])} px"
                )
        best = np.concatenate([best_overlaps(d, regions) for d, _ in objects])
        classes = np.concatenate([_classes(d)[present] for d, present in objects])
        yield i, Covered(best, classes, int((regions.areas() > 0).sum()))


def from_store(store: RegionStore, images: ImageSet) -> Callable[[int, Sample], Regions]:
    """Regions of images by their content; InputError for an image that the store lacks."""

    def regions_of(i: int, sample: Sample) -> Regions:
        regions = store.regions_of(content_of(images, i))
        if regions is None:
            raise InputError(
                f"image {sample.name} has no regions in {store.folder}: make them with whytransfer masks --images "
                f"IMAGES --engine {store.engine} --out {store.folder}"
            )
        return regions

    return regions_of


def _classes(objects: Regions) -> NDArray[np.int64]:
    return np.full(len(objects), -1, dtype=np.int64) if objects.labels is None else objects.labels
