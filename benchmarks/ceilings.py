"""What one core of this machine can do at most: operations a second, bytes a second. Floors are counted with these.

    python benchmarks/ceilings.py            (ten seconds, one core; used by docs/performance.md)

Multiplying: PyTorch's product of two square matrices, float32 and bfloat16, and NumPy's in float64; 2 n^3 operations.
Moving: copying an array far larger than any cache, read and written once each. Random reading: a gather of single
floats out of 256 MiB, whose cost is a cache miss each. Processor time, the best of the rounds, since a ceiling is what
was ever reached.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
import torch


def best(work: Callable[[], object], rounds: int) -> float:
    """Least processor seconds of a call, after one that is not counted."""
    work()
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of each; the best counts (7)")
    parser.add_argument("--side", type=int, default=1536, help="of the matrices (1536)")
    parser.add_argument("--mib", type=int, default=256, help="of the array that is moved (256)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    n, g = args.side, torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(n, n, generator=g).to(kind) for _ in range(2))
        seconds = best(functools.partial(torch.matmul, a, b), args.rounds)
        print(f"product of matrices, {str(kind).removeprefix('torch.')}: {2e-9 * n**3 / seconds:.0f} Gop/s of one core")
    x = np.random.default_rng(0).standard_normal((n, n))
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        print(f"product of matrices, float64: {2e-9 * n**3 / best(lambda: x @ x, args.rounds):.0f} Gop/s of one core")
    array = torch.zeros(args.mib * 2**18)
    other = torch.empty_like(array)
    seconds = best(lambda: other.copy_(array), args.rounds)
    print(f"copy: {2 * array.numel() * 4e-9 / seconds:.1f} GB/s read and written")
    places = torch.randint(len(array), (2**20,), generator=g)
    seconds = best(lambda: array[places], args.rounds)
    print(f"random reading: {seconds / len(places) * 1e9:.1f} ns each")


if __name__ == "__main__":
    main()
