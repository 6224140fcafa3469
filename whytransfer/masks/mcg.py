"""The engine `mcg`: the 16 best overlapping object candidates of an image (multiscale combinatorial grouping).

Boundaries at three scales, hierarchies of regions, unions of up to four neighbours, a learnt ranking that values
difference [Arbelaez et al. 2014; Pont-Tuset et al. 2017]. What differs from the publication: half-disc gradients
instead of a structured forest (unless its model file is given), a spectral term on regions instead of pixels, merges
that count by the size of the smaller region, fewer candidates that must differ more, and a ranking that is learnt,
unless one is given, from generated scenes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whytransfer.chance import uniform
from whytransfer.errors import InputError
from whytransfer.images.cache import default_folder
from whytransfer.images.scenes import RENDERER, Scenes
from whytransfer.masks import candidates as grouping
from whytransfer.masks import edges, hierarchy, ranking
from whytransfer.masks.candidates import Candidates
from whytransfer.masks.ranking import STREAM, Ranking
from whytransfer.masks.regions import MOST, Regions, pixels_of
from whytransfer.progress import bar, say
from whytransfer.records import Sample

VERSION = 1  # part of the recipe: raise it whenever a region changes
MAX_PIXELS = 160_000  # larger images are shrunk first; their regions are enlarged again
SCENES = (160, 0x3C6, 224)  # images, seed, side: what the ranking is learnt from when none is given


class MCG:
    """The best `best` candidates of each image as an overlapping stack; fewer where an image has fewer.

    ranking: a file made by `whytransfer masks rank`, or a Ranking; None: learnt from generated scenes, once, and kept
    beside the pixel cache. edge_model: OpenCV's structured-edge model file, used instead of our own boundaries.
    Raises InputError for a file that cannot be used and for `best` outside 1 ... 255.
    """

    def __init__(
        self, ranking: Path | str | Ranking | None = None, best: int = 16, edge_model: Path | None = None
    ) -> None:
        if not 1 <= best <= MOST:
            raise InputError(f"mcg: best is {best}; a store holds 1 to {MOST} regions per image")
        self.best, self.edge_model = best, edge_model
        self.ranking = _opened(ranking)

    @classmethod
    def from_spec(cls, rest: str) -> MCG:
        """From the RANKING_FILE of "mcg:RANKING_FILE"; "" learns from scenes."""
        return cls(rest or None)

    @property
    def recipe(self) -> str:
        """All that decides the regions, in one line."""
        return f"{grouping_recipe(self.edge_model)} best={self.best} ranking={self.ranking.digest()}"

    def __call__(self, sample: Sample) -> Regions:
        pixels = pixels_of(sample)
        found = candidates(pixels, self.edge_model)
        chosen = ranking.best_of(found, self.ranking(found.features), self.best)
        return Regions(enlarged(found.masks(chosen), pixels.shape[:2]))


def candidates(pixels: NDArray[np.uint8], edge_model: Path | None = None) -> Candidates:
    """(H, W, 3) uint8 -> every candidate, before the ranking; of the shrunk image where it has more than MAX_PIXELS."""
    small = shrunk(pixels)
    scales = edges.boundaries(small) if edge_model is None else edges.structured_boundaries(small, edge_model)
    return grouping.candidates(hierarchy.hierarchies(scales))


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image itself, or with the same aspect and at most MAX_PIXELS pixels."""
    height, width = pixels.shape[:2]
    factor = (MAX_PIXELS / (height * width)) ** 0.5
    if factor >= 1:
        return pixels
    side = max(1, int(width * factor)), max(1, int(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(side, Image.Resampling.BOX))


def enlarged(masks: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(R, h, w) -> (R, H, W), nearest."""
    if masks.shape[1:] == shape:
        return masks
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, masks.shape[1:], strict=True))
    return masks[:, rows[:, None], columns]


def grouping_recipe(edge_model: Path | None = None) -> str:
    """What decides the candidates."""
    scales = ",".join(f"{size:g}x{radius}" for size, radius in edges.SCALES)
    model = f"half-disc:{scales}"
    if edge_model is not None:
        model = f"structured:{hashlib.blake2b(edge_model.read_bytes(), digest_size=6).hexdigest()}"
    limits = "/".join(map(str, grouping.LIMITS))
    tree = f"smallest={hierarchy.SMALLEST} area={hierarchy.AREA_POWER} spectral={hierarchy.SPECTRAL}"
    return f"mcg version={VERSION} edges={model} {tree} candidates={limits} same={grouping.SAME}"


def learn(samples: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]], seed: int = 0) -> Ranking:
    """A ranking from images (H, W, 3) uint8 and their annotated masks (T, H, W) bool.

    Raises InputError when no image has a mask.
    """

    def found() -> Iterable[tuple[Candidates, NDArray[np.bool_]]]:
        for pixels, truth in samples:
            each = candidates(pixels)
            yield each, enlarged(truth, each.leaves.shape)

    return ranking.fit(found(), seed)


def default_ranking() -> Ranking:
    """Learnt from generated scenes on first use, then read from the cache folder; said on standard error."""
    decided = json.dumps([grouping_recipe(), RENDERER, SCENES, ranking.FORMAT, version("scikit-learn")])
    name = hashlib.blake2b(decided.encode(), digest_size=8).hexdigest()
    path = default_folder().parent / "rankings" / f"{name}.safetensors"
    if not path.is_file():
        say(f"mcg: learning to rank regions from {SCENES[0]} generated scenes, once; kept at {path}")
        learnt_from_scenes(*SCENES).save(path)
    return Ranking.load(path)


def learnt_from_scenes(count: int, seed: int, size_px: int) -> Ranking:
    """A ranking from the objects of generated scenes, and what is behind them.

    Of each scene a window is taken, so that objects lie anywhere and are cut off as in photographs.
    """
    scenes = Scenes(count, seed, size_px)

    def samples() -> Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        with bar("learning to rank", count) as update:
            for i in range(count):
                sample = scenes[i]
                rows, columns = (
                    window(size_px, *draws) for draws in uniform(seed, STREAM, np.array([i]), 1, 0, 4).reshape(2, 2)
                )
                objects = np.asarray(sample.masks, dtype=bool)[:, rows, columns]
                truth = np.concatenate([objects, ~objects.any(axis=0, keepdims=True)])
                update(i)
                yield pixels_of(sample)[rows, columns], truth[truth.any(axis=(1, 2))]

    return learn(samples(), seed)


def window(side: int, size: float, place: float) -> slice:
    """Half to all of a side, from two numbers in [0, 1)."""
    length = round(side * (0.5 + 0.5 * size))
    start = round((side - length) * place)
    return slice(start, start + length)


def _opened(given: Path | str | Ranking | None) -> Ranking:
    if isinstance(given, Ranking):
        return given
    return default_ranking() if given is None else Ranking.load(Path(given))
