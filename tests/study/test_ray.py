"""A cluster of two nodes on this machine, one of them killed in the middle: the same table as without."""

import time
from pathlib import Path
from typing import Any

import pytest
from fake_stages import Lab
from test_executors import told

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


@pytest.mark.slow
def test_the_cells_of_a_killed_node_are_run_again_elsewhere(tmp_path: Path):
    """A pretraining waits at its first attempt until the node is gone, and at a later one goes on from its files."""
    from ray.cluster_utils import Cluster

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
                cluster.remove_node(doomed, allow_graceful=False)
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
