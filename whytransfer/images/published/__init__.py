"""Image sets in the folders in which they are published, one per file; docs/images.md shows every tree.

Nothing is downloaded. A folder in another layout is refused with what is missing, what is there and what is expected.
"""

from __future__ import annotations

from collections.abc import Callable

from whytransfer.images.published import (
    ade,
    camvid,
    celeba,
    cityscapes,
    coco,
    imagenet,
    nyu,
    places,
    rgbd,
    sunrgbd,
    synthia,
    voc,
)
from whytransfer.images.published.imagenet import write_list
from whytransfer.records import ImageSet

__all__ = ["SETS", "write_list"]

SETS: dict[str, Callable[[str], ImageSet]] = {
    "imagenet": imagenet.imagenet,
    "imagenet-10pct": imagenet.tenth,
    "imagenet-100": imagenet.hundred,
    "places": places.places,
    "celeba": celeba.celeba,
    "coco": coco.coco,
    "synthia": synthia.synthia,
    "voc": voc.voc,
    "cityscapes": cityscapes.cityscapes,
    "camvid": camvid.camvid,
    "ade": ade.ade,
    "nyu": nyu.nyu,
    "sunrgbd": sunrgbd.sunrgbd,
    "rgbd": rgbd.rgbd,
}
