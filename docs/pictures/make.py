"""The pictures of the documentation, made again: python docs/pictures/make.py [NAME ...]

Cost      a minute of one core, no download
Writes    docs/pictures/NAME.svg or .png; all of them when no name is given

Diagrams are drawn here; the others are what our own commands draw of generated scenes, or charts of the records in
docs/results/raw and of the README's table.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#57606a"


# diagrams: SVG on a white card, readable in light and dark


def card(width: int, height: int, *parts: str) -> str:
    """An SVG file of these parts."""
    arrow = (
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif">'
        f'{arrow}<rect width="{width}" height="{height}" rx="8" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def text(
    x: float, y: float, words: str, size: int = 12, colour: str = "#24292f", weight: str = "", at: str = ""
) -> str:
    """One line of text; `at` is its anchor (start, middle, end)."""
    more = "".join([f' font-weight="{weight}"' if weight else "", f' text-anchor="{at}"' if at else ""])
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'


def box(x: int, y: int, width: int, title: str, *lines: str, colour: str = BLUE, height: int = 0) -> str:
    """A box with a title and lines below it."""
    height = height or 34 + 16 * len(lines)
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{colour}" fill-opacity="0.07" '
        f'stroke="{colour}"/>'
        + text(x + 12, y + 21, title, 14, colour, "bold")
        + "".join(text(x + 12, y + 41 + 16 * i, line) for i, line in enumerate(lines))
    )


def arrow(*points: tuple[int, int]) -> str:
    """A line through points, with a head at the last."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{GREY}" stroke-width="1.5" marker-end="url(#a)"/>'


def flow() -> str:
    """The README's picture: what goes into what."""
    return card(
        960, 420,
        box(16, 20, 200, "images", "folders, zips, shards,", "published layouts,", "generated scenes", height=100),
        box(256, 20, 200, "views", "the papers' recipes;", "drawn again, they are", "the same to the pixel",
            height=100),
        box(496, 20, 208, "pretraining", "InstDisc, MoCo, SimCLR, BYOL,", "DetCon, SupCon, Exemplar,",
            "supervised", height=100),
        box(744, 20, 200, "backbones", "runs of your own, published", "weights, random ones;", "A+B is a fusion",
            height=100),
        box(16, 160, 200, "masks", "grid, Felzenszwalb, MCG,", "annotated objects", height=84),
        box(744, 160, 200, "tasks: what is it worth?", "readouts, few shots, factors,",
            "landmarks, boxes, masks, depth", colour=GREEN, height=84),
        box(496, 160, 208, "diagnosis: why?", "invariance, errors, inversion,", "complementarity",
            colour=GREEN, height=84),
        box(496, 290, 448, "study", "backbones x tasks x diagnoses x seeds; each cell runs once, also on a",
            "cluster; every number keeps its interval, its images and its command", colour=RED, height=84),
        box(256, 290, 200, "claims", "21 findings of 3 papers: holds,", "contradicted, or undecided",
            colour=RED, height=84),
        box(16, 290, 200, "report", "one page, no network:", "tables, charts, verdicts", colour=RED, height=84),
        arrow((216, 70), (256, 70)), arrow((456, 70), (496, 70)), arrow((704, 70), (744, 70)),
        arrow((116, 120), (116, 160)), arrow((216, 202), (356, 202), (356, 120)),
        arrow((844, 120), (844, 160)), arrow((780, 120), (780, 140), (600, 140), (600, 160)),
        arrow((844, 244), (844, 290)), arrow((600, 244), (600, 290)),
        arrow((496, 332), (456, 332)), arrow((256, 332), (216, 332)),
        text(480, 404, "whytransfer: which pretraining will transfer to my task, and why?", 13, GREY, "", "middle"),
    )  # fmt: skip


