"""What all tests share: two processes, at most two threads in all, a cache folder of their own, photos, real data."""

from __future__ import annotations

import os
from pathlib import Path

# Before PyTorch reads it: its idle threads sleep instead of spinning, so tests run well beside others on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
import torch
from PIL import Image

from whytransfer import progress

# More threads than cores make oneDNN's kernels twenty times slower: they wait for each other by spinning.
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if processes > 1:  # the commands that tests start are to share the cores as well
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, min(2, cores // processes))))
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 0)) or min(2, cores))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """All tests are shared by two processes, file by file (so are the fixtures of a file); files named run in this one.

    Without pytest-xdist, with -p no:xdist or with -n 0, there is one process.
    """
    if "PYTEST_XDIST_WORKER" in os.environ or not config.pluginmanager.hasplugin("xdist") or cores < 2:
        return  # one of the two asks here as well
    option, everything = config.option, config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if everything and option.numprocesses is None and not option.usepdb and not option.collectonly:
        option.numprocesses, option.dist = 2, "loadfile"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Pixel caches of tests never meet those of the user."""
    before = os.environ.get("WHYTRANSFER_CACHE")
    os.environ["WHYTRANSFER_CACHE"] = str(tmp_path_factory.mktemp("whytransfer-cache"))
    yield
    if before is None:
        del os.environ["WHYTRANSFER_CACHE"]
    else:
        os.environ["WHYTRANSFER_CACHE"] = before


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory):
    """Where Python may not keep bytecode, the commands that tests start share a folder of it: each starts in a third of
    the time."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("bytecode"))


@pytest.fixture(autouse=True)
def _nobody_stays_quiet():
    """A script that silences its process does so for its own test."""
    yield
    progress.be_quiet(False)


@pytest.fixture
def real_data() -> Path:
    """The folder of small real data sets (WHYTRANSFER_DATA, or shared/data beside the repository); skips without it."""
    folder = Path(os.environ.get("WHYTRANSFER_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set WHYTRANSFER_DATA to a folder that holds them")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three classes with four generated pictures each, JPEG and PNG, of unequal sizes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog", "fox")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            height, width = 24 + 4 * i, 32 + 4 * label
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "photos" / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return tmp_path / "photos"
