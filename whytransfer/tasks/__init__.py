"""Stage 7: backbone -> Results. Each task is built as TASKS[name](train, test, size_px=...) and run on any backbone."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from whytransfer.tasks.factors import FactorReadout
from whytransfer.tasks.fewshot import FewShot
from whytransfer.tasks.landmarks import Landmarks
from whytransfer.tasks.readout import Readout

TASKS: dict[str, Callable[..., Any]] = {
    "readout": Readout,
    "knn": partial(Readout, protocol="knn"),
    "sgd-readout": partial(Readout, protocol="sgd"),
    "factors": FactorReadout,
    "fewshot": FewShot,
    "landmarks": Landmarks,
}

__all__ = ["TASKS", "FactorReadout", "Readout", "reads_annotations", "settings_of"]


def settings_of(task: str) -> set[str]:
    """The names of what can be set of a task, without what its own name has fixed."""
    fixed = getattr(TASKS[task], "keywords", {})
    return set(inspect.signature(TASKS[task]).parameters) - set(fixed)


def reads_annotations(task: str) -> bool:
    """Whether a task takes image sets with their boxes, masks, ... (attribute `annotated`), not decoded pixels."""
    return getattr(getattr(TASKS[task], "func", TASKS[task]), "annotated", False)
