"""Encoded bytes -> pixels: the one place where a file becomes (H, W, 3) uint8 RGB.

What is not already 8-bit RGB is turned into it by fixed rules:
16-bit grey is scaled by 255 / 65535 (PIL's convert would clip it); 16-bit colour keeps its high bytes (PIL);
transparent pixels are laid over white (the colour hidden under them means nothing), also where a PNG names one value as
transparent, of 16-bit colours their high bytes; CMYK by PIL's plain formula;
EXIF orientation is applied, so pictures stand as a viewer shows them; colour profiles are ignored.
Greyscale and palette images become RGB. Of an animation the first frame is taken.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from whytransfer.errors import InputError

VERSION = 2  # of the rules above and below: a change makes old caches unused
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # by content, whatever the suffix says (a phone's MPO is a JPEG to PIL)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, struct.error, zlib.error)


class Unreadable(InputError):
    """One image that cannot be read; `name` and `reason` say which and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read image {name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str, str]]:
        """Made again from its two words, so that another process (or Ray) can raise it here."""
        return type(self), (self.name, self.reason)


def decode(encoded: bytes, name: str, max_side_px: int | None = None) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of an encoded image, read-only; its shorter side shrunk to max_side_px if it is longer.

    Shrinking is PIL's antialiased bilinear resize; large JPEGs are first reduced by a power of two while decoding,
    to no less than twice the final size, which is several times as fast. Nothing is ever enlarged.
    Raises Unreadable for anything that is not a whole image.
    """
    if not encoded:
        raise Unreadable(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            size = shrunk_size(image.size, max_side_px)
            if size != image.size:
                image.draft(None, (2 * size[0], 2 * size[1]))  # type: ignore[arg-type]  # None: keep the mode
            orientation = _orientation(image)
            upright = _rgb(image, name)
    except UnidentifiedImageError:
        raise Unreadable(name, f"not a JPEG, PNG, WebP or BMP image (it begins with {encoded[:8]!r})") from None
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(name, f"damaged or cut short ({error})") from None
    return np.asarray(_turned(shrink(upright, size), orientation))


def shrunk_size(size: tuple[int, int], max_side_px: int | None) -> tuple[int, int]:
    """(W, H) after the shorter side is bounded by max_side_px, with the longer one in proportion, at least 1."""
    short = min(size)
    if max_side_px is None or short <= max_side_px:
        return size
    return max(1, round(size[0] * max_side_px / short)), max(1, round(size[1] * max_side_px / short))


def shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at (W, H) `size`, antialiased; itself when it already has it."""
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _rgb(image: ImageFile.ImageFile, name: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        deep[deep == image.info.get("transparency", -1)] = 65535  # white
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unreadable(name, "floating-point pixels have no fixed white; save it with 8 or 16 bits")
    if image.has_transparency_data:
        _key_as_in_pixels(image)
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def _key_as_in_pixels(image: ImageFile.ImageFile) -> None:
    """PIL leaves the transparent value of a PNG (tRNS) in the bits of the file, while its pixels get 8."""
    stored = image.tile[0].args if image.tile else ""
    if stored in ("L;2", "L;4"):
        image.info["transparency"] *= 85 if stored == "L;2" else 17
    elif stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 (upright) where there is none or it cannot be read: a broken tag breaks no picture."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def upright_size(encoded: bytes, name: str) -> tuple[int, int]:
    """(H, W) that `decode` would give, from the header alone; raises Unreadable for what is no image."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            return (width, height) if _orientation(image) >= 5 else (height, width)  # 5 to 8 lie on their side
    except (*_DAMAGE, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Unreadable(name, f"no header of an image ({error})") from None