def backbones() -> str:
    """What every backbone gives: maps of each stage, the last map, a vector."""
    stages = [("stem", "64 x 16 x 16"), ("layer1", "64 x 16 x 16"), ("layer2", "128 x 8 x 8"),
              ("layer3", "256 x 4 x 4"), ("layer4", "512 x 2 x 2")]  # fmt: skip
    parts = [box(16, 60, 116, "images", "3 x 64 x 64", "in [0, 1]", colour=GREY)]
    for i, (name, shape) in enumerate(stages):
        x = 172 + 122 * i
        parts += [box(x, 60, 106, name, shape, height=66), arrow((x - 16 if i else 132, 93), (x, 93))]
    parts += [
        box(806, 60, 138, "vector", "512, the mean", "of the last map", colour=GREEN), arrow((766, 93), (806, 93)),
        text(172, 36, "Features.stages, by name; the last one is Features.map", 13, GREY),
        text(806, 36, "Features.vector", 13, GREY),
        text(16, 156, "resnet18 on pictures of 64 px. Mean and spread of the colours belong to the backbone: it is "
             "always given pictures in [0, 1].", 12, GREY),
    ]  # fmt: skip
    return card(960, 176, *parts)


def study() -> str:
    """A grid of cells, and what becomes of them when the file changes."""
    parts, names = [], ("random", "default", "spatial", "default + spatial")
    items = ("pretraining", "class", "pose", "invariance")
    for column, item in enumerate(items):
        parts.append(text(216 + 170 * column, 34, item, 13, BLUE, "bold", "middle"))
    for row, name in enumerate(names):
        parts.append(text(16, 70 + 48 * row, name, 13, "#24292f", "bold"))
        for column in range(len(items)):
            if column or row in (1, 2):
                parts += [_cell(160 + 170 * column + 40 * seed, 50 + 48 * row, seed, row > 1) for seed in range(3)]
    parts += [
        text(16, 262, "A square is a cell: one pretraining, task or diagnosis at one seed (0, 1, 2).", 12, GREY),
        text(16, 280, "Orange: after a change to `spatial`. Its pretraining runs again, then all that needs it, "
             "and nothing else.", 12, GREY),
    ]  # fmt: skip
    return card(960, 296, *parts)


def _cell(x: int, y: int, seed: int, again: bool) -> str:
    colour = RED if again else BLUE
    return (
        f'<rect x="{x}" y="{y}" width="32" height="32" rx="4" fill="{colour}" fill-opacity="0.15" stroke="{colour}"/>'
        + text(x + 16, y + 21, str(seed), 12, colour, "", "middle")
    )


def claims() -> str:
    """How an interval becomes a verdict, for an effect that the paper found above 0."""
    zero, parts = 560, []
    cases = (
        ("holds", 610, 760, BLUE, "the whole interval lies where the paper found the effect"),
        ("undecided", 500, 720, "#777777", "the interval holds 0: so few seeds cannot tell"),
        ("contradicted", 390, 520, RED, "the whole interval lies on the other side"),
    )
    for i, (verdict, low, high, colour, why) in enumerate(cases):
        y = 62 + 42 * i
        parts += [
            text(16, y + 4, verdict, 14, colour, "bold"),
            f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>',
            f'<circle cx="{(low + high) / 2}" cy="{y}" r="6" fill="{colour}"/>',
            text(16, y + 20, why, 11, GREY),
        ]  # fmt: skip
    parts += [
        f'<line x1="{zero}" x2="{zero}" y1="36" y2="172" stroke="{GREY}" stroke-dasharray="4 3"/>',
        text(zero, 28, "no difference", 12, GREY, "", "middle"),
        text(940, 28, "as the paper says", 12, GREY, "", "end"),
        text(16, 198, "Each line is one effect: its mean over seeds and the 95 % interval (Student's t over seeds, not "
             "over test images).", 12, GREY),
    ]  # fmt: skip
    return card(960, 214, *parts)


# pictures: what our own commands draw of generated scenes


