"""Effects of claims (rows of claims.json) in words, the same in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whytransfer.progress import several
from whytransfer.report.numbers import interval_text, of_unit, plain


def effect_cells(effect: Mapping[str, Any]) -> tuple[str, str, str]:
    """Its name with the sign of the finding, its value with interval and seeds, what the paper has."""
    places, seeds = _places(effect), several(len(effect["seeds"]), "seed")
    known = effect["low"] is not None and effect["high"] is not None
    ends = interval_text((effect["low"], effect["high"]), places) if known else "no interval"
    ours = f"{plain(effect['value'], places)}{of_unit(effect['unit'])} {ends}, {seeds}"
    return f"{effect['name']} ({effect['sign']})", ours, str(effect["paper"])


def _places(effect: Mapping[str, Any]) -> int:
    size = max(abs(float(effect["value"])), 1e-9)
    return 2 if size < 100 else 0
