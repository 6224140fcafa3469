"""Where cells run on one machine: in this process, or in a pool of processes that share its cores or GPUs."""

from __future__ import annotations

import base64
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from whytransfer import progress
from whytransfer.study.running import Job, Outcome, run_cell

STOP_S = 120.0  # how long a stopped worker has to save
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class InProcess:
    """One cell after the other, here: progress bars and messages are those of the stages."""

    def __init__(self) -> None:
        self._ended: list[Outcome] = []

    def free(self) -> bool:
        return not self._ended

    def start(self, job: Job) -> None:
        outcome = run_cell(job)
        self._ended.append(outcome)
        if outcome.how == "stopped":
            raise KeyboardInterrupt

    def ended(self, wait_s: float) -> list[Outcome]:
        found, self._ended = self._ended, []
        return found

    def stop(self) -> list[Outcome]:
        return self.ended(0.0)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class Place:
    """What one worker of a pool may use."""

    threads: int
    gpu: str | None = None  # of CUDA_VISIBLE_DEVICES


def places(workers: int | None, cores: int, gpus: tuple[str, ...]) -> list[Place]:
    """One place per GPU where there are GPUs, else one per `workers`; the cores are shared out evenly, one at least."""
    if gpus:
        count = workers or len(gpus)
        return [Place(max(1, cores // count), gpus[i % len(gpus)]) for i in range(count)]
    count = workers or cores
    return [Place(max(1, cores // count)) for _ in range(count)]


class Pool:
    """Worker processes, each of which runs one cell at a time; messages of a cell go to its log.

    A worker that dies fails its cell, not the study: the next cell gets a new one. Ctrl-C reaches this process alone,
    which passes it on, so that each cell can save what it has.
    """

    def __init__(self, shares: list[Place]) -> None:
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._busy = 0
        self._workers = [_Worker(share, self._jobs, self._outcomes) for share in shares]

    def free(self) -> bool:
        return self._busy < len(self._workers)

    def start(self, job: Job) -> None:
        self._busy += 1
        self._jobs.put(replace(job, at=job.at or os.getcwd(), argv=job.argv or tuple(sys.argv)))

    def ended(self, wait_s: float) -> list[Outcome]:
        try:
            found = [self._outcomes.get(timeout=wait_s)]
        except queue.Empty:
            return []
        while not self._outcomes.empty():
            found.append(self._outcomes.get())
        self._busy -= len(found)
        return found

    def stop(self) -> list[Outcome]:
        """Ask what runs to save and end; whoever is not done after two minutes, or at a second Ctrl-C, is killed."""
        progress.say("stopping: what runs is saved (again to stop at once)")
        found: list[Outcome] = []
        until = time.monotonic() + STOP_S
        try:
            for worker in self._workers:
                worker.interrupt()
            while self._busy and time.monotonic() < until:
                found += self.ended(0.5)
        finally:
            self.close()
        return found

    def close(self) -> None:
        """End all workers."""
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.end()


class _Worker:
    """A thread that hands jobs to a process of its own and takes its answers."""

    def __init__(self, place: Place, jobs: queue.Queue[Job | None], outcomes: queue.Queue[Outcome]) -> None:
        self.place, self.jobs, self.outcomes = place, jobs, outcomes
        self.process: subprocess.Popen[str] | None = None
        self.interrupted = False
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def interrupt(self) -> None:
        self.interrupted = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """The process ends when its lines end; what still runs a cell is killed."""
        self.thread.join(timeout=1.0)
        if self.process is not None:
            if self.thread.is_alive():
                self.process.kill()
            self.process.wait()

    def _serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            self.outcomes.put(self._ask(job))
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def _ask(self, job: Job) -> Outcome:
        began = time.monotonic()
        if self.process is None or self.process.poll() is not None:
            self.process = _started(self.place)
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(sent(job) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return Outcome(**json.loads(line))
        status = self.process.wait()
        if self.interrupted:  # before its cell had begun
            return Outcome(job.cell.name, "stopped", time.monotonic() - began)
        message = f"its process ended with status {status} (negative: killed by that signal, 9 when memory runs out)"
        return Outcome(job.cell.name, "failed", time.monotonic() - began, message)


def _started(place: Place) -> subprocess.Popen[str]:
    """A worker in a session of its own: the terminal's Ctrl-C does not reach it, only ours does, and only once."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {name: str(place.threads) for name in THREADS}
    environment |= {} if place.gpu is None else {"CUDA_VISIBLE_DEVICES": place.gpu}
    command = [sys.executable, "-m", "whytransfer.study.worker"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def sent(job: Job) -> str:
    """A job as a line of text; `received` makes it a job again."""
    return base64.b64encode(pickle.dumps(job)).decode()


def received(line: str) -> Job:
    """What `sent` made; only for lines of the process that started this one, as pickle runs what it reads."""
    return pickle.loads(base64.b64decode(line))  # noqa: S301
