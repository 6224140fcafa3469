"""Images of one set that are in another too, found by their pixels: a test image that was trained on tests little."""

from __future__ import annotations

from typing import Any

from whytransfer.images.content import digest

_HEAD = 768  # bytes that tell most pictures apart


def comparable(one: Any, other: Any) -> bool:
    """Whether in_both compares them: both are PixelCaches that hold every picture."""
    return not any(getattr(images, "decodes", True) for images in (one, other))


def in_both(one: Any, other: Any) -> int:
    """How many images of `other` have the pixels of an image of `one`; both are PixelCaches made at one size.

    Of most pictures only the beginning is read. Sets of which not every picture is in the cache are not compared: all
    would have to be decoded. Returns 0 where they are not `comparable`.
    """
    if not comparable(one, other):
        return 0
    heads: dict[bytes, list[int]] = {}
    for i in range(len(one)):
        heads.setdefault(_head(one.pixels(i)), []).append(i)
    return sum(
        any(_same(one.pixels(i), other.pixels(j)) for i in heads.get(_head(other.pixels(j)), ()))
        for j in range(len(other))
    )


def copies(images: Any) -> dict[int, int]:
    """{row: the first row with the same pixels} of the pictures of a PixelCache that repeat an earlier one.

    Of most pictures only the beginning is read; those that are not in the cache are decoded for it.
    """
    heads: dict[bytes, list[int]] = {}
    found = {}
    for i in range(len(images)):
        pixels = images.pixels(i)
        alike = heads.setdefault(_head(pixels), [])
        first = next((j for j in alike if _same(images.pixels(j), pixels)), None)
        if first is None:
            alike.append(i)
        else:
            found[i] = first
    return found


def _head(pixels: Any) -> bytes:
    """Of the size and the first bytes."""
    return digest(repr(pixels.shape).encode() + pixels.reshape(-1)[:_HEAD].tobytes())


def _same(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool((one == other).all())
