"""The gallery of inversions as HTML: a picture at a time, what each backbone made of it beside it, the original below.

Pictures are chosen by radio buttons, so arrow keys do it and no script is needed; one slider (class "wipe") draws the
original over all inversions through the CSS variable --cut. On paper all pictures are shown.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whytransfer.diagnosis.inverted_pictures import FILE, read
from whytransfer.report.numbers import Row

MOST_BYTES = 1_500_000  # of all pictures of a gallery, in a page of 8 MB at most
MOST_PICTURES = 24  # that the style sheet below knows
SIDE_PX = 160  # of a picture inside the page, at most

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Gallery:
    """Pictures of one item and seed, and what each backbone made of them."""

    item: str
    seed: int
    originals: Mapping[str, Pixels]  # name -> (S, S, 3)
    made: dict[str, dict[str, tuple[Pixels, str]]] = field(default_factory=dict)  # backbone -> name -> picture, words


def galleries(rows: Iterable[Row], folder: Path) -> list[Gallery]:
    """One gallery per diagnosis of a study's folder, of the lowest seed whose pictures are there.

    A cell without pictures (made by an older version) is left out; InputError for damaged ones.
    """
    cells: dict[tuple[str, int, str], Row] = {}
    for row in rows:
        if row["stage"] == "diagnose-inversion":
            cells.setdefault((row["item"], row["seed"], row["folder"]), row)
    found: dict[str, Gallery] = {}
    for (item, seed, where), row in sorted(cells.items(), key=lambda cell: cell[0][1]):
        path = next(iter(sorted((folder / where).rglob(FILE))), None)
        if path is None:
            continue
        kept = read(path)
        gallery = found.setdefault(item, Gallery(item, seed, dict(zip(kept.names, kept.truth, strict=True))))
        if gallery.seed == seed:
            names = [row["backbone"]] if len(kept.models) == 1 else kept.models
            for backbone, made, words in zip(names, kept.made, kept.captions, strict=True):
                gallery.made[backbone] = dict(zip(kept.names, zip(made, words, strict=True), strict=True))
    return list(found.values())


def slider(gallery: Gallery, place: int, order: Sequence[str] = ()) -> str:
    """The HTML of a gallery, the `place`th of a page; backbones in the order of the table.

    Names are escaped, whatever they hold. Pictures that would make the page too large are left out, evenly, and said.
    """
    backbones = sorted(gallery.made, key=lambda name: order.index(name) if name in order else len(order))
    names = _that_fit(gallery)
    group = f"inversions-{place}"
    buttons = "".join(
        f'<input type="radio" name="{group}" id="{group}-{k}"{" checked" if k == 0 else ""}>'
        f'<label for="{group}-{k}">{html.escape(name)}</label>'
        for k, name in enumerate(names)
    )
    sheets = "".join(_sheet(gallery, name, backbones) for name in names)
    left_out = len(gallery.originals) - len(names)
    more = f" {left_out} more pictures are in the cells' own galleries." if left_out else ""
    return (
        f"<style>{STYLE}</style>"
        f'<div class="inversions" role="group" aria-label="inversions of {_quoted(gallery.item)}">'
        f"<p>{html.escape(gallery.item)}, seed {gallery.seed}: choose a picture (arrow keys work); the slider lays the "
        f"original over what each backbone made of it.{more}</p>"
        '<label class="wiping">original over inversions '
        '<input type="range" class="wipe" min="0" max="100" value="0"></label>'
        f'{buttons}<div class="sheets">{sheets}</div></div>'
    )


def _that_fit(gallery: Gallery) -> list[str]:
    """Names of pictures, evenly chosen, whose pictures together are small enough."""
    names = list(gallery.originals)
    inversions = (_made(gallery, backbone, name)[0] for backbone in gallery.made for name in names)
    all_bytes = sum(len(_uri(pixels)) for pixels in (*gallery.originals.values(), *inversions))
    most = min(len(names), MOST_PICTURES, max(1, int(len(names) * MOST_BYTES / max(1, all_bytes))))
    return [names[k] for k in np.unique(np.linspace(0, len(names) - 1, most).round().astype(int)).tolist()]


def _made(gallery: Gallery, backbone: str, name: str) -> tuple[Pixels, str]:
    return gallery.made[backbone].get(name, (np.zeros((1, 1, 3), np.uint8), "not made"))


def _sheet(gallery: Gallery, name: str, backbones: Sequence[str]) -> str:
    shown = _quoted(name)
    original = f'<figure><span class="original" role="img" aria-label="{shown}"></span><figcaption><b>original</b>'
    found = [f"{original}\n{html.escape(name)}</figcaption></figure>"]
    for backbone in backbones:
        pixels, words = _made(gallery, backbone, name)
        found.append(
            f'<figure data-backbone="{_quoted(backbone)}" data-item="{_quoted(gallery.item)}"><span class="pair">'
            f'<img src="{_uri(pixels)}" alt="{shown} by {_quoted(backbone)}"><span class="original over"></span></span>'
            f"<figcaption><b>{html.escape(backbone)}</b>\n{html.escape(words)}</figcaption></figure>"
        )
    style = f"--original:url({_uri(gallery.originals[name])})"
    return f'<div class="sheet" style="{style}">{"".join(found)}</div>'


def _quoted(text: str) -> str:
    return html.escape(text, quote=True)


def _uri(pixels: Pixels) -> str:
    """A picture as JPEG inside an address; nothing in it needs escaping."""
    image = Image.fromarray(pixels)
    if image.width > SIDE_PX:
        image = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _chosen() -> str:
    """The rules that show the sheet of the chosen button."""
    each = (
        f".inversions input:nth-of-type({k}):checked~.sheets>.sheet:nth-of-type({k})"
        for k in range(1, MOST_PICTURES + 1)
    )
    return ",".join(each)


STYLE = (
    """
