"""`moco:FILE`, `swav:FILE` ... -> a ResNet that sees images as its publisher's did: see origins.py for the facts.

Strict about every key: the ResNet must be where the origin keeps it, all of it, and what lies beside it must be known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from whytransfer.backbones import haiku
from whytransfer.backbones.checkpoints import (
    find_trunks,
    from_sequential,
    infer_arch,
    left_aside,
    load_into,
    read_tensors,
    told,
    unfilled,
)
from whytransfer.backbones.geometry import Geometry
from whytransfer.backbones.origins import LIGHTLY_IN_A_ROW, ORIGINS, SMALL_STEMS, Origin
from whytransfer.backbones.resnet import ResNet
from whytransfer.errors import InputError

_IN_A_ROW = {"0": "conv1", "1": "bn1", "2": "layer1", "3": "layer2", "4": "layer3", "5": "layer4"}


def origin_backbone(name: str, file: str) -> ResNet:
    """The ResNet of a published file, normalising, padding and striding as its origin did.

    `.note` says where in the file it was and what was left aside. Raises InputError when the file has no ResNet where
    `name` keeps it, or holds what files of `name` do not.
    """
    origin, path = ORIGINS[name], Path(file)
    if not file:
        raise InputError(f"{name}: needs a file: {name}:FILE")
    geometry: Geometry | None
    if path.suffix in haiku.SUFFIXES and name in ("byol", "detcon"):
        trunk, aside = haiku.read_haiku(path)
        prefix, geometry = "", origin.geometry
    else:
        prefix, trunk, aside, geometry = _trunk_of(name, origin, path)
    _refuse_strangers(name, origin, aside, path)
    arch = infer_arch(trunk, path)
    facts = SMALL_STEMS.get(name, origin) if arch.small else origin
    backbone = (geometry or facts.geometry).apply(unfilled(arch))
    load_into(backbone, trunk, path)
    backbone.normalise_with(facts.mean, facts.std)
    backbone.note = "; ".join(filter(None, [told(prefix, aside, trunk), facts.note]))
    return backbone


def _trunk_of(name: str, origin: Origin, path: Path) -> tuple[str, dict[str, Tensor], list[str], Geometry | None]:
    """Prefix, tensors under our names, what is left aside, and the geometry where the file's layout decides it."""
    tensors = read_tensors(path)
    if origin.rename:
        tensors = {origin.rename(key): value for key, value in tensors.items()}
    in_a_row = _lightly_in_a_row(tensors) if name == "lightly" else {}
    found = {**find_trunks(tensors), **in_a_row}
    here = [prefix for prefix in found if re.fullmatch(origin.prefix, prefix)]
    if not here and origin.or_else:
        here = [prefix for prefix in found if re.fullmatch(origin.or_else, prefix)]
    if len(here) != 1:
        raise _not_there(name, here, list(found), tensors, path)
    prefix = here[0]
    trunk = found[prefix]
    geometry = LIGHTLY_IN_A_ROW if prefix in in_a_row else None
    return prefix, trunk, left_aside(tensors, trunk, prefix), geometry


def _lightly_in_a_row(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`nn.Sequential(*resnet.children())` of lightly's own ResNet, whose ReLU is no module."""
    ends = "2.0.conv1.weight"
    prefixes = [key.removesuffix(ends) for key in tensors if key.endswith(f".{ends}")]
    return {p: from_sequential(tensors, p, _IN_A_ROW) for p in prefixes if f"{p}0.weight" in tensors}


def _refuse_strangers(name: str, origin: Origin, aside: list[str], path: Path) -> None:
    strangers = [key for key in aside if origin.beside is not None and key not in origin.beside]
    if strangers:
        raise InputError(
            f"{path} holds what no {name} file does, beside its ResNet: {', '.join(strangers[:8])}. {name}: is "
            f"{origin.published_by}. Name its true origin ({', '.join(ORIGINS)}), or give the file alone to take any "
            "ResNet in it as torchvision's."
        )


def _not_there(name: str, here: list[str], found: list[str], tensors: Mapping[str, Tensor], path: Path) -> InputError:
    if here:
        return InputError(f"{path} holds {len(here)} ResNets where {name} keeps one: {', '.join(map(repr, here))}")
    some = ", ".join(list(tensors)[:4]) or "none at all"
    elsewhere = f"it has one under {', '.join(map(repr, found))}" if found else f"its first tensors are {some}"
    return InputError(
        f"{path} holds no ResNet where {name} keeps it ({ORIGINS[name].published_by}); {elsewhere}. Name its true "
        f"origin ({', '.join(ORIGINS)}), or give the file alone to take any ResNet in it as torchvision's."
    )
