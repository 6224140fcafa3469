"""Making regions: nothing twice, nothing lost, by one process, by several, killed at any moment, or on Ray."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from whytransfer.errors import InputError, RunError
from whytransfer.images import open_images
from whytransfer.masks import RegionStore, making, open_engine, store, worker
from whytransfer.masks.making import Job, Made, Maker, answers, full_recipe, make, make_on_cores, make_on_ray
from whytransfer.masks.regions import Regions
from whytransfer.records import Sample


def store_for(folder: Path, spec: str = "grid:3") -> RegionStore:
    return RegionStore.create(folder, open_engine(spec).recipe, spec)


def job_of(photos: Path, folder: Path, spec: str = "grid:3", **given: bool) -> Job:
    store_for(folder, spec)
    return Job(str(photos), spec, str(folder), **given)


def codes(folder: Path) -> dict[bytes, bytes]:
    store = RegionStore.open(folder)
    return {bytes(key): bytes(store.code(k)) for k, key in enumerate(store._keys)}


def test_what_is_there_is_not_made_again(photos, tmp_path):
    images, engine = open_images(str(photos)), open_engine("grid:3")
    seen: list[Made] = []
    first = make(images, engine, store_for(tmp_path / "s"), seen.append)
    assert (first.done, first.made, first.timed) == (12, 12, 11) and seen[-1] == first and first.images_per_second > 0
    assert first.pixels == sum(s.image[0].numel() for s in (images[i] for i in range(12)))
    shutil.copy(photos / "cat" / "0.jpg", photos / "dog" / "copy.jpg")
    again = make(open_images(str(photos)), engine, store_for(tmp_path / "s"))
    assert (again.done, again.made, again.images_per_second) == (13, 0, 0)


@pytest.mark.slow
def test_several_processes_make_the_same_codes(photos, tmp_path):
    spec = "felzenszwalb:50:10"
    alone = make(open_images(str(photos)), open_engine(spec), store_for(tmp_path / "a", spec))
    told: list[int] = []
    several = make_on_cores(job_of(photos, tmp_path / "b", spec), 12, 2, lambda made: told.append(made.done))
    assert (several.done, several.made, several.pixels, several.bytes) == (12, 12, alone.pixels, alone.bytes)
    assert codes(tmp_path / "a") == codes(tmp_path / "b") and told == sorted(told) and told[-1] == 12


def test_a_failure_in_a_worker_is_raised_here_and_the_rest_is_kept(photos, tmp_path):
    (photos / "fox" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    asked = iter([json.dumps(vars(job_of(photos, tmp_path / "s"))), "[0, 8]", "[8, 12]"])
    said = "".join(json.dumps(answer) + "\n" for answer in answers(asked))
    process = SimpleNamespace(stdin=io.StringIO(), stdout=io.StringIO(said))
    assert making._ask(process, "job") == {} and Made(**making._ask(process, [0, 8])).made == 8
    with pytest.raises(InputError, match="cannot read image fox/3.png"):
        making._ask(process, [8, 12])
    assert len(RegionStore.open(tmp_path / "s")) == 11


def test_unreadable_images_are_left_out_when_asked(photos, tmp_path):
    (photos / "dog" / "0.jpg").write_bytes(b"")
    maker = Maker(open_images(str(photos)), open_engine("grid:2"), store_for(tmp_path / "s", "grid:2"), True)
    made = maker(0, 12)
    maker.close()
    assert (made.done, made.made, made.unreadable) == (12, 11, 1) and len(RegionStore.open(tmp_path / "s")) == 11
    with pytest.raises(InputError, match="cannot read image dog/0.jpg: the file is empty"):
        make(open_images(str(photos)), open_engine("grid:2"), store_for(tmp_path / "t", "grid:2"))


def test_empty_crowded_and_ill_sized_regions_are_counted_or_refused(photos, tmp_path):
    images = open_images(str(photos))

    def engine(sample: Sample) -> Regions:
        size = tuple(sample.image.shape[1:])
        if sample.name.startswith("cat"):
            return Regions(np.full(size, 255, np.uint8))
        return Regions(np.zeros(size, np.uint8), left_out=7)

    made = Maker(images, engine, RegionStore.create(tmp_path / "s", "x"))(0, 12)
    assert (made.empty, made.crowded) == (4, 8)
    with pytest.raises(InputError, match=r"cat/0.jpg: regions of size \(2, 2\) for an image of"):
        Maker(images, lambda _: Regions(np.zeros((2, 2), np.uint8)), RegionStore.create(tmp_path / "t", "x"))(0, 1)


def test_ranges_are_consecutive_and_complete():
    ranges, taken = making._Ranges(1000), []

    def take() -> None:
        while part := ranges.take(7):
            taken.append(part)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(i for begin, end in taken for i in range(begin, end)) == list(range(1000))


def test_a_worker_answers_line_by_line_and_writes_when_its_caller_dies(photos, tmp_path):
    job = job_of(photos, tmp_path / "s")
    lines = iter([json.dumps(vars(job)), "[0, 5]", "[5, 7]"])  # and no "end"
    found = list(answers(lines))
    assert found[0] == {} and [a["done"] for a in found[1:]] == [5, 2]
    assert len(RegionStore.open(tmp_path / "s")) == 7
    found = list(answers(iter([json.dumps(vars(job)), "[0, 12]", '"end"', "[0, 1]"])))
    assert [a.get("made") for a in found] == [None, 5, 0]
    bad = Job(str(tmp_path / "none"), "grid:3", str(tmp_path / "s"))
    assert list(answers(iter([json.dumps(vars(bad))])))[0]["failure"] == "InputError"
    assert worker.main.__module__ == "whytransfer.masks.worker"


def test_a_killed_worker_is_told_with_what_to_do(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match="a worker process ended with status 1.*run the same command again, with fewer"):
        make_on_cores(job_of(photos, tmp_path / "s"), 12, 1, lambda made: None)


def make_slowly(photos: Path, folder: Path, spec: str, told: multiprocessing.Queue) -> None:
    """In a process of its own: a part per image, and at least 20 ms for each."""
    store._LATE_S = 0.0
    engine = open_engine(spec)

    def slow(sample: Sample) -> Regions:
        time.sleep(0.02)
        return engine(sample)

    made = make(open_images(str(photos)), slow, RegionStore.open(folder), lambda made: told.put(made.done))
    told.put(("made", made.made))


@pytest.fixture
def many(tmp_path) -> Path:
    from PIL import Image

    (tmp_path / "many").mkdir()
    rng = np.random.default_rng(0)
    for i in range(48):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(tmp_path / "many" / f"{i:02d}.png")
    return tmp_path / "many"


def test_two_processes_at_once_one_of_them_killed_and_nothing_is_lost(many, tmp_path):
    spec = "felzenszwalb:50:10"
    store_for(tmp_path / "s", spec)
    fork = multiprocessing.get_context("fork")  # quick: everything is imported and compiled already
    queues = [fork.Queue(), fork.Queue()]
    processes = [fork.Process(target=make_slowly, args=(many, tmp_path / "s", spec, queue)) for queue in queues]
    for process in processes:
        process.start()
    while queues[0].get(timeout=60) < 8:
        pass
    processes[0].kill()  # SIGKILL
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0]
    assert len(RegionStore.open(tmp_path / "s")) == 48
    make(open_images(str(many)), open_engine(spec), store_for(tmp_path / "t", spec))
    assert codes(tmp_path / "s") == codes(tmp_path / "t")
    assert make(open_images(str(many)), open_engine(spec), store_for(tmp_path / "s", spec)).made == 0


def test_own_masks_have_a_recipe_of_their_set():
    engine = open_engine("annotated")
    recipes = {full_recipe(engine, open_images(spec)) for spec in ("scenes:4", "scenes:4:1", "scenes:5")}
    assert len(recipes) == 3 and all(r.startswith("annotated own content=") for r in recipes)
    assert full_recipe(open_engine("grid"), open_images("scenes:4")) == "grid n=5"


class FakeRay(ModuleType):
    """What on_ray uses of Ray, in this process; tasks run when they are waited for."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.addresses: list[str | None] = []
        self.longest = 0
        self.exceptions = SimpleNamespace(RayTaskError=type("RayTaskError", (Exception,), {}))

    def init(self, address, ignore_reinit_error, log_to_driver):
        if address == "nowhere":
            raise ConnectionError("no answer")
        self.addresses.append(address)

    def cluster_resources(self):
        return {"CPU": 1.0}

    def remote(self, num_cpus):
        return lambda task: SimpleNamespace(remote=lambda *given: (task, given))

    def wait(self, running, num_returns):
        self.longest = max(self.longest, len(running))
        return running[:1], running[1:]

    def get(self, reference):
        task, given = reference
        try:
            return task(*given)
        except InputError as error:
            wrapped = self.exceptions.RayTaskError("a task failed")
            wrapped.cause = error
            raise wrapped from None

    def cancel(self, reference):
        pass


