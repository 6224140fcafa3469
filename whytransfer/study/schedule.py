"""Many cells, each started when what it needs is there and a place is free; what fails stops only what needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from whytransfer import progress
from whytransfer.study.running import Job, Outcome
from whytransfer.study.status import Entry

AGAIN_S = 2.0  # how long until a cell that another process holds is asked for again


class Executor(Protocol):
    """Where cells run. `start` may return at once, or when its cell has ended; `ended` waits a while for one."""

    def free(self) -> bool: ...
    def start(self, job: Job) -> None: ...
    def ended(self, wait_s: float) -> list[Outcome]: ...
    def stop(self) -> list[Outcome]: ...
    def close(self) -> None: ...


@dataclass
class Ended:
    """What became of the cells: name -> outcome; `left`: name -> why it was not run."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[Outcome]:
        """What was run and did not finish; also what someone else stopped."""
        return [outcome for outcome in self.outcomes.values() if outcome.how not in ("finished", "there")]


class Schedule:
    """Runs the unfinished of some entries on an executor; `job` makes what is sent to it.

    `seconds(entry)` is what a cell is expected to take, None where that is not known; with a budget, a cell that would
    go beyond it is not started.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        job: Callable[[Entry], Job],
        executor: Executor,
        seconds: Callable[[Entry], float | None] = lambda entry: None,
        budget_s: float | None = None,
    ) -> None:
        self.entries: Mapping[str, Entry] = {entry.cell.name: entry for entry in entries}
        self.job, self.executor, self.seconds, self.budget_s = job, executor, seconds, budget_s
        self.done = {name for name, entry in self.entries.items() if entry.state == "finished"}
        self.waiting = [name for name in self.entries if name not in self.done]
        self.running: set[str] = set()
        self.result = Ended()
        self._count, self._began = len(self.waiting), time.monotonic()
        self._again: dict[str, float] = {}  # cells that another process holds: when to ask again
        self._full = False

    def run(self) -> Ended:
        """Until nothing is left that can run. Ctrl-C stops what runs, waits for it to save, and is raised again."""
        try:
            while self.waiting or self.running:
                self._start_what_can()
                if not (self.waiting or self.running):
                    break
                outcomes = self.executor.ended(AGAIN_S) if self.running else []
                for outcome in outcomes:
                    self._take(outcome)
                if not self.running and not outcomes:
                    self._sleep()
        except KeyboardInterrupt:
            for outcome in self.executor.stop():
                self._take(outcome)
            raise
        return self.result

    def _start_what_can(self) -> None:
        for name in list(self.waiting):
            entry = self.entries[name]
            lost = [need for need in entry.cell.needs if need not in self.done and not self._coming(need)]
            if self._full:
                self._leave(name, "the disk is full")
            elif lost:
                self._leave(name, self.result.left.get(lost[0], f"it needs {lost[0]}"))  # the first cause
            elif self._beyond_budget(entry):
                self._leave(name, "the budget is used up")
            elif self._ready(name) and self.executor.free():
                self.waiting.remove(name)
                self.running.add(name)
                self._say_start(entry)
                self.executor.start(self.job(entry))
                if not self.executor.free():
                    return

    def _coming(self, need: str) -> bool:
        return need in self.waiting or need in self.running

    def _ready(self, name: str) -> bool:
        return set(self.entries[name].cell.needs) <= self.done and time.monotonic() >= self._again.get(name, 0.0)

    def _beyond_budget(self, entry: Entry) -> bool:
        if self.budget_s is None:
            return False
        return time.monotonic() - self._began + (self.seconds(entry) or 0.0) > self.budget_s

    def _leave(self, name: str, why: str) -> None:
        self.waiting.remove(name)
        self.result.left[name] = why

    def _take(self, outcome: Outcome) -> None:
        """Book how a cell ended; one that is held by another process goes back to those that wait."""
        self.running.discard(outcome.name)
        if outcome.how == "held":
            if outcome.name not in self._again:
                progress.say(f"{outcome.name} is being run by another process: it is waited for, others go first")
            self._again[outcome.name] = time.monotonic() + AGAIN_S
            self.waiting.append(outcome.name)
            return
        self.result.outcomes[outcome.name] = outcome
        if outcome.how in ("finished", "there"):
            self.done.add(outcome.name)
        self._full = self._full or outcome.how == "disk full"
        self._say_end(outcome)

    def _say_start(self, entry: Entry) -> None:
        seconds = self.seconds(entry)
        about = "" if seconds is None else f" (about {progress.duration(seconds)})"
        progress.say(f"[{len(self.result.outcomes) + len(self.running)}/{self._count}] {entry.cell.name}{about}")

    def _say_end(self, outcome: Outcome) -> None:
        words = {"finished": "finished in", "stopped": "stopped after"}
        if outcome.how == "there":
            progress.say(f"{outcome.name} was finished by another process")
            return
        first = outcome.message.split("\n")[0]
        more = f": {first}" if outcome.how in ("failed", "disk full") else self._eta()
        progress.say(
            f"{outcome.name} {words.get(outcome.how, 'FAILED after')} {progress.duration(outcome.seconds)}{more}"
        )

    def _eta(self) -> str:
        """What the rest will take, from its estimates, or else from the time so far."""
        rest = [self.entries[name] for name in self.waiting]
        known = [seconds for entry in rest if (seconds := self.seconds(entry)) is not None]
        if not rest or len(known) < len(rest):
            return f"; {len(rest)} to go" if rest else ""
        width = max(1, len(self.running) + 1)
        return f"; {len(rest)} to go, about {progress.duration(sum(known) / width)}"

    def _sleep(self) -> None:
        """Only cells that others hold, or that wait for those, are left."""
        pending = [t for name, t in self._again.items() if name in self.waiting]
        time.sleep(max(0.05, min(pending, default=time.monotonic() + AGAIN_S) - time.monotonic()))
