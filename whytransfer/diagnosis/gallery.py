"""The gallery of inversions: picture by picture, model by model, as one PNG and as one HTML file that needs no other.

Shape letters: N pictures, M models, S side in pixels.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from whytransfer.diagnosis.inversion import Inversions
from whytransfer.diagnosis.likeness import recovered
from whytransfer.records import Result

PAPER, INK, FAINT = (252, 252, 250), (34, 34, 34), (120, 120, 120)
MARGIN, GAP, LINE, CELL_PX = 20, 10, 15, 168
SHORT = {"coverage": "coverage {:.0f} %", "hue error": "hue {:.0f}\N{DEGREE SIGN}"}  # what stands under a picture


def captions(results: Sequence[Result], all_: Inversions) -> list[list[str]]:
    """(M, N) what is written under each inversion: its perceptual distance, coverage and error of hue."""
    perceptual = results[0].metric
    shown = {perceptual: f"{perceptual.split(' (')[0]} {{:.2f}}", **SHORT}
    table = {(r.model, r.metric): r.provenance["each"] for r in results}
    rows = []
    for model in all_.models:
        each = [(text, table[model, metric]) for metric, text in shown.items() if (model, metric) in table]
        rows.append([
            "\n".join(text.format(v[n]) for text, v in each if np.isfinite(v[n])) for n in range(len(all_.names))
        ])  # fmt: skip
    return rows


def sheet(all_: Inversions, title: str, under: Sequence[Sequence[str]] | None = None) -> Image.Image:
    """One row per picture: the picture, then what each model made of it; what is not made yet stays empty."""
    font, heading = ImageFont.load_default(12), ImageFont.load_default(20)
    side = max(CELL_PX, min(224, all_.truth.shape[-1]))
    lines = max((text.count("\n") + 1 for row in under or () for text in row), default=0)
    high, wide = side + LINE * (lines + 1) + GAP, side + GAP
    columns = ["picture", *all_.models]
    head = max(len(_wrapped(name, side, font)) for name in columns)
    top = MARGIN + 34 + LINE * head + 4
    width = max(2 * MARGIN + wide * len(columns) - GAP, 2 * MARGIN + round(heading.getlength(title)))
    picture = Image.new("RGB", (width, top + high * len(all_.names) + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN), title, INK, heading)
    for column, name in enumerate(columns):
        for k, line in enumerate(reversed(_wrapped(name, side, font))):
            pen.text((MARGIN + column * wide, top - LINE * (k + 1) - 4), line, INK, font)
    for row, name in enumerate(all_.names):
        y = top + row * high
        for column, pixels in enumerate((all_.truth[row], *all_.made[:, row])):
            x = MARGIN + column * wide
            _paste(picture, pixels, (x, y, side))
            below = _cut(name, side, font) if column == 0 else under[column - 1][row] if under else ""
            pen.multiline_text((x, y + side + 2), below, FAINT, font, spacing=2)
    return picture


def _paste(picture: Image.Image, pixels: Tensor, at: tuple[int, int, int]) -> None:
    """Pixels (3, S, S) at left, top, side; an outline for those not made yet."""
    x, y, side = at
    if bool(pixels.isnan().any()):
        ImageDraw.Draw(picture).rectangle((x, y, x + side - 1, y + side - 1), outline=FAINT)
        return
    image = Image.fromarray(bytes_of(pixels))
    smooth = Image.Resampling.NEAREST if side >= 2 * image.width else Image.Resampling.LANCZOS
    picture.paste(image.resize((side, side), smooth), (x, y))


def bytes_of(pixels: Tensor) -> NDArray[np.uint8]:
    """(3, S, S) in [0, 1] -> (S, S, 3) uint8."""
    return np.ascontiguousarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _wrapped(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The text in lines of at most `width` pixels, at most three, broken anywhere: names of models have no spaces."""
    lines = [""]
    for character in text:
        if font.getlength(lines[-1] + character) > width:
            lines.append("")
        lines[-1] += character
    return lines if len(lines) < 4 else ["\N{HORIZONTAL ELLIPSIS}" + lines[-3], *lines[-2:]]


