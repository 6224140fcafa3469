"""The regions of many images on disk, found by what an image contains: a copy elsewhere has the same regions.

FOLDER/store.json            the recipe that made them all, and the engine as it was asked for
FOLDER/parts/<name>.part     some hundred images each, written aside and renamed: whole or not there, never changed
FOLDER/images/<print>.npy    the contents of a set of images that was read once: 16 bytes per image

A part is a magic word, the number of images n, n contents of 16 bytes, n ends (uint64, from the first code), n codes.
Any number of processes may write at once; what two of them made twice is counted once.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.files import atomic_write, writable_folder
from whytransfer.images.cache import PixelCache
from whytransfer.images.content import DIGEST_BYTES, Encoded, digest
from whytransfer.images.decode import Unreadable, shrunk_size
from whytransfer.masks.coding import decode, encode, labels_of, size_of
from whytransfer.masks.regions import NO_REGION, Regions
from whytransfer.memory import usable_cores
from whytransfer.records import ImageSet

FORMAT = 1
MAGIC = b"WTMASKS1"
_KEY = np.dtype(f"S{DIGEST_BYTES}")
_FULL, _LATE_S = 512, 20.0  # a part is written when it has so many images, or is so old
_CHUNK = 64  # images per task when contents are read


class RegionStore:
    """A folder of regions of one recipe. State: 32 bytes per image in it, its files mapped when they are first read."""

    def __init__(self, folder: Path, recipe: str, engine: str) -> None:
        self.folder, self.recipe, self.engine = folder, recipe, engine
        self._read_parts()

    @classmethod
    def open(cls, folder: Path | str) -> RegionStore:
        """A store that is there; InputError for a folder that is none, or of another version."""
        folder = Path(folder).expanduser()
        path = folder / "store.json"
        if not path.is_file():
            what = "it does not exist" if not folder.exists() else "it has no store.json"
            raise InputError(
                f"{folder} is no store of regions: {what}. Make one with "
                f"whytransfer masks --images IMAGES --engine felzenszwalb --out {folder}"
            )
        try:
            said = json.loads(path.read_text())
            version, recipe, engine = said["format"], str(said["recipe"]), str(said["engine"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged or no store's ({type(error).__name__}: {error}).") from None
        if version != FORMAT:
            raise InputError(f"{path} is of format {version!r}, this version reads {FORMAT}: make the regions again.")
        return cls(folder, recipe, engine)

    @classmethod
    def create(cls, folder: Path | str, recipe: str, engine: str = "") -> RegionStore:
        """A new store, or the one that is there if its recipe is the same; `engine` is how to ask for more of it.

        Raises InputError when the folder holds regions of another recipe or something else, or cannot be written.
        """
        folder = writable_folder(Path(folder).expanduser())
        if not (folder / "store.json").exists():
            held = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
            if held and "store.json" not in held:  # else another process was first
                raise InputError(f"{folder} is not empty and holds no store.json. Choose another --out.")
            said = json.dumps({"format": FORMAT, "recipe": recipe, "engine": engine or recipe}, indent=1) + "\n"
            atomic_write(folder / "store.json", lambda file: file.write(said.encode()))
        for part in ("parts", "images"):
            (folder / part).mkdir(exist_ok=True)
        store = cls.open(folder)
        if store.recipe != recipe:
            raise InputError(
                f"{folder} holds regions of another recipe.\n  there:     {store.recipe}\n  asked for: {recipe}\n"
                "Choose another --out."
            )
        _sweep(folder / "parts")
        return store

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return bool(self.positions(np.frombuffer(key, np.uint8))[0] >= 0)

    def positions(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(N, 16) contents -> (N,) where their regions are, -1 where there are none."""
        asked = np.ascontiguousarray(keys).reshape(-1, DIGEST_BYTES).view(_KEY).reshape(-1)
        if not len(self):
            return np.full(len(asked), -1, dtype=np.int64)
        found = np.searchsorted(self._keys, asked)
        found[found == len(self._keys)] = 0
        return np.where(self._keys[found] == asked, found, -1).astype(np.int64)

    def code(self, position: int) -> memoryview:
        """The code of the regions at a position."""
        part, begin, length = self._parts[position], self._begins[position], self._lengths[position]
        if self._mapped[part] is None:
            self._mapped[part] = _mapped(self._paths[part])
        return memoryview(self._mapped[part])[begin : begin + length]  # type: ignore[arg-type]

    def regions_of(self, key: bytes) -> Regions | None:
        """The regions of one image, at its full size."""
        position = int(self.positions(np.frombuffer(key, np.uint8))[0])
        return None if position < 0 else decode(self.code(position))

    def for_pixels(self, cache: PixelCache, progress: Callable[[int, int], None] | None = None) -> StoredRegions:
        """The regions of cached pictures, at their size. Reads the image files once to know what they contain.

        Raises InputError when pictures have none, saying how many and what makes them.
        """
        keys = self._contents(cache, progress)[cache.positions]
        found = self.positions(keys)
        if missing := int((found < 0).sum()):
            raise InputError(
                f"{missing:,} of the {len(cache):,} images of {cache.name} have no regions in {self.folder}. Make them "
                f"with: whytransfer masks --images IMAGES --engine {self.engine} --out {self.folder}"
            )
        return StoredRegions(self, found, cache, digest(self.recipe.encode() + keys.tobytes()).hex())

    def missing(self, cache: PixelCache, progress: Callable[[int, int], None] | None = None) -> int:
        """How many cached pictures have no regions here; reads the image files once to know what they contain."""
        return int((self.positions(self._contents(cache, progress)[cache.positions]) < 0).sum())

    def writer(self) -> Writer:
        """What adds regions; use it in a `with` statement."""
        return Writer(self.folder / "parts")

    @property
    def nbytes(self) -> int:
        """Bytes of state held, the mapped files aside."""
        return sum(a.nbytes for a in (self._keys, self._parts, self._begins, self._lengths))

    def _contents(self, cache: PixelCache, progress: Callable[[int, int], None] | None) -> NDArray[np.uint8]:
        """(N, 16) contents of all images of the set behind a cache; remembered under its fingerprint."""
        fingerprint = json.loads((cache.path / "entry.json").read_text())["fingerprint"]
        path = self.folder / "images" / f"{fingerprint}.npy"
        if path.exists():
            known = np.load(path)
            if known.shape == (len(cache.images), DIGEST_BYTES):
                return known
        keys = contents(cache.images, progress)
        if not (keys == 0).all(axis=1).any():  # an unreadable file may become readable under the same fingerprint
            (self.folder / "images").mkdir(exist_ok=True)
            atomic_write(path, lambda file: np.save(file, keys))
        return keys

    def _read_parts(self) -> None:
        self._paths = sorted((self.folder / "parts").glob("*.part"))
        self._mapped: list[mmap.mmap | None] = [None] * len(self._paths)
        read = [_index(path) for path in self._paths]
        keys = np.concatenate([np.empty(0, _KEY), *(part[0] for part in read)])
        begins = np.concatenate([np.empty(0, np.int64), *(part[1] for part in read)])
        lengths = np.concatenate([np.empty(0, np.int32), *(part[2] for part in read)])
        parts = np.repeat(np.arange(len(read), dtype=np.int32), [len(part[0]) for part in read])
        self._keys, first = np.unique(keys, return_index=True)
        self._parts, self._begins, self._lengths = parts[first], begins[first], lengths[first]


