"""Causal3DIdent [von Kuegelgen 2021]: seven rendered objects, and the ten numbers that each image was rendered from."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.content import Stamp, digest, stamp_of
from whytransfer.images.folder import Files, scan
from whytransfer.images.index import Index, Names
from whytransfer.images.published.annotated import read_bytes
from whytransfer.images.published.layout import Layout, root_and_parts
from whytransfer.records import Sample

FACTORS = (
    "object_x", "object_y", "object_z", "rotation_1", "rotation_2", "rotation_3", "light_angle", "object_hue",
    "light_hue", "background_hue",
)  # columns of the latents; the names are those of the generated scenes  # fmt: skip
LAYOUT = Layout(
    "causal3dident",
    "ROOT/trainset/<class>/*.png and ROOT/trainset/latents_0.npy, latents_1.npy, ... in the order of the sorted class "
    "folders, or ROOT/trainset/images_0/*.png and ROOT/trainset/raw_latents_0.npy as first published; likewise testset",
    ("train", "test"),
)


class Causal3DIdent(Files):
    """Image files by class, and `factor_table()`: row i belongs to image i."""

    def __init__(self, root: Path, index: Index, name: str, table: NDArray[np.float64], sources: list[Path]) -> None:
        super().__init__(root, index, name, ("class",))
        self.factor_names = FACTORS
        self._table, self._sources = table, sources

    def __getitem__(self, i: int) -> Sample:
        plain = super().__getitem__(i)
        factors = dict(zip(FACTORS, self._table[i].tolist(), strict=True))
        return Sample(plain.image, plain.name, plain.label, factors=factors)

    def factor_table(self) -> NDArray[np.float64]:
        """(N, 10) latent factors in the order of `factor_names`, in the units of the files."""
        return self._table

    def annotations_digest(self) -> bytes:
        """What the files of latents contain."""
        return digest(b"".join(digest(path.name.encode() + read_bytes(str(path))) for path in self._sources))

    def stamp(self) -> Stamp:
        """The state of images and latents by their size and time of change."""
        return stamp_of(os.path.realpath(self.root), itertools.chain(self._stats(), self._source_stats()))

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.index.nbytes + self._table.nbytes

    def _source_stats(self) -> Iterator[tuple[str, int, int]]:
        for path in self._sources:
            stat = path.stat()
            yield path.name, stat.st_size, stat.st_mtime_ns


def causal3dident(rest: str) -> Causal3DIdent:
    """The set named "causal3dident:ROOT[:train|test]"; classes are its folders, sorted, as torchvision's ImageFolder.

    Raises InputError where a class has no latents, or another number of rows than images.
    """
    root, parts = root_and_parts("causal3dident", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    root = root / "Causal3DIdent" if (root / "Causal3DIdent").is_dir() else root
    folder = LAYOUT.find(root, [f"{split}set", split])
    found = {name: files for name, files in scan(folder, Counter()).items() if name and files}
    if not found:
        raise LAYOUT.refusal(folder, "any class folder with images")
    names, labels, tables, sources = [], [], [], []
    for label, (name, files) in enumerate(sorted(found.items())):
        source = LAYOUT.find(folder, [f"latents_{label}.npy", f"raw_latents_{label}.npy"])
        tables.append(_latents(source, name, len(files)))
        sources.append(source)
        names += [f"{name}/{file}" for file in sorted(files, key=_order)]
        labels += [label] * len(files)
    index = Index(Names(names), np.array(labels, dtype=np.int64), tuple(sorted(found)))
    return Causal3DIdent(folder, index, f"causal3dident/{split}", np.concatenate(tables), sources)


def _order(name: str) -> tuple[int, str]:
    """By number, where the name is one: the same as sorted for numbers of equal length."""
    stem = name.rpartition(".")[0]
    return (int(stem) if stem.isdecimal() else 0), name


def _latents(path: Path, name: str, images: int) -> NDArray[np.float64]:
    """(images, 10) of one class."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"causal3dident: {path} cannot be read as an array: {error}") from None
    if table.shape != (images, len(FACTORS)):
        found = " x ".join(map(str, table.shape))
        raise InputError(
            f"causal3dident: {path} is {found}, and the folder {name} has {images} images: a row of {len(FACTORS)} "
            "latents is needed for each. Unpack images and latents of the same split again."
        )
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        raise InputError(f"causal3dident: {path} holds a number that is not finite: copy it again.")
    return table
