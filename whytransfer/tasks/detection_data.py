"""Images with objects, as detectors read them: clean boxes, the sizes of a recipe, ground truth in COCO's form.

What cannot be learnt from or scored against is found once, before anything is trained, and counted: boxes outside the
image, objects without area, images without objects, test images that are in the training set too.

Shape letters: R objects of an image, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from whytransfer import chance
from whytransfer.errors import InputError
from whytransfer.images.content import Annotated, digest
from whytransfer.images.subsets import Subset, labelled_with
from whytransfer.images.targets import box_classes, require_targets
from whytransfer.memory import usable_cores
from whytransfer.parsing import json_of
from whytransfer.records import Sample

LEAST_PX = 1e-3  # a side below it is none
SIZE, FLIP, PLACE = range(3)  # operations that draw


@dataclass(frozen=True)
class Objects:
    """One image (3, H, W) uint8 and its objects: boxes (R, 4) xyxy in pixel edges, labels (R,) from 1, masks (R, H, W).

    Boxes lie in the image and have an area; `clipped` and `dropped` say how many were not so. `source` is the place of
    each object in the annotation.
    """

    image: Tensor
    name: str
    boxes: Tensor
    labels: Tensor
    masks: Tensor | None  # uint8
    clipped: int = 0
    dropped: int = 0
    source: Tensor | None = None  # (R,)


def cleaned(image: Tensor, name: str, boxes: Tensor, labels: Tensor, masks: Tensor | None) -> Objects:
    """Boxes clipped to the image; objects whose box has no area then, or whose mask has no pixel, dropped."""
    height, width = image.shape[1:]
    inside = boxes.clone()
    inside[:, 0::2] = boxes[:, 0::2].clamp(0, width)
    inside[:, 1::2] = boxes[:, 1::2].clamp(0, height)
    sides = inside[:, 2:] - inside[:, :2]
    kept = (sides > LEAST_PX).all(dim=1)
    if masks is not None:
        kept &= masks.flatten(1).any(dim=1).bool()
    clipped = int(((inside != boxes).any(dim=1) & kept).sum())
    chosen = None if masks is None else masks[kept].to(torch.uint8)
    source = kept.nonzero()[:, 0]
    return Objects(image, name, inside[kept], labels[kept], chosen, clipped, int((~kept).sum()), source)


class AnnotatedImages:
    """An image set as Objects, its classes matched by name to `classes`.

    InputError for a set without boxes (or masks, where they are needed), and for a class that is not among `classes`.
    """

    def __init__(self, images: Any, classes: Sequence[str], masks: bool, why: str) -> None:
        require_targets(images, "boxes", why)
        if masks and "masks" not in labelled_with(images):
            raise InputError(
                f"{why} needs a mask of every object, and {images.name} has boxes only: choose coco:ROOT, "
                "voc:ROOT:YEAR:segmentation-train or scenes:COUNT, or the task detection."
            )
        own, position = box_classes(images), {name: k for k, name in enumerate(classes)}
        if strangers := [name for name in own if name not in position]:
            raise InputError(
                f"{images.name} has {len(strangers)} classes of objects that the training set lacks: "
                f"{', '.join(strangers[:5])}. The training set's classes: {', '.join(list(classes)[:5])} ..."
            )
        self.images, self.name, self.masks, self.classes = images, images.name, masks, tuple(classes)
        self._label = np.array([position[name] + 1 for name in own], dtype=np.int64)
        self._crowds: dict[str, list[dict[str, Any]]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Objects:
        sample: Sample = self.images[i]
        boxes, labels = _boxes_of(sample, self.name)
        masks = None if not self.masks or sample.masks is None else torch.as_tensor(sample.masks).as_subclass(Tensor)
        if len(labels) != len(boxes) or (masks is not None and len(masks) != len(boxes)):
            raise InputError(
                f"{self.name}: image {sample.name} has {len(boxes)} boxes, {len(labels)} classes of them and "
                f"{'no' if masks is None else len(masks)} masks: its annotation is damaged"
            )
        return cleaned(sample.image, sample.name, boxes, self._labels(labels), masks)

    def difficult(self, i: int) -> NDArray[np.bool_] | None:
        """Whether each annotated object of image i is difficult (VOC); None where nothing says so."""
        images, position = _origin(self.images, i)
        of = getattr(getattr(images, "annotations", None), "difficult", None)
        return None if of is None else of(position)

    def crowds(self, i: int) -> list[dict[str, Any]]:
        """The crowds of image i as COCO's file has them, under our labels: detections on them are no errors."""
        images, position = _origin(self.images, i)
        known: Any = getattr(images, "annotations", None)
        if not (getattr(known, "path", None) and getattr(known, "notes", ())):  # the notes count crowds left out
            return []
        if self._crowds is None:
            self._crowds = _crowds_of(
                known.path, {name: int(self._label[k]) for k, name in enumerate(known.box_classes)}
            )
        return self._crowds.get(images.names[position], [])

    def survey(self, decode: bool = False) -> Survey:
        """What is in every image, read once by all processors; files are decoded where that is needed, or if asked.

        `decode` finds an image or a mask that cannot be read now, not after the training.
        """
        with ThreadPoolExecutor(usable_cores()) as pool:
            rows = list(pool.map(partial(self._survey_of, decode=decode), range(len(self))))
        counts = np.array([row[:3] for row in rows], dtype=np.int64).reshape(-1, 3)
        told = [repr(self.classes).encode(), *(row[4] for row in rows)]
        if isinstance(self.images, Annotated):  # what is not in the boxes: masks, difficult objects, crowds
            told.append(self.images.annotations_digest())
        clipped, dropped = int(counts[:, 1].sum()), int(counts[:, 2].sum())
        return Survey(counts[:, 0], clipped, dropped, [row[3] for row in rows], digest(b"".join(told)))

    def _survey_of(self, i: int, decode: bool) -> tuple[int, int, int, bytes, bytes]:
        """(objects, clipped, dropped, what the image contains, what is annotated in it)."""
        images, position = _origin(self.images, i)
        if hasattr(images, "annotations") and hasattr(images, "encoded"):
            known = images.annotations.read(position, ("boxes",))
            empty = torch.empty((3, *known.size), dtype=torch.uint8, device="meta")
            boxes = torch.from_numpy(np.asarray(known.boxes, dtype=np.float32))
            found = cleaned(empty, "", boxes, self._labels(torch.from_numpy(known.box_labels)), None)
            content = digest(images.encoded(position))
            if decode:
                self[i]
        else:
            found = self[i]
            content = digest(str(tuple(found.image.shape)).encode() + found.image.numpy().tobytes())
        return len(found.boxes), found.clipped, found.dropped, content, _told_of(found)

    def _labels(self, labels: Tensor) -> Tensor:
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self._label):
            raise InputError(
                f"{self.name}: a box is of class {int(labels.max())}, of {len(self._label)} that there are"
            )
        return torch.from_numpy(self._label[labels.numpy()])


