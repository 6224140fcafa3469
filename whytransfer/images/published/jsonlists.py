"""A large JSON object of lists, read element by element: where each lies in the file is enough to read it again later.

instances_train2017.json has 448 MB; as Python objects it would take several gigabytes, as places 12 bytes per object.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from whytransfer.errors import InputError
from whytransfer.parsing import json_of

_FIRST_WINDOW = 4096  # bytes tried at first for an element; eight times as many when it is longer
_BLANK = re.compile(rb"[ \t\r\n]*")
_raw_decode = json.JSONDecoder().raw_decode


class Element(NamedTuple):
    """One element of a list (or the whole value, where a key has no list), and its bytes in the file."""

    key: str
    begin: int
    end: int
    value: Any


def elements(path: Path) -> Iterator[Element]:
    """Every element of the lists of a JSON object, in the file's order; memory does not grow with the file.

    Raises InputError naming the file and the byte where it stops being JSON.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise InputError(f"{path} is empty: copy or unpack it again.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield from _Walk(path, content).elements()


class _Walk:
    """A place in the file, moving forward."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path, self.content, self.at = path, content, 0

    def elements(self) -> Iterator[Element]:
        for _ in self.items(b"{", b"}"):
            key = self.value()[2]
            if not isinstance(key, str):
                raise self.broken("a name")
            self.expect(b":")
            if self.next() != b"[":
                yield Element(key, *self.value())
                continue
            for _ in self.items(b"[", b"]"):
                yield Element(key, *self.value())

    def items(self, opening: bytes, closing: bytes) -> Iterator[None]:
        """Stop at every item of an object or list; what follows an item is passed when the next one is asked for."""
        self.expect(opening)
        if self.next() != closing:
            yield
            while self.next() == b",":
                self.expect(b",")
                yield
        self.expect(closing)

    def next(self) -> bytes:
        """The next byte that is no blank; not passed."""
        blank = _BLANK.match(self.content, self.at)
        self.at = blank.end() if blank else self.at
        return self.content[self.at : self.at + 1]

    def expect(self, byte: bytes) -> None:
        if self.next() != byte:
            raise self.broken(repr(byte.decode()))
        self.at += 1

    def value(self) -> tuple[int, int, Any]:
        """(begin, end, value) of the value here. Bytes are read as Latin-1, so that a character is a byte."""
        self.next()
        begin, size = self.at, _FIRST_WINDOW
        while True:
            window = self.content[begin : begin + size]
            whole = begin + len(window) == len(self.content)
            try:
                value, length = _raw_decode(window.decode("latin-1"))
            except (json.JSONDecodeError, RecursionError):
                if whole:
                    raise self.broken("a value") from None
            else:
                if whole or length < len(window):  # a number could go on behind the window
                    self.at = begin + length
                    return begin, self.at, value if window[:length].isascii() else self._text(begin)
            size *= 8

    def _text(self, begin: int) -> Any:
        """The value again, with its characters read as what they are."""
        try:
            return json_of(self.content[begin : self.at])
        except ValueError:
            raise self.broken("UTF-8") from None

    def broken(self, expected: str) -> InputError:
        found = self.content[self.at : self.at + 20]
        return InputError(
            f"{self.path} is no whole JSON file of lists: expected {expected} at byte {self.at:,} of "
            f"{len(self.content):,}, found {found!r}. Copy or unpack it again."
        )
