"""One string names a backbone everywhere: on the command line, in YAML and in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.checkpoints import SUFFIXES, load_checkpoint
from whytransfer.backbones.foreign import timm_backbone, torchvision_backbone
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.resnet import Arch, build, names
from whytransfer.errors import InputError, unknown_name

FORMS = (
    "a run folder",
    "a weight file (.pt, .pth, .tar, .ckpt, .bin, .safetensors)",
    "random:ARCH[:SEED]",
    "torchvision:NAME:WEIGHTS or torchvision:NAME:FILE",
    "timm:NAME or timm:NAME@FILE",
    "A+B, two or more of these side by side",
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
    if "+" in spec and not _names_a_file(rest):
        return _fused(members_of(spec))
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](rest)
    raise _unknown(spec)


def members_of(spec: str) -> list[str]:
    """The backbones of a fusion, "A+B" -> ["A", "B"]; a name that exists as a whole keeps its plus signs.

    Raises InputError for a sum with an empty part.
    """
    parts, found = spec.split("+"), list[str]()
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
    """Whether NAME:FILE or NAME@FILE ends in a file that exists (its path may hold any character, a plus too)."""
    return any(Path(rest.partition(mark)[2]).is_file() for mark in ":@")


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
    """The backbone of a run folder; that of an unfinished run is usable, and says so in its note."""
    card_path = folder / "card.json"
    if not card_path.is_file():
        raise InputError(f"{folder} is no run folder: it holds no card.json")
    try:
        card = json.loads(card_path.read_text())
    except ValueError as error:
        raise InputError(f"{card_path} is damaged: {error}") from None
    weights = [folder / name for name in ("backbone.safetensors", "checkpoint.pt") if (folder / name).is_file()]
    if not weights:
        raise InputError(f"the run in {folder} has saved no weights yet; repeat its command to go on with it")
    backbone, note = load_checkpoint(weights[0], build(card["arch"]) if "arch" in card else None)
    if "mean" in card:
        backbone.normalise_with(card["mean"], card["std"])
    unfinished = not card.get("finished", False) or weights[0].name == "checkpoint.pt"
    backbone.note = "; ".join(filter(None, ["unfinished run" if unfinished else "", note]))
    return backbone


def _random(rest: str) -> Backbone:
    """random:ARCH[:SEED], the same weights for the same seed on every machine."""
    name, _, seed = rest.partition(":")
    Arch.parse(name)
    if seed and not (seed.isdecimal() and len(seed) <= 20 and int(seed) < 2**64):
        raise InputError(f"random:{rest}: the seed must be a whole number under 2^64, got {seed!r}")
    torch.default_generator.manual_seed(int(seed or 0))
    return build(name)


_SCHEMES: dict[str, Callable[[str], Backbone]] = {
    "random": _random,
    "torchvision": torchvision_backbone,
    "timm": timm_backbone,
}