def annotations() -> Any:
    """Six scenes with all that is known of them: boxes and key points, masks of objects, depth."""
    import numpy as np
    from PIL import Image, ImageDraw

    from whytransfer.images import open_images

    side, gap, scenes = 144, 8, open_images("scenes:12:3:144")
    colours = np.array([[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]])
    sheet = Image.new("RGB", (6 * (side + gap) - gap, 3 * (side + gap) - gap), "white")
    for i in range(6):
        sample, x = scenes[i], i * (side + gap)
        picture = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
        boxed = Image.fromarray(picture)
        pen = ImageDraw.Draw(boxed)
        for k, box_xyxy in enumerate(sample.boxes.tolist()):
            pen.rectangle(box_xyxy, outline=tuple(colours[k % 6]), width=2)
        for px, py in sample.keypoints.reshape(-1, 2).tolist():
            pen.ellipse((px - 2, py - 2, px + 2, py + 2), fill="white", outline="black")
        masks = (picture * 0.35).astype(np.uint8)
        for k, mask in enumerate(sample.masks.numpy()):
            masks[mask] = (0.5 * picture[mask] + 0.5 * colours[k % 6]).astype(np.uint8)
        depth = sample.depth.numpy()
        near = 255 * (np.nanmax(depth) - depth) / (np.nanmax(depth) - np.nanmin(depth))
        grey = Image.fromarray(np.nan_to_num(near).astype(np.uint8)).convert("RGB")
        for row, shown in enumerate((boxed, Image.fromarray(masks), grey)):
            sheet.paste(shown, (x, row * (side + gap)))
    return sheet


def views() -> Any:
    """Three recipes on the same scenes, one below the other, as `whytransfer show views` draws them."""
    from PIL import Image

    import whytransfer

    with tempfile.TemporaryDirectory() as folder:
        sheets = []
        for recipe in ("default", "spatial", "appearance"):
            path = whytransfer.show_views(
                images="scenes:40:3:128", recipe=recipe, count=3, size=96, out=Path(folder) / f"{recipe}.png"
            )
            sheets.append(Image.open(path).convert("RGB").copy())
    whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
    for i, sheet in enumerate(sheets):
        whole.paste(sheet, (0, sum(s.height for s in sheets[:i])))
    return whole


def masks() -> Any:
    """Regions of three scenes and the pairs that DetCon-B matches, as `whytransfer show masks` draws them."""
    from PIL import Image

    import whytransfer

    with tempfile.TemporaryDirectory() as folder:
        path = whytransfer.show_masks(
            images="scenes:40:3:224", masks="felzenszwalb:500:500", count=2, size=160, out=Path(folder) / "masks.png"
        )
        return Image.open(path).convert("RGB").copy()


# charts of what was measured


def pretraining() -> Any:
    """kNN accuracy of every epoch of nine runs, and that of random features."""
    from whytransfer.figures import altair

    alt, rows, raw = altair(), [], ROOT / "docs" / "results" / "raw"
    for views in ("default", "spatial", "appearance"):
        for seed in range(3):
            name = f"small-{views}-{seed}"
            result = json.loads((raw / f"{name}-card.json").read_text())["result"]
            rows.append({"views": views, "seed": seed, "epoch": 0, "knn": result["random"]["knn"]})
            for line in (raw / f"{name}-metrics.jsonl").read_text().splitlines():
                epoch = json.loads(line)
                rows.append({"views": views, "seed": seed, "epoch": epoch["epoch"], "knn": epoch["knn"]})
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("epoch:Q", title="epoch (0: random features)"),
        y=alt.Y("knn:Q", title="kNN accuracy on 500 held-out pictures, %"),
        color=alt.Color("views:N", title="views", sort=["default", "spatial", "appearance"]),
        detail="seed:N",
    )
    return base.mark_line(point=alt.OverlayMarkDef(size=14)).properties(width=560, height=240)


