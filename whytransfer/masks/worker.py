"""A worker process of `making`: python -m whytransfer.masks.worker, one JSON line in, one out, until "end".

Ctrl-C reaches the caller, which then sends "end"; when the caller is killed the lines end. Either way what was made is
written before the process goes.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from whytransfer import progress
from whytransfer.masks.making import answers
from whytransfer.memory import keep_freed_memory


def main() -> None:
    """Answer lines of standard input; nothing else reaches standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress.be_quiet()
    keep_freed_memory()  # a third of the time of a Felzenszwalb segmentation otherwise
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # whatever prints, prints to standard error
        for answer in answers(sys.stdin):
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
