"""A local Hugging Face dataset as an ImageSet: saved with save_to_disk, or a folder that load_dataset can read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.content import Stamp, fingerprint_of, stamp_of
from whytransfer.images.decode import Unreadable, decode
from whytransfer.images.folder import sample
from whytransfer.images.index import missing_path, short_name
from whytransfer.records import Sample

if TYPE_CHECKING:
    import datasets

_IMAGE_NAMES, _LABEL_NAMES = ("image", "img"), ("label", "labels", "fine_label")  # preferred among several columns


class RowNames(Sequence[str]):
    """Rows have no names but their numbers, and numbers need no memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[str]: ...
    def __getitem__(self, i: int | slice) -> str | Sequence[str]:
        rows = range(self._count)[i]
        return f"row {rows}" if isinstance(rows, int) else [f"row {row}" for row in rows]


class HuggingFace:
    """The image and label columns of a datasets.Dataset; rows are read from its Arrow files as they are needed.

    The image column is the one of type Image, the label column the one of type ClassLabel (or a "label" of whole
    numbers or texts). Raises InputError when there is none or when several could be meant; then give their names.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, rows: datasets.Dataset, name: str, image: str | None = None, label: str | None = None) -> None:
        import datasets as hf

        self.name = name
        pictures = [column for column, kind in rows.features.items() if isinstance(kind, hf.Image)]
        self._image = image or _only(rows, pictures, _IMAGE_NAMES)
        label = label or _label_column(rows)
        self._rows = rows.select_columns([self._image]).cast_column(self._image, hf.Image(decode=False))
        self._files = [str(file["filename"]) for file in rows.cache_files]
        self.labels, self.classes = _labels(rows, label)
        self.names = RowNames(len(rows))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Sample:
        return sample(decode(self.encoded(i), self.names[i]), self.names[i], int(self.labels[i]))

    def encoded(self, i: int) -> bytes:
        """The encoded image of row i, from the table or from the file that it names."""
        cell: dict[str, Any] | None = self._rows[i][self._image]
        if cell is None:
            raise Unreadable(f"{self.name} row {i}", "the cell is empty")
        if cell["bytes"] is not None:
            return cell["bytes"]
        try:
            return Path(cell["path"]).read_bytes()
        except OSError as error:
            raise Unreadable(cell["path"], error.strerror or str(error)) from None

    def stamp(self) -> Stamp:
        """The state of the Arrow files, and the datasets library's own fingerprint of what was done to them."""
        stats = [(file, os.stat(file)) for file in self._files]
        place = f"{self._rows._fingerprint} {len(self)}"
        return stamp_of(place, ((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats))

    def fingerprint(self) -> str:
        """What the rows contain, wherever they lie."""
        return fingerprint_of(self)

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.labels.nbytes


def open_hf(rest: str) -> HuggingFace:
    """The set named "hf:PATH[:SPLIT]", rest being "PATH[:SPLIT]"; the split may be left out where there is only one."""
    try:
        import datasets as hf
    except ImportError:
        raise InputError("hf: needs the library datasets: pip install 'whytransfer[hf]'") from None
    before, colon, after = rest.rpartition(":")
    split = after if colon and "/" not in after else None
    path = Path(before if split else rest).expanduser()
    if not path.exists():
        raise missing_path(path)
    saved = (path / "state.json").exists() or (path / "dataset_dict.json").exists()
    try:
        loaded = hf.load_from_disk(str(path)) if saved else hf.load_dataset(str(path))
    except (OSError, ValueError, hf.exceptions.DatasetsError) as error:
        raise InputError(f"hf: {path} holds no dataset that the library datasets can read: {error}") from None
    if isinstance(loaded, dict):
        if split is None and len(loaded) > 1:
            first = next(iter(loaded))
            raise InputError(f"hf: {path} holds the splits {', '.join(loaded)}: choose one, such as hf:{path}:{first}")
        split = split or next(iter(loaded))
        if split not in loaded:
            raise unknown_name(f"split of {path}", split, loaded)
        loaded = loaded[split]
    elif split is not None:
        raise InputError(f"hf: {path} has no splits, so {split!r} cannot be chosen: leave it out.")
    return HuggingFace(loaded, short_name(path.absolute() / (split or "")))


def _label_column(rows: datasets.Dataset) -> str | None:
    import datasets as hf

    marked = [column for column, kind in rows.features.items() if isinstance(kind, hf.ClassLabel)]
    if marked:
        return _only(rows, marked, _LABEL_NAMES)
    types = {c: rows.features[c].dtype for c in _LABEL_NAMES if isinstance(rows.features.get(c), hf.Value)}
    plain = [c for c, dtype in types.items() if "int" in dtype or "string" in dtype]
    return plain[0] if plain else None


def _only(rows: datasets.Dataset, columns: list[str], preferred: Sequence[str]) -> str:
    if len(columns) == 1:
        return columns[0]
    for column in preferred:
        if column in columns:
            return column
    found = ", ".join(f"{column} ({type(kind).__name__})" for column, kind in rows.features.items())
    several = f"{len(columns)} columns could be meant ({', '.join(columns)}): name one"
    what = several if columns else "no column holds images"
    raise InputError(f"hf: {what}. Columns: {found}.")


def _labels(rows: datasets.Dataset, column: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (N,) int64, -1 for an empty cell, and the class names; integers without names are their own names.

    Texts are the names themselves, in the order of their letters; of an empty text there is no label.
    """
    import datasets as hf

    if column is None:
        return np.full(len(rows), -1, dtype=np.int64), ()
    values = rows.select_columns([column]).with_format(None)[:][column]
    kind = rows.features[column]
    if isinstance(kind, hf.Value) and "string" in kind.dtype:
        names = tuple(sorted({value for value in values if value}))
        place = {name: label for label, name in enumerate(names)}
        return np.array([place.get(value, -1) for value in values], dtype=np.int64), names
    labels = np.array([-1 if value is None else value for value in values], dtype=np.int64)
    if isinstance(kind, hf.ClassLabel):
        return labels, tuple(kind.names)
    known = np.unique(labels[labels >= 0])
    return np.where(labels >= 0, np.searchsorted(known, labels), -1), tuple(str(value) for value in known.tolist())
