"""Groups of photographs of one thing under real changes: turned, lit otherwise, exposed otherwise, seen by two eyes.

A group is one object, scene or material; its views differ in one factor. Published layouts are read as released
[Ericsson 2022, code]; any folder of folders (group/view.png) is one too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.folder import Files, scan
from whytransfer.images.index import Index, Names, first_of, missing_path
from whytransfer.records import ImageSet

Members = Mapping[str, Sequence[str]]  # group -> paths of its views below the root
Matches = Callable[[Sequence[str]], Members]  # of all image paths below the root


@dataclass(frozen=True)
class Groups:
    """Images, and which of them (rows of `images`) each group has; one may be in several groups or in none."""

    name: str
    factor: str  # what differs within a group
    images: ImageSet
    groups: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Layout:
    """One published set: what differs, where its folder is looked for below ROOT, how paths make groups."""

    factor: str
    folders: tuple[str, ...]
    tree: str
    matches: Matches


def open_groups(spec: str) -> Groups:
    """The groups that a string names: NAME:ROOT of LAYOUTS, scenes:FACTOR:COUNT, or a folder of folders of views.

    Raises InputError for a missing folder, one without a group, and groups of fewer than two views.
    """
    kind, colon, rest = spec.partition(":")
    if kind == "scenes" and colon and not Path(spec).exists():
        return _generated(spec)
    if colon and kind in LAYOUTS and not Path(spec).exists():
        layout, root = LAYOUTS[kind], Path(rest).expanduser()
    else:
        if colon and not Path(spec).exists() and kind.replace("-", "_").isidentifier():
            raise unknown_name("layout of groups", kind, LAYOUTS)
        kind, layout, root = Path(spec).absolute().name, ANY, Path(spec).expanduser()
    if not root.exists():
        raise missing_path(root)
    if not root.is_dir():
        raise InputError(f"{root} is a file: groups are folders of views ({layout.tree})")
    root = next((root / sub for sub in layout.folders if (root / sub).is_dir()), root)
    folders = scan(root, Counter())
    paths = sorted(f"{folder}/{name}" if folder else name for folder, names in folders.items() for name in names)
    found = layout.matches(paths)
    if not found:
        seen = first_of(paths) if paths else "no image"
        raise InputError(f"{spec}: no group below {root}, which should hold {layout.tree}; found {seen}")
    alone = [group for group, views in found.items() if len(views) < 2]
    if alone:
        raise InputError(
            f"{spec}: {len(alone):,} of {len(found):,} groups have one view, which compares with nothing: "
            f"{first_of(alone)}. Leave them out, or complete the copy."
        )
    used = sorted({path for views in found.values() for path in views})
    row = {path: i for i, path in enumerate(used)}
    images = Files(root, Index(Names(used), np.full(len(used), -1, np.int64), ()), kind)
    rows = {group: np.array([row[path] for path in views], np.int64) for group, views in found.items()}
    return Groups(kind, layout.factor, images, rows)


def _generated(spec: str) -> Groups:
    """scenes:FACTOR:COUNT[:SEED[:SIZE]]: rendered things, each seen with 8 values of one latent factor."""
    from whytransfer.images.scene_views import VIEWS, open_scene_views

    images = open_scene_views(spec)
    rows = np.arange(len(images)).reshape(-1, VIEWS)
    return Groups(images.name, images.changes, images, {f"scene {i}": row for i, row in enumerate(rows)})


def _by(pattern: str, *parts: str) -> Matches:
    """Groups by named parts of a regular expression that the whole path fits; numbers lose their zeros."""
    compiled = re.compile(pattern, re.IGNORECASE)

    def matches(paths: Sequence[str]) -> Members:
        found: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            if fits := compiled.fullmatch(path):
                found[" ".join(f"{part} {fits[part].lstrip('0') or '0'}" for part in parts)].append(path)
        return found

    return matches


def _folders(paths: Sequence[str]) -> Members:
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, slash, _ = path.rpartition("/")
        if slash:
            found[folder].append(path)
    return found


def _stereo(paths: Sequence[str]) -> Members:
    """NNNN_L.png with NNNN_R.png of the same folder."""
    there = set(paths)
    lefts = [path for path in paths if re.fullmatch(r".*_L\.png", path, re.IGNORECASE)]
    return {p[:-6]: [q for q in (p, f"{p[:-6]}_{'R' if p[-5] == 'L' else 'r'}{p[-4:]}") if q in there] for p in lefts}


def _exposures(paths: Sequence[str]) -> Members:
    """The well exposed picture and all inputs whose name has the same beginning, up to the first "-"."""
    of: dict[str, list[str]] = {}
    for path in paths:
        if path.upper().startswith("GT_IMAGES/"):
            of.setdefault(_id(path), []).append(path)
    for path in paths:
        if path.upper().startswith("INPUT_IMAGES/") and _id(path) in of:
            of[_id(path)].append(path)
    return of


def _id(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0].partition("-")[0]


def _blurred(paths: Sequence[str]) -> Members:
    """scene/gt/*.png and scene/blur/*.png, paired in their sorted order; InputError where their numbers differ."""
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"gt": [], "blur": []})
    for path in paths:
        if fits := re.fullmatch(r"(.+)/(gt|blur)/[^/]+", path):
            sides[fits[1]][fits[2]].append(path)
    pairs = {}
    for scene, both in sides.items():
        if len(both["gt"]) != len(both["blur"]):
            raise InputError(
                f"realblur: {scene} has {len(both['gt'])} sharp and {len(both['blur'])} blurred pictures, which cannot "
                "be paired: complete the copy"
            )
        for i, pair in enumerate(zip(sorted(both["gt"]), sorted(both["blur"]), strict=True)):
            pairs[f"{scene} {i}"] = list(pair)
    return pairs


_ALOT = r"(?P<material>\d+)/\d+_c(?P<camera>[1-4])"
_LIGHTS = (1, 2, 3, 4, 5, 8)


def published_alot_viewpoint(paths: Sequence[str]) -> Members:
    """Each material under one light only, as the published code comes to have it: the light is material modulo 6."""
    groups = _by(_ALOT + r"l(?P<light>[123458])(r(60|120|180))?\.png", "material", "light")(paths)
    wanted = {f"material {m + 1} light {_LIGHTS[m % 6]}" for m in range(250)}
    return {group: views for group, views in groups.items() if group in wanted}


def _alot_temperature(paths: Sequence[str]) -> Members:
    """The reddish picture (i) and that with all lights (l8), of each camera."""
    return _by(_ALOT + r"(?P<light>i|l8)\.png", "material", "camera")(paths)


def _alot_illumination(paths: Sequence[str]) -> Members:
    """The six lights, of each rotation, camera and material; no rotation is written as no letter."""
    found: dict[str, list[str]] = defaultdict(list)
    compiled = re.compile(_ALOT + r"l[123458](?:r(?P<rotation>60|120|180))?\.png")
    for path in paths:
        if fits := compiled.fullmatch(path):
            found[f"material {fits['material']} camera {fits['camera']} rotation {fits['rotation'] or 0}"].append(path)
    return found


_NUMBER = r"(?P<object>\d+)"
ANY = Layout("view", (), "a folder of views for each group, group/view.png", _folders)
LAYOUTS: dict[str, Layout] = {
    "coil100": Layout(
        "viewpoint", ("COIL100", "coil-100"), "obj1__0.png ... obj100__355.png",
        _by(rf"obj{_NUMBER}__\d+\.png", "object"),
    ),
    "coil20": Layout(
        "viewpoint", ("COIL20", "coil-20-proc", "coil-20"), "obj1__0.png ... obj20__71.png",
        _by(rf"obj{_NUMBER}__\d+\.png", "object"),
    ),
    "aloi-viewpoint": Layout(
        "viewpoint", ("ALOI/viewpoint", "viewpoint"), "ID/ID_r*.png", _by(rf"{_NUMBER}/\d+_r\d+\.png", "object")
    ),
    "aloi-illumination": Layout(
        "light direction", ("ALOI/illumination", "illumination"), "ID/*l{1-8}c{1-3}.png",
        _by(rf"{_NUMBER}/[^/]*l[1-8]c(?P<camera>[1-3])\.png", "camera", "object"),
    ),
    "aloi-temperature": Layout(
        "light colour", ("ALOI/temperature", "temperature"), "ID/*.png", _by(rf"{_NUMBER}/[^/]+\.png", "object")
    ),
    "alot-viewpoint": Layout(
        "viewpoint", ("ALOT",), "ID/ID_c{1-4}l{1,2,3,4,5,8}[r60|r120|r180].png",
        _by(_ALOT + r"l(?P<light>[123458])(r(60|120|180))?\.png", "material", "light"),
    ),
    "alot-viewpoint-published": Layout(
        "viewpoint", ("ALOT",), "ID/ID_c{1-4}l{1,2,3,4,5,8}[r60|r120|r180].png", published_alot_viewpoint
    ),
    "alot-illumination": Layout(
        "light direction", ("ALOT",), "ID/ID_c{1-4}l{1,2,3,4,5,8}[r60|r120|r180].png", _alot_illumination
    ),
    "alot-temperature": Layout(
        "light colour", ("ALOT",), "ID/ID_c{1-4}i.png and ID/ID_c{1-4}l8.png", _alot_temperature
    ),
    "dali": Layout(
        "deformation", ("DaLI/input/png", "input/png"), "{01..12}/*.png", _by(rf"{_NUMBER}/[^/]+\.png", "object")
    ),
    "flickr1024": Layout("stereo", ("Flickr1024",), "SUBSET/NNNN_L.png and SUBSET/NNNN_R.png", _stereo),
    "exposure-errors": Layout("exposure", ("ExposureErrors",), "GT_IMAGES/*.jpg and INPUT_IMAGES/*.JPG", _exposures),
    "realblur": Layout(
        "blur",
        ("RealBlur/RealBlur-J_ECC_IMCORR_centroid_itensity_ref", "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"),
        "SCENE/gt/*.png and SCENE/blur/*.png", _blurred,
    ),
}  # fmt: skip


def as_published(spec: str, mode: str) -> str:
    """In mode paper ALOT's viewpoints are grouped as the published code comes to do it."""
    kind, colon, root = spec.partition(":")
    return f"{kind}-published:{root}" if mode == "paper" and colon and kind == "alot-viewpoint" else spec
