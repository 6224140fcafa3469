"""What of a study is finished, and of the rest why not: new, changed (and what), running, stopped, failed, damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from whytransfer.files import locked
from whytransfer.study import sources
from whytransfer.study.cells import Cell, Stage, decided_by, key_of
from whytransfer.study.contents import Contents
from whytransfer.study.plan import Grid
from whytransfer.study.store import StudyFolder

State = Literal["finished", "new", "changed", "running", "stopped", "failed", "damaged"]


@dataclass(frozen=True)
class Entry:
    """A cell of a study as it stands in a folder."""

    cell: Cell
    key: str
    decided: Mapping[str, Any]
    state: State
    why: str = ""


def survey(
    grid: Grid, stages: Mapping[str, Stage], store: StudyFolder, contents: Contents, accept_code: bool = False
) -> list[Entry]:
    """Every cell of a study with its key and how it stands in the folder, in the grid's order.

    With `accept_code` a cell that was finished by another state of the code is taken as it is, and its entry says so.
    Raises InputError where images, regions or weights are missing.
    """
    before = _keys_before(store, grid.name)
    by_rest = _finished_but_for_code(store) if accept_code else {}
    keys: dict[str, str] = {}
    entries = []
    for cell in grid.cells:
        stage = stages[cell.stage]
        inside = contents_of(cell, stage, contents)
        readers = [contents.readers[spec] for spec in inside if contents.readers.get(spec)]
        digests = sources.closure([*stage.modules(cell.settings), *readers])
        code = sources.code_of(digests)
        if store.path.is_dir() and (store.path / "code").is_dir():
            store.keep_code(code, digests)
        decided = decided_by(cell, stage, keys, inside, code)
        key, accepted = key_of(decided), ""
        if store.card(key).get("state") != "finished" and (other := by_rest.get(_rest(decided))):
            accepted = f"accepted: {_code_said(store.card(other)['decided']['code'], code, store)}"
            key, decided = other, store.card(other)["decided"]
        keys[cell.name] = key
        state, why = _state(store, key, decided, before.get(cell.name))
        entries.append(Entry(cell, key, decided, state, why or accepted))
    return entries


def contents_of(cell: Cell, stage: Stage, contents: Contents) -> dict[str, str]:
    """{string: fingerprint} of the image sets, files and existing weights that a cell names."""
    found: dict[str, str] = {}
    for name, spec in _texts(cell.settings, stage.images):
        found[spec] = contents.of_images(spec, f"{cell.name}: {name}")
    files = [*_texts(cell.settings, stage.files), *_weights(cell)]
    for name, spec in files:
        fingerprint = contents.of_file(spec, f"{cell.name}: {name}")
        found |= {} if fingerprint is None else {spec: fingerprint}
    return found


def _texts(settings: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        value = settings.get(name)
        for text in value if isinstance(value, list | tuple) else [value]:
            if text is not None:
                yield name, str(text)


def _weights(cell: Cell) -> Iterator[tuple[str, str]]:
    """The backbones of a cell that exist already, the members of sums one by one."""
    for name, spec in _texts(cell.specs, tuple(cell.specs)):
        yield from ((name, part) for part in spec.split("+") if not part.startswith("<"))


def _keys_before(store: StudyFolder, study: str) -> dict[str, str]:
    said = store.studies().get(study, {"cells": {}})
    return {name: entry["key"] for name, entry in said["cells"].items()}


def _state(store: StudyFolder, key: str, decided: Mapping[str, Any], before: str | None) -> tuple[State, str]:
    card = store.card(key)
    state = card.get("state")
    if state in ("finished", "damaged"):
        damage = store.damage(key)
        return ("damaged", f"{damage}; it is set aside and made anew") if damage else ("finished", "")
    if state == "failed":
        first = str(card.get("message", "")).split("\n")[0]
        return "failed", f"failed: {first}"
    if state is not None:
        with locked(store.cell(key) / ".lock", wait=False) as free:
            return ("stopped", "was stopped, goes on") if free else ("running", "another process runs it")
    old = store.card(before) if before and before != key else {}
    if old.get("decided"):
        return "changed", difference(old["decided"], decided, store)
    return "new", ""


def difference(old: Mapping[str, Any], new: Mapping[str, Any], store: StudyFolder) -> str:
    """ "epochs: 5 then, 6 now; code of tasks.readout changed": what decided a cell then and now."""
    parts = []
    then, now = old["settings"], new["settings"]
    for name in sorted(then.keys() | now.keys()):
        a, b = then.get(name), now.get(name)
        if a != b:
            needed = "<" in json.dumps(a) or "<" in json.dumps(b)
            parts.append(f"{name}: what it needs changed" if needed else f"{name}: {a!r} then, {b!r} now")
    for spec in sorted(old["contents"].keys() & new["contents"].keys()):
        if old["contents"][spec] != new["contents"][spec]:
            parts.append(f"the content of {spec} changed")
    if old["code"] != new["code"]:
        parts.append(_code_said(old["code"], new["code"], store))
    return "; ".join(parts) or "its stage changed"


def _code_said(old: str, new: str, store: StudyFolder) -> str:
    then, now = store.code(old), store.code(new)
    names = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    if not then or not now:
        return "the code of its stage changed"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"code changed since: {', '.join(names[:3])}{more}"


def _rest(decided: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in decided.items() if k != "code"}, sort_keys=True)


def _finished_but_for_code(store: StudyFolder) -> dict[str, str]:
    """{what decided a finished cell but for its code: its key}, the latest one of each."""
    found: dict[str, tuple[float, str]] = {}
    folder = store.path / "cells"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        card = store.card(path.name)
        if card.get("state") == "finished" and store.damage(path.name) is None:
            rest, ended = _rest(card["decided"]), float(card.get("ended", 0.0))
            found[rest] = max(found.get(rest, (0.0, "")), (ended, path.name))
    return {rest: key for rest, (_, key) in found.items()}


def wanted(entries: Sequence[Entry], globs: Sequence[str], matches: Callable[[str, str], bool]) -> list[Entry]:
    """The entries whose name matches one of the patterns, and all that these need; all where there is no pattern."""
    if not globs:
        return list(entries)
    by_name = {entry.cell.name: entry for entry in entries}
    names = [name for name in by_name if any(matches(name, glob) for glob in globs)]
    chosen: set[str] = set()
    while names:
        name = names.pop()
        if name not in chosen:
            chosen.add(name)
            names += by_name[name].cell.needs
    return [entry for entry in entries if entry.cell.name in chosen]
