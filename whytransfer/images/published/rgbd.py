"""Any folder of pictures with 16-bit depth maps, 7-Scenes [Shotton 2013] among them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from whytransfer.errors import InputError
from whytransfer.images.index import Names
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.depth_maps import DepthMaps, metres
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, root_and_parts

LAYOUT = Layout(
    "rgbd",
    "ROOT/**/NAME.color.png (or .jpg) beside NAME.depth.png, as 7-Scenes has it; or ROOT/rgb/NAME.jpg (or color, "
    "image, images) and ROOT/depth/NAME.png; depth in grey PNG files of 16 bits",
    ("all",),
)
PER_METRE, INVALID = 1000.0, (0, 65535)  # millimetres; what Kinect and PrimeSense sensors write where they see nothing
_FOLDERS = ("rgb", "color", "image", "images")
_PICTURES = (".png", ".jpg", ".jpeg")


def rgbd(rest: str) -> AnnotatedFiles:
    """The set named "rgbd:ROOT[:PER_METRE[:INVALID]]": depth is value / PER_METRE metres, NaN for INVALID values.

    PER_METRE is 1000 (millimetres) and INVALID "0,65535" when not given. ROOT is the folder of one split.
    """
    root, parts = root_and_parts("rgbd", rest, ("PER_METRE", "INVALID"))
    per_metre, invalid = _numbers(rest, parts)
    pairs = sorted(_beside(root)) or sorted(_in_folders(root))
    if not pairs:
        raise LAYOUT.refusal(root, "any picture with a depth map")
    index, depth = unlabelled(Names(p for p, _ in pairs)), Names(d for _, d in pairs)
    decode = partial(metres, per_metre=per_metre, invalid=invalid)
    usual = (per_metre, invalid) == (PER_METRE, INVALID)
    name = f"rgbd/{root.absolute().name}" + ("" if usual else f":{per_metre:g}:{','.join(map(str, invalid))}")
    return AnnotatedFiles(root, index, name, DepthMaps(root, depth, decode))


def _numbers(rest: str, parts: list[str]) -> tuple[float, tuple[int, ...]]:
    try:
        per_metre = float(parts[0]) if parts and parts[0] else PER_METRE
        invalid = tuple(int(value) for value in parts[1].split(",") if value) if len(parts) > 1 else INVALID
    except ValueError:
        per_metre, invalid = 0.0, ()
    if not 0 < per_metre < float("inf") or not all(0 <= value < 65536 for value in invalid):
        raise InputError(
            f"rgbd:{rest} is not rgbd:ROOT[:PER_METRE[:INVALID]] with a positive number of units per metre and values "
            "of 0 to 65535 that mean no depth, such as rgbd:ROOT:1000:0,65535"
        )
    return per_metre, invalid


def _beside(root: Path) -> Iterator[tuple[str, str]]:
    """NAME.color.* and NAME.depth.png in the same folder, at any depth; pictures without a depth map are an error."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        there, below = set(names), os.path.relpath(folder, root)
        for name in names:
            stem, _, suffix = name.rpartition(".color.")
            if stem and not name.startswith(".") and f".{suffix.lower()}" in _PICTURES:
                if f"{stem}.depth.png" not in there:
                    raise LAYOUT.refusal(Path(folder), f"{stem}.depth.png, the depth map of {name},")
                inside = os.path.normpath(below)
                yield os.path.normpath(f"{inside}/{name}"), os.path.normpath(f"{inside}/{stem}.depth.png")


def _in_folders(root: Path) -> Iterator[tuple[str, str]]:
    pictures = next((name for name in _FOLDERS if (root / name).is_dir()), None)
    if pictures is None or not (root / "depth").is_dir():
        return
    there = set(os.listdir(root / "depth"))
    for name in os.listdir(root / pictures):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in _PICTURES and not name.startswith("."):
            if f"{stem}.png" not in there:
                raise LAYOUT.refusal(root / "depth", f"{stem}.png, the depth map of {pictures}/{name},")
            yield f"{pictures}/{name}", f"depth/{stem}.png"