def tasks() -> Any:
    """Readouts of the first answer: mean over seeds and its interval, on both sets of pictures."""
    page = (ROOT / "docs" / "results" / "first-answer.md").read_text()
    header = next(line for line in page.splitlines() if line.startswith("| pretraining |"))
    sets, rows = [c.strip() for c in header.strip("| \n").split("|")][1:], []
    for line in page[page.index(header) :].split("\n\n")[0].splitlines()[2:]:
        name, *cells = (c.strip(" *") for c in line.strip("| ").split("|"))
        for where, cell in zip(sets, cells, strict=True):
            value, _, half = cell.partition(" ± ")
            ends = {"low": float(value) - float(half), "high": float(value) + float(half)} if half else {}
            rows.append({"name": name.replace("`", ""), "where": where, "value": float(value), **ends})
    return _dots([r for r in rows if "logistic" in r["where"]], "right of 100 test pictures, logistic readout")


def diagnosis() -> Any:
    """What the demo's backbones ignore: space against colour, from the table of the README."""
    from whytransfer.figures import altair

    alt, rows = altair(), []
    for name, *cells in _demo_table():
        numbers = [[float(x) for x in re.findall(r"-?\d+\.\d+", cell)] for cell in cells[-2:]]
        rows.append({"name": name} | {f"{axis}{end}": numbers[k][e] for k, axis in enumerate("xy")
                                      for e, end in enumerate(("", "0", "1"))})  # fmt: skip
    base = alt.Chart(alt.Data(values=rows))
    x = alt.X("x:Q", title="ignores space (similarity under spatial transforms)", scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="ignores colour (under appearance transforms)", scale=alt.Scale(zero=False))
    drawn = (
        base.mark_rule(color="#999").encode(x=alt.X("x0:Q"), x2="x1:Q", y=y)
        + base.mark_rule(color="#999").encode(x=x, y=alt.Y("y0:Q"), y2="y1:Q")
        + base.mark_circle(size=90, opacity=1, color=BLUE).encode(x=x, y=y)
        + base.mark_text(align="left", dx=8, dy=-8, fontSize=12).encode(x=x, y=y, text="name:N")
    )
    return drawn.properties(width=560, height=300)


def _demo_table() -> list[list[str]]:
    """The cells of the table that the demo printed into the README."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def _dots(rows: list[dict[str, Any]], title: str) -> Any:
    """A dot with its interval per row, a panel per set of pictures."""
    from whytransfer.figures import altair

    alt, order = altair(), list(dict.fromkeys(r["name"] for r in rows))
    base = alt.Chart().encode(y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=260)))
    x = alt.X("value:Q", title=title)
    drawn = base.mark_rule(strokeWidth=2, color=GREY).encode(
        x=alt.X("low:Q", title=title), x2="high:Q"
    ) + base.mark_circle(size=80, opacity=1, color=BLUE).encode(x=x)
    return (
        alt.layer(drawn, data=alt.Data(values=rows))
        .properties(width=260, height=190)
        .facet(column=alt.Column("where:N", title=None))
    )


PICTURES: dict[str, Callable[[], Any]] = {
    "flow": flow, "backbones": backbones, "study": study, "claims": claims,
    "images": annotations, "views": views, "masks": masks,
    "pretraining": pretraining, "tasks": tasks, "diagnosis": diagnosis,
}  # fmt: skip


def write(name: str) -> Path:
    """Make one picture beside this file: SVG of diagrams and charts, PNG of pictures."""
    from whytransfer.figures import save

    made = PICTURES[name]()
    if isinstance(made, str):
        (HERE / f"{name}.svg").write_text(made)
        return HERE / f"{name}.svg"
    if hasattr(made, "quantize"):
        made.quantize(128).save(HERE / f"{name}.png", optimize=True)
        return HERE / f"{name}.png"
    return save(made, HERE, name, ("svg",))[0]


if __name__ == "__main__":
    for asked in sys.argv[1:] or PICTURES:
        path = write(asked)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
