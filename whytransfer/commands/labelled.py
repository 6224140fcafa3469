"""Somebody's own labelled pictures, made fit for a comparison: what cannot serve is left out, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from whytransfer import progress
from whytransfer.errors import InputError


class LabelledPictures:
    """The pictures of a set that have a label, each once, in classes of two at least; decoded once for each size.

    `labels` (N,) are 0..K-1 in the order of `classes`, `notes` say what was left out. InputError where no picture has
    a label.
    """

    def __init__(self, images: str, table: Path | None, size_px: int, cache_gb: float, skip_unreadable: bool) -> None:
        from whytransfer.commands.data import opened
        from whytransfer.images.labels_file import labelled_by

        self.notes: list[str] = []
        self._how = cache_gb, skip_unreadable
        self._images = opened(images)
        if table is not None:
            self._images, notes = labelled_by(self._images, table)
            for note in notes:
                self._note(note)
        self._caches: dict[int, Any] = {}
        cache = self._cache(size_px)
        self.name, dropped = cache.name, len(cache.dropped)
        if dropped:
            self._note(f"{dropped:,} pictures cannot be read and are left out: {', '.join(cache.dropped[:5])}")
        self._rows = self._fit_for_use(cache)
        of_set, self.labels = np.unique(cache.labels[self._rows], return_inverse=True)
        self.classes = tuple(cache.classes[label] for label in of_set.tolist())

    def at(self, size_px: int) -> Any:
        """The PixelCache of these pictures for views of a size."""
        from whytransfer.images import subset

        return subset(self._cache(size_px), self._rows)

    def _cache(self, size_px: int) -> Any:
        from whytransfer.commands.data import cached
        from whytransfer.diagnosis.transforms import canvas_px

        if size_px not in self._caches:
            self._caches[size_px] = cached(self._images, 2 * canvas_px(size_px), *self._how)
        return self._caches[size_px]

    def _note(self, note: str) -> None:
        self.notes.append(note)
        progress.say(f"note: {note}")

    def _fit_for_use(self, cache: Any) -> np.ndarray:
        """Rows of the pictures with a label, that repeat no other, of classes of two or more."""
        labels = np.asarray(cache.labels)
        if not cache.classes or (labels < 0).all():
            raise InputError(
                f"no picture of {cache.name} has a label: put them into one folder per class, or name a CSV file with "
                "the columns name,label (--labels)"
            )
        if bare := int((labels < 0).sum()):
            self._note(f"{bare:,} pictures have no label and are left out")
        keep = (labels >= 0) & ~self._repeated(cache, labels)
        sizes = np.bincount(labels[keep], minlength=len(cache.classes))
        lonely = [cache.classes[k] for k in np.flatnonzero(sizes == 1)]
        if lonely:
            several = f"{len(lonely):,} classes have one picture, which cannot both train and test"
            self._note(f"{several}; they are left out: {', '.join(lonely[:5])}")
        return np.flatnonzero(keep & (sizes[labels] > 1))

    def _repeated(self, cache: Any, labels: np.ndarray) -> np.ndarray:
        """(N,) whether a picture has the pixels of an earlier one; two labels for the same pixels are said."""
        from whytransfer.images.duplicates import copies

        found = {i: first for i, first in copies(cache).items() if labels[i] >= 0 and labels[first] >= 0}
        repeated = np.zeros(len(labels), dtype=bool)
        repeated[list(found)] = True
        if found:
            torn = [(i, first) for i, first in found.items() if labels[i] != labels[first]]
            self._note(f"{len(found):,} pictures repeat another, pixel by pixel, and count once")
            if torn:
                named = "; ".join(f"{_name(cache, first)} and {_name(cache, i)}" for i, first in torn[:3])
                self._note(f"{len(torn):,} of them have another label there, so one of the two is wrong: {named}")
        return repeated


def _name(cache: Any, row: int) -> str:
    """Of a picture, as it is called in its set."""
    position = int(cache.positions[row])
    names = getattr(cache.images, "names", None)
    return str(names[position] if names is not None else position)
