"""MATLAB files of annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_matlab(path: Path, squeeze: bool = True) -> dict[str, Any]:
    """The variables of a file by name, without axes of one entry if squeezed; ValueError for a damaged file."""
    from scipy.io import loadmat

    try:
        return loadmat(path, squeeze_me=squeeze)
    except Exception as error:  # scipy's reader fails in many ways, some of its own kind: none is ours
        raise ValueError(f"{path} cannot be read as a MATLAB file: {error}") from None
