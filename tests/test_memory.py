"""Freed memory is kept: asking for the same size again takes no new pages; cores are those that were given."""

import os
import subprocess
import sys

import pytest

from whytransfer.images import build, content
from whytransfer.memory import usable_cores
from whytransfer.views import engine

CODE = """
import resource, torch
from whytransfer.memory import keep_freed_memory
kept = {keep} and keep_freed_memory()
def touch(): torch.ones(16 * 2**20)  # 64 MiB
for _ in range(10): touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_the_same_size_again_takes_no_new_pages():
    def faults(keep: bool) -> tuple[int, bool]:
        code = CODE.format(keep=keep)
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        return int(out[0]), out[1] == "True"

    (without, _), (kept, understood) = faults(False), faults(True)
    assert understood and kept < 100 < without


def test_the_peak_grows_by_what_was_held_and_stays():
    code = (
        "import numpy as np, torch; from whytransfer.memory import peak_mib; cpu = torch.device('cpu');"
        "before = peak_mib(cpu); held = np.ones(50 * 2**20); del held; print(peak_mib(cpu) - before)"
    )
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 300 < grown < 410  # 400 MiB of float64, less what importing took for a moment


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system gives no process fewer cores")
def test_cores_are_those_given_to_the_process_and_counted_in_one_place():
    given = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(given)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, given)
    assert usable_cores() == len(given)
    assert all(module.usable_cores is usable_cores for module in (build, content, engine))
