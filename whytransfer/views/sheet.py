"""A contact sheet of a recipe: each picture with its crops marked, then the views, each with what was drawn for it.

Worth a look before training: what the views change is what the backbone learns to ignore.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from whytransfer.errors import InputError
from whytransfer.views.engine import Viewer
from whytransfer.views.operations import Pipeline
from whytransfer.views.parameters import Draw, Op
from whytransfer.views.recipes import Recipe

PAPER, INK, FAINT = (252, 252, 250), (34, 34, 34), (120, 120, 120)
COLOURS = [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (170, 140, 0)]
MARGIN, GAP, LINE, FRAME = 20, 12, 15, 3  # pixels of the sheet
Box = tuple[float, float, float, float]  # left, top, right, bottom


def contact_sheet(
    pixels: Sequence[NDArray[np.uint8]],
    recipe: Recipe,
    size_px: int,
    seed: int,
    index: Sequence[int] | NDArray[np.integer] | None = None,
    epochs: int | None = None,
) -> Image.Image:
    """One row per picture, with the views that a run with this seed sees in its first epochs.

    `index` are the pictures' positions in their set (default: 0, 1, ...); `epochs` says how many to show (default: six
    columns in all).
    """
    if len(pixels) == 0:
        raise InputError("contact sheet of no pictures: give at least one")
    addresses = np.arange(len(pixels)) if index is None else np.asarray(index)
    epochs = max(1, 6 // len(recipe.views)) if epochs is None else epochs
    sheet = _Sheet(recipe, size_px, columns=epochs * len(recipe.views))
    viewer = Viewer(recipe, size_px, seed)
    return sheet.draw(pixels, [_row(viewer, picture, addresses[[k]], epochs) for k, picture in enumerate(pixels)])


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One view: its pixels, where it was cut, and what to write under it."""

    title: str
    view: Image.Image
    box: Box  # in pixels of the picture
    caption: list[str]


def _row(viewer: Viewer, picture: NDArray[np.uint8], index: NDArray[np.integer], epochs: int) -> list[_Cell]:
    """The views of one picture, epoch after epoch."""
    cells = []
    for epoch in range(epochs):
        views = viewer([picture], index, np.zeros(1, np.int64), epoch)
        for number, images in enumerate(views.images):
            drawn = viewer.parameters([picture], index, epoch, number)
            view = Image.fromarray((images[0].permute(1, 2, 0) * 255).round().byte().numpy())
            box = seen(drawn.windows[0], viewer.size_px)
            title = f"epoch {epoch}, view {number + 1}"
            cells.append(_Cell(title, view, box, caption(drawn, 0, box, picture.shape[:2])))
    return cells


def seen(window: np.void, size_px: int) -> Box:
    """The part of the picture that a view shows, in pixels of the picture."""
    x, y = (
        window["width"] / window["grid_width"],
        window["height"] / window["grid_height"],
    )  # picture pixels per view pixel
    left, top = window["left"] + window["grid_left"] * x, window["top"] + window["grid_top"] * y
    return float(left), float(top), float(left + size_px * x), float(top + size_px * y)


def caption(drawn: Draw, row: int, box: Box, picture_size: Sequence[int]) -> list[str]:
    """What was drawn for one view: crop and flip, then the colours in the order in which they are changed."""
    steps = [s for s in (*drawn.before[row], *drawn.after[row]) if s["op"] != Op.SKIP]
    share = (box[2] - box[0]) * (box[3] - box[1]) / (picture_size[0] * picture_size[1])
    crop = [f"crop {share:.0%}"] if share < 0.995 else []
    flip = ["flip"] if drawn.windows[row]["flip"] else []
    return crop + flip + [_step_text(Op(s["op"]), float(s["value"])) for s in steps] or ["unchanged"]


def _step_text(op: Op, value: float) -> str:
    """One step, with units."""
    return {
        Op.BRIGHTNESS: f"bright x{value:.2f}",
        Op.ADD_BRIGHTNESS: f"bright {value:+.2f}",
        Op.CONTRAST: f"contrast x{value:.2f}",
        Op.CHANNEL_CONTRAST: f"contrast x{value:.2f}",
        Op.SATURATION: f"saturation x{value:.2f}",
        Op.HSV_SATURATION: f"saturation x{value:.2f}",
        Op.HUE: f"hue {value * 360:+.0f} deg",
        Op.GRAYSCALE: "gray",
        Op.BLUR: f"blur {value:.1f} px",
        Op.ZERO_BLUR: f"blur {value:.1f} px (black outside)",
        Op.SOLARISE: f"solarise from {value:.1f}",
    }[op]


