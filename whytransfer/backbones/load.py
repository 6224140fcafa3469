"""One string names a backbone everywhere: on the command line, in YAML and in Python."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.checkpoints import SUFFIXES, load_checkpoint
from whytransfer.backbones.detectron2 import SCHEMES as DETECTRON2
from whytransfer.backbones.detectron2 import detectron2_backbone
from whytransfer.backbones.foreign import timm_backbone, torchvision_backbone
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.geometry import Geometry
from whytransfer.backbones.importing import origin_backbone
from whytransfer.backbones.origins import ORIGINS
from whytransfer.backbones.recorded import verify
from whytransfer.backbones.resnet import Arch, build, names
from whytransfer.backbones.standardised import SCHEME, Standardised
from whytransfer.errors import InputError, unknown_name
from whytransfer.parsing import json_of

FORMS = (
    "a run folder",
    "a weight file (.pt, .pth, .tar, .ckpt, .bin, .safetensors)",
    "random:ARCH[:SEED]",
    "torchvision:NAME:WEIGHTS or torchvision:NAME:FILE",
    "timm:NAME or timm:NAME@FILE",
    f"ORIGIN:FILE, published weights of {', '.join(ORIGINS)}, detectron2",
    "a folder that `whytransfer export` wrote",
    "A+B, two or more of these side by side",
    f"{SCHEME}A+B, the same with each of them scaled to equal variance",
)


def load_backbone(spec: str | Path, device: torch.device | str = "cpu", frozen: bool = True) -> Backbone:
    """The backbone that a string names, in eval mode; `frozen` leaves no parameter asking for a gradient.

    load_backbone("random:resnet18-small:7")(images in [0, 1], (B, 3, H, W)).vector is (B, 512).
    Raises InputError for a name, file or folder that cannot be a backbone; the message lists what can.
    """
    spec = str(spec)
    with torch.random.fork_rng(devices=[]):  # building draws random numbers; those of the caller stay as they were
        backbone = _load(spec)
    backbone.spec = spec
    backbone.requires_grad_(not frozen)
    return backbone.eval().to(device)


def _load(spec: str) -> Backbone:
    path = Path(spec)
    if path.is_dir():
        return _from_run(path)
    if path.is_file():
        return _from_file(path)
    scheme, colon, rest = spec.partition(":")
    if "+" in spec and not spec.startswith(SCHEME) and not _names_a_file(rest):
        return _fused(members_of(spec))
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](rest)
    raise _unknown(spec)


def members_of(spec: str) -> list[str]:
    """The backbones of a fusion, "A+B" or "standardised:A+B" -> ["A", "B"]; a name that exists keeps its plus signs.

    Raises InputError for a sum with an empty part.
    """
    parts, found = spec.removeprefix(SCHEME).split("+"), list[str]()
    while parts:  # the longest beginning that is there is one member: runs/a+b+random:resnet18, where runs/a+b exists
        ends = [n for n in range(len(parts), 0, -1) if _is_there("+".join(parts[:n]))]
        n = ends[0] if ends else 1
        found.append("+".join(parts[:n]).strip())
        parts = parts[n:]
    if not all(found):
        raise InputError(f"{spec!r} is no fusion: a part of the sum is empty. Write A+B.")
    return found


def _is_there(part: str) -> bool:
    return Path(part.strip()).exists() or _names_a_file(part.strip().partition(":")[2])


def _fused(specs: list[str]) -> Fused:
    members = []
    for spec in specs:
        member = _load(spec)
        member.spec = spec
        members.append(member)
    return Fused(members)


def _names_a_file(rest: str) -> bool:
    """Whether what follows SCHEME: is a file that exists, or NAME:FILE or NAME@FILE ends in one.

    Its path may hold any character, a plus too.
    """
    return bool(rest) and any(Path(file).is_file() for file in (rest, rest.partition(":")[2], rest.partition("@")[2]))


def _unknown(spec: str) -> InputError:
    if spec in names():
        return InputError(
            f"{spec!r} is an architecture; a backbone needs weights too: random:{spec} for untrained ones"
        )
    if Path(spec).suffix in SUFFIXES or "/" in spec:
        return InputError(f"no backbone at {spec}: there is no such file or folder")
    if ":" in spec:
        return unknown_name("kind of backbone", spec.partition(":")[0], _SCHEMES)
    return InputError(
        f"unknown backbone {spec!r}: there is no file or folder of that name here. It can be {'; '.join(FORMS)}."
    )


def _from_file(path: Path) -> Backbone:
    backbone, note = load_checkpoint(path)
    backbone.note = note
    return backbone


def _from_run(folder: Path) -> Backbone:
    """The backbone of a run folder or an export; that of an unfinished run is usable, and says so in its note.

    Where the card has a record of features, those of the loaded backbone are compared with it.
    """
    card = _card_of(folder)
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        if (folder / "model.onnx").is_file():
            raise InputError(f"{folder} is an export for ONNX, which runs but does not load as a backbone here")
        raise InputError(f"the run in {folder} has saved no weights yet; repeat its command to go on with it")
    path = found[0]
    backbone, note = _of_card(card, path)
    if "mean" in card:
        backbone.normalise_with(card["mean"], card["std"])
    if "recorded" in card:
        verify(backbone.eval(), card["recorded"], str(folder))
    unfinished = not card.get("finished", False) or path.name == "checkpoint.pt"
    backbone.note = "; ".join(filter(None, ["unfinished run" if unfinished else "", card.get("note", ""), note]))
    return backbone


def _card_of(folder: Path) -> Mapping[str, Any]:
    card_path = folder / "card.json"
    if not card_path.is_file():
        raise InputError(f"{folder} is no run folder: it holds no card.json")
    try:
        card = json_of(card_path.read_text())
    except ValueError as error:
        raise InputError(f"{card_path} is damaged: {error}") from None
    if not isinstance(card, dict):
        raise InputError(f"{card_path} is damaged: it holds no settings by name")
    return card


def _of_card(card: Mapping[str, Any], path: Path) -> tuple[Backbone, str]:
    """The backbone that a card and its file of weights describe, and a note on the file."""
    if card.get("collection") == "timm":
        return timm_backbone(f"{card['arch']}@{path}"), ""
    if card.get("collection") == "torchvision":
        return torchvision_backbone(f"{card['arch']}:{path}"), ""
    if card.get("format") == "detectron2":
        return detectron2_backbone("detectron2", str(path)), ""
    backbone = build(card["arch"]) if "arch" in card else None
    if backbone and "geometry" in card:
        try:
            backbone = Geometry(**card["geometry"]).apply(backbone)
        except TypeError as error:
            raise InputError(f"{path.parent / 'card.json'} is damaged: {error}") from None
    return load_checkpoint(path, backbone)


def _random(rest: str) -> Backbone:
    """random:ARCH[:SEED], the same weights for the same seed on every machine."""
    name, _, seed = rest.partition(":")
    Arch.parse(name)
    if seed and not (seed.isdecimal() and len(seed) <= 20 and int(seed) < 2**64):
        raise InputError(f"random:{rest}: the seed must be a whole number under 2^64, got {seed!r}")
    torch.default_generator.manual_seed(int(seed or 0))
    return build(name)


WEIGHTS = ("backbone.safetensors", "model.safetensors", "model.pth", "checkpoint.pt")  # of runs, of exports
_SCHEMES: dict[str, Callable[[str], Backbone]] = {
    SCHEME[:-1]: lambda rest: Standardised(_fused(members_of(rest))),
    "random": _random,
    "torchvision": torchvision_backbone,
    "timm": timm_backbone,
    **{name: functools.partial(origin_backbone, name) for name in ORIGINS},
    **{name: functools.partial(detectron2_backbone, name) for name in DETECTRON2},
}
