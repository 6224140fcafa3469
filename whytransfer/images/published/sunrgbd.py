"""SUN RGB-D [Song 2015]: rooms seen by four depth sensors, a folder for each picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.images.index import Names
from whytransfer.images.matlab import read_matlab
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.depth_maps import DepthMaps, Values, metres
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, root_and_parts

LAYOUT = Layout(
    "sunrgbd",
    "ROOT/**/intrinsics.txt beside image/*.jpg and depth/*.png (SUNRGBD/kv1, kv2, realsense, xtion as published), and "
    "for the splits ROOT/**/allsplit.mat of the toolbox",
    ("all", "train", "test"),
)
_SPLITS = {"train": "alltrain", "test": "alltest"}


def sunrgbd(rest: str) -> AnnotatedFiles:
    """The set named "sunrgbd:ROOT[:all|train|test]": depth as measured (not depth_bfx, whose holes are filled).

    A value's lowest three bits go to the top, as the toolbox reads it: (v >> 3 | v << 13) millimetres; 0 is none.
    """
    root, parts = root_and_parts("sunrgbd", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    places, listing = _places(root)
    if split != "all":
        if listing is None:
            raise LAYOUT.refusal(root, "allsplit.mat")
        wanted = _listed(listing, split)
        places = {place: pair for place, pair in places.items() if _below(place) in wanted}
    if not places:
        raise LAYOUT.refusal(root, "any folder with intrinsics.txt, a picture and its depth map")
    pairs = [places[place] for place in sorted(places)]
    index, depth = unlabelled(Names(p for p, _ in pairs)), Names(d for _, d in pairs)
    return AnnotatedFiles(root, index, f"sunrgbd/{split}", DepthMaps(root, depth, _turned))


def _turned(values: Values) -> NDArray[np.float32]:
    deep = values.astype(np.uint16)
    return metres((deep >> 3 | deep << 13).astype(np.uint16), 1000.0, (0,))


def _places(root: Path) -> tuple[dict[str, tuple[str, str]], Path | None]:
    """{folder of a picture: (picture, depth map)}, all paths below root, and where the list of the splits is."""
    places, listing = {}, None
    for folder, inner, names in os.walk(root):
        if "allsplit.mat" in names:
            listing = Path(folder) / "allsplit.mat"
        if "intrinsics.txt" in names:
            pictures, depths = (
                _files(folder, names, "image", (".jpg", ".png")),
                _files(folder, names, "depth", (".png",)),
            )
            inner.clear()
            if len(pictures) != 1 or len(depths) != 1:
                raise InputError(
                    f"sunrgbd: {folder} has {len(pictures)} pictures and {len(depths)} depth maps, not one of each: "
                    "unpack it again."
                )
            below = os.path.relpath(folder, root)
            places[below] = (os.path.join(below, pictures[0]), os.path.join(below, depths[0]))
    return places, listing


def _files(folder: str, names: list[str], kind: str, suffixes: tuple[str, ...]) -> list[str]:
    """Files of kind/, or named kind_* where they lie loose."""
    inside = os.path.join(folder, kind)
    found: Iterator[str] = (
        (os.path.join(kind, name) for name in os.listdir(inside))
        if os.path.isdir(inside)
        else (name for name in names if name.startswith(f"{kind}_") and not name.startswith("depth_bfx"))
    )
    return [name for name in found if name.lower().endswith(suffixes)]


def _listed(path: Path, split: str) -> set[str]:
    """The folders of a split, from kv1, kv2, ... on."""
    try:
        listed = np.atleast_1d(read_matlab(path)[_SPLITS[split]])
        return {_below(str(place)) for place in listed.tolist()}
    except (ValueError, KeyError) as error:
        raise InputError(f"sunrgbd: {path} is no list of the splits ({error}): take the toolbox's again.") from None


def _below(place: str) -> str:
    """/n/fs/sun3d/data/SUNRGBD/kv2/kinect2data/0001/ and SUNRGBD/kv2/kinect2data/0001 -> kv2/kinect2data/0001."""
    parts = [part for part in place.replace(os.sep, "/").split("/") if part not in ("", ".")]
    start = parts.index("SUNRGBD") + 1 if "SUNRGBD" in parts else 0
    return "/".join(parts[start:])
