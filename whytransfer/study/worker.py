"""A worker process of `executors.Pool`: python -m whytransfer.study.worker, one job per line in, one outcome out.

Its stage's output goes to the log of the cell. Ctrl-C, passed on by the caller, stops the cell and not the process;
when the caller is gone the lines end, and the process after its cell.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

from whytransfer import progress
from whytransfer.memory import keep_freed_memory
from whytransfer.study.executors import received
from whytransfer.study.running import Job, Outcome, run_cell


def main() -> None:
    """Answer lines of standard input; nothing else reaches the caller's pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress.be_quiet()  # what is said goes to the log of its cell alone
    keep_freed_memory()
    with os.fdopen(os.dup(1), "w") as out:
        for line in sys.stdin:
            outcome = logged(received(line))
            out.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
            out.flush()


def logged(job: Job) -> Outcome:
    """Run a cell with standard output and error in its log; Ctrl-C counts only meanwhile."""
    folder = Path(job.at, job.store, "cells", job.key)
    folder.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with open(folder / "log.txt", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run_cell(job)
    except KeyboardInterrupt:  # before or after the stage itself
        return Outcome(job.cell.name, "stopped")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    main()
