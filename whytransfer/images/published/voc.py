"""PASCAL VOC [Everingham 2010]: boxes of objects from XML files; classes and objects of pixels from PNG files."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.index import Names
from whytransfer.images.published.annotated import (
    ALL,
    VOID,
    AnnotatedFiles,
    Annotations,
    Known,
    boxes_around,
    read_bytes,
)
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts, rows
from whytransfer.images.published.maps import classes_of, read_indices, table
from whytransfer.images.published.xml import parse

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
SPLITS = ("train", "val", "trainval", "test")
LAYOUT = Layout(
    "voc",
    "ROOT/VOCdevkit/VOC2012/{JPEGImages/*.jpg, Annotations/*.xml, ImageSets/Main/train.txt} and, for the splits "
    "segmentation-*, {SegmentationClass/*.png, SegmentationObject/*.png, ImageSets/Segmentation/train.txt}; ROOT may "
    "be VOCdevkit or VOC2012 itself",
    (*SPLITS, *(f"segmentation-{split}" for split in SPLITS)),
)
_VALUES = table({value: value for value in range(21)}, void=[255])  # background, then the classes from 1
_LABEL_OF = {name: label for label, name in enumerate(CLASSES)}


def voc(rest: str) -> AnnotatedFiles:
    """The set named "voc:ROOT[:YEAR[:SPLIT]]" (or "voc:ROOT:SPLIT"), of the only year in ROOT if it is not named.

    Splits train, val, trainval and test give boxes; segmentation-train and so on give the label map, the mask of
    every object, and the box around it. Years joined by + are one set of boxes: 2007+2012:trainval is what papers call
    VOC07+12.
    """
    root, parts = root_and_parts("voc", rest, ("YEAR", "SPLIT"))
    years = parts.pop(0).split("+") if parts and parts[0] not in LAYOUT.splits else [""]
    split = LAYOUT.split(parts)
    if len(set(years)) < len(years):
        raise InputError(f"voc:{rest} names a year twice: its images would count twice.")
    folders = [_year(root, year or None) for year in years]
    segmented = split.startswith("segmentation-")
    if len(folders) == 1:
        return _of_year(folders[0], split, segmented)
    if segmented:
        raise InputError(f"voc:{rest}: several years are joined for their boxes only; name one year for {split}.")
    listed = [(folder.name, stem) for folder in folders for stem in _stems(folder, split, segmented)]
    name = f"{'+'.join(folder.name.lower() for folder in folders)}/{split}"
    index = unlabelled(Names(f"{year}/JPEGImages/{stem}.jpg" for year, stem in listed))
    boxes = Boxes(folders[0].parent, Names(f"{year}/Annotations/{stem}" for year, stem in listed))
    return AnnotatedFiles(folders[0].parent, index, name, boxes)


def _of_year(folder: Path, split: str, segmented: bool) -> AnnotatedFiles:
    stems = _stems(folder, split, segmented)
    segments, boxes = Segmentations(folder, Names(stems)), Boxes(folder / "Annotations", Names(stems))
    annotations: Annotations = segments if segmented else boxes
    index = unlabelled(Names(f"{stem}.jpg" for stem in stems))
    return AnnotatedFiles(folder / "JPEGImages", index, f"{folder.name.lower()}/{split}", annotations)


def _stems(folder: Path, split: str, segmented: bool) -> list[str]:
    """The names of a split of a year, whose files are all there."""
    listing = f"ImageSets/{'Segmentation' if segmented else 'Main'}/{split.removeprefix('segmentation-')}.txt"
    stems = [fields[0] for _, fields in rows(LAYOUT.find(folder, [listing]))]
    if not stems or not all(stem == os.path.basename(stem) for stem in stems):
        raise InputError(f"voc: {folder / listing} is no list of image names, one per line: copy it again.")
    _require(folder, "JPEGImages", stems, ".jpg")
    if segmented:
        _require(folder, "SegmentationClass", stems, ".png")
        _require(folder, "SegmentationObject", stems, ".png")
    else:
        _require(folder, "Annotations", stems, ".xml")
    return stems


class Boxes:
    """Objects of Annotations/*.xml, difficult and truncated ones too; parts of persons (head, hands) are none.

    VOC counts pixels from 1 and includes both ends; here a box is its pixel edges from 0: (xmin - 1, ymin - 1, xmax,
    ymax).
    """

    labelled_with = ("boxes",)
    box_classes, semantic_classes = CLASSES, ()

    def __init__(self, folder: Path, stems: Names) -> None:
        self._folder, self._stems = folder, stems

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._stems.nbytes

    def read(self, i: int, want: Collection[str] = ALL) -> Known:
        """Boxes of image i."""
        path = self._path(i)
        root = parse(read_bytes(path), path)
        size = _numbers(root.find("size"), ("height", "width"), path, "size")
        objects = root.findall("object")
        boxes = [
            _numbers(thing.find("bndbox"), ("xmin", "ymin", "xmax", "ymax"), path, f"object {k}")
            for k, thing in enumerate(objects, 1)
        ]
        corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        corners[:, :2] -= 1
        if (corners[:, 2:] < corners[:, :2]).any():
            raise InputError(f"{path}: a box ends before it begins: {boxes}.")
        labels = [_label(thing, path) for thing in objects]
        return Known((int(size[0]), int(size[1])), corners, np.array(labels, dtype=np.int64))

    def difficult(self, i: int) -> NDArray[np.bool_]:
        """Whether each object of image i is difficult: VOC's metrics neither ask for it nor punish finding it."""
        path = self._path(i)
        objects = parse(read_bytes(path), path).findall("object")
        return np.array([thing.findtext("difficult", "0").strip() == "1" for thing in objects], dtype=bool)

    def files(self) -> Iterator[tuple[str, str]]:
        """Every XML file."""
        for i, stem in enumerate(self._stems):
            yield f"Annotations/{stem}.xml", self._path(i)

    def _path(self, i: int) -> str:
        return os.path.join(self._folder, f"{self._stems[i]}.xml")


class Segmentations:
    """SegmentationClass and SegmentationObject: an object's class is that of its pixels, its box is around them."""

    labelled_with = ("boxes", "masks", "semantic")
    box_classes, semantic_classes = CLASSES, ("background", *CLASSES)

    def __init__(self, root: Path, stems: Names) -> None:
        self._root, self._stems = root, stems

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._stems.nbytes

    def read(self, i: int, want: Collection[str] = ALL) -> Known:
        """Label map of image i, masks of its objects in the order of their numbers, and the boxes around them."""
        path = self._path(i, "SegmentationClass")
        semantic = classes_of(read_indices(path), _VALUES, path)
        path = self._path(i, "SegmentationObject")
        numbers = read_indices(path)
        if numbers.shape != semantic.shape:
            raise InputError(f"{path} is {numbers.shape}, its SegmentationClass {semantic.shape}: copy both again.")
        present = np.setdiff1d(numbers, [0, VOID])
        masks = numbers == present[:, None, None]  # (R, H, W)
        labels = np.array([_majority(semantic[mask], path) for mask in masks], dtype=np.int64)
        return Known(
            semantic.shape,
            boxes_around(masks),
            labels,
            masks if "masks" in want else None,
            semantic if "semantic" in want else None,
        )

    def files(self) -> Iterator[tuple[str, str]]:
        """Both files of every image."""
        for i, stem in enumerate(self._stems):
            for kind in ("SegmentationClass", "SegmentationObject"):
                yield f"{kind}/{stem}.png", self._path(i, kind)

    def _path(self, i: int, kind: str) -> str:
        return os.path.join(self._root, kind, f"{self._stems[i]}.png")


def _year(root: Path, year: str | None) -> Path:
    """The folder of a year: root itself, or VOC<year> in it or in its VOCdevkit."""
    if (root / "JPEGImages").is_dir() and year in (None, root.name.removeprefix("VOC")):
        return root
    devkit = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    years = sorted(path.name.removeprefix("VOC") for path in devkit.glob("VOC[0-9]*") if path.is_dir())
    if not years:
        raise LAYOUT.refusal(root, "VOCdevkit/VOC2012 (or another year) with JPEGImages")
    if year is None and len(years) > 1:
        raise InputError(f"voc: {devkit} holds the years {', '.join(years)}: choose one, voc:{root}:{years[-1]}")
    if year is not None and year not in years:
        raise unknown_name("VOC year", year, years)
    return devkit / f"VOC{year or years[0]}"


def _require(folder: Path, inner: str, stems: list[str], suffix: str) -> None:
    if not (folder / inner).is_dir():
        raise LAYOUT.refusal(folder, inner)
    there = named_files(folder / inner, (suffix,))
    require_files(LAYOUT, folder / inner, [f"{stem}{suffix}" for stem in stems], there, f"{suffix} files of the split")


def _label(thing: Element, path: str) -> int:
    name = (thing.findtext("name") or "").strip()
    if name not in _LABEL_OF:
        raise InputError(f"{path}: {unknown_name('VOC class', name, CLASSES)}")
    return _LABEL_OF[name]


def _numbers(parent: Element | None, names: tuple[str, ...], path: str, record: str) -> list[float]:
    """Numbers of child elements; some years write them with a fraction."""
    try:
        values = [float(parent.findtext(name, "") if parent is not None else "") for name in names]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise InputError(f"{path}: {record} lacks a number among {', '.join(names)}: copy or unpack it again.")
    return values


def _majority(classes: NDArray[np.uint8], path: str) -> int:
    """The class of most of an object's pixels; label map and object map are drawn apart and may differ at edges."""
    counts = np.bincount(classes[(classes > 0) & (classes < VOID)], minlength=1)
    if not counts.any():
        raise InputError(f"{path}: an object has no pixel with a class in SegmentationClass: copy both again.")
    return int(counts.argmax()) - 1
