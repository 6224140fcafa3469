"""Regions that people drew: the image set's own masks, or those of a file or folder of masks beside it.

annotated               what the samples carry: masks of objects (a stack), else a label map of classes
annotated:FILE.json     COCO instances: polygons and run lengths; crowds are no single objects and are left out
annotated:FOLDER        one file per image, of the image's name: a label map as PNG (see `pictures`), or a BSDS .mat;
                        or one folder per image, holding one picture per mask
annotated:FOLDER:void=0,11      the values of a label map that are no region, instead of the layout's own
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.content import digest
from whytransfer.images.index import first_of, missing_path
from whytransfer.images.subsets import labelled_with
from whytransfer.images.targets import box_classes, pixel_classes
from whytransfer.masks.regions import MOST, NO_REGION, Regions
from whytransfer.memory import usable_cores
from whytransfer.records import ImageSet, Sample

Size = tuple[int, int]  # (height, width)


class Masks(Protocol):
    """Masks beside an image set, found by the image's name."""

    path: Path

    def segmentations(
        self, name: str, size: Size
    ) -> tuple[Regions, ...] | None: ...  # one per annotator; None: unknown
    def files(self) -> Iterable[tuple[str, Path]]: ...
    def stems(self) -> Iterator[str]: ...  # names of the images it knows
    def class_name(self, label: int) -> str: ...


class Annotated:
    """The annotated regions of each image; where several people drew, those of the first.

    Raises InputError for an image without masks, naming it (`missing_ok`: it has no region instead), for masks of
    another size than their image, and for more than 255 in one image.
    """

    def __init__(self, masks: Masks | None = None, missing_ok: bool = False) -> None:
        self.masks, self.missing_ok = masks, missing_ok
        self.own = masks is None  # then a recipe is complete only with the image set's annotations

    @classmethod
    def from_spec(cls, rest: str) -> Annotated:
        """From the PATH[:void=VALUES] of "annotated:PATH"; "" are the samples' own masks."""
        return cls(open_masks(rest) if rest else None)

    @cached_property
    def recipe(self) -> str:
        """What the regions depend on; reads all files once."""
        if self.masks is None:
            return "annotated own"
        with ThreadPoolExecutor(usable_cores()) as pool:
            parts = pool.map(lambda file: os.fsencode(file[0]) + digest(file[1].read_bytes()), self.masks.files())
            return f"annotated {self.masks} content={digest(b''.join(parts)).hex()}"

    def __call__(self, sample: Sample) -> Regions:
        found = self.segmentations(sample)
        if found:
            return found[0]
        if not self.missing_ok:
            raise self._missing(sample)
        height, width = sample.image.shape[-2:]
        if self.masks is not None and not getattr(self.masks, "stacks", False):
            return Regions(np.full((height, width), NO_REGION, np.uint8))
        return Regions(np.zeros((0, height, width), dtype=bool))

    def require_own(self, images: ImageSet) -> None:
        """InputError where two images would be given the same masks, because these are found by the name alone."""
        names: Iterable[str] = getattr(images, "names", ())
        if self.masks is None or not names:
            return
        known, first = set(self.masks.stems()), dict[str, str]()
        for name in names:
            if stem(name) in known and (other := first.setdefault(stem(name), name)) != name:
                raise InputError(
                    f"{images.name}: {other} and {name} would both have the masks of {stem(name)!r} in "
                    f"{self.masks.path}: masks are found by the name of the file, without folder and suffix. Rename "
                    "images and masks, or give the folders one by one."
                )

    def segmentations(self, sample: Sample) -> tuple[Regions, ...]:
        """What each annotator drew; () where nothing is known of the image."""
        if self.masks is None:
            regions = own_masks(sample)
            return () if regions is None else (regions,)
        height, width = sample.image.shape[-2:]
        try:
            return self.masks.segmentations(sample.name, (height, width)) or ()
        except InputError as error:
            raise InputError(f"{sample.name}: {error}") from None

    def class_name(self, label: int, images: ImageSet | None = None) -> str:
        """What a class is called, or its number; of the samples' own masks as `images`, their set, calls it."""
        if self.masks is not None or images is None:
            return str(label) if self.masks is None else self.masks.class_name(label)
        names = box_classes(images) if "masks" in labelled_with(images) else pixel_classes(images)
        return names[label] if label < len(names) else str(label)

    def _missing(self, sample: Sample) -> InputError:
        if self.masks is None:
            return InputError(
                f"image {sample.name} carries no masks: give them as annotated:PATH, or open the images by the spec of "
                "an annotated set (coco:ROOT, voc:ROOT::segmentation-train, scenes:COUNT)"
            )
        known = first_of(sorted(name for name, _ in zip(self.masks.stems(), range(6), strict=False)))
        return InputError(
            f"image {sample.name} has no masks in {self.masks.path} (there are some for {known}). Annotate it, leave "
            "it out, or give such images no region: make the regions with whytransfer masks --allow-missing (in "
            "Python: missing_ok=True)."
        )


