"""The members of a tar file: where each one lies, read from the headers alone. Nothing is unpacked, nothing is trusted.

Formats: v7, ustar, GNU (long names, sizes in base 256) and pax [POSIX.1-2008, pax, "ustar Interchange Format"].
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from whytransfer.errors import InputError
from whytransfer.images.shards.sources import Source

BLOCK = 512
_ZEROS = bytes(BLOCK)
_LONGEST_NAME, _LONGEST_RECORDS, _LONGEST_TAIL = 1 << 16, 1 << 20, 1 << 20  # bytes; what is beyond is no shard's
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its content is `size` bytes from byte `begin` on, its header the 512 bytes before."""

    name: str
    begin: int
    size: int
    crc: int  # CRC-32 of the header: a shard that was written anew has another one here


class Tar:
    """A tar file that is read from its beginning, in blocks as large as its source likes.

    Iterating raises InputError, naming the member and its byte, for what is cut short, damaged or compressed, for links
    and devices, and for names that point outside.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._begin, self._block = 0, b""

    def at(self, begin: int, length: int) -> bytes:
        """Some of the file, fewer than asked for at its end."""
        at = begin - self._begin
        if at < 0 or at + length > len(self._block):
            self._begin, at = begin, 0
            self._block = self.source.read(begin, max(length, self.source.block))
        return self._block[at : at + length]

    def __iter__(self) -> Iterator[Member]:
        offset, name, size = 0, b"", None  # name and size: as told by headers before that of the file
        self._refuse_compressed()
        while (header := self._header(offset)) != _ZEROS:
            kind, content = header[156:157], offset + BLOCK
            length = self._number(header[124:136], offset) if kind != _FOLDER else 0
            if kind in (b"L", b"x", b"g"):
                records = self._records(content, length, offset)
                if kind == b"L":
                    name = records.split(b"\0", 1)[0]
                else:
                    name, size = self._told(records, offset, name, size, everywhere=kind == b"g")
            else:
                full = os.fsdecode((name or _name(header)).removeprefix(b"./"))
                length = length if size is None else size
                if kind != _FOLDER and not (kind == b"\0" and full.endswith("/")):
                    self._check(full, kind, content, length, offset)
                    yield Member(full, content, length, zlib.crc32(header))
                name, size = b"", None
            offset = content + -(-length // BLOCK) * BLOCK
        self._check_tail(offset)

    def _header(self, offset: int) -> bytes:
        header = self.at(offset, BLOCK)
        if len(header) < BLOCK:
            raise self._wrong(offset, "the file is cut short here (no end mark): copy or download it again")
        if header != _ZEROS and sum(header) - sum(header[148:156]) + 8 * 32 != self._number(header[148:156], offset):
            raise self._wrong(offset, "there is no tar header here: the file is damaged, or no tar")
        return header

    def _number(self, field: bytes, offset: int) -> int:
        """Octal digits, or a binary number behind a byte of 0x80 [GNU]."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        digits = field.strip(b" \0")
        if not all(0x30 <= digit <= 0x37 for digit in digits):
            raise self._wrong(offset, f"the header has {bytes(field)!r} where a number is needed")
        return int(digits or b"0", 8)

    def _records(self, begin: int, length: int, offset: int) -> bytes:
        content = self.at(begin, length) if length <= _LONGEST_RECORDS else b""
        if len(content) != length:
            raise self._wrong(offset, f"an extended header of {length:,} bytes: the file is damaged or cut short")
        return content

    def _told(
        self, records: bytes, offset: int, name: bytes, size: int | None, everywhere: bool
    ) -> tuple[bytes, int | None]:
        """Name and size out of pax records, "LENGTH KEY=VALUE\\n" each."""
        while records:
            digits, _, rest = records.partition(b" ")
            length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
            key, equals, value = rest[: max(length - len(digits) - 1, 0)].partition(b"=")
            if not (equals and value.endswith(b"\n") and len(records) >= length):
                raise self._wrong(offset, f"an extended header that cannot be read: {records[:40]!r}")
            records, value = records[length:], value[:-1]
            if key.startswith(b"GNU.sparse") or (everywhere and key in (b"path", b"size")):
                raise self._wrong(offset, f"a {key.decode()} record, which no shard has")
            if key == b"path":
                name = value
            elif key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise self._wrong(offset, f"a member of size {value[:40]!r}")
                size = int(value)
        return name, size

    def _check(self, name: str, kind: bytes, begin: int, length: int, offset: int) -> None:
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        if kind not in _FILES:
            what = _REFUSED.get(kind, f"of the unknown kind {kind!r}")
            raise self._wrong(offset, f"member {shown!r} is {what}: a shard holds plain files only. Pack it again")
        if not name or name.endswith("/") or len(name) > _LONGEST_NAME:
            raise self._wrong(offset, f"a file called {shown!r}: the file is damaged")
        if name.startswith("/") or "\\" in name or name[1:2] == ":" or ".." in name.split("/") or "\0" in name:
            raise self._wrong(
                offset, f"member {shown!r} points outside the archive: this tar is unsafe or was made wrongly"
            )
        if begin + length > self.source.size:
            left = max(self.source.size - begin, 0)
            raise self._wrong(
                offset,
                f"member {shown!r} is to have {length:,} bytes and {left:,} are left: the file is damaged or cut "
                "short. Copy or download it again",
            )

    def _check_tail(self, offset: int) -> None:
        """Behind the end mark there are zeros at most: joined tar files would be read in part only."""
        length = self.source.size - offset
        if length > _LONGEST_TAIL or self.at(offset, length).strip(b"\0"):
            raise self._wrong(
                offset, f"{length:,} bytes follow the end mark: tar files that were joined (cat) are to stay apart"
            )

    def _refuse_compressed(self) -> None:
        start = self.at(0, BLOCK)
        if packed := next((name for magic, name in _PACKED.items() if start.startswith(magic)), None):
            raise InputError(
                f"{self.source.place} is compressed ({packed}), so its images cannot be read one by one: unpack it to "
                "a plain .tar. Images are compressed already, so it hardly grows."
            )

    def _wrong(self, offset: int, what: str) -> InputError:
        return InputError(f"{self.source.place}, byte {offset:,}: {what}.")


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
