"""The few lines that hand tasks to Ray, which is needed only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from whytransfer.errors import InputError, RunError

_WAITING = 4  # tasks handed over per core, so that no core waits and no million of tasks is queued


def each(task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], address: str | None) -> Iterator[Any]:
    """task(*arguments) for each, in any order, one core each, on the cluster at `address` (None: this machine).

    Raises InputError without Ray or without such a cluster, and what a task raised.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--on ray needs Ray: pip install 'whytransfer[ray]'") from None
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--on ray:{address}: no such cluster ({error}). Start one: ray start --head") from None
    remote = ray.remote(num_cpus=1)(task)
    most = max(1, int(_WAITING * ray.cluster_resources().get("CPU", 1)))
    running: list[Any] = []
    try:
        for given in arguments:
            running.append(remote.remote(*given))
            if len(running) >= most:
                finished, running = ray.wait(running, num_returns=1)
                yield ray.get(finished[0])
        while running:
            finished, running = ray.wait(running, num_returns=1)
            yield ray.get(finished[0])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError | RunError):
            raise error.cause from None
        raise
    finally:
        for left in running:
            ray.cancel(left)
