"""Reading a study file: YAML or the same as a mapping, its parts checked and its values filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError, unknown_name
from whytransfer.parsing import yaml_of

PARTS = ("study", "seeds", "values", "pretrain", "transfer", "backbones", "tasks", "diagnoses")
_VALUE = re.compile(r"\{([A-Za-z_]\w*)\}")  # not {000..012}, which is a pattern of shards
PLUS = " + "


@dataclass(frozen=True)
class StudyFile:
    """What a study file says, values filled in; {seed} is left for the cells."""

    name: str
    seeds: tuple[int, ...]
    backbones: Mapping[str, Any]  # a text, or the settings of a pretraining
    pretrain: Mapping[str, Any] = field(default_factory=dict)
    transfer: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    diagnoses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_study(source: Mapping[str, Any] | Path | str, values: Mapping[str, Any] | None = None) -> StudyFile:
    """The study of a YAML file or of a mapping; `values` replaces some of its own `values`.

    Raises InputError naming the part that is unknown (with the nearest), missing, or of the wrong kind.
    """
    mapping = isinstance(source, Mapping)
    where = "the study" if mapping else str(source)
    content = source if isinstance(source, Mapping) else yaml_of(Path(source), "study file")
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: expected parts by name ({', '.join(PARTS)}), found {type(content).__name__}")
    for part in content:
        if part not in PARTS:
            raise InputError(f"{where}: {unknown_name('part of a study', str(part), PARTS)}")
    known = _values(_named(content, "values", where), values or {}, where)
    filled = {part: fill(content.get(part), known, f"{where}: {part}") for part in PARTS if part != "values"}
    name = str(filled["study"] or ("study" if mapping else Path(str(source)).stem))
    read = StudyFile(name, _seeds(filled["seeds"], where), **{p: _named(filled, p, where) for p in PARTS[3:]})
    _check(read, where)
    return read


def _named(content: Mapping[str, Any], part: str, where: str) -> dict[str, Any]:
    found = content.get(part)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InputError(f"{where}: {part} is {found!r}; names with settings are expected, such as `NAME: ...`")
    return {str(name): value for name, value in found.items()}


def _values(own: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values to fill in; one may use those above it."""
    for name in given:
        if name not in own:
            raise InputError(f"{where}: {unknown_name('value', name, own)}")
    known: dict[str, Any] = {}
    for name, value in own.items():
        if name == "seed":
            raise InputError(f"{where}: values: {{seed}} is the seed of each cell; choose another name")
        known[name] = fill(given.get(name, value), known, f"{where}: values: {name}")
    return known


def fill(content: Any, known: Mapping[str, Any], where: str) -> Any:
    """`content` with {NAME} replaced in all its texts; a text that is only {NAME} becomes the value itself.

    {seed} stays where no seed is known; InputError for a name that there is no value of.
    """
    if isinstance(content, Mapping):
        return {key: fill(value, known, f"{where}: {key}") for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [fill(value, known, where) for value in content]
    if not isinstance(content, str):
        return content
    for name in _VALUE.findall(content):
        if name not in known and name != "seed":
            raise InputError(f"{where}: {unknown_name('value', name, [*known, 'seed'])} `values:` gives them names.")
    whole = _VALUE.fullmatch(content)
    if whole and whole.group(1) in known and whole.group(1) != "seed":
        return known[whole.group(1)]
    return _VALUE.sub(lambda match: str(known.get(match.group(1), match.group(0))), content)


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    seeds = (0,) if given is None else (given,) if isinstance(given, int) else given
    if not isinstance(seeds, Sequence) or isinstance(seeds, str) or not seeds:
        raise InputError(f"{where}: seeds is {given!r}; a list of whole numbers is expected, such as [0, 1, 2]")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"{where}: seeds: {seed!r} is no whole number of 0 or more")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: seeds: {list(seeds)} names one twice, which would not be new evidence")
    return tuple(seeds)


def _check(read: StudyFile, where: str) -> None:
    """Names that can be parts of a cell's name; something to do; seeds and backbones that are there."""
    for part, names in (("study", [read.name]), ("backbones", read.backbones), ("tasks", read.tasks)):
        _check_names(part, names, where)
    _check_names("diagnoses", read.diagnoses, where)
    items = [*read.tasks, *read.diagnoses]
    if twice := next((name for name in items if items.count(name) > 1), None):
        raise InputError(f"{where}: {twice!r} is a task and a diagnosis; rename one")
    if "pretrain" in items:
        raise InputError(f"{where}: a task or diagnosis cannot be called pretrain, as the pretrainings are")
    if not items and not any(isinstance(given, Mapping) for given in read.backbones.values()):
        raise InputError(f"{where}: nothing to run: no pretraining in `backbones`, no `tasks`, no `diagnoses`")
    for item in items:
        settings = read.tasks.get(item, read.diagnoses.get(item))
        if settings is not None and not isinstance(settings, Mapping):
            raise InputError(f"{where}: {item} is {settings!r}; settings by name are expected")
        for name in listed(settings or {}, "backbones", read.backbones, f"{where}: {item}"):
            if name not in read.backbones:
                raise InputError(f"{where}: {item}: {unknown_name('backbone', str(name), read.backbones)}")
        for seed in listed(settings or {}, "seeds", read.seeds, f"{where}: {item}"):
            if seed not in read.seeds:
                raise InputError(f"{where}: {item}: seed {seed!r} is none of the study's ({list(read.seeds)})")


def _check_names(part: str, names: Any, where: str) -> None:
    for name in names:
        if not name.strip() or name != name.strip() or {"/", "<", ">", "+", "\n"} & set(name) or name[0] == ".":
            raise InputError(
                f"{where}: {part}: {name!r} cannot be a name: it may not begin with a point, or hold / + < > or a line "
                "break"
            )


def listed(settings: Mapping[str, Any], key: str, default: Any, where: str) -> list[Any]:
    """The `backbones:` or `seeds:` of a task or diagnosis; all of the study where it has none."""
    found = settings.get(key)
    if found is None:
        return list(default)
    found = [found] if isinstance(found, str | int) else found
    if not isinstance(found, list | tuple) or not found:
        raise InputError(f"{where}: {key} is {found!r}; a list of those of the study is expected")
    return list(found)
