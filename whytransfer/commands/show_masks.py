"""`whytransfer show masks`: the regions of your own pictures, and which of them two views have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json
from whytransfer.errors import InputError


class ShowMasksSettings(Settings):
    """Draw regions as a sheet: each picture, its regions, and two views in which matched regions have one number.

    Look at it before contrasting regions: a number in both views is a positive pair, everything else is told apart.
    With the same --images, --masks, --recipe, --size, --cache-px and --seed these are the views and regions of a
    pretraining run's epoch 0.

    Examples:
      whytransfer show masks --images photos/ --masks felzenszwalb --out masks.png
      whytransfer show masks --images photos/ --masks made/ --recipe detcon-s --size 96 --out masks.png
    """

    images: str
    """Folder, zip, scenes:COUNT, ..."""
    masks: str
    """A folder that `whytransfer masks` made, or how to make them now: grid:5, felzenszwalb, ..."""
    out: Path
    """PNG file to write."""
    recipe: str = "detcon-b"
    """Any recipe of two views: detcon-s, detcon-b, moco-v2, spatial, ..."""
    size: Annotated[int, Field(ge=8, le=1024)] = 224
    """Side of the views in pixels, 224 in the paper."""
    cell_px: Annotated[int, Field(ge=1)] = 32
    """Side of a cell of the map that regions are pooled on: 32 px for ResNets, 8 px for those with a small stem."""
    cache_px: Annotated[int, Field(ge=0)] | None = None
    """Larger pictures are shrunk to this shorter side first, as pretrain does; 2 x size when not given, 0: never."""
    count: Annotated[int, Field(ge=1, le=100)] = 6
    """Pictures, spread evenly over the set."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides everything drawn."""


def show_masks(**settings: Any) -> Path:
    """Write the sheet of regions; keywords are the fields of ShowMasksSettings. Returns the file's path."""
    return ShowMasksSettings.called(run, settings)


def run(s: ShowMasksSettings) -> Path:
    import numpy as np

    from whytransfer.commands.data import opened
    from whytransfer.commands.regions import open_regions
    from whytransfer.images import subset
    from whytransfer.images.cache import PixelCache
    from whytransfer.runs import atomic_write, writable_folder
    from whytransfer.views.recipes import recipe
    from whytransfer.views.region_sheet import region_sheet

    views = recipe(s.recipe)
    if len(views.views) < 2:
        raise InputError(f"--recipe {s.recipe} has one view; matched regions need two, as in detcon-s or detcon-b")
    if s.out.suffix.lower() != ".png" or s.out.is_dir():
        raise InputError(f"--out {s.out}: the sheet is a PNG file, so give the name of a file that ends in .png")
    images = opened(s.images)
    writable_folder(s.out.parent)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(s.count, len(images))).astype(int))
    side = None if s.cache_px == 0 else s.cache_px or 2 * s.size
    pixels = PixelCache.open(subset(images, chosen), side)
    regions = open_regions(s.masks, pixels)
    shown = [pixels.pixels(i) for i in range(len(chosen))], [regions.regions(i) for i in range(len(chosen))]
    sheet = region_sheet(*shown, views, s.size, s.seed, chosen, s.cell_px, s.masks)
    atomic_write(s.out, lambda file: sheet.save(file, format="PNG", optimize=True))
    return s.out


def show(s: ShowMasksSettings) -> None:
    path = run(s)
    if s.as_json:
        print_json([{"file": str(path), "masks": s.masks, "recipe": s.recipe}])
    else:
        print(f"{path}: open it to see which regions {s.recipe} pairs")