def test_on_ray_every_range_is_a_task(photos, tmp_path, monkeypatch):
    """Against a stand-in, which shows what is handed over and when; Ray itself below."""
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(making, "_RAY_RANGE", 2)
    job = job_of(photos, tmp_path / "s")
    told: list[int] = []
    made = make_on_ray(job, 12, "auto", lambda total: told.append(total.done))
    assert made.made == 12 and told == [2, 4, 6, 8, 10, 12] and fake.addresses == ["auto"] and fake.longest == 4
    assert len(RegionStore.open(tmp_path / "s")) == 12
    with pytest.raises(InputError, match="--on ray:nowhere: no such cluster .no answer."):
        make_on_ray(job, 12, "nowhere", lambda total: None)
    (photos / "cat" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot read image cat/0.jpg"):
        make_on_ray(job, 12, None, lambda total: None)


def test_a_task_finds_relative_paths_wherever_its_process_was_started(photos, tmp_path, monkeypatch):
    store_for(tmp_path / "s", "grid:2")
    job = Job(photos.name, "grid:2", str(tmp_path / "s"), at=str(photos.parent))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert making.made_of(job, 0, 12).made == 12 and Path.cwd() == photos.parent
    with pytest.raises(InputError, match="nowhere, where the work was started, cannot be entered on .*share that disk"):
        making.made_of(Job(photos.name, "grid:2", str(tmp_path / "s"), at=str(tmp_path / "nowhere")), 0, 12)


@pytest.mark.slow
def test_ray_itself_makes_the_same_store_and_names_what_stops_it(photos, tmp_path):
    """In processes of their own, which a cluster outlives no more than its driver."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

    def masks(out, *more):
        command = [sys.executable, "-m", "whytransfer.cli", "masks", "--images", str(photos), "--out", str(out)]
        command += ["--engine", "felzenszwalb:50:10", *more]
        return subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=240)

    assert masks(tmp_path / "here", "--workers", "1").returncode == 0
    done = masks(tmp_path / "ray", "--on", "ray", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["made"] == 12 and codes(tmp_path / "ray") == codes(tmp_path / "here")
    (photos / "cat" / "0.jpg").write_bytes(b"no picture")
    done = masks(tmp_path / "other", "--on", "ray")
    assert done.returncode == 2 and "cannot read image cat/0.jpg" in done.stderr and "Traceback" not in done.stderr


def test_without_ray_the_extra_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--on ray needs Ray: pip install 'whytransfer\[ray\]'"):
        make_on_ray(job_of(photos, tmp_path / "s"), 12, None, lambda total: None)


def test_sums_of_what_was_made():
    total = Made(1, 1, pixels=5, seconds=0.5, timed=1) + Made(3, 2, 1, pixels=7, seconds=1.5, timed=3)
    assert total == Made(4, 3, 1, pixels=12, seconds=2.0, timed=4) and total.images_per_second == 2.0
