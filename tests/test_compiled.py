"""Compiled kernels in a read-only installation: kept somewhere else, or compiled again, but never a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import whytransfer
from whytransfer import compiled

COMPILE = """
from whytransfer import compiled
import whytransfer.images.scene_render
from whytransfer.views import fused
assert fused._mirror(-2, 5) == 2
print(compiled.KEPT)
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package where nothing can be written beside the source (a file in the way stops root as well)."""
    package = tmp_path / "site" / "whytransfer"
    shutil.copytree(Path(whytransfer.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for stage in ("images", "masks", "views"):
        (package / stage / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    return package.parent


def kept(installed, **environment):
    """What a new process says, with a home that cannot be written."""
    base = installed.parent
    given = {"HOME": str(base / "file"), "TMPDIR": str(base / "temporary"), "PYTHONPATH": str(installed)}
    given |= {"XDG_CACHE_HOME": str(base / "file"), **environment}
    inherited = {k: v for k, v in os.environ.items() if k not in ("WHYTRANSFER_CACHE", "NUMBA_CACHE_DIR")}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=inherited | given, cwd=base, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "True"


def test_a_read_only_installation_keeps_kernels_in_the_cache_folder(installed, tmp_path):
    assert kept(installed, WHYTRANSFER_CACHE=str(tmp_path / "cache"))
    assert list((tmp_path / "cache" / "kernels").rglob("*.nbi")) and not list((tmp_path / "temporary").rglob("*.nbi"))


def test_without_a_home_kernels_go_to_a_temporary_folder_that_others_cannot_write(installed, tmp_path):
    assert kept(installed)
    (folder,) = (p for p in (tmp_path / "temporary").iterdir() if p.name.startswith("whytransfer-"))
    assert list(folder.rglob("*.nbi")) and not folder.stat().st_mode & 0o077


def test_a_temporary_folder_that_others_can_write_is_not_trusted(installed, tmp_path):
    folder = tmp_path / "temporary" / f"whytransfer-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    assert not kept(installed) and not list(folder.iterdir())


def test_writable_means_that_a_file_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    assert compiled.writable(tmp_path / "new" / "deep") and not compiled.writable(tmp_path / "file" / "below")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