.inversions{--cut:0%}
.inversions>input[type=radio]{position:absolute;opacity:0}
.inversions>input[type=radio]+label{display:inline-block;padding:.15em .6em;margin:0 .2em .3em 0;border:1px solid;
border-radius:1em;font-size:.85em;opacity:.65;cursor:pointer;max-width:12em;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;vertical-align:bottom}
.inversions>input[type=radio]:checked+label{opacity:1;font-weight:600}
.inversions>input[type=radio]:focus-visible+label{outline:2px solid;outline-offset:2px}
.inversions .wiping{display:block;margin:.4em 0 .8em}
.inversions .sheet{display:none;flex-wrap:wrap;gap:.8em}
.inversions figure{margin:0;width:112px}
.inversions img,.inversions .original{display:block;width:112px;height:112px;background:var(--original) 0 0/100% 100%}
.inversions img{background:none}
.inversions .pair{display:block;position:relative}
.inversions .over{position:absolute;inset:0;clip-path:inset(0 calc(100% - var(--cut)) 0 0)}
.inversions figcaption{font-size:.75em;white-space:pre-line;overflow-wrap:anywhere}
"""
    + _chosen()
    + """{display:flex}
@media print{.inversions .sheet{display:flex;margin-bottom:1em;break-inside:avoid}
.inversions>input+label,.inversions .wiping{display:none}}
"""
)


def script() -> str:
    """What moves the original over the inversions; without it the pictures are still chosen and compared by eye."""
    return (
        'for (const input of document.querySelectorAll("input.wipe"))\n'
        '  input.addEventListener("input", () =>\n'
        '    input.closest(".inversions").style.setProperty("--cut", `${input.value}%`));\n'
    )


def drawn(rows: Sequence[Row], folder: Path, order: Sequence[str] = ()) -> list[str]:
    """The HTML of every gallery that a study's cells hold pictures for."""
    return [slider(gallery, place, order) for place, gallery in enumerate(galleries(rows, folder)) if gallery.made]
