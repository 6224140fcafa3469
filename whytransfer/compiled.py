"""Where compiled kernels are kept between processes: numba needs a folder it can write.

That is the package's own __pycache__. A read-only installation keeps them beside the pixel cache (WHYTRANSFER_CACHE,
else ~/.cache/whytransfer), and where that is read-only too, in a temporary folder of this user. NUMBA_CACHE_DIR wins.
Import this before the first `njit(cache=KEPT)`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba

SETTINGS: Any = numba.config
PACKAGE = Path(__file__).parent


def writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _elsewhere() -> Iterator[Path]:
    """Folders to try when the package's own cannot be written, best first."""
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path(os.environ.get("WHYTRANSFER_CACHE") or "~/.cache/whytransfer").expanduser() / "kernels"
    with contextlib.suppress(OSError):  # no temporary folders either
        folder = Path(tempfile.gettempdir()) / f"whytransfer-{os.getuid() if hasattr(os, 'getuid') else 'kernels'}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if _own(folder):
            yield folder


def _own(folder: Path) -> bool:
    """Whether nobody else can write to `folder`: compiled code is run as it is found."""
    found = folder.lstat()
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


def keep() -> bool:
    """Point numba to a folder that can be written; False when there is none and every process must compile again."""
    if SETTINGS.CACHE_DIR and writable(Path(SETTINGS.CACHE_DIR)):
        return True
    if all(writable(PACKAGE / stage / "__pycache__") for stage in ("images", "masks", "views")):
        return True
    chosen = next(filter(writable, _elsewhere()), None)
    if chosen is not None:
        os.environ["NUMBA_CACHE_DIR"] = SETTINGS.CACHE_DIR = str(chosen)  # numba reads its settings again and again
    return chosen is not None


KEPT = keep()
