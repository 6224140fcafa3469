"""What a task leaves behind besides its Results: the state of its fits and the predictions that a diagnosis reads.

Both lie below the folder of the results, named by everything that decides them, so that two settings never meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whytransfer.errors import InputError
from whytransfer.files import atomic_write


def folder_of(out: Path | None, task: str, settings: Mapping[str, Any]) -> Path | None:
    """The folder of one fit below `out`; None where nothing is to be kept."""
    if out is None:
        return None
    text = json.dumps(settings, sort_keys=True, default=str)
    return out / f"{task}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def keep(folder: Path | None, **arrays: Any) -> str | None:
    """Write predictions.npz into a fit's folder; returns its path below the results, for a Result's provenance."""
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: np.asarray(array) for name, array in arrays.items()}
    atomic_write(folder / "predictions.npz", lambda file: np.savez_compressed(file, **content))  # type: ignore[arg-type]
    return f"{folder.name}/predictions.npz"


def read(results: Path, where: str) -> dict[str, np.ndarray]:
    """The arrays behind a Result, by its `predictions` and the folder of results.jsonl; InputError without them."""
    path = results / where
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"no predictions can be read from {path}: {error}") from None
