"""How every figure looks and is kept: one palette that colour-blind people can tell apart, SVG, PDF and PNG, its table.

A figure is an Altair chart; what it shows lies beside it as CSV, so that nobody has to read values off a picture.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.files import atomic_write

# Okabe & Ito 2008, "Color universal design"; black last, yellow left out (too pale for lines on white)
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
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


def save_table(rows: Sequence[Mapping[str, Any]], folder: Path, name: str) -> Path:
    """Write rows as folder/name.csv, columns in the order in which they first occur; floats with all their digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return _written(folder / f"{name}.csv", text.getvalue().encode())