class StoredRegions:
    """Regions of the pictures of a PixelCache, in their order and at their size; state: 8 bytes per picture."""

    def __init__(self, store: RegionStore, positions: NDArray[np.int64], cache: PixelCache, fingerprint: str) -> None:
        self._store, self._positions, self._max_side_px = store, positions, cache.max_side_px
        self.recipe, self.fingerprint = store.recipe, fingerprint  # of the recipe and of what the pictures contain

    def __len__(self) -> int:
        return len(self._positions)

    def regions(self, i: int) -> torch.Tensor:
        """Label map (H, W) uint8 or stack (R, H, W) bool at the size of cache.pixels(i); nearest pixel centres."""
        code = self._store.code(int(self._positions[i]))
        height, width = size_of(code)
        width, height = shrunk_size((width, height), self._max_side_px)  # as the cache shrinks pictures
        return torch.from_numpy(decode(code, (height, width)).maps)

    def labels(self, i: int) -> torch.Tensor | None:
        """(R,) int64 class of each region, or None."""
        labels = labels_of(self._store.code(int(self._positions[i])))
        return None if labels is None else torch.from_numpy(labels.copy())

    def bare(self, most: int = 500) -> tuple[int, int]:
        """How many pictures show no region, of how many: of all, or of `most` that are evenly spread over them."""
        looked_at = np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(int)).tolist()
        none = sum(
            bool((maps == NO_REGION).all() if maps.ndim == 2 else not maps.any())
            for maps in map(self.regions, looked_at)
        )
        return none, len(looked_at)

    @property
    def state_bytes_per_image(self) -> float:
        """Memory that grows with the number of images: the positions, and the index of the store."""
        return (self._positions.nbytes + self._store.nbytes) / max(len(self), 1)