def own_masks(sample: Sample) -> Regions | None:
    """The stack of a sample's objects with their classes, else its label map of classes; None without both."""
    if sample.masks is not None:
        stack = np.ascontiguousarray(sample.masks.numpy(), dtype=bool)
        labels = None if sample.box_labels is None else sample.box_labels.numpy()
        return Regions(stack, labels)
    return None if sample.semantic is None else of_values(sample.semantic.numpy(), (NO_REGION,))


def of_values(values: NDArray[np.integer], void: Sequence[int]) -> Regions:
    """A label map from the values of a picture: each value that occurs is a region, its class is the value."""
    present, ids = np.unique(values, return_inverse=True)
    classes = present[~np.isin(present, void)]
    if len(classes) > MOST:
        raise InputError(f"{len(classes):,} regions in one image: {MOST} at most. Merge some, or declare them void.")
    table = np.full(len(present), NO_REGION, dtype=np.uint8)
    table[np.isin(present, classes)] = np.arange(len(classes))
    return Regions(table[ids].reshape(values.shape), classes.astype(np.int64))


def open_masks(rest: str) -> Masks:
    """The masks that PATH[:void=VALUES] names: by its suffix and by what the folder holds."""
    from whytransfer.masks.pictures import open_folder

    path_text, marker, void_text = rest.partition(":void=")
    path = Path(path_text).expanduser()
    if not path.exists():
        raise missing_path(path)
    void = _numbers(void_text) if marker else None
    if path.is_dir():
        return open_folder(path, void)
    if path.suffix.lower() == ".json" and not marker:
        return Coco(path)
    raise InputError(f"annotated:{rest}: give a COCO instances file (.json), or a folder of masks")


class Coco:
    """The objects of a COCO instances file, by the name of the image; see images.published.instances."""

    stacks = True

    def __init__(self, path: Path) -> None:
        from whytransfer.images.published.instances import Instances

        self.path, self._instances = path, Instances.open(path)
        self._position: dict[str, int] = {}
        for i, name in enumerate(self._instances.names):
            if (other := self._position.setdefault(stem(name), i)) != i:
                raise InputError(
                    f"{path}: {self._instances.names[other]} and {name} differ in their suffix alone, and images are "
                    "matched without it: rename one of them."
                )

    def __str__(self) -> str:
        return "coco"

    def segmentations(self, name: str, size: Size) -> tuple[Regions, ...] | None:
        """One stack (R, H, W) with positions in the file's classes, R 0 where nothing is annotated."""
        position = self._position.get(stem(name))
        if position is None:
            return None
        known = self._instances.read(position, ("masks",))
        if known.masks is None:
            raise InputError(f"{self.path} has boxes only: no segmentation in its annotations")
        require_size(known.size, size, self.path)
        return (Regions(known.masks, known.box_labels),)

    def files(self) -> Iterator[tuple[str, Path]]:
        """The one file; its name does not matter."""
        yield "", self.path

    def stems(self) -> Iterator[str]:
        """Names of the images it knows."""
        return iter(self._position)

    def class_name(self, label: int) -> str:
        """The category's name."""
        return self._instances.box_classes[label]


def stem(name: str) -> str:
    """How masks are matched to images: by the file's name, without folders and suffix."""
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def require_size(found: Size, wanted: Size, path: Path) -> None:
    """Raise InputError unless masks have the size of their image."""
    if found != wanted:
        raise InputError(
            f"{path}: the masks are {found[1]} x {found[0]} px and the image is {wanted[1]} x {wanted[0]} px: take "
            "both from the same release, or resize the masks (nearest)"
        )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",") if number)
    except ValueError:
        raise InputError(f"void={text}: give the values that are no region, such as void=0,255") from None
