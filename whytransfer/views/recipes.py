"""The papers' views, by the papers' names: each pipeline lists its operations in the paper's order.

A variant gets a new name, never a flag. Normalisation belongs to the backbone. The papers' views have 224 px.
"""

from __future__ import annotations

from dataclasses import dataclass

from whytransfer.errors import unknown_name
from whytransfer.views.operations import (
    BYOLJitter,
    CenterCrop,
    ColorJitter,
    Flip,
    GaussianBlur,
    Grayscale,
    Pipeline,
    RandomResizedCrop,
    Resize,
    SimCLRJitter,
    SingleTryCrop,
    Solarise,
    TenthBlur,
)


@dataclass(frozen=True)
class Recipe:
    """A named set of views; view v is drawn from views[v]."""

    name: str
    views: tuple[Pipeline, ...]


# MoCo v1 [He 2020, arXiv:1911.05722]: gray before jitter, and a hue jitter of 0.4.
moco_v1 = (
    RandomResizedCrop(scale=(0.2, 1.0)),
    Grayscale(p=0.2),
    ColorJitter(0.4, 0.4, 0.4, 0.4),
    Flip(),
)

# MoCo v2 [Chen 2020, arXiv:2003.04297]; "Default" of [Ericsson 2021, arXiv:2111.11398].
moco_v2 = (
    RandomResizedCrop(scale=(0.2, 1.0)),
    ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    Grayscale(p=0.2),
    GaussianBlur(p=0.5, sigma_px=(0.1, 2.0)),
    Flip(),
)

# [Ericsson 2021]: what is left of MoCo v2 without colours, ...
spatial = (
    RandomResizedCrop(scale=(0.2, 1.0)),
    Flip(),
)

# ... and without crop and flip. Jitter and blur come before the resize, as in the paper, so a blur of so many pixels
# is weaker in the view the larger the picture is. The picture is the cached one, whose shorter side is at most twice
# the view's; the paper's loader hands over the file's own pixels: --cache-px 0 does the same.
appearance = (
    ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    Grayscale(p=0.2),
    GaussianBlur(p=0.5, sigma_px=(0.1, 2.0)),
    Resize(),
    CenterCrop(),
)

# SimCLR [Chen 2020, arXiv:2002.05709].
# paper: TensorFlow's distorted bounding box; here the 10-try law for the same ranges.
simclr = (
    RandomResizedCrop(scale=(0.08, 1.0), resampling="bicubic"),
    Flip(),
    SimCLRJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    Grayscale(p=0.2),
    TenthBlur(p=0.5),
)

# BYOL [Grill 2020, arXiv:2006.07733]: two unequal views, cropped as its loader does: one try, cut to the picture.
byol_1 = (
    SingleTryCrop(scale=(0.08, 1.0)),
    Flip(),
    BYOLJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
    Grayscale(p=0.2),
    TenthBlur(p=1.0),
)
byol_2 = (
    SingleTryCrop(scale=(0.08, 1.0)),
    Flip(),
    BYOLJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
    Grayscale(p=0.2),
    TenthBlur(p=0.1),
    Solarise(p=0.2),
)

# DetCon [Henaff 2021, arXiv:2103.10957], S with SimCLR's colours and B with BYOL's, both on BYOL's crop.
# The code for S was never released: blur as in SimCLR's, p 0.5 in each view.
detcon_s = (
    SingleTryCrop(scale=(0.08, 1.0)),
    Flip(),
    SimCLRJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    Grayscale(p=0.2),
    TenthBlur(p=0.5),
)
detcon_b_1 = (
    SingleTryCrop(scale=(0.08, 1.0)),
    Flip(),
    BYOLJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
    Grayscale(p=0.2),
    TenthBlur(p=1.0),
)
detcon_b_2 = (
    SingleTryCrop(scale=(0.08, 1.0)),
    Flip(),
    BYOLJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
    Grayscale(p=0.2),
    TenthBlur(p=0.1),
    Solarise(p=0.2),
)

# Plain ImageNet training: one view.
supervised = (
    RandomResizedCrop(scale=(0.08, 1.0)),
    Flip(),
)


def _ladder(min_scale: float) -> list[Pipeline]:
    """The five cumulative pipelines of [Zhao 2021, arXiv:2006.06606, table 1]; the paper adds an operation per row.

    Row 1 has no crop and the paper does not say how pictures reach the network's size: here the usual test geometry
    (shorter side to 256/224 of the view, centre). Row 5's blur is MoCo v2's: the paper's "(0.1, 0.2)" is a misprint.
    Jitter has MoCo v2's coin, because row 5 is MoCo v2.
    """
    crop = RandomResizedCrop(scale=(min_scale, 1.0))
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    gray = Grayscale(p=0.2)
    blur = GaussianBlur(p=0.5, sigma_px=(0.1, 2.0))
    return [
        (Resize(256 / 224), CenterCrop(), Flip()),
        (crop, Flip()),
        (crop, jitter, Flip()),
        (crop, jitter, gray, Flip()),
        (crop, jitter, gray, blur, Flip()),
    ]


def _all() -> dict[str, Recipe]:
    views: dict[str, tuple[Pipeline, ...]] = {
        "moco-v1": (moco_v1, moco_v1),
        "moco-v2": (moco_v2, moco_v2),
        "default": (moco_v2, moco_v2),  # the name that the invariance study gives to moco-v2
        "spatial": (spatial, spatial),
        "appearance": (appearance, appearance),
        "simclr": (simclr, simclr),
        "byol": (byol_1, byol_2),
        "detcon-s": (detcon_s, detcon_s),
        "detcon-b": (detcon_b_1, detcon_b_2),
        "supervised": (supervised,),
    }
    for row, (contrastive, single) in enumerate(zip(_ladder(0.2), _ladder(0.08), strict=True), start=1):
        views[f"ladder-{row}"] = (contrastive, contrastive)
        views[f"ladder-{row}-supervised"] = (single,)
    return {name: Recipe(name, pipelines) for name, pipelines in views.items()}


RECIPES: dict[str, Recipe] = _all()


def recipe(name: str) -> Recipe:
    """The recipe of that name; an unknown one is refused with the near names."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]
