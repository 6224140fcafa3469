"""Figures are files that programs can open, and their tables hold what was drawn."""

import csv
import itertools
import sys

import numpy as np
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
    path, parquet = figures.save_table(rows, tmp_path, "t")
    assert (path.name, parquet.name) == ("t.csv", "t.parquet")
    with open(path, newline="") as file:
        back = list(csv.DictReader(file))
    assert [row["model"] for row in back] == ['a, "b"', "c\nd"]
    assert float(back[0]["value"]) == 1 / 3 and float(back[1]["low"]) == -1e-300 and back[0]["low"] == ""


def test_parquet_has_the_types_of_the_values(tmp_path):
    import duckdb

    rows = [
        {"name": "1", "value": 1 / 3, "n": 2**40, "right": True, "mixed": 1, "each": [1, 2], "none": None},
        {"name": None, "value": float("nan"), "right": None, "mixed": 0.5, "n": np.int64(-7)},
    ]
    folder = tmp_path / "it's"
    folder.mkdir()
    _, path = figures.save_table(rows, folder, "t")
    quoted = str(path).replace("'", "''")
    back = duckdb.sql(f"SELECT * FROM '{quoted}'")
    types = dict(zip(back.columns, map(str, back.types), strict=True))
    assert {k: types[k] for k in ("name", "value", "n", "right", "mixed", "each")} == {
        "name": "VARCHAR", "value": "DOUBLE", "n": "BIGINT", "right": "BOOLEAN", "mixed": "DOUBLE", "each": "VARCHAR",
    }  # fmt: skip
    assert back.fetchall() == [("1", 1 / 3, 2**40, True, 1.0, "[1, 2]", None), (None, None, -7, None, 0.5, None, None)]
    assert [p.name for p in figures.save_table([], tmp_path, "empty")] == ["empty.csv"]


def test_fifty_six_names_differ_in_colour_or_shape_and_neighbours_in_both():
    names = [f"n{k}" for k in range(56)]
    scales = {channel: scale.to_dict() for channel, scale in figures.styles(names).items()}
    assert all(scale["domain"] == names for scale in scales.values())
    looks = list(zip(scales["color"]["range"], scales["shape"]["range"], strict=True))
    assert len(set(looks)) == 56 and all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(looks))
    lines = list(zip(scales["color"]["range"], map(str, scales["strokeDash"]["range"]), strict=True))
    assert len(set(lines[:28])) == 28 and {dash for _, dash in lines[:7]} == {"[1, 0]"}


def test_without_the_drawing_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InputError, match=r"figures need altair.*pip install altair vl-convert-python"):
        figures.altair()
