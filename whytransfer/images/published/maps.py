"""Label maps: PNG files whose pixel values are classes or objects, read without any change of colour."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from whytransfer.errors import InputError
from whytransfer.images.index import Names
from whytransfer.images.published.annotated import ALL, VOID, Known, read_bytes

NOT_A_CLASS = 254  # in a table: a value that the layout does not have
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def table(classes: Mapping[int, int], void: Collection[int] = ()) -> NDArray[np.uint8]:
    """(256,) what each pixel value of a file stands for: a class, VOID, or NOT_A_CLASS."""
    values = np.full(256, NOT_A_CLASS, dtype=np.uint8)
    values[list(void)] = VOID
    values[list(classes)] = list(classes.values())
    return values


def read_indices(path: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a grey or palette PNG: palette positions as they are, grey of 8 or 16 bits.

    Raises InputError for colours, and for a file that is no whole PNG.
    """
    image = _opened(path)
    if image.mode not in ("L", "P", "I;16", "I"):
        raise InputError(
            f"{path} has colours (mode {image.mode}), and values are needed: one grey or palette number per pixel. "
            "Take the original file; a colour picture of a label map is for eyes."
        )
    values = np.array(image)
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def read_deep_red(path: str) -> NDArray[np.uint16]:
    """The first channel (H, W) of a 16-bit colour PNG in full; PIL alone keeps only the high byte of 16-bit colours."""
    high, low = _opened(path, deep=True), _opened(path, deep=True, low=True)
    return np.array(high)[..., 0].astype(np.uint16) << 8 | np.array(low)[..., 0]


def _opened(path: str, deep: bool = False, low: bool = False) -> Image.Image:
    """A loaded PNG; `deep` demands 16-bit colours, of which PIL keeps the high bytes, or the low ones.

    PNG stores the high byte first (";16B"); unpacked as if it came last (";16L"), the low byte is the one kept.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path)), formats=("PNG",)) as image:
            stored = [str(tile.args) for tile in image.tile]
            if deep and stored not in (["RGB;16B"], ["RGBA;16B"]):
                raise InputError(f"{path} is no 16-bit colour PNG (mode {image.mode}): take the original file.")
            if low:
                image.tile = [tile._replace(args=stored[0].replace("16B", "16L")) for tile in image.tile]
            image.load()
            return image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is no PNG: copy or unpack it again.") from None
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged or cut short ({error}): copy or unpack it again.") from None


def classes_of(values: NDArray[Any], table: NDArray[np.uint8], path: str) -> NDArray[np.uint8]:
    """The label map (H, W) of file values; raises InputError for a value that the layout does not have."""
    known = table[np.minimum(values, 255)]
    strange = (known == NOT_A_CLASS) | (values > 255)
    if strange.any():
        found = ", ".join(str(value) for value in np.unique(values[strange])[:5].tolist())
        raise InputError(f"{path} has pixels of value {found}, which are no class of this data set.")
    return known


class LabelMaps:
    """Annotations of a set whose every image has one label map, at a path that follows from the image's name."""

    labelled_with = ("semantic",)
    box_classes: tuple[str, ...] = ()
    nbytes = 0  # beside the names, which the set holds

    def __init__(
        self,
        folder: Path,
        names: Names,
        of: Callable[[str], str],
        values: NDArray[np.uint8],
        classes: Sequence[str],
        read: Callable[[str], NDArray[Any]] = read_indices,
    ) -> None:
        self._folder, self._names, self._of, self._values, self._read = folder, names, of, values, read
        self.semantic_classes = tuple(classes)

    def read(self, i: int, want: Collection[str] = ALL) -> Known:
        """The label map of image i, whether asked for or not: its size is known only from it."""
        path = os.path.join(self._folder, self._of(self._names[i]))
        semantic = classes_of(self._read(path), self._values, path)
        return Known(semantic.shape, semantic=semantic if "semantic" in want else None)

    def files(self) -> Iterator[tuple[str, str]]:
        """Every label map."""
        for name in self._names:
            below = self._of(name)
            yield f"{self._folder.name}/{below}", os.path.join(self._folder, below)
