"""What happens to features and to a readout when test pictures change: one change at a time, of pose or of colours.

Each picture is seen again under a few transforms of each group (spatial, appearance: diagnosis/grids.py), drawn for it
with a strength from their grids. Of the same views follow what a backbone offers, the cosine of the whitened features
of changed and unchanged picture (1 ignores the change), and what a task suffers, how much less often a readout of
unchanged pictures is right.

Letters: N pictures, V views of each, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.diagnosis.grids import GROUPS, grid
from whytransfer.diagnosis.transforms import pictures_of, transformed
from whytransfer.loading import pictures
from whytransfer.tasks.features import pooled

STRENGTHS = 8  # of each transform
_ADDRESS = 7001  # of these draws among all that one seed makes


@dataclass(frozen=True)
class Drawn:
    """Which transform of a group, and which row of its grid, each view is; both (N, V)."""

    group: str
    transform: NDArray[np.int64]
    strength: NDArray[np.int64]


def draw(group: str, pictures: int, views: int, seed: int) -> Drawn:
    """The views of N pictures: different transforms for one picture, in equal shares over all; a function of the seed.

    A view more than the group has transforms begins again.
    """
    names = GROUPS[group]
    chance = np.random.default_rng([seed, _ADDRESS, list(GROUPS).index(group)])
    order = np.concatenate(
        [chance.permuted(np.tile(np.arange(len(names)), (pictures, 1)), axis=1)] * -(-views // len(names)), axis=1
    )
    transform = order[:, :views]
    sizes = np.array([len(grid(name, "corrected", STRENGTHS)) for name in names])
    return Drawn(group, transform, (chance.random(transform.shape) * sizes[transform]).astype(np.int64))


def changed_features(
    backbone: nn.Module,
    images: Any,
    drawn: Drawn,
    size_px: int,
    seed: int,
    batch: int = 64,
    tick: Callable[[int], object] = lambda views: None,
) -> Tensor:
    """(N, V, D) float32 features of the changed views of all pictures of a PixelCache; tick(views done) as they come.

    The backbone must be in eval mode. Pictures are resized to 8/7 of the view, changed, and their middle is seen.
    """
    device = next(backbone.parameters()).device
    sources = torch.cat([
        pictures_of(pictures(images, range(at, min(at + batch, len(images)))), size_px, "corrected", "cpu")
        for at in range(0, len(images), batch)
    ])  # fmt: skip
    found: Tensor | None = None
    with torch.inference_mode():
        for place, row, name in _together(drawn):
            values = grid(name, "corrected", STRENGTHS)[row : row + 1]
            for part in np.array_split(place, -(-len(place) // batch)):
                views = transformed(name, sources[part[:, 0]].to(device), values, size_px, "corrected", seed)[:, 0]
                seen = pooled(backbone(views.contiguous(memory_format=torch.channels_last)), "vector").float()
                found = seen.new_empty(*drawn.transform.shape, seen.shape[1]) if found is None else found
                found[part[:, 0], part[:, 1]] = seen
                tick(len(part))
    assert found is not None
    return found.clone()


def _together(drawn: Drawn) -> Any:
    """Yields the places (picture, view) that share transform and strength, the row of the grid, and the transform."""
    for t, name in enumerate(GROUPS[drawn.group]):
        rows = drawn.strength[drawn.transform == t]
        for row in np.unique(rows).tolist():
            yield np.argwhere((drawn.transform == t) & (drawn.strength == row)), row, name