class Writer:
    """Adds regions to a store: in parts of 512 images, or every 20 s, so that a kill costs little."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: list[bytes] = []
        self._codes: list[bytes] = []
        self._since = time.monotonic()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, key: bytes, regions: Regions) -> int:
        """Keep the regions of the image with this content; how many bytes they take."""
        if not self._keys:
            self._since = time.monotonic()
        self._keys.append(key)
        self._codes.append(encode(regions))
        size = len(self._codes[-1])
        if len(self._keys) >= _FULL or time.monotonic() - self._since > _LATE_S:
            self.flush()
        return size

    def flush(self) -> None:
        """Write what was added; raises RunError when the disk is full."""
        if not self._keys:
            return
        ends = np.cumsum([len(code) for code in self._codes]).astype("<u8")
        content = b"".join((MAGIC, struct.pack("<Q", len(ends)), *self._keys, ends.tobytes(), *self._codes))
        name = f"{time.time_ns():x}-{os.getpid():x}-{secrets.token_hex(4)}.part"
        atomic_write(self._folder / name, lambda file: _written(file, content))
        self._keys, self._codes = [], []


def content_of(images: ImageSet, i: int) -> bytes:
    """16 bytes that stand for image i: of its encoded file, or of its pixels where there is no file."""
    if isinstance(images, Encoded):
        return digest(images.encoded(i))
    image = images[i].image
    return digest(repr(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes())


def contents(images: ImageSet, progress: Callable[[int, int], None] | None = None) -> NDArray[np.uint8]:
    """(N, 16) contents of all images, read by all processors; zeros stand for an unreadable file."""
    keys = np.zeros((len(images), DIGEST_BYTES), dtype=np.uint8)
    chunks = [range(k, min(k + _CHUNK, len(images))) for k in range(0, len(images), _CHUNK)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for chunk, rows in zip(chunks, pool.map(lambda part: list(_contents_of(images, part)), chunks), strict=True):
            keys[chunk.start : chunk.stop] = rows
            if progress:
                progress(chunk.stop, len(images))
    return keys


def _contents_of(images: ImageSet, part: range) -> Iterator[NDArray[np.uint8]]:
    for i in part:
        try:
            yield np.frombuffer(content_of(images, i), np.uint8)
        except Unreadable:
            yield np.zeros(DIGEST_BYTES, np.uint8)


def _written(file: object, content: bytes) -> None:
    fcntl.flock(file, fcntl.LOCK_EX)  # type: ignore[arg-type]  # let go by the system when this process ends
    file.write(content)  # type: ignore[attr-defined]


def _sweep(folder: Path) -> None:
    """Remove what killed writers left: files aside that nobody holds locked, and not of this very moment."""
    for path in folder.glob(".*.tmp"):
        try:
            with open(path, "rb") as file:
                if time.time() - path.stat().st_mtime > 5:  # a file is locked right after it is made
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # being written, or renamed meanwhile


def _index(path: Path) -> tuple[NDArray, NDArray[np.int64], NDArray[np.int32]]:
    """Contents, begins and lengths of the codes of a part."""
    with open(path, "rb") as file:
        head = file.read(len(MAGIC) + 8)
        count = struct.unpack("<Q", head[len(MAGIC) :])[0] if head[: len(MAGIC)] == MAGIC and len(head) == 16 else 0
        table = file.read(count * (DIGEST_BYTES + 8))
        whole = count > 0 and len(table) == count * (DIGEST_BYTES + 8)
        ends = np.frombuffer(table[count * DIGEST_BYTES :], "<u8").astype(np.int64) if whole else np.zeros(1, np.int64)
        first = len(head) + len(table)
        if not whole or os.fstat(file.fileno()).st_size != first + ends[-1]:
            raise InputError(f"{path} is damaged: delete it and make its regions again with the same command.")
    lengths = np.diff(ends, prepend=0)
    keys = np.frombuffer(table[: count * DIGEST_BYTES], _KEY)
    return keys, first + ends - lengths, lengths.astype(np.int32)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise InputError(f"{path} was removed since the store was opened: make its regions again.") from None
