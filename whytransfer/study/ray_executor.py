"""Cells on a Ray cluster, needed only when it is asked for. All machines must share the disk of the study's folder.

A cell whose machine or process dies is started again on another one, in the same folder: a pretraining goes on from
its last checkpoint there.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Any

from whytransfer.errors import InputError
from whytransfer.study.executors import STOP_S
from whytransfer.study.running import Job, Outcome, run_cell

RETRIES = 5  # of a cell whose machine or process died; what raises an error is not run again


def on_ray(job: Job) -> Outcome:
    """One task of Ray: a quiet cell. What it says is in the cell's log."""
    from whytransfer import progress
    from whytransfer.memory import keep_freed_memory

    progress.be_quiet()
    keep_freed_memory()
    return run_cell(job)


class OnRay:
    """Runs cells on the cluster at `address` (None: one of this machine), `workers` at once if given.

    Each cell gets an equal part of the cluster's cores, or a GPU where it has any. InputError without Ray or without
    such a cluster.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--on ray needs Ray: pip install 'whytransfer[ray]'") from None
        self.ray = ray
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"--on {address}: no such cluster ({error}). Start one: ray start --head") from None
        has = ray.cluster_resources()
        cores, gpus = int(has.get("CPU", 1)), int(has.get("GPU", 0))
        self.most = workers or gpus or cores
        largest = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1)
        cpus = max(1, min(cores // self.most, largest))  # what no single machine has would be waited for for ever
        self.task = ray.remote(max_retries=RETRIES, num_cpus=cpus, num_gpus=min(1, gpus))(on_ray)
        self.running: dict[Any, tuple[str, float]] = {}

    def free(self) -> bool:
        """Whether another cell may be handed over."""
        return len(self.running) < self.most

    def start(self, job: Job) -> None:
        """Hand over a cell."""
        job = replace(job, at=job.at or os.getcwd(), argv=job.argv or tuple(sys.argv))
        self.running[self.task.remote(job)] = (job.cell.name, time.monotonic())

    def ended(self, wait_s: float) -> list[Outcome]:
        """What ended within the time."""
        if not self.running:
            return []
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=wait_s)
        return [self._outcome(task) for task in done]

    def _outcome(self, task: Any) -> Outcome:
        name, began = self.running.pop(task)
        try:
            return self.ray.get(task)
        except self.ray.exceptions.TaskCancelledError:
            return Outcome(name, "stopped", time.monotonic() - began)
        except self.ray.exceptions.RayTaskError as error:  # outside the stage, whose failures are outcomes
            return Outcome(name, "failed", time.monotonic() - began, f"its process could not run it: {error.cause!r}")
        except self.ray.exceptions.RayError as error:
            first = str(error).strip().split("\n")[0]
            message = f"its process or machine died {RETRIES + 1} times ({first})"
            return Outcome(name, "failed", time.monotonic() - began, message)

    def stop(self) -> list[Outcome]:
        """Interrupt what runs, and wait for it to save."""
        for task in self.running:
            self.ray.cancel(task)
        found, until = list[Outcome](), time.monotonic() + STOP_S
        while self.running and time.monotonic() < until:
            found += self.ended(0.5)
        return found

    def close(self) -> None:
        """Leave the cluster; one of this machine ends with it."""
        self.ray.shutdown()
