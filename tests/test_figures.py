"""Figures are files that programs can open, and their tables hold what was drawn."""

import csv
import sys

import pytest
from PIL import Image

from whytransfer import figures
from whytransfer.errors import InputError


def test_a_chart_becomes_svg_pdf_and_png_in_the_palette(tmp_path):
    alt = figures.altair()
    rows = [{"x": x, "y": x * x, "model": m} for x in range(3) for m in ("a", "b")]
    chart = alt.Chart(alt.Data(values=rows)).mark_line().encode(x="x:Q", y="y:Q", color="model:N")
    svg, pdf, png = figures.save(chart, tmp_path, "squares")
    assert svg.read_text().startswith("<svg") and figures.PALETTE[1] in svg.read_text()
    assert pdf.read_bytes().startswith(b"%PDF")
    with Image.open(png) as image:
        assert image.width > 200 and len(image.convert("RGB").getcolors(10**6)) > 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["squares.pdf", "squares.png", "squares.svg"]


def test_a_table_keeps_every_digit_and_every_column(tmp_path):
    rows = [{"model": 'a, "b"', "value": 1 / 3}, {"model": "c\nd", "low": -1e-300}]
    path = figures.save_table(rows, tmp_path, "t")
    with open(path, newline="") as file:
        back = list(csv.DictReader(file))
    assert [row["model"] for row in back] == ['a, "b"', "c\nd"]
    assert float(back[0]["value"]) == 1 / 3 and float(back[1]["low"]) == -1e-300 and back[0]["low"] == ""


def test_without_the_drawing_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InputError, match=r"figures need altair.*pip install altair vl-convert-python"):
        figures.altair()