def _cut(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The end of a name, which tells pictures of one folder apart."""
    while font.getlength(text) > width:
        text = "\N{HORIZONTAL ELLIPSIS}" + text[2:]
    return text


STYLE = """
:root { color-scheme: light dark }
body { font: 14px/1.45 system-ui, sans-serif; color: #222; background: #fcfcfa; margin: 2em auto; max-width: 90em;
  padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .3em .7em; text-align: left; vertical-align: top }
.numbers td { text-align: right; border-top: 1px solid #8885; white-space: nowrap }
.numbers td:first-child { text-align: left } .numbers th { overflow-wrap: normal }
img { display: block; width: clamp(112px, 16vw, 224px); image-rendering: auto }
.there { width: clamp(56px, 8vw, 112px); margin-top: 4px }
small { opacity: .75; white-space: pre-line } th { overflow-wrap: anywhere; max-width: 16em }
.scroll { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #15171a } }
@media print { body { color: #000; background: none } .scroll { overflow: visible } tr { break-inside: avoid } }
"""


def page(all_: Inversions, title: str, told: Sequence[str], results: Sequence[Result]) -> str:
    """The HTML: what was done, the scores, then picture by picture with what was recovered under each inversion.

    Pictures are inside the file; names are escaped, whatever they hold.
    """
    under = captions(results, all_)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("picture", *all_.models))
    rows = []
    for n, name in enumerate(all_.names):
        cells = [f"<td>{_img(all_.truth[n], name)}<small>{html.escape(name)}</small></td>"]
        for m, model in enumerate(all_.models):
            inverted = all_.made[m, n]
            there = _img(faded(all_.truth[n], inverted), f"recovered of {name} by {model}", "there")
            shown = _img(inverted, f"{name} by {model}")
            cells.append(f"<td>{shown}<small>{html.escape(under[m][n])}</small>{there}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    words = "".join(f"<p>{html.escape(line)}</p>" for line in told)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{html.escape(title)}</h1>{words}<div class=scroll>{_numbers(results)}</div>"
        "<p>Small pictures: the inversion where the picture is recovered, white where it is not, grey where the "
        "picture has no structure to recover.</p>"
        f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div></body></html>\n"
    )


def faded(truth: Tensor, made: Tensor) -> Tensor:
    """(3, S, S): the inversion where it recovers the picture, white where not, grey where nothing is asked."""
    structure, there = (part[0] for part in recovered(truth[None], made[None]))
    return torch.where(there, made, torch.where(structure, 1.0, 0.8))


def _img(pixels: Tensor, alt: str, kind: str = "") -> str:
    content = io.BytesIO()
    Image.fromarray(bytes_of(pixels)).save(content, format="PNG")
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img class="{kind}" alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'


def _numbers(results: Sequence[Result]) -> str:
    """Scores by model, intervals in brackets."""
    metrics = list(dict.fromkeys((r.metric, "" if r.unit == r.metric else f", {r.unit}") for r in results))
    cells: Mapping[tuple[str, str], Result] = {(r.model, r.metric): r for r in results}
    head = "".join(f"<th>{html.escape(metric + unit)}</th>" for metric, unit in metrics)
    rows = []
    for model in dict.fromkeys(r.model for r in results):
        found = [cells.get((model, metric)) for metric, _ in metrics]
        text = "".join(f"<td>{'' if r is None else _value(r)}</td>" for r in found)
        rows.append(f"<tr><td>{html.escape(model)}</td>{text}</tr>")
    return f"<table class=numbers><tr><th>model</th>{head}</tr>{''.join(rows)}</table>"


def _value(result: Result) -> str:
    digits = 1 if result.unit in ("%", "dB", "degrees") else 3
    interval = "" if result.low is None else f" [{result.low:.{digits}f}, {result.high:.{digits}f}]"
    return f"{result.value:.{digits}f}{interval}"