@dataclass(frozen=True)
class Survey:
    """Objects of each image (N,), how many were clipped and dropped in all, and a digest of each image's content.

    `annotations` stands for all that is annotated and for the classes, by which a fit is told from another.
    """

    objects: NDArray[np.int64]
    clipped: int
    dropped: int
    contents: list[bytes]
    annotations: bytes

    def notes(self, name: str) -> list[str]:
        """Sentences on what was found; none for a clean set."""
        found = []
        if self.clipped:
            found.append(f"{name}: {self.clipped:,} boxes reached outside their image and were clipped")
        if self.dropped:
            found.append(f"{name}: {self.dropped:,} objects without area inside their image were left out")
        return found

    def shared_with(self, other: Survey) -> list[int]:
        """Positions of the images that the other set holds too, by content."""
        theirs = set(other.contents)
        return [i for i, content in enumerate(self.contents) if content in theirs]

    def content(self) -> str:
        """One digest of all images and of what is annotated in them."""
        return digest(b"".join(self.contents) + self.objects.tobytes() + self.annotations).hex()


def _told_of(found: Objects) -> bytes:
    """A digest of an image's boxes, their classes, and its masks where they were read."""
    parts = [found.boxes, found.labels, *([] if found.masks is None else [found.masks])]
    return digest(b"".join(part.contiguous().numpy().tobytes() for part in parts))


def _boxes_of(sample: Sample, name: str) -> tuple[Tensor, Tensor]:
    if sample.boxes is None or sample.box_labels is None:
        raise InputError(f"{name}: image {sample.name} has no boxes or no classes of boxes: its annotation is missing")
    return torch.as_tensor(sample.boxes).as_subclass(Tensor).float(), sample.box_labels


