"""Which objects a detector finds badly: groups of objects by size, aspect, truncation and occlusion.

As in Hoiem 2012, section 4: size (area of the box) and aspect (width over height) are cut at the 10th, 30th, 70th and
90th percentile of each class, so that every class has the same shares of extra small to extra large objects. Truncation
and occlusion are those that were annotated (VOC's XML; "truncated" and "occluded" of COCO's records, or in their
"attributes"): no and yes, or Hoiem's four levels none, low, medium and high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.tasks.matching import Floats, Ints

PERCENTILES = (10, 30, 70, 90)
SIZES = ("XS", "S", "M", "L", "XL")
ASPECTS = ("XT", "T", "M", "W", "XW")  # extra tall to extra wide
YES_NO, LEVELS = ("no", "yes"), ("none", "low", "medium", "high")


@dataclass(frozen=True)
class Characteristic:
    """A way to group objects: what it is called, its groups, and the group of each object (G,), -1 for none."""

    name: str
    groups: tuple[str, ...]
    group: NDArray[np.int8]


def characteristics(
    objects: Sequence[Mapping[str, Any]], boxes: Floats, kinds: Ints, counted: NDArray[np.bool_]
) -> list[Characteristic]:
    """Size and aspect, and truncation and occlusion where every counted object tells it; boxes (G, 4) x, y, w, h."""
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.where(boxes[:, 3] > 0, boxes[:, 2] / boxes[:, 3], np.inf)
    found = [
        Characteristic("size", SIZES, _by_class(boxes[:, 2] * boxes[:, 3], kinds, counted)),
        Characteristic("aspect", ASPECTS, _by_class(aspect, kinds, counted)),
    ]
    for name, flag in (("truncation", "truncated"), ("occlusion", "occluded")):
        levels = np.array([_level(item, flag) for item in objects], dtype=np.int8)
        if (levels[counted] >= 0).all() and (levels[counted] > 0).any():
            groups = LEVELS if levels.max() > 1 else YES_NO
            found.append(Characteristic(name, groups, np.where(counted, np.minimum(levels, 3), -1).astype(np.int8)))
    return found


def _by_class(values: Floats, kinds: Ints, counted: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(G,) the part 0 to 4 of its class that a value lies in."""
    found = np.full(len(values), -1, dtype=np.int8)
    order = np.lexsort((values, kinds))
    order = order[counted[order]]
    ends = np.searchsorted(kinds[order], np.arange(kinds.max(initial=-1) + 2))
    for first, last in zip(ends[:-1], ends[1:], strict=True):
        if last > first:
            own = values[order[first:last]]
            cuts = np.percentile(own, PERCENTILES, method="lower")
            found[order[first:last]] = np.searchsorted(cuts, own, side="left")
    return found


def _level(item: Mapping[str, Any], flag: str) -> int:
    """0 to 3, or -1 where nothing is told."""
    value = item.get(flag, (item.get("attributes") or {}).get(flag))
    return -1 if value is None else int(value)