class _Sheet:
    """The layout: a column of pictures, then columns of views; all lengths in pixels of the sheet."""

    def __init__(self, recipe: Recipe, size_px: int, columns: int) -> None:
        self.recipe, self.size_px, self.columns = recipe, size_px, columns
        self.side = (
            size_px * max(1, round(150 / size_px)) if size_px < 240 else 224
        )  # of a view; small ones by a whole factor
        self.picture_width = int(1.4 * self.side)
        self.per_epoch = len(recipe.views)
        self.font, self.heading = ImageFont.load_default(12), ImageFont.load_default(24)
        self.width = self.left(columns) - GAP + MARGIN

    def left(self, column: int) -> int:
        """Where a column of views begins; epochs stand apart."""
        return MARGIN + self.picture_width + 2 * GAP + column * (self.side + GAP) + column // self.per_epoch * GAP

    def draw(self, pixels: Sequence[NDArray[np.uint8]], rows: list[list[_Cell]]) -> Image.Image:
        """The whole sheet."""
        room = self.width - 2 * MARGIN
        header = [line for parts in describe(self.recipe) for line in self.wrapped(parts, " > ", room)]
        captions = [[self.wrapped(cell.caption, ", ", self.side) for cell in row] for row in rows]
        heights = [self.side + LINE * max(len(lines) for lines in row) + 2 * GAP for row in captions]
        top = MARGIN + 34 + LINE * len(header) + GAP + LINE
        sheet = Image.new("RGB", (self.width, top + sum(heights) + MARGIN), PAPER)
        pen = ImageDraw.Draw(sheet)
        pen.text((MARGIN, MARGIN), f"{self.recipe.name}   {self.size_px} px", INK, self.heading)
        for k, line in enumerate(header):
            pen.text((MARGIN, MARGIN + 34 + LINE * k), line, FAINT, self.font)
        for column, cell in enumerate(rows[0]):
            pen.text((self.left(column), top - LINE - 4), cell.title, COLOURS[column % len(COLOURS)], self.font)
        for picture, cells, lines, height in zip(pixels, rows, captions, heights, strict=True):
            self.draw_picture(sheet, picture, cells, top)
            self.draw_views(sheet, cells, lines, top)
            top += height
        return sheet

    def draw_picture(self, sheet: Image.Image, picture: NDArray[np.uint8], cells: list[_Cell], top: int) -> None:
        """The picture as large as fits, and where the views were cut."""
        high, wide = picture.shape[:2]
        scale = min(self.picture_width / wide, self.side / high)
        size = max(1, round(wide * scale)), max(1, round(high * scale))
        sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (MARGIN, top))
        pen = ImageDraw.Draw(sheet)
        for column, cell in enumerate(cells):
            if cell.box == (0, 0, wide, high):
                continue
            x0, y0, x1, y1 = (round(scale * v) for v in cell.box)
            box = (MARGIN + x0, top + y0, max(MARGIN + x0, MARGIN + x1 - 1), max(top + y0, top + y1 - 1))
            pen.rectangle(box, outline=COLOURS[column % len(COLOURS)], width=2)

    def draw_views(self, sheet: Image.Image, cells: list[_Cell], captions: list[list[str]], top: int) -> None:
        """The views, framed in the colours of their boxes, and their captions."""
        pen = ImageDraw.Draw(sheet)
        for column, (cell, lines) in enumerate(zip(cells, captions, strict=True)):
            left = self.left(column)
            smooth = Image.Resampling.LANCZOS if self.side < self.size_px else Image.Resampling.NEAREST
            sheet.paste(cell.view.resize((self.side, self.side), smooth), (left, top))
            frame = (left - FRAME, top - FRAME, left + self.side + FRAME - 1, top + self.side + FRAME - 1)
            pen.rectangle(frame, outline=COLOURS[column % len(COLOURS)], width=FRAME)
            for k, line in enumerate(lines):
                pen.text((left, top + self.side + FRAME + 1 + LINE * k), line, INK, self.font)

    def wrapped(self, parts: list[str], separator: str, width: int) -> list[str]:
        """The parts in lines of at most `width` pixels; inside a part only where it alone is longer than a line."""
        lines: list[str] = []
        for part in parts:
            words = [part] if self.font.getlength(part) <= width else part.split(" ")
            for between, word in zip([separator] + [" "] * (len(words) - 1), words, strict=True):
                if not lines:
                    lines.append(word)
                elif self.font.getlength(longer := lines[-1] + between + word) <= width:
                    lines[-1] = longer
                else:
                    lines[-1] += between.rstrip()
                    lines.append(word)
        return lines


def describe(recipe: Recipe) -> list[list[str]]:
    """The recipe's operations with their settings, once for views that are alike."""
    if len(recipe.views) > 1 and len(set(recipe.views)) == 1:
        named = {"each view": recipe.views[0]}
    else:
        named = {f"view {number}": pipeline for number, pipeline in enumerate(recipe.views, start=1)}
    return [[f"{name}: {texts[0]}", *texts[1:]] for name, texts in ((n, _texts(p)) for n, p in named.items())]


def _texts(pipeline: Pipeline) -> list[str]:
    """["RandomResizedCrop(scale 0.2-1, ...)", "Flip(p 0.5)", ...]."""
    texts = []
    for operation in pipeline:
        values = [f"{f.name} {_value_text(getattr(operation, f.name))}" for f in dataclasses.fields(operation)]
        texts.append(f"{type(operation).__name__}({', '.join(values)})" if values else type(operation).__name__)
    return texts


def _value_text(value: float | str | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.3g}-{value[1]:.3g}"
    return value if isinstance(value, str) else f"{value:.3g}"
