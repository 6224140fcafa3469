"""Can a file of another's making harm us? Readers are fed damaged and hostile files, thousands of them.

Question   Images, annotations of COCO and VOC, checkpoints, cards, tar shards, YAML, tables, results and regions: does
           each reader give a result or a message of its own for whatever it is handed? Does none hang, run code from a
           file, start a process, or write outside the folder it was given?
Command    uv run python studies/fuzz.py --minutes 10 --out runs/fuzz
           uv run --group fuzz python studies/fuzz.py --engine atheris --minutes 10 --out runs/fuzz
Minutes    as asked for, shared out over the targets; the tests run the same targets with a few examples each
Expect     a line per target with what was read and what refused, and no failure. Exit code 1 where there was one: the
           input that failed, made small, is in OUT/TARGET.failed, and --target NAME --replay FILE runs it again.

Hypothesis changes whole files: bytes are overwritten, cut, repeated; values of JSON and YAML are replaced by what does
not belong there. Atheris (libFuzzer) starts from the same files and keeps what reaches new lines of our code.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CPU_S, WAIT_S = 10, 300  # of a processor, and in all: more than any of these small files takes on a busy machine
MEMORY_BYTES = 6 << 30  # of address space, beside what PyTorch takes at its start
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGING = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
)  # fmt: skip
NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")


class Harm(AssertionError):
    """Something that a file must not bring about."""


class Watch:
    """What Python itself reports of files, processes and connections while a reader is at work (sys.addaudithook)."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] | None = None  # None: nobody looks
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folders is None:
            return
        if event in NEVER:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            self._place(event, arguments[0])
        elif event in ("os.remove", "os.rmdir") and arguments[1] != -1:
            pass  # told by a name in an open folder, whose own removal is seen
        elif event in CHANGING:
            for place in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                self._place(event, place)

    def _place(self, event: str, place: Any) -> None:
        if isinstance(place, int) or place is None:
            return
        path = os.path.abspath(os.fsdecode(place))
        inside = any(path == folder or path.startswith(folder + os.sep) for folder in self.folders or ())
        if not inside and path != os.devnull and "__pycache__" not in path:
            self.seen.append(f"{event} {path}")

    @contextlib.contextmanager
    def on(self, *folders: Path | str) -> Iterator[None]:
        """Raise Harm at the end where anything but a change below these folders was done."""
        self.seen, self.folders = [], tuple(os.path.abspath(folder) for folder in folders)
        try:
            yield
        finally:
            self.folders = None
        if self.seen:
            raise Harm("; ".join(self.seen[:3]))


WATCH = Watch()


