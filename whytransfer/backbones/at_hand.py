"""Backbones that lie in a folder: finished runs, runs under way, exports, and files of weights."""

from __future__ import annotations

import os
from pathlib import Path

from whytransfer.backbones.checkpoints import SUFFIXES
from whytransfer.backbones.load import WEIGHTS
from whytransfer.errors import InputError
from whytransfer.images.index import missing_path

DEPTH = 5  # folders below the one given


def backbones_below(folder: Path | str) -> list[str]:
    """The backbone strings of every run folder, export and weight file below a folder, sorted; nothing is loaded.

    A run folder is one with card.json and weights; what lies in it is not looked at again. Hidden folders are passed
    over, links to folders are not followed, and folders more than DEPTH deep are not looked at. InputError for a
    missing folder.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise missing_path(root)
    if not root.is_dir():
        raise InputError(f"{root} is a file; --candidates takes folders to look in, --backbone takes a file of weights")
    found: list[str] = []
    for place, folders, files in os.walk(root):
        here = Path(place)
        if "card.json" in files:
            folders.clear()
            found += [str(here)] if any(name in files for name in WEIGHTS) else []
            continue
        deep = len(here.relative_to(root).parts) >= DEPTH
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        found += [str(here / name) for name in files if name.endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found)
