"""Stage 7: backbone -> Results. Each task is built as TASKS[name](train, test, size_px=...) and run on any backbone."""

from collections.abc import Callable
from functools import partial
from typing import Any

from whytransfer.tasks.factors import FactorReadout
from whytransfer.tasks.readout import Readout

TASKS: dict[str, Callable[..., Any]] = {
    "readout": Readout,
    "knn": partial(Readout, protocol="knn"),
    "sgd-readout": partial(Readout, protocol="sgd"),
    "factors": FactorReadout,
}

__all__ = ["TASKS", "FactorReadout", "Readout"]
