"""What a process may use of its machine: the cores it was given, bfloat16 instructions, memory and its peak.

glibc hands every large tensor back to the system when it is freed and gets zeroed pages for the next one. Training asks
for the same sizes at every step, so keeping them is free speed:
365 -> 417 images/s (docs/results/speed.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>


def usable_cores() -> int:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bf16(device: Any) -> bool:
    """Whether a torch.device has bfloat16 instructions, not an emulation."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test)() for test in tests if hasattr(torch.cpu, test))


def peak_mib(device: Any) -> float | None:
    """The most memory that was in use: of a GPU by this process's tensors, else by this process; None if not known.

    Since the process began: what it did before a run counts too.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform.startswith("linux"):  # getrusage begins with what the parent held when it started this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), None)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory in the process; whether it was understood (elsewhere nothing happens)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