@contextlib.contextmanager
def at_most(cpu_s: float, wait_s: float) -> Iterator[None]:
    """Raise Harm in what takes longer (where there are timers, and outside C code that never comes back)."""

    def ring(*_: object) -> None:
        raise Harm(f"no end after {cpu_s} s of a processor, or {wait_s} s")

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, cpu_s), (signal.ITIMER_REAL, signal.SIGALRM, wait_s))
    before = [signal.signal(number, ring) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def attempt(target: Any, content: bytes) -> str:
    """Hand a file to a reader, in a fresh folder: "read", or "refused" with a message. All else is raised."""
    from whytransfer.errors import InputError, RunError

    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "given"
        inner.mkdir()
        told, tempfile.tempdir = "", str(inner)  # what is only for a while is there too
        with WATCH.on(inner, os.environ.get("WHYTRANSFER_CACHE", inner)), at_most(CPU_S, WAIT_S), _silent():
            try:
                target.read(content, inner)
            except (InputError, RunError) as refusal:
                told = str(refusal)
            except SystemExit as refusal:  # how the command line refuses
                told = f"exit code {refusal.code}: its message is on standard error" if refusal.code == 2 else "?"
            else:
                return "read"
            finally:
                tempfile.tempdir = None
        if os.listdir(outer) != ["given"]:
            raise Harm(f"beside its folder there is {os.listdir(outer)}")
        if len(told.split()) < 4:
            raise Harm(f"this says nothing: {told!r}")
        return "refused"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def targets() -> dict[str, Any]:
    """The readers, from the tests' own file beside this folder."""
    place = Path(__file__).parents[1] / "tests" / "fuzz_targets.py"
    spec = importlib.util.spec_from_file_location("fuzz_targets", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_targets"] = module
    spec.loader.exec_module(module)
    known: dict[str, Any] = module.TARGETS
    return known


def by_hypothesis(name: str, target: Any, seconds: float, out: Path) -> Counter[str]:
    """Rounds of 200 examples, each with a seed of its own, until the time is over; a failure ends it, made small."""
    import hypothesis
    from hypothesis import HealthCheck, given, settings

    count: Counter[str] = Counter()
    until, number = time.monotonic() + seconds, 0

    def tried(content: bytes) -> None:
        (out / f"{name}.last").write_bytes(content)  # what is left here if the process dies
        if time.monotonic() < until or number == 0:
            count[attempt(target, content)] += 1

    quiet = settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    while time.monotonic() < until:
        try:
            hypothesis.seed(number)(quiet(given(target.files())(tried)))()
        except BaseException as error:
            (out / f"{name}.failed").write_bytes((out / f"{name}.last").read_bytes())
            print(f"{name}: FAILED: {type(error).__name__}: {str(error)[:300]}", flush=True)
            if isinstance(error, KeyboardInterrupt):
                raise
            count["failed"] += 1
            break
        number += 1
    (out / f"{name}.last").unlink(missing_ok=True)
    return count


def by_atheris(name: str, seconds: float, out: Path) -> int:
    """One target in a process of its own, as libFuzzer ends its process; its exit code."""
    corpus = out / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(targets()[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(content)
    command = [sys.executable, __file__, "--guided", name, str(corpus), f"-max_total_time={max(1, int(seconds))}"]
    command += [f"-artifact_prefix={out}/{name}.", f"-timeout={WAIT_S}", "-rss_limit_mb=6000", "-print_final_stats=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    (out / f"{name}.atheris.txt").write_text(done.stdout + done.stderr)
    told = [line for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units")]
    failed = "" if not done.returncode else f" FAILED, see {out}/{name}.atheris.txt"
    print(f"{name}: {told[-1].split()[-1] if told else 'no'} files{failed}", flush=True)
    return done.returncode


def guided(name: str, rest: list[str]) -> None:
    """The process of one target under atheris."""
    import atheris

    with atheris.instrument_imports(include=["whytransfer"], enable_loader_override=False):
        target = targets()[name]
        for content in target.seeds():
            attempt(target, content)
    atheris.Setup([sys.argv[0], *rest], lambda data: attempt(target, data))
    atheris.Fuzz()


def bounded_memory() -> None:
    """A file that asks for the machine's memory gets a MemoryError, which is a failure here."""
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, resource.RLIM_INFINITY))


def main() -> None:
    if sys.argv[1:2] == ["--guided"]:
        guided(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = targets()
    parser.add_argument("--minutes", type=float, default=10.0, help="in all")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--target", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--replay", type=Path, help="run this one file")
    parser.add_argument("--out", type=Path, required=True, help="folder for what failed")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WHYTRANSFER_CACHE", tempfile.mkdtemp(prefix="whytransfer-fuzz-"))
    if a.replay:
        print(attempt(known[a.target[0]], a.replay.read_bytes()))
        return
    share = 60 * a.minutes / len(a.target)
    if a.engine == "atheris":
        sys.exit(bool(sum([by_atheris(name, share, a.out) for name in a.target])))
    failed = 0
    for name in a.target:
        for content in known[name].seeds():
            known[name].read(content, Path(tempfile.mkdtemp()))  # whole files are read, and all is imported
        with contextlib.suppress(OSError, ValueError):
            bounded_memory()
        count = by_hypothesis(name, known[name], share, a.out)
        failed += count["failed"]
        print(f"{name}: {count['read']} read, {count['refused']} refused, {count['failed']} failed", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
