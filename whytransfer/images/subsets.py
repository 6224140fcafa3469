"""Parts of an image set, and what is asked of its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from whytransfer import chance
from whytransfer.errors import InputError
from whytransfer.images.content import Annotated, Encoded, Stamp, digest, fingerprint_of
from whytransfer.images.index import Names, first_of
from whytransfer.records import ImageSet, Sample


class Labelled(Protocol):
    """What these functions need: an ImageSet has it, and a PixelCache."""

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int: ...


_Set = TypeVar("_Set", bound=Labelled)


class Subset:
    """Some images of a set, in the order given; the classes stay those of the whole."""

    def __init__(self, images: ImageSet, indices: NDArray[np.int64]) -> None:
        self.images, self.indices = images, indices
        self.name, self.classes, self.labels = images.name, images.classes, images.labels[indices]
        self.labelled_with = labelled_with(images)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Sample:
        return self.images[int(self.indices[i])]

    def fingerprint(self) -> str:
        """Of the whole set and of which images are in."""
        return digest(self.images.fingerprint().encode() + self.indices.tobytes()).hex()

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.indices.nbytes + self.labels.nbytes + int(getattr(self.images, "nbytes", 0))


class EncodedSubset(Subset):
    """Some files of a set of files: its content is that of these files alone."""

    images: Encoded

    def __init__(self, images: Encoded, indices: NDArray[np.int64]) -> None:
        super().__init__(images, indices)
        self.names = Names(images.names[i] for i in indices.tolist())

    def encoded(self, i: int) -> bytes:
        """The bytes of file i."""
        return self.images.encoded(int(self.indices[i]))

    def fingerprint(self) -> str:
        """What these files contain."""
        return fingerprint_of(self)

    def annotations_digest(self) -> bytes:
        """Of all annotations of the whole set; empty where there are none."""
        return self.images.annotations_digest() if isinstance(self.images, Annotated) else b""

    def stamp(self) -> Stamp:
        """The state of the whole set, and which files are in."""
        whole, chosen = self.images.stamp(), self.indices.tobytes()
        files, sizes = (digest(text.encode() + chosen).hex() for text in (whole.files, whole.sizes))
        return Stamp(files, sizes, whole.newest_ns)


def subset(images: _Set, indices: Sequence[int] | NDArray[np.integer]) -> _Set:
    """The images at these positions, in this order: a view, nothing is copied. Of a PixelCache it is a PixelCache.

    Raises InputError for a position outside the set.
    """
    chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(images)):
        asked = f"{chosen.min()} to {chosen.max()}"
        raise InputError(f"subset of {images.name}: positions {asked} asked, it has 0 to {len(images) - 1}.")
    if hasattr(images, "subset"):
        return images.subset(chosen)
    return (EncodedSubset if isinstance(images, Encoded) else Subset)(images, chosen)  # type: ignore[arg-type,return-value]


def holdout(images: _Set, fraction: float, seed: int) -> tuple[_Set, _Set]:
    """(rest, held out): a share of every class (of everything when unlabelled) put aside, the same for the same seed.

    A class of n images gives round(fraction n), at least one and never all; a class of one image gives none.
    Raises InputError when the fraction is not between 0 and 1 or nothing can be put aside.
    """
    if not 0 < fraction < 1:
        raise InputError(f"holdout: fraction {fraction} is not between 0 and 1.")
    held = np.zeros(len(images), dtype=bool)
    for label in np.unique(images.labels).tolist():
        members = np.flatnonzero(images.labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held[members[chance.permutation(seed, label + 1, len(members))[:count]]] = True
    if not held.any():
        raise InputError(
            f"holdout: none of {len(images):,} images can be put aside: {images.name} has no class of two."
        )
    return subset(images, np.flatnonzero(~held)), subset(images, np.flatnonzero(held))


def labelled_with(images: Labelled) -> tuple[str, ...]:
    """What a set is labelled with: some of "class", "identity", "scene", "boxes", "masks", "semantic"; () for none."""
    of: Any = images
    while not hasattr(of, "labelled_with") and hasattr(of, "images"):  # a PixelCache holds the set it is of
        of = of.images
    return getattr(of, "labelled_with", ("class",) if of.classes else ())


def require_labels(images: Labelled, why: str) -> None:
    """Raise InputError unless every image has a label and there are two classes or more; `why` says who needs them."""
    if not images.classes or (images.labels < 0).any():
        bare = int((images.labels < 0).sum()) if images.classes else len(images)
        if not images.classes and (other := labelled_with(images)):
            raise InputError(
                f"{why} needs one label per image, and {images.name} is labelled with {' and '.join(other)} instead: "
                "choose a method without labels, or a set of one class per image."
            )
        raise InputError(
            f"{why} needs labels, and {bare:,} of the {len(images):,} images of {images.name} have none: "
            "put the images into one folder per class, with no image beside those folders."
        )
    present = np.unique(images.labels)
    if len(present) < 2:
        only = images.classes[present[0]] if len(present) else "none"
        raise InputError(
            f"{why} needs at least two classes, and all {len(images):,} images of {images.name} are of class {only!r}: "
            "classes are the first level of folders, so give the folder that holds the class folders."
        )


def match_classes(images: Labelled, classes: Sequence[str]) -> NDArray[np.int64]:
    """The labels (N,) of a set as positions in another set's classes, by name; -1 stays -1.

    Raises InputError for a class that is not among them.
    """
    position = {name: label for label, name in enumerate(classes)}
    present = [images.classes[label] for label in np.unique(images.labels[images.labels >= 0])]
    strangers = [name for name in present if name not in position]
    if strangers:
        raise InputError(
            f"{images.name} has {len(strangers)} classes that the training set lacks: {first_of(strangers)}. "
            f"The training set's classes: {first_of(classes)}."
        )
    table = np.array([position.get(name, -1) for name in images.classes] + [-1], dtype=np.int64)  # last: for label -1
    return table[images.labels]
