"""A sheet of regions: each picture, its regions, and two views in which equal regions have one colour and one number.

Worth a look before contrasting regions: what has a number in both views is a positive pair, all else is apart.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.masks.pooling import NO_REGION, SMALLEST, pool
from whytransfer.views.engine import Viewer
from whytransfer.views.recipes import Recipe
from whytransfer.views.sheet import COLOURS, FAINT, FRAME, GAP, INK, LINE, MARGIN, PAPER, Box, caption, seen

SIDE = 280  # of a view on the sheet, in pixels, at least
APART = (150, 150, 150)  # colour of regions that the other view lacks
NOTE = (
    "numbered: the regions that exist in both views (positives)",
    "grey in a view: not in the other",
    "white lines: the cells that regions are pooled on",
)
Masks = dict[int, NDArray[np.bool_]]  # by id, (H, W)


def region_sheet(
    pixels: Sequence[NDArray[np.uint8]],
    regions: Sequence[Tensor],
    recipe: Recipe,
    size_px: int,
    seed: int,
    index: Sequence[int] | NDArray[np.integer],
    cell_px: int = 32,
    about: str = "",
) -> Image.Image:
    """One row per picture (H, W, 3): as it is, its regions, and the first two views of epoch 0 of a run with this seed.

    regions are label maps (H, W) or stacks (R, H, W); `index` the pictures' positions in their set. A region exists in
    a view as DetCon sees it, on a grid of cells of `cell_px` px. `about` stands in the heading.
    """
    if len(pixels) == 0 or len(recipe.views) < 2:
        raise InputError(f"a sheet of regions needs pictures and two views; {recipe.name} has {len(recipe.views)}")
    viewer = Viewer(recipe, size_px, seed)
    cells = -(-size_px // cell_px)
    rows = [
        _row(viewer, p, r, np.asarray(index)[[k]], cells) for k, (p, r) in enumerate(zip(pixels, regions, strict=True))
    ]
    alone = sum(row.positives == 0 for row in rows)
    notes = ["regions overlap: small ones lie on top"] if any(r.ndim == 3 for r in regions) else []
    notes += [f"regions: {about}"] if about else []
    notes += [f"{alone} of {len(rows)} pictures have no region in both views, so no positive pair"] if alone else []
    return _drawn(rows, f"{recipe.name}   {size_px} px   {cells} x {cells} cells", [*NOTE, *notes])


@dataclass(frozen=True)
class _Row:
    """The four pictures of a row, with the words under each."""

    panels: list[Image.Image]
    captions: list[list[str]]
    positives: int  # regions in both views


def _row(viewer: Viewer, picture: NDArray[np.uint8], regions: Tensor, index: NDArray[np.integer], cells: int) -> _Row:
    views = viewer([picture], index, np.zeros(1, np.int64), 0, [regions])
    pooled = [pool(view, (cells, cells))[0] for view in views.regions[:2]]  # (R, P) each
    there = [{r for r in range(len(p)) if float(p[r].sum()) > SMALLEST} for p in pooled]
    shared = sorted(there[0] & there[1])
    numbers = {region: number for number, region in enumerate(shared, start=1)}
    drawn = [viewer.parameters([picture], index, 0, v) for v in (0, 1)]
    boxes = [seen(d.windows[0], viewer.size_px) for d in drawn]
    fitted, everything, scale = _fitted(picture, regions)
    zoom = max(1, round(SIDE / max(fitted.shape[:2])))
    framed = _framed_windows(_enlarged(fitted, zoom), boxes, scale * zoom)
    panels = [framed, _tinted(fitted, everything, numbers, zoom, plain=frozenset())]
    captions = [[f"{picture.shape[1]} x {picture.shape[0]} px"], [_counted(len(everything))]]
    for v in (0, 1):
        view = (views.images[v][0].permute(1, 2, 0) * 255).round().byte().numpy()
        zoom = max(1, round(SIDE / viewer.size_px))
        masks = _masks(views.regions[v][0])
        panels.append(_with_grid(_tinted(view, masks, numbers, zoom, plain=masks.keys() - numbers.keys()), cells))
        words = [f"{_counted(len(there[v]))} on the grid, {len(shared)} in both views"]
        captions.append(words + _wrapped(caption(drawn[v], 0, boxes[v], picture.shape[:2]), panels[-1].width))
    return _Row(panels, captions, len(shared))


def _counted(regions: int) -> str:
    return "1 region" if regions == 1 else f"{regions} regions"


def _fitted(picture: NDArray[np.uint8], regions: Tensor) -> tuple[NDArray[np.uint8], Masks, float]:
    """A picture too large for the sheet is shrunk, with its regions; and by which factor."""
    scale = min(1.0, 1.5 * SIDE / max(picture.shape[:2]))
    high, wide = (max(1, round(scale * side)) for side in picture.shape[:2])
    y, x = (torch.arange(n) * side // n for n, side in zip((high, wide), picture.shape[:2], strict=True))
    small = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((wide, high), Image.Resampling.LANCZOS))
    return small, _masks(regions[..., y[:, None], x]), scale


def _masks(regions: Tensor) -> Masks:
    """The regions that are there, each as a mask; of a label map (H, W) or a stack (R, H, W)."""
    if regions.ndim == 2:
        return {int(i): (regions == i).numpy() for i in torch.unique(regions) if i != NO_REGION}
    return {i: mask.bool().numpy() for i, mask in enumerate(regions) if bool(mask.any())}


def colour(region: int) -> tuple[int, int, int]:
    """A colour of its own for each id: hues a golden angle apart, in three strengths."""
    r, g, b = colorsys.hsv_to_rgb(
        (0.08 + region * 0.381966) % 1, (0.95, 0.7, 0.85)[region % 3], (0.95, 0.9, 0.7)[region % 3]
    )
    return round(255 * r), round(255 * g), round(255 * b)


def _enlarged(picture: NDArray[np.uint8], zoom: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture).repeat(zoom, axis=0).repeat(zoom, axis=1))


def _tinted(
    picture: NDArray[np.uint8], masks: Masks, numbers: dict[int, int], zoom: int, plain: Set[int]
) -> Image.Image:
    """Every region outlined in its colour (the plain ones: grey), with its number, if it has one, in its midst."""
    shown = np.asarray(_enlarged(picture, zoom)).astype(np.float32)
    order = sorted(masks, key=lambda r: (r not in plain, -int(masks[r].sum())))  # small ones last, on top
    for region in order:
        mask = masks[region].repeat(zoom, axis=0).repeat(zoom, axis=1)
        paint = np.array(APART if region in plain else colour(region), dtype=np.float32)
        shown[mask] += (0.55 if region in plain else 0.4) * (paint - shown[mask])
        shown[mask & ~_eroded(mask)] = paint
    image = Image.fromarray(shown.round().astype(np.uint8))
    pen, font, uncovered = ImageDraw.Draw(image), ImageFont.load_default(15), _uncovered(masks, order)
    for region in numbers.keys() & masks.keys():
        y, x = _inside(uncovered[region])
        at = (x + 0.5) * zoom, (y + 0.5) * zoom
        pen.text(at, str(numbers[region]), (255, 255, 255), font, anchor="mm", stroke_width=2, stroke_fill=(20, 20, 20))
    return image


def _uncovered(masks: Masks, order: list[int]) -> Masks:
    """What of each region lies under no later one; the whole region where nothing is left.

    A number on another region would be read as that one's.
    """
    parts: Masks = {}
    covered = np.zeros(next(iter(masks.values())).shape if masks else (0, 0), dtype=bool)
    for region in reversed(order):
        free = masks[region] & ~covered
        parts[region] = free if free.any() else masks[region]
        covered |= masks[region]
    return parts


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the two pixels along its border."""
    padded = np.pad(mask, 2)
    inner = padded[2:-2, :-4] & padded[2:-2, 4:] & padded[:-4, 2:-2] & padded[4:, 2:-2]
    return inner & mask


