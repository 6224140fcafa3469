"""Freed memory is kept: asking for the same size again takes no new pages from the system."""

import subprocess
import sys

import pytest

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
