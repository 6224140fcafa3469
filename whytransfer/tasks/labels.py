"""Label efficiency: a task on a share of the training labels, the curve of 1, 5, 10 and 100 % that people ask for.

Shares are stratified, seeded and nested: the 1 % lie inside the 5 %, so a curve compares more labels with fewer, not
with others. All images of a class stand in one seeded order, and a share takes the beginning of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer import chance, progress
from whytransfer.errors import InputError

_ADDRESS = 1 << 32  # of these orders among all that one seed makes


@dataclass(frozen=True)
class Share:
    """Some per cent of the training images, and how many classes have one image more than their share would be."""

    percent: float
    rows: NDArray[np.int64]  # positions, ascending
    asked: bool  # False where nobody asked for a share: all images
    raised: int = 0

    def named(self, data: str) -> str:
        """The name of the training set in results; that of all labels is the set's own."""
        return data if self.percent == 100 else f"{data} ({self.percent:g} % of the labels)"

    def of(self, vectors: Tensor) -> Tensor:
        """The rows of this share, (n, D)."""
        return vectors if len(self.rows) == len(vectors) else vectors[torch.from_numpy(self.rows).to(vectors.device)]

    def provenance(self) -> dict[str, Any]:
        """What a Result should say of it; nothing where nobody asked."""
        if not self.asked:
            return {}
        return {
            "labels_percent": self.percent,
            "labelled_images": len(self.rows),
            "classes_raised_to_one_image": self.raised,
        }


def shares_of(strata: NDArray[np.int64], percents: Sequence[float] | None, seed: int) -> list[Share]:
    """The shares in the order given; strata (N,) is the class of each image, or one number where there are none.

    A class of n images gives round(percent n / 100), at least one: how often that was needed is said and recorded.
    None is all images. InputError for a percentage that is not over 0 and at most 100.
    """
    if percents is None:
        return [Share(100, np.arange(len(strata)), asked=False)]
    shares = [_share(strata, float(percent), seed) for percent in dict.fromkeys(percents)]
    for share in shares:
        if share.raised:
            progress.say(
                f"note: {share.percent:g} % of the labels: {share.raised} of {len(np.unique(strata))} classes would "
                f"have no image and get one; {len(share.rows):,} of {len(strata):,} images in all"
            )
    return shares


def _share(strata: NDArray[np.int64], percent: float, seed: int) -> Share:
    if not 0 < percent <= 100:
        raise InputError(f"--labels are per cent of the training labels, over 0 and at most 100: got {percent:g}")
    keep = part_of(strata, percent, seed)
    sizes = np.unique(strata, return_counts=True)[1]
    raised = sum(round(percent * int(n) / 100) == 0 for n in sizes)
    return Share(percent, np.flatnonzero(keep), asked=True, raised=raised)


def folds_of(images: int, most: int = 5, each: int = 1) -> int:
    """Folds of cross-validation for so many images, `each` in a fold at least: `most`, or as many as they make.

    InputError where they do not make two.
    """
    folds = min(most, images // each)
    if folds < 2:
        raise InputError(
            f"{images} training images are too few to choose a strength of regularisation by cross-validation: "
            f"{2 * each} or more are needed. Give more images, or a larger share of them with --labels."
        )
    return folds


def part_of(strata: NDArray[np.int64], percent: float, seed: int, but_one: bool = False) -> NDArray[np.bool_]:
    """(N,) whether each image is in the first `percent` of its class's seeded order, of which there is at least one.

    `but_one` leaves at least one image of every class out, where a class of one image has none to give.
    """
    keep = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata).tolist():
        members = np.flatnonzero(strata == stratum)
        count = max(round(percent * len(members) / 100), 1)
        order = chance.permutation(seed, _ADDRESS + stratum + 1, len(members))
        keep[members[order[: min(count, len(members) - but_one)]]] = True
    return keep