def _inside(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, column) where the mask is about as wide as anywhere, and of such places the nearest to its centre of mass.

    A number on a rim would be read as that of the region beyond.
    """
    width = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]  # the picture's border is a rim too
    (y, x), (rows, columns) = np.nonzero(width >= 0.8 * width.max()), np.nonzero(mask)
    nearest = np.argmin((y - rows.mean()) ** 2 + (x - columns.mean()) ** 2)
    return int(y[nearest]), int(x[nearest])


def _with_grid(view: Image.Image, cells: int) -> Image.Image:
    """Thin lines between the cells of the map on which regions are pooled."""
    shown = np.asarray(view).astype(np.float32)
    at = [round(k * view.width / cells) for k in range(1, cells)]
    shown[at], shown[:, at] = 0.65 * shown[at] + 0.35 * 255, 0.65 * shown[:, at] + 0.35 * 255
    return Image.fromarray(shown.round().astype(np.uint8))


def _framed_windows(picture: Image.Image, boxes: list[Box], zoom: float) -> Image.Image:
    """Where the two views were cut."""
    pen = ImageDraw.Draw(picture)
    for box, line in zip(boxes, COLOURS, strict=False):
        x0, y0, x1, y1 = (round(v * zoom) for v in box)
        pen.rectangle((x0, y0, min(x1, picture.width) - 1, min(y1, picture.height) - 1), outline=line, width=FRAME)
    return picture


def _wrapped(parts: list[str], width: int) -> list[str]:
    """The parts in lines of at most `width` pixels, never broken inside a part."""
    font, lines = ImageFont.load_default(12), [parts[0]]
    for part in parts[1:]:
        if font.getlength(f"{lines[-1]}, {part}") <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _drawn(rows: list[_Row], heading: str, notes: list[str]) -> Image.Image:
    """The rows under a heading; columns are as wide as their widest picture."""
    widths = [max(row.panels[c].width for row in rows) for c in range(4)]
    lefts = [MARGIN + sum(widths[:c]) + 2 * GAP * c for c in range(4)]
    heights = [max(p.height for p in row.panels) + LINE * max(map(len, row.captions)) + 2 * GAP for row in rows]
    wide = lefts[3] + widths[3] + MARGIN
    legend = _wrapped(notes, wide - 2 * MARGIN)
    top = MARGIN + 34 + (1 + len(legend)) * LINE + 2 * GAP
    sheet = Image.new("RGB", (wide, top + sum(heights) + MARGIN), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((MARGIN, MARGIN), heading, INK, ImageFont.load_default(24))
    for k, line in enumerate(legend):
        pen.text((MARGIN, MARGIN + 34 + LINE * k), line, FAINT, font)
    for left, title, ink in zip(lefts, ("picture", "regions", "view 1", "view 2"), (INK, INK, *COLOURS), strict=False):
        pen.text((left, top - LINE - 4), title, ink, font)
    for row, height in zip(rows, heights, strict=True):
        for c, panel in enumerate(row.panels):
            sheet.paste(panel, (lefts[c], top))
            if c > 1:
                frame = (
                    lefts[c] - FRAME,
                    top - FRAME,
                    lefts[c] + panel.width + FRAME - 1,
                    top + panel.height + FRAME - 1,
                )
                pen.rectangle(frame, outline=COLOURS[c - 2], width=FRAME)
            for k, line in enumerate(row.captions[c]):
                pen.text((lefts[c], top + panel.height + FRAME + 1 + LINE * k), line, INK if k == 0 else FAINT, font)
        top += height
    return sheet
