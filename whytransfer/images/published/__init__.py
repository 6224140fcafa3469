"""Image sets in the folders in which they are published, one per file; docs/images.md shows every tree.

Nothing is downloaded. A folder in another layout is refused with what is missing, what is there and what is expected.
"""

from __future__ import annotations

from collections.abc import Callable

from whytransfer.images.published import (
    ade,
    camvid,
    causal3dident,
    celeba,
    cityscapes,
    coco,
    imagenet,
    landmarks,
    lsp,
    mini_imagenet,
    nyu,
    omniglot,
    places,
    rgbd,
    sunrgbd,
    synthia,
    voc,
    w300,
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
    "mini-imagenet": mini_imagenet.mini_imagenet,
    "omniglot": omniglot.omniglot,
    "landmarks": landmarks.landmarks,
    "celeba-landmarks": celeba.celeba_landmarks,
    "mafl": celeba.mafl,
    "300w": w300.w300,
    "300w-published": w300.w300_published,
    "lsp": lsp.lsp,
    "causal3dident": causal3dident.causal3dident,
}
