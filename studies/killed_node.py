"""Does a study survive the death of a machine? Two Ray nodes on this one, one of them killed in the middle.

Question   A small study on two nodes of a Ray cluster; one node is killed as soon as both are at work and the cell on
           it has saved a checkpoint. Is every cell finished, did the killed one go on from its checkpoint, and is the
           table that of the same study without Ray?
Command    OMP_NUM_THREADS=1 uv run python studies/killed_node.py --out runs/killed-node
Minutes    3 to 5 on two cores
Expect     "killed", then "continuing ... at step N" in the log of one pretraining, no failed cell, equal tables

Speed, time and memory are left out of the comparison; all else must be equal in every digit, as one thread computes in
both.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any

import whytransfer

MEASURED = ("images_per_second", "seconds", "peak_mib")
STUDY: dict[str, Any] = {
    "study": "killed-node",
    "seeds": [0],
    "values": {"train": "scenes:400:0:32", "test": "scenes:200:1:32"},
    "pretrain": {
        "backbone": "resnet18-small", "size": 32, "epochs": 3, "batch": 32, "images": "{train}", "save_minutes": 0.02,
    },
    "transfer": {"size": 32, "train": "{train}", "test": "{test}"},
    "backbones": {
        "default": {"method": "moco-v2-small", "recipe": "default"},
        "spatial": {"method": "moco-v2-small", "recipe": "spatial"},
        "fused": "default + spatial",
    },
    "tasks": {"class": {"task": "knn"}},
}  # fmt: skip


def table(folder: Path) -> list[tuple[Any, ...]]:
    """Every number of a study that must not depend on where it was made."""
    rows = whytransfer.results(folder)
    kept = [row for row in rows if row["metric"] not in MEASURED]
    return sorted((row["cell"], row["backbone"], row["metric"], row["value"], row["low"]) for row in kept)


def kill_when_both_work(cluster: Any, node: Any, folder: Path) -> None:
    """Waits until two pretrainings have a checkpoint, then kills the node without warning."""
    while len(list(folder.rglob("checkpoint.pt"))) < 2:
        time.sleep(0.2)
    cluster.remove_node(node, allow_graceful=False)
    print("killed one of two nodes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of both studies")
    a = parser.parse_args()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    doomed = cluster.add_node(num_cpus=1)
    killer = threading.Thread(target=kill_when_both_work, args=(cluster, doomed, a.out / "ray"), daemon=True)
    killer.start()
    whytransfer.run_study(STUDY, a.out / "ray", on=f"ray:{cluster.address}", workers=2)
    cluster.shutdown()
    if killer.is_alive():
        sys.exit("no node was killed: the study was over before both had saved. Nothing is shown.")
    logs = [log.read_text() for log in (a.out / "ray").rglob("log.txt")]
    continued = [line for text in logs for line in text.splitlines() if line.startswith("continuing")]
    print("\n".join(continued) or "no cell went on from a checkpoint")
    whytransfer.run_study(STUDY, a.out / "alone")
    same = table(a.out / "ray") == table(a.out / "alone")
    print(f"{len(table(a.out / 'ray'))} numbers, {'equal' if same else 'NOT EQUAL'} to those without Ray")
    sys.exit(0 if same and continued else 1)


if __name__ == "__main__":
    main()
