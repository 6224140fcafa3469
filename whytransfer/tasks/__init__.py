"""Stage 7: backbone -> Results. Each task is built as TASKS[name](train, test, size_px=...) and run on any backbone."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from whytransfer.tasks.depth import Depth
from whytransfer.tasks.detection import Detection
from whytransfer.tasks.fewshot import FewShot
from whytransfer.tasks.finetune import Finetune
from whytransfer.tasks.landmarks import Landmarks
from whytransfer.tasks.readout import Readout
from whytransfer.tasks.regression import RegressionReadout
from whytransfer.tasks.segmentation import Segmentation

FactorReadout = partial(RegressionReadout, task="factors", method="ridge", targets="factors")

TASKS: dict[str, Callable[..., Any]] = {
    "readout": Readout,
    "knn": partial(Readout, classifier="knn", protocol=None),
    "sgd-readout": partial(Readout, classifier="sgd", protocol=None),
    "factors": FactorReadout,
    "ridge-readout": partial(RegressionReadout, task="ridge-readout", method="ridge"),
    "kernel-readout": partial(RegressionReadout, task="kernel-readout", method="kernel"),
    "finetune": Finetune,
    "segmentation": Segmentation,
    "depth": Depth,
    "detection": partial(Detection, masks=False),
    "instances": partial(Detection, masks=True),
    "fewshot": FewShot,
    "landmarks": Landmarks,
}

__all__ = [
    "TASKS", "Depth", "Detection", "FactorReadout", "FewShot", "Finetune", "Landmarks", "Readout", "RegressionReadout",
    "Segmentation", "reads_annotations", "settings_of",
]  # fmt: skip


def settings_of(task: str) -> set[str]:
    """The names of what can be set of a task, without what its own name has fixed."""
    fixed = getattr(TASKS[task], "keywords", {})
    return set(inspect.signature(TASKS[task]).parameters) - set(fixed)


def reads_annotations(task: str) -> bool:
    """Whether a task takes image sets with their boxes, masks, ... (attribute `annotated`), not decoded pixels."""
    return getattr(getattr(TASKS[task], "func", TASKS[task]), "annotated", False)
