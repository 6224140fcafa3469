"""A cell, the unit of a study: one stage run once, known by a key of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

KEY_HEX = 16  # 64 bits: two cells of a million share a key with a chance of 3 in 10^8
_NEED = re.compile(r"<([^<>]+)>")

Takes = Literal["seed", "backbone", "backbones", "predictions", "nothing"]


@dataclass(frozen=True)
class Stage:
    """What a study must know of a stage to run it; the stage itself is `run(settings, folder) -> Results`.

    `check(settings)` gives them with their defaults, or raises InputError: it is asked before anything runs.
    `takes` says what there is one cell of: "seed" a pretraining and seed, "backbone" a backbone and seed, "backbones"
    all backbones together per seed, "predictions" all backbones of a task together per seed, "nothing" one cell.
    """

    run: Callable[[Mapping[str, Any], Path], Sequence[Any]]
    check: Callable[[Mapping[str, Any]], dict[str, Any]]
    takes: Takes
    images: tuple[str, ...] = ()  # settings that name image sets
    files: tuple[str, ...] = ()  # settings that name files or folders, alone or behind a scheme such as annotated:
    beside: tuple[str, ...] = ()  # settings that name backbones of the study, besides `backbone`
    ignored: tuple[str, ...] = ()  # settings that change only speed
    modules: Callable[[Mapping[str, Any]], Sequence[str]] = lambda settings: ()  # whose sources decide the result
    effort: Callable[[Cell, Mapping[str, int]], tuple[str, float]] | None = None  # see costs.py
    calibrate: Callable[[Cell], float | None] | None = None  # seconds of one unit of effort, measured now; None: cannot
    bytes: Callable[[Mapping[str, Any]], int] | None = None  # what a finished cell takes on disk


@dataclass(frozen=True)
class Cell:
    """One run of one stage. `settings` are complete and name backbones as the study does.

    `specs` replaces settings when the cell runs: there "<NAME>" stands for the files of the cell NAME, which is one of
    `needs`. So a backbone that is renamed, or a folder that is moved, changes no key.
    """

    name: str  # "class/default/0"
    stage: str  # "transfer"
    settings: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    seed: int = 0
    item: str = ""  # its name among tasks or diagnoses; "" of a pretraining
    backbone: str = ""  # its name among backbones; "" of a cell that takes several or none
    specs: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)  # spec -> name, of all backbones that the cell takes
    origins: tuple[Any, ...] = ()  # what these are made of: texts, settings of pretrainings

    def as_run(self, place: Callable[[str], str]) -> dict[str, Any]:
        """The settings with every <NAME> replaced by place(NAME)."""
        return {**self.settings, **{key: filled(value, place) for key, value in self.specs.items()}}


def filled(value: Any, place: Callable[[str], str]) -> Any:
    """A text, or a list of texts, with every <NAME> replaced by place(NAME)."""
    if isinstance(value, str):
        return _NEED.sub(lambda match: place(match.group(1)), value)
    return [filled(v, place) for v in value] if isinstance(value, list | tuple) else value


def needs_of(value: Any) -> tuple[str, ...]:
    """The NAMEs in a spec, each once."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return tuple(dict.fromkeys(name for text in texts for name in _NEED.findall(str(text))))


def decided_by(
    cell: Cell, stage: Stage, keys: Mapping[str, str], contents: Mapping[str, str], code: str
) -> dict[str, Any]:
    """All that decides the result of a cell, as plain JSON; its key is the hash of this.

    `keys` are those of the cells it needs, `contents` the fingerprints behind the strings in it, `code` the hash of its
    stage's sources.
    """
    settings = {k: v for k, v in cell.settings.items() if k not in (*stage.ignored, *cell.specs)}
    specs = {key: filled(value, lambda name: f"<{keys[name]}>") for key, value in cell.specs.items()}
    decided = {"stage": cell.stage, "settings": {**settings, **specs}, "contents": dict(contents), "code": code}
    return json.loads(json.dumps(decided, sort_keys=True, default=str))


def key_of(decided: Mapping[str, Any]) -> str:
    """ "transfer-3f9c..." : the stage, so that people find their way, and a hash of all that decides the result."""
    text = json.dumps(decided, sort_keys=True)
    return f"{decided['stage']}-{hashlib.sha256(text.encode()).hexdigest()[:KEY_HEX]}"
