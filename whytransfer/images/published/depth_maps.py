"""Depth maps in PNG files: whole numbers that become metres, and values that say that there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.index import Names
from whytransfer.images.published.annotated import ALL, Known
from whytransfer.images.published.maps import read_indices

Values = NDArray[np.uint8] | NDArray[np.uint16]


def metres(values: Values, per_metre: float, invalid: Collection[int]) -> NDArray[np.float32]:
    """(H, W) float32: values / per_metre, NaN where the value is one of `invalid`."""
    depth = values.astype(np.float32) / np.float32(per_metre)
    depth[np.isin(values, list(invalid))] = np.nan
    return depth


class DepthMaps:
    """Annotations of a set whose every image has one depth map; `files_of` pairs them, in the order of the images.

    `files_of` are paths below `folder`, `decode` makes metres (H, W) of the values of a file. Raises InputError naming
    the file for colours and for 8-bit values, which are pictures of depth for eyes (the distance is lost).
    """

    labelled_with = ("depth",)
    box_classes: tuple[str, ...] = ()
    semantic_classes: tuple[str, ...] = ()

    def __init__(self, folder: Path, files_of: Names, decode: Callable[[Values], NDArray[np.float32]]) -> None:
        self._folder, self._files_of, self._decode = folder, files_of, decode

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._files_of.nbytes

    def read(self, i: int, want: Collection[str] = ALL) -> Known:
        """The depth map of image i, whether asked for or not: its size is known only from it."""
        path = os.path.join(self._folder, self._files_of[i])
        values: Any = read_indices(path)
        if values.dtype == np.uint8:
            raise InputError(
                f"{path} has 8 bits per pixel: a depth map has 16, in units such as millimetres. Take the original "
                "file; a picture of depth for eyes does not tell distances."
            )
        return Known(values.shape, depth=self._decode(values) if "depth" in want else None)

    def files(self) -> Iterator[tuple[str, str]]:
        """Every depth map."""
        for below in self._files_of:
            yield below, os.path.join(self._folder, below)
