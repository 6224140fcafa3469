"""Every benchmark's own side runs, at a size that measures nothing: a benchmark nobody can run compares nothing."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]


def run(script, *arguments):
    """What a script prints, run as its command runs it but in this process: a new one would first import everything."""
    said, threads = io.StringIO(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        patch.syspath_prepend(str((ROOT / script).parent))  # as Python does for a script: read_out.py is beside others
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code
        finally:
            torch.set_num_threads(threads)
    return said.getvalue()


def run_alone(script, *arguments):
    """The same in a process of its own, for a script that sends itself signals."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(256):
        (folder / f"{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i % 2}" / f"{i}.jpg")
    return folder


@pytest.mark.slow
def test_pretraining_measures_our_side(photos):
    found = json.loads(run_alone("benchmarks/pretraining.py", "--images", photos, "--side", "ours", "--seconds", 0))
    assert found["end_to_end"] > 0 and found["share_of_ready"] == found["end_to_end"] / found["ready_tensors"]


def test_detcon_measures_our_side():
    found = json.loads(run("benchmarks/detcon.py", "--one", "loss-b", "ours", 4))
    assert found["seconds"] > 0 and found["value"] > 0


def test_regions_of_one_engine(photos):
    assert "grid:5" in run(
        "benchmarks/regions.py", "--images", photos, "--engines", "grid:5", "--count", 2, "--rounds", 1
    )


def test_scenes_and_startup():
    assert "images/s" in run("benchmarks/scenes.py", "--count", 32, "--threads", 2)
    assert "per million" in run("benchmarks/startup.py", "--small")


def test_shards_are_opened_and_read():
    said = run("benchmarks/shards.py", "--small")
    assert "state bytes per image" in said and "shards: " in said and "folder: " in said


def test_readouts_beside_scikit_learn():
    small = ("--repeats", 1, "--threads", 1, "--width", 8)
    said = run("benchmarks/readout.py", "--count", 400, "--warm", *small)
    assert "warm starts" in said and "ratio" in said.splitlines()[-1]
    assert "largest difference" in run("benchmarks/readout.py", "--part", "ridge", "--count", 90, *small)
    small = ("--repeats", 1, "--threads", 1, "--size", 16, "--images", 6, "--backbone", "random:resnet18-small")
    assert "share of the forward pass" in run("benchmarks/readout.py", "--part", "features", *small)


def test_inversions_beside_one_at_a_time():
    small = ("--narrow", "--size", 32, "--pictures", 2, "--steps", 2, "--threads", 1, "--double")
    said = run("benchmarks/inversion.py", "--backbone", "random:resnet18-small", *small)
    assert "ratio" in said and float(said.rsplit(" ", 1)[1]) < 1e-6  # the curves lie on top of each other


@pytest.mark.skipif(find_spec("lightly") is None, reason="compares with lightly (extra bench)")
def test_views_beside_lightly():
    assert "lightly" in run("benchmarks/views.py", "--count", 4, "--rounds", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "chosen"),
    [
        ("first_answer", ["--models", "supervised"]),
        ("methods", ["--models", "supervised"]),
        ("labels", ["--methods", "supervised-masks"]),
        ("tune_small", ["--models", "moco-v2-small"]),
        ("regions", ["--methods", "detcon-s-small", "--engines", "annotated"]),
        ("diagnosis", ["--cells", "fusion-distances", "--backbones", "a=random:resnet18:1", "b=random:resnet18:2"]),
    ],
)
def test_a_study_in_small(study, chosen, tmp_path):
    said = run(f"studies/{study}.py", "--out", tmp_path / "out", "--small", *chosen)  # no --data: nothing real is read
    assert chosen[1] in said and "top1" in said
