"""A cluster of two nodes on this machine, one of them killed in the middle: the same table as without."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_stages import Lab
from test_executors import told

from whytransfer import progress
from whytransfer.errors import InputError
from whytransfer.study.executors import InProcess
from whytransfer.study.ray_executor import OnRay
from whytransfer.study.running import Job

ray = pytest.importorskip("ray")
SMALL = {
    "study": "s", "seeds": [0, 1], "backbones": {"one": {"level": 10}, "two": {"level": 20}},
    "tasks": {"class": {"level": 1, "backbones": ["one"]}},
}  # fmt: skip


def test_without_a_cluster_at_the_address_the_message_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch):
    def refuses(**_: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(InputError, match="no such cluster .nobody there.*ray start --head"):
        OnRay("10.0.0.1:6379")


class Standing:
    """What stands in for a cluster of two machines: a task is run when it is asked for, or ends as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: dict[str, BaseException]) -> None:
        self.ends, self.cancelled, self.asked = ends, list[str](), dict[str, Any]()
        monkeypatch.setattr(ray, "init", lambda **_: None)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 6.0})
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": n}} for n in (2.0, 4.0)])
        monkeypatch.setattr(ray, "remote", self.remote)
        monkeypatch.setattr(ray, "wait", lambda tasks, num_returns, timeout: (tasks[:num_returns], tasks[num_returns:]))
        monkeypatch.setattr(ray, "get", self.get)
        monkeypatch.setattr(ray, "cancel", lambda task: self.cancelled.append(task.name))

    def remote(self, **asked: Any) -> Any:
        self.asked = asked
        return lambda function: SimpleNamespace(remote=lambda job: Task(job, function))

    def get(self, task: Any) -> Any:
        if task.name in self.ends:
            raise self.ends[task.name]
        return task.function(task.job)


class Task:
    """What a call of a remote function gives."""

    def __init__(self, job: Job, function: Any) -> None:
        self.job, self.function, self.name = job, function, job.cell.name


def test_cells_on_a_cluster_give_the_table_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # a task changes into the folder in which the study was started
    Standing(monkeypatch, {})
    assert not Lab(tmp_path / "ray").run(SMALL, OnRay()).failed
    progress.be_quiet(False)  # a task silences its process, which is this one here
    Lab(tmp_path / "alone").run(SMALL, InProcess())
    assert told(tmp_path / "ray") == told(tmp_path / "alone")


def test_what_ray_raises_fails_its_cell_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    errors = ray.exceptions
    ends = {
        "pretrain/one/0": errors.WorkerCrashedError(),
        "pretrain/one/1": errors.RayTaskError("on_ray", "Traceback ...", ImportError("no module named fake_stages")),
        "pretrain/two/1": errors.TaskCancelledError(),
    }
    Standing(monkeypatch, ends)
    ended = Lab(tmp_path / "ray").run(SMALL, OnRay())
    said = {outcome.name: (outcome.how, outcome.message) for outcome in ended.failed}
    assert said["pretrain/one/0"][0] == "failed" and "died 6 times" in said["pretrain/one/0"][1]
    assert said["pretrain/one/1"][0] == "failed" and "no module named fake_stages" in said["pretrain/one/1"][1]
    assert said["pretrain/two/1"][0] == "stopped" and ended.outcomes["pretrain/two/0"].how == "finished"
    assert ended.left == {f"class/one/{seed}": f"it needs pretrain/one/{seed}" for seed in (0, 1)}


def test_a_cell_asks_for_its_share_and_for_no_more_than_one_machine_has(monkeypatch: pytest.MonkeyPatch):
    cluster = Standing(monkeypatch, {})
    for workers, cpus in ((None, 1), (3, 2), (1, 4)):
        OnRay(workers=workers)
        assert cluster.asked == {"max_retries": 5, "num_cpus": cpus, "num_gpus": 0}


def test_stopping_cancels_what_runs_and_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    cluster, lab = Standing(monkeypatch, {}), Lab(tmp_path / "ray")
    entries, executor = lab.entries(SMALL), OnRay()
    for entry in entries[:2]:
        executor.start(lab.job(entries)(entry))
    assert [outcome.name for outcome in executor.stop()] == cluster.cancelled == ["pretrain/one/0", "pretrain/two/0"]


def alive(process: int) -> bool:
    """Whether a process still runs; one that ended may be there until its parent asks."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


@pytest.mark.slow
def test_the_cells_of_a_killed_node_are_run_again_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A pretraining waits at its first attempt until the node is gone, and at a later one goes on from its files."""
    from ray.cluster_utils import Cluster

    here = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, here)))  # Ray's workers import fake_stages too
    try:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        doomed = cluster.add_node(num_cpus=1)
    except Exception as error:  # what Ray raises where its processes do not come up in time
        pytest.skip(f"Ray could not start two nodes on this machine: {error}")
    lab = Lab(tmp_path / "ray")
    study = {**SMALL, "pretrain": {"does": "once wait"}}
    killed = []

    class Killing(OnRay):
        def start(self, job: Job) -> None:
            super().start(job)
            if len(self.running) == 2 and not killed:  # both nodes are at work
                until = time.monotonic() + 60
                while len(list(lab.store.path.rglob("runs.txt"))) < 2 and time.monotonic() < until:
                    time.sleep(0.1)
                at_work = [int(file.read_text().split()[0]) for file in lab.store.path.rglob("runs.txt")]
                cluster.remove_node(doomed, allow_graceful=False)
                while all(map(alive, at_work)) and time.monotonic() < until:  # its process notices a little later
                    time.sleep(0.1)
                killed.append(job.cell.name)
                (lab.store.path / ".go").touch()  # what still runs on the other node may end

    try:
        ended = lab.run(study, Killing(cluster.address, workers=2))
    finally:
        cluster.shutdown()
    assert killed and not ended.failed and not ended.left
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / ".go").touch()
    alone = Lab(tmp_path / "alone")
    alone.run(study, InProcess())
    assert told(tmp_path / "ray") == told(tmp_path / "alone")
    assert max(lab.runs()[name] for name in ("pretrain/one/0", "pretrain/two/0")) == 2  # one was run again
