"""What lies behind a string of a study: the fingerprint of an image set, of weights, of a folder of regions."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError
from whytransfer.progress import say

_CHUNK = 1 << 22
MANY = 5_000  # images whose reading takes long enough to be said
_OF_A_RUN = ("backbone.safetensors", "model.safetensors", "model.pth", "checkpoint.pt")  # the first one counts


class Contents:
    """Fingerprints of image sets and files, each looked at once; `sizes` are the lengths of the sets."""

    def __init__(self, opened: Callable[[str], Any] | None = None) -> None:
        self._opened = opened or _open_images
        self._found: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.readers: dict[str, str] = {}  # the modules that read the sets, "images.folder"

    def of_images(self, spec: str, asked: str) -> str:
        """The fingerprint of an image set; InputError, which begins with who `asked`, where there is none."""
        if spec not in self._found:
            try:
                images = self._opened(spec)
            except InputError as error:
                raise InputError(f"{asked}: {error}") from None
            self.sizes[spec], self.readers[spec] = len(images), type(images).__module__.partition(".")[2]
            self._found[spec] = fingerprint(images)
        return self._found[spec]

    def of_file(self, spec: str, asked: str) -> str | None:
        """The fingerprint of the files in a spec: a path, SCHEME:PATH, NAME@PATH; None where it names none.

        InputError where it looks like a path and nothing is there.
        """
        path = path_in(spec)
        if path is None:
            if "/" in spec and ":" not in spec:
                raise InputError(f"{asked}: there is no such file or folder as {spec}")
            return None
        return of_path(str(path.absolute()), _stamp(path))


def fingerprint(images: Any) -> str:
    """Of an ImageSet; files are read only where their names, sizes or times have changed since they last were."""
    from whytransfer.images.cache import MAX_FOLDER_BYTES, default_folder
    from whytransfer.images.content import Encoded
    from whytransfer.images.store import Store

    if not isinstance(images, Encoded):
        return images.fingerprint()
    stamp, store = images.stamp(), Store(default_folder(), MAX_FOLDER_BYTES)
    known = store.recall(stamp)
    if known is None:
        if len(images) >= MANY:
            say(f"reading the {len(images):,} images of {images.name} once, to know them by their content")
        known = images.fingerprint()
        store.remember(stamp, known)
    return known


def path_in(spec: str) -> Path | None:
    """The longest ending of a spec behind ":" or "@" that is a file or folder; None where none is."""
    starts = [0, *(i + 1 for i, c in enumerate(spec) if c in ":@")]
    for start in starts:
        path = Path(spec[start:]).expanduser()
        if spec[start:] and path.exists():
            return path
    return None


@functools.cache
def of_path(path: str, stamp: str) -> str:
    """Of a file its bytes; of a run or an export its weights and card; of another folder all names, sizes and times."""
    place = Path(path)
    if place.is_file():
        return _bytes(place)
    weights = next((place / name for name in _OF_A_RUN if (place / name).is_file()), None)
    if (place / "card.json").is_file() and weights:
        return hashlib.sha256(f"{_bytes(weights)} {_bytes(place / 'card.json')}".encode()).hexdigest()
    return stamp


def _stamp(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".")
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(
            f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()


def _bytes(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def _open_images(spec: str) -> Any:
    from whytransfer.images import open_images

    return open_images(spec)
