"""Visual pretraining that explains itself: pretrain, transfer, diagnose, report.

The commands as functions: `pretrain`, `transfer`, `export`, `pack`, `show_views`, `show_masks`, `make_masks`,
`masks_quality`, `rank_masks`, `diagnose_invariance`, `diagnose_errors`, `diagnose_inversion`,
`diagnose_complementarity`, `run_study`, `results`, `run_claims`, `write_report`, `advise`, `doctor`, `demo`; and
`load_backbone("SPEC")`.
They are imported when first used, so that `whytransfer --help` need not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_FUNCTIONS = {
    "pretrain": "whytransfer.commands.pretrain",
    "transfer": "whytransfer.commands.transfer",
    "export": "whytransfer.commands.export",
    "pack": "whytransfer.commands.pack",
    "show_views": "whytransfer.commands.show",
    "show_masks": "whytransfer.commands.show_masks",
    "make_masks": "whytransfer.commands.masks",
    "masks_quality": "whytransfer.commands.masks_quality",
    "rank_masks": "whytransfer.commands.rank",
    "diagnose_invariance": "whytransfer.commands.diagnose_invariance",
    "diagnose_inversion": "whytransfer.commands.diagnose_inversion",
    "diagnose_complementarity": "whytransfer.commands.diagnose_complementarity",
    "diagnose_errors": "whytransfer.commands.diagnose_errors",
    "run_study": "whytransfer.commands.study",
    "results": "whytransfer.commands.results",
    "run_claims": "whytransfer.commands.claims",
    "write_report": "whytransfer.commands.report",
    "doctor": "whytransfer.commands.doctor",
    "advise": "whytransfer.commands.advise",
    "demo": "whytransfer.commands.demo",
    "load_backbone": "whytransfer.backbones.load",
}

__all__ = sorted(_FUNCTIONS)


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'whytransfer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FUNCTIONS]