def _crowds_of(path: Path, label: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """The crowds of an instances file by the name of their image."""
    content = json_of(path.read_bytes())
    image = {item["id"]: item["file_name"] for item in content["images"]}
    kind = {item["id"]: label[str(item["name"])] for item in content["categories"]}
    found: dict[str, list[dict[str, Any]]] = {}
    for item in content["annotations"]:
        if item.get("iscrowd"):
            kept = {key: item[key] for key in ("bbox", "area", "segmentation") if key in item}
            found.setdefault(image[item["image_id"]], []).append({**kept, "category_id": kind[item["category_id"]]})
    return found


def _origin(images: Any, i: int) -> tuple[Any, int]:
    """The set in which an image is annotated, and its position there."""
    while isinstance(images, Subset):
        images, i = images.images, int(images.indices[i])
    return images, i


@dataclass(frozen=True)
class Sizes:
    """How large images are shown: `train_px` short sides to draw from, or large-scale jitter of a square of `jitter`.

    short: the shorter side becomes `test_px` in testing, the longer one at most `longest_px`. With jitter the longest
    side becomes test_px times U(jitter) in training, and a square of test_px is cut [Ghiasi 2021; DetCon].
    """

    train_px: tuple[int, ...]
    test_px: int
    longest_px: int
    jitter: tuple[float, float] | None = None

    def scaled(self, size_px: int) -> Sizes:
        """The same in proportion for images of a smaller side; never larger than the paper's."""
        if size_px >= self.test_px:
            return self
        factor = size_px / self.test_px
        train = tuple(round(side * factor) for side in self.train_px)
        return Sizes(train, size_px, round(self.longest_px * factor), self.jitter)

    def shown(self, height: int, width: int, u: float | None = None) -> tuple[int, int]:
        """(height, width) of an image in testing, or in training with a number u in [0, 1) that draws its size."""
        if self.jitter is not None:
            low, high = self.jitter if u is not None else (1.0, 1.0)
            factor = self.test_px * (low + (high - low) * (u or 0.0)) / max(height, width)
        else:
            short = self.test_px if u is None else self.train_px[int(u * len(self.train_px))]
            factor = min(short / min(height, width), self.longest_px / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))


def resized(found: Objects, size: tuple[int, int]) -> Objects:
    """The image, its boxes and masks at another (height, width); antialiased, masks by nearest pixels."""
    height, width = found.image.shape[1:]
    scale = torch.tensor([size[1] / width, size[0] / height] * 2)
    masks = None if found.masks is None else tv.resize_mask(found.masks, list(size))
    image = tv.resize_image(found.image, list(size), antialias=True)
    return dataclasses.replace(found, image=image, boxes=found.boxes * scale, masks=masks)


def augmented(found: Objects, sizes: Sizes, seed: int, epoch: int, index: int) -> Objects:
    """An image of training: its size, place and flip are a function of (seed, epoch, index)."""
    draw = partial(chance.uniform, seed, epoch, np.array([index]), 0)
    height, width = found.image.shape[1:]
    found = resized(found, sizes.shown(height, width, float(draw(SIZE, 1)[0, 0])))
    if sizes.jitter is not None:
        found = cropped(found, sizes.test_px, *draw(PLACE, 2)[0])
    return flipped(found) if draw(FLIP, 1)[0, 0] < 0.5 else found


def cropped(found: Objects, side: int, down: float, right: float) -> Objects:
    """A square of `side` of the image, less where it is smaller: padding comes after normalisation, in the detector."""
    height, width = found.image.shape[1:]
    top, left = int(down * (max(0, height - side) + 1)), int(right * (max(0, width - side) + 1))
    place = (..., slice(top, top + side), slice(left, left + side))
    masks = None if found.masks is None else found.masks[place]
    boxes = found.boxes - torch.tensor([left, top, left, top])
    return cleaned(found.image[place], found.name, boxes, found.labels, masks)


def flipped(found: Objects) -> Objects:
    """Left becomes right."""
    width = found.image.shape[2]
    boxes = found.boxes.clone()
    boxes[:, 0], boxes[:, 2] = width - found.boxes[:, 2], width - found.boxes[:, 0]
    masks = None if found.masks is None else found.masks.flip(-1)
    return dataclasses.replace(found, image=found.image.flip(-1), boxes=boxes, masks=masks)


def as_target(found: Objects) -> dict[str, Tensor]:
    """What torchvision's detectors are trained on."""
    target = {"boxes": found.boxes.float(), "labels": found.labels}
    return target if found.masks is None else {**target, "masks": found.masks}
