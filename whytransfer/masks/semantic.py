"""The class of every pixel as an image's regions: what a segmenter is trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.masks.regions import NO_REGION, Regions
from whytransfer.records import Sample


class Semantic:
    """The label map that a sample carries, ids are its classes (`images.targets.pixel_classes`), 255 where none.

    A sample with masks of objects only gets one: 0 is background, 1 + k an object of class k; of objects that overlap
    the smaller one is in front. Crowds, which are no objects, are background. Raises InputError for a sample without
    both, and for a class beyond 254.
    """

    own = True  # a recipe is complete only with the image set's annotations
    recipe = "semantic own"

    @classmethod
    def from_spec(cls, rest: str) -> Semantic:
        """From what follows "semantic:", which must be nothing."""
        if rest:
            raise InputError(f"semantic:{rest}: this engine has no settings, it takes the classes of the image set")
        return cls()

    def __call__(self, sample: Sample) -> Regions:
        if sample.semantic is not None:
            return Regions(np.ascontiguousarray(sample.semantic.numpy()))
        if sample.masks is None or sample.box_labels is None:
            raise InputError(
                f"image {sample.name} has no label map and no masks with classes: open the images by the spec of an "
                "annotated set (coco:ROOT, camvid:ROOT, voc:ROOT::segmentation-train, scenes:COUNT)"
            )
        return Regions(painted(sample.masks.numpy(), sample.box_labels.numpy()))


def painted(masks: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(R, H, W) masks of classes (R,) -> (H, W): 0 where there is none, else 1 + class of the smallest one there."""
    if len(labels) and labels.max() + 1 >= NO_REGION:
        raise InputError(f"an object of class {labels.max()}: a label map holds 254 classes and the background")
    areas = np.count_nonzero(masks, axis=(1, 2))
    canvas = np.zeros(masks.shape[1:], dtype=np.uint8)
    for k in np.argsort(-areas, kind="stable"):
        canvas[masks[k]] = 1 + labels[k]
    return canvas
