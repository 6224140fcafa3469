"""What is looked at before a dense task trains for hours: every map, and which test images are training images too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from whytransfer import progress
from whytransfer.images.content import digest
from whytransfer.images.decode import upright_size
from whytransfer.images.targets import origin
from whytransfer.memory import usable_cores
from whytransfer.records import Sample

_CHUNK = 64  # images per task of a thread
CheckSample = Callable[[Sample, str], object]  # (sample, name of the set); InputError where its map cannot be used
CheckMap = Callable[[NDArray[Any], str, str], object]  # the same for a map (H, W), the names of its image and its set


def survey(train: Any, test: Any, want: str, check: CheckSample, check_map: CheckMap) -> dict[str, int]:
    """For provenance, how many test images are training images too by what they contain, after every map was checked.

    `want` is "semantic" or "depth". Raises InputError for a map that is damaged, of another size than its image, or
    refused by a check, and for a test image that cannot be read: before the training, not after it.
    """
    theirs = contents(train, want, check, check_map, decode=test is train)
    ours = theirs if test is train else contents(test, want, check, check_map, decode=True)
    known = set(theirs)
    found = sum(content in known for content in ours)
    if found:
        progress.say(f"note: {found:,} of {len(test):,} test images are training images too: the scores flatter")
    return {"test_images_in_train": found}


def contents(images: Any, want: str, check: CheckSample, check_map: CheckMap, decode: bool = False) -> list[bytes]:
    """A digest of every image, in order; of sets of files that of the bytes, and images are decoded only if asked."""
    source, positions = origin(images)
    of: Any = getattr(source, "annotations", None)

    def one(i: int) -> bytes:
        if not hasattr(source, "encoded"):
            sample = images[i]
            check(sample, images.name)
            return digest(str(tuple(sample.image.shape)).encode() + sample.image.numpy().tobytes())
        position = int(positions[i])
        encoded, name = source.encoded(position), source.names[position]
        if decode:
            check(images[i], images.name)
        elif want in getattr(of, "labelled_with", ()):  # else it is painted from the masks of objects
            known = of.read(position, (want,))
            if tuple(known.size) != upright_size(encoded, name):
                images[i]  # refuses it by name
            check_map(getattr(known, want), name, images.name)
        return digest(encoded)

    rows: list[bytes] = []
    chunks = [range(k, min(k + _CHUNK, len(images))) for k in range(0, len(images), _CHUNK)]
    with ThreadPoolExecutor(usable_cores()) as pool, progress.bar(f"maps of {images.name}", len(images)) as update:
        for part in pool.map(lambda chunk: [one(i) for i in chunk], chunks):
            rows += part
            update(len(rows))
    return rows
