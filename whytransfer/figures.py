"""How every figure looks and is kept: one palette that colour-blind people can tell apart, SVG, PDF and PNG, its table.

A figure is an Altair chart; what it shows lies beside it as CSV and Parquet: nobody has to read values off a picture.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from whytransfer.errors import InputError
from whytransfer.files import atomic_write

# Okabe & Ito 2008, "Color universal design"; black last, yellow left out (too pale for lines on white)
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# eight, where the palette has seven: 56 names differ in colour or shape, and neighbours in both
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ((1, 0), (6, 3), (1, 3), (8, 3, 1, 3))  # of a palette's worth of lines each
FORMATS = ("svg", "pdf", "png")
PNG_SCALE = 2.0


def altair() -> Any:
    """The drawing library; InputError that says what to install where it is not installed."""
    try:
        import altair
        import vl_convert  # noqa: F401  (what draws SVG, PDF and PNG without a browser)
    except ImportError as error:
        raise InputError(
            f"figures need {error.name}, which is not installed: pip install altair vl-convert-python"
        ) from None
    return altair


def styles(names: Sequence[str], palette: Sequence[str] = PALETTE) -> dict[str, Any]:
    """Scales by channel ("color", "shape", "strokeDash") that give each name a look of its own, whatever is drawn.

    Give the channels of a chart the same field, title and order, and their legends become one.
    """
    alt, order = altair(), list(names)
    ranges: dict[str, list[Any]] = {
        "color": [palette[i % len(palette)] for i in range(len(order))],
        "shape": [SHAPES[i % len(SHAPES)] for i in range(len(order))],
        "strokeDash": [list(DASHES[i // len(palette) % len(DASHES)]) for i in range(len(order))],
    }
    return {channel: alt.Scale(domain=order, range=values) for channel, values in ranges.items()}


def save(chart: Any, folder: Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a chart as folder/name.svg, .pdf and .png in the house style; returns the paths."""
    alt = altair()
    styled = (
        chart.configure(font="Helvetica, Arial, sans-serif", background="white")
        .configure_range(category=list(PALETTE))
        .configure_axis(labelFontSize=11, titleFontSize=12, gridColor="#e5e5e5")
        .configure_legend(labelFontSize=11, titleFontSize=12)
        .configure_view(stroke=None)
    )
    paths = []
    with alt.data_transformers.enable("default", max_rows=None):
        for kind in formats:
            content: io.StringIO | io.BytesIO = io.StringIO() if kind == "svg" else io.BytesIO()
            styled.save(content, format=kind, scale_factor=PNG_SCALE if kind == "png" else 1)
            drawn = content.getvalue()
            paths.append(_written(folder / f"{name}.{kind}", drawn.encode() if isinstance(drawn, str) else drawn))
    return paths


def _written(path: Path, data: bytes) -> Path:
    atomic_write(path, lambda file: file.write(data))
    return path


def save_table(rows: Sequence[Mapping[str, Any]], folder: Path, name: str) -> list[Path]:
    """Write rows as folder/name.csv and .parquet, columns in the order in which they first occur; returns the paths.

    Floats keep all their digits; what a row does not have is empty, null in Parquet, where NaN is null too.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    paths = [_written(folder / f"{name}.csv", text.getvalue().encode())]
    if columns:  # Parquet has no table without a column
        paths.append(_written(folder / f"{name}.parquet", _parquet({c: [row.get(c) for row in rows] for c in columns})))
    return paths


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """The file's content; a column of numbers is of numbers, one of truths of truths, any other of text."""
    import duckdb

    table = {name: _column(values) for name, values in columns.items()}
    with tempfile.TemporaryDirectory() as aside, duckdb.connect() as connection:
        connection.register("rows", table)
        path = Path(aside) / "rows.parquet"
        connection.execute(f"COPY rows TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd)")
        return path.read_bytes()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _column(values: Sequence[Any]) -> np.ndarray:
    """Values as an array of their common type, masked where there is none; text where they are not all numbers."""
    there = [value for value in values if value is not None]
    for kind, type_ in ((bool | np.bool_, bool), (Integral, np.int64), (Real, np.float64)):  # of nothing: bool
        if all(isinstance(value, kind) for value in there):
            filled = [type_() if value is None else value for value in values]
            return np.ma.masked_array(filled, [value is None for value in values], type_)
    text = np.empty(len(values), dtype=object)
    text[:] = [None if value is None else str(value) for value in values]
    return text
