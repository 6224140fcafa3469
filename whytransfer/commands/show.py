"""`whytransfer show views`: what a recipe does to your own pictures, as a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json
from whytransfer.errors import InputError


class ShowViewsSettings(Settings):
    """Draw a recipe's views as a contact sheet: each picture with its crops marked, then what the network sees of it.

    Look at it before training: what the views change is what the backbone learns to ignore. With the same --images,
    --recipe, --size, --cache-px and --seed these are the very views of a pretraining run, from epoch 0 on. Two
    exceptions: supervised methods given ladder-N train on ladder-N-supervised (show that one), and a run with
    --skip-unreadable counts only the readable images, so that those behind an unreadable one are drawn otherwise.

    Examples:
      whytransfer show views --images photos/ --recipe default --out views.png
      whytransfer show views --images scenes:100 --recipe appearance --size 96 --out appearance.png
    """

    images: str
    """Folder, zip, scenes:COUNT, cifar10:ROOT, ..."""
    out: Path
    """PNG file to write."""
    recipe: str = "default"
    """default (moco-v2's), spatial, appearance, moco-v1, simclr, byol, detcon-s, detcon-b, supervised; ladder-1 (flip),
    -2 (+ crop), -3 (+ colour), -4 (+ grey), -5 (+ blur); ladder-1-supervised ..., a classifier's."""
    size: Annotated[int, Field(ge=8, le=1024)] = 64
    """Side of the views in pixels."""
    cache_px: Annotated[int, Field(ge=0)] | None = None
    """Larger pictures are shrunk to this shorter side first, as pretrain does; 2 x size when not given, 0: never."""
    count: Annotated[int, Field(ge=1, le=100)] = 6
    """Pictures, spread evenly over the set."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides everything drawn."""


def show_views(**settings: Any) -> Path:
    """Write the contact sheet; keywords are the fields of ShowViewsSettings. Returns the file's path."""
    return ShowViewsSettings.called(run, settings)


def run(s: ShowViewsSettings) -> Path:
    import numpy as np

    from whytransfer.commands.data import opened
    from whytransfer.images.build import pixels_of
    from whytransfer.runs import atomic_write, writable_folder
    from whytransfer.views.recipes import recipe
    from whytransfer.views.sheet import contact_sheet

    views = recipe(s.recipe)
    if s.out.suffix.lower() != ".png":
        raise InputError(f"--out {s.out}: the contact sheet is a PNG file, so give a name that ends in .png")
    if s.out.is_dir():
        raise InputError(f"--out {s.out} is a folder: give the name of a PNG file")
    images = opened(s.images)
    writable_folder(s.out.parent)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(s.count, len(images))).astype(int))
    side = None if s.cache_px == 0 else s.cache_px or 2 * s.size
    pixels = [pixels_of(images, int(i), side) for i in chosen]  # as the cache holds them, without building it
    sheet = contact_sheet(pixels, views, s.size, s.seed, index=chosen)
    atomic_write(s.out, lambda file: sheet.save(file, format="PNG", optimize=True))
    return s.out


def show(s: ShowViewsSettings) -> None:
    path = run(s)
    if s.as_json:
        print_json([{"file": str(path), "recipe": s.recipe}])
    else:
        print(f"{path}: open it to see recipe {s.recipe!r}")
