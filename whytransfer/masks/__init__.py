"""Stage 2, image -> regions: engines, the store that keeps what they made, and how good it is.

An engine is named by one string: grid[:N], felzenszwalb[:SCALE[:MIN_SIZE]] (several scales: 500,1000,1500; also
felzenszwalb-skimage and felzenszwalb-opencv), mcg[:RANKING_FILE], annotated[:PATH], semantic (classes of pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from whytransfer.errors import unknown_name
from whytransfer.masks import felzenszwalb
from whytransfer.masks.annotated import Annotated
from whytransfer.masks.grid import Grid
from whytransfer.masks.pooling import pool
from whytransfer.masks.regions import Engine, Regions
from whytransfer.masks.semantic import Semantic
from whytransfer.masks.store import RegionStore, StoredRegions

__all__ = ["ENGINES", "Engine", "RegionStore", "Regions", "StoredRegions", "open_engine", "pool"]


def _mcg(rest: str) -> Engine:
    from whytransfer.masks.mcg import MCG  # learns its ranking when it is made, and needs higra

    return MCG.from_spec(rest)


ENGINES: dict[str, Callable[[str], Engine]] = {
    "grid": Grid.from_spec,
    "felzenszwalb": felzenszwalb.from_spec,
    "felzenszwalb-skimage": partial(felzenszwalb.from_spec, by="scikit-image"),
    "felzenszwalb-opencv": partial(felzenszwalb.from_spec, by="opencv"),
    "mcg": _mcg,
    "annotated": Annotated.from_spec,
    "semantic": Semantic.from_spec,
}


def open_engine(spec: str) -> Engine:
    """The engine that a string names, such as "grid:5" or "felzenszwalb:500:500"; InputError with the near names."""
    name, _, rest = spec.partition(":")
    if name not in ENGINES:
        raise unknown_name("region engine", name, ENGINES)
    return ENGINES[name](rest)
