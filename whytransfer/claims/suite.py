"""The studies of the claims: each claim's own, as a mapping of a study file, and all of a scale joined into one.

All claims of a scale take backbones and tasks from one Setup, so what two of them need is one cell and is run once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whytransfer.claims.claim import SCALES, Claim, Scale
from whytransfer.claims.models import models, named
from whytransfer.claims.setup import Setup
from whytransfer.claims.setup_full import FULL
from whytransfer.claims.setup_small import DEMO, GPU, LAPTOP
from whytransfer.errors import InputError, unknown_name

SETUPS: dict[Scale, Setup] = {"demo": DEMO, "laptop": LAPTOP, "gpu": GPU, "full": FULL}
Study = dict[str, Any]


def setup_of(scale: Scale) -> Setup:
    """What the claims of a scale share; InputError for a scale that does not exist."""
    if scale not in SETUPS:
        raise unknown_name("scale", scale, SCALES)
    return SETUPS[scale]


def study(
    scale: Scale, backbones: Iterable[str], tasks: Iterable[str] = (), diagnoses: Mapping[str, Any] | None = None
) -> Study:
    """The study of these backbones (names of `models`) and tasks (of the Setup), and of diagnoses as they are given.

    Tasks and diagnoses of backbones are for these backbones alone, so that studies can be joined.
    """
    setup = setup_of(scale)
    known, names = models(setup), list(dict.fromkeys(named(setup, name) for name in backbones))
    return {
        "seeds": list(setup.seeds),
        "values": {"data": "data"},
        "pretrain": dict(setup.pretrain),
        "backbones": {name: known[name] for name in names},
        "tasks": {name: {**setup.tasks[name], "backbones": names} for name in tasks},
        "diagnoses": {
            name: settings if settings["diagnose"] == "masks" else {**settings, "backbones": names}
            for name, settings in (diagnoses or {}).items()
        },
    }


def joined(studies: Iterable[Study]) -> Study:
    """One study of several of a scale: backbones of all, each task on those of any that asked for it.

    ValueError where two mean different things by one name, which is a mistake in a claim.
    """
    whole: Study = {}
    for one in studies:
        for key in ("seeds", "values", "pretrain"):
            _same(key, whole.setdefault(key, one[key]), one[key])
        for name, settings in one["backbones"].items():
            _same(name, whole.setdefault("backbones", {}).setdefault(name, settings), settings)
        for part in ("tasks", "diagnoses"):
            items = whole.setdefault(part, {})
            for name, item in one[part].items():
                items[name] = _widened(name, items[name], item) if name in items else dict(item)
    return whole


def of_claims(claims: Iterable[Claim], scale: Scale, data: str | Path) -> Study:
    """The joined study of some claims, with the folder of the image sets; claims that the scale lacks data for are out.

    InputError where none is left.
    """
    asked = list(claims)
    able = [claim for claim in asked if scale not in claim.lacking]
    if not able:
        raise InputError(f"scale {scale}: " + "; ".join(f"{c.id}: {c.lacking[scale]}" for c in asked))
    whole = joined(claim.study(scale) for claim in able)
    return {"study": f"claims-{scale}", **whole, "values": {"data": str(data)}}


def _widened(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """An item for the backbones of both."""
    mine, others = ({k: v for k, v in item.items() if k != "backbones"} for item in (one, other))
    _same(name, mine, others)
    if "backbones" not in one:
        return dict(one)
    return {**mine, "backbones": list(dict.fromkeys([*one["backbones"], *other["backbones"]]))}


def _same(name: str, one: Any, other: Any) -> None:
    if one != other:
        raise ValueError(f"two claims mean different things by {name!r}: {one} and {other}")
