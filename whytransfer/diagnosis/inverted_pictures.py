"""What an inversion leaves for those who show it: the pictures, what each model made of them, and words for below.

Shape letters: N pictures, M models, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from whytransfer.diagnosis.gallery import bytes_of, captions
from whytransfer.diagnosis.inversion import Inversions
from whytransfer.errors import InputError
from whytransfer.files import atomic_write
from whytransfer.records import Result

FILE = "inversion.npz"


@dataclass(frozen=True)
class Inverted:
    """Finished inversions as bytes."""

    models: tuple[str, ...]
    names: tuple[str, ...]  # of the N pictures
    truth: NDArray[np.uint8]  # (N, S, S, 3)
    made: NDArray[np.uint8]  # (M, N, S, S, 3)
    captions: tuple[tuple[str, ...], ...]  # (M, N)

    def __post_init__(self) -> None:
        m, n = len(self.models), len(self.names)
        shapes = self.truth.shape, self.made.shape
        if self.made.shape != (m, *self.truth.shape) or len(self.truth) != n or {len(c) for c in self.captions} - {n}:
            raise ValueError(f"{m} models and {n} pictures do not go with {shapes} and their captions")


def keep(all_: Inversions, results: Sequence[Result], folder: Path) -> Path:
    """Write folder/inversion.npz; returns its path."""
    content = {
        "models": np.array(all_.models), "names": np.array(all_.names),
        "truth": np.stack([bytes_of(pixels) for pixels in all_.truth]),
        "made": np.stack([[bytes_of(pixels) for pixels in row] for row in all_.made]),
        "captions": np.array(captions(results, all_)),
    }  # fmt: skip
    path = folder / FILE
    atomic_write(path, lambda file: np.savez_compressed(file, allow_pickle=False, **content))
    return path


def read(path: Path) -> Inverted:
    """The pictures of a file that `keep` wrote; InputError for a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in ("models", "names", "truth", "made", "captions")}
        rows = tuple(tuple(map(str, row)) for row in kept["captions"])
        models, names = (tuple(map(str, kept[name])) for name in ("models", "names"))
        return Inverted(models, names, kept["truth"], kept["made"], rows)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as pictures of an inversion ({error}): it is damaged. Run its cell again."
        ) from None
