"""What the studies of pretrainings share: a logistic readout of a backbone on each image set, kept and printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import whytransfer


def read_out(backbone: str, sets: Mapping[str, tuple[str, str]], out: Path, name: str, size: int, seed: int) -> None:
    """{set: (train, test)} one after another, into OUT/SET-NAME; one that is there is only printed."""
    for data, (train, test) in sets.items():
        kept = out / f"{data}-{name}"
        if not (kept / "results.jsonl").exists():
            whytransfer.transfer(backbone=backbone, train=train, test=test, size=size, seed=seed, out=kept)
        for r in map(json.loads, (kept / "results.jsonl").read_text().splitlines()):
            value = f"{r['value']:6.2f} {r['unit']} [{r['low']:.2f}, {r['high']:.2f}]"
            print(f"{data:18} {r['metric']:15} {backbone:44} {value}", flush=True)
