"""A zip of pictures as an ImageSet, read in place: nothing is unpacked, any number of threads read at once."""

from __future__ import annotations

import os
import struct
import weakref
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.content import Stamp, fingerprint_of, stamp_of
from whytransfer.images.decode import Unreadable, decode
from whytransfer.images.folder import sample
from whytransfer.images.index import build_index, is_image, missing_path, short_name, suffix_of
from whytransfer.records import Sample

_LOCAL_HEADER = 30  # bytes before the name; name and extra lengths are its last two fields [PKWARE APPNOTE 4.3.7]
_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class Archive:
    """All images of a zip, or of one folder inside it; labelled as a Folder of the same files would be.

    Raises InputError for a file that is no zip, a damaged directory, encrypted members, members with unsafe names.
    """

    def __init__(self, path: str | os.PathLike[str], inside: str = "") -> None:
        self.path, self.inside = Path(path).expanduser(), inside.strip("/")
        if not self.path.exists():
            raise missing_path(self.path)
        members = _members(self.path, self.inside)
        where = str(self.path / self.inside)
        left_out = (name for name in members if name and not _is_picture(name) and not name.endswith("/"))
        others = Counter(suffix_of(os.path.basename(name)) for name in left_out)
        self.index = build_index(_by_folder(members), others, where)
        self.names, self.labels = self.index.names, self.index.labels
        self.classes, self.notes = self.index.classes, self.index.notes
        self.name = short_name(self.path.absolute().with_suffix("") / self.inside)
        below = f"{self.index.inside}/" if self.index.inside else ""
        self.inside = "/".join(filter(None, (self.inside, self.index.inside)))
        self._where = np.empty((len(self.names), 5), dtype=np.int64)  # header offset, packed bytes, bytes, CRC, method
        for i, name in enumerate(self.names):
            info = members[below + name]
            self._where[i] = info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Sample:
        return sample(decode(self.encoded(i), self.names[i]), self.names[i], int(self.labels[i]))

    def encoded(self, i: int) -> bytes:
        """The bytes of member i, checked against their CRC-32. Reads by position, so threads share one open file."""
        offset, stored, size, crc, method = self._where[i].tolist()
        header = os.pread(self._file, _LOCAL_HEADER, offset)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\3\4":
            raise Unreadable(self._member(i), "the zip is damaged here (no member at its offset)")
        begin = offset + _LOCAL_HEADER + sum(struct.unpack_from("<HH", header, 26))
        content = os.pread(self._file, stored, begin)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, max(size, 1))
            except zlib.error as error:
                raise Unreadable(self._member(i), f"the zip is damaged here ({error})") from None
        if len(content) != size or zlib.crc32(content) != crc:
            raise Unreadable(self._member(i), "the zip is damaged here (wrong length or CRC-32)")
        return content

    def stamp(self) -> Stamp:
        """The state of the zip by its size and time of change; `sizes` as for the folder it holds."""
        stat = os.stat(self.path)
        changed = stamp_of(os.path.realpath(self.path), [(self.inside, stat.st_size, stat.st_mtime_ns)])
        sizes = self._where[:, 2].tolist()
        members = stamp_of("", ((name, size, 0) for name, size in zip(self.names, sizes, strict=True)))
        return Stamp(changed.files, members.sizes, changed.newest_ns)

    def fingerprint(self) -> str:
        """What the images contain; equal to that of a Folder with the same files."""
        return fingerprint_of(self)

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.index.nbytes + self._where.nbytes

    def _member(self, i: int) -> str:
        return f"{self.path}/{self.inside + '/' if self.inside else ''}{self.names[i]}"


def _members(path: Path, inside: str) -> dict[str, zipfile.ZipInfo]:
    """Members below `inside`, by their name relative to it."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except PermissionError:
        raise InputError(f"no permission to read {path}: allow it with chmod +r.") from None
    except (zipfile.BadZipFile, OSError, EOFError, struct.error, NotImplementedError, UnicodeDecodeError) as error:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise InputError(f"{path} is a file: a folder of images or a zip of one is needed.") from None
        raise InputError(f"{path} is not a whole zip file ({error}): copy or download it again.") from None
    prefix = f"{inside}/" if inside else ""
    members = {info.filename[len(prefix) :]: info for info in infos if info.filename.startswith(prefix)}
    if not members:
        tops = sorted({info.filename.split("/", 1)[0] for info in infos})
        raise InputError(f"{path} has no folder {inside!r}; it holds {', '.join(tops[:8]) or 'nothing'}.")
    for name, info in members.items():
        _check(path, name, info)
    return members


def _check(path: Path, name: str, info: zipfile.ZipInfo) -> None:
    full = info.filename
    if full.startswith("/") or "\\" in full or full[1:2] == ":" or ".." in full.split("/"):
        raise InputError(f"{path}: member {full!r} points outside the archive; this zip is unsafe or was made wrongly.")
    if not _is_picture(name):
        return
    if info.flag_bits & _ENCRYPTED:
        raise InputError(f"{path}: member {full!r} is encrypted; unpack the zip with its password and give the folder.")
    if info.compress_type not in _METHODS:
        kind = zipfile.compressor_names.get(info.compress_type, info.compress_type)  # type: ignore[attr-defined]
        known = " and ".join(_METHODS.values())
        raise InputError(f"{path}: member {full!r} is packed with {kind}; only {known} are read. Unpack it.")


def _is_picture(name: str) -> bool:
    folder, _, base = name.rpartition("/")
    return is_image(base) and not any(part.startswith((".", "__MACOSX")) for part in folder.split("/"))


def _by_folder(members: dict[str, zipfile.ZipInfo]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for name in members:
        if _is_picture(name):
            folder, _, base = name.rpartition("/")
            folders.setdefault(folder, []).append(base)
    return folders
