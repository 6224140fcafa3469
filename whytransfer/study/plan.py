"""From a study file to its cells: every pretraining, task and diagnosis at every seed, what each needs first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whytransfer.errors import InputError, unknown_name
from whytransfer.study.cells import Cell, Stage, needs_of
from whytransfer.study.study_file import PLUS, StudyFile, fill, listed

DIAGNOSE = "diagnose-"
OURS = ("seed", "out", "as_json", "quiet")  # settings that the study gives itself
OF_PREDICTIONS = ("truth", "detections", "names")


@dataclass(frozen=True)
class Grid:
    """The cells of a study in an order in which each comes after what it needs, all of the first seed first."""

    name: str
    cells: tuple[Cell, ...]
    file: StudyFile

    def __getitem__(self, name: str) -> Cell:
        return self._by_name()[name]

    def _by_name(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells}


def grid_of(file: StudyFile, stages: Mapping[str, Stage]) -> Grid:
    """Every cell of a study; InputError where a setting is wrong, names a cycle, or something that is not there."""
    specs = Specs(file)
    cells: dict[str, Cell] = {}
    for seed in file.seeds:
        for cell in (*_pretrainings(file, seed, stages), *_tasks(file, specs, seed, stages)):
            cells[cell.name] = cell
        for cell in _diagnoses(file, specs, seed, stages):
            cells.setdefault(cell.name, cell)  # one that takes no seed is there once
    return Grid(file.name, tuple(cells.values()), file)


class Specs:
    """What a backbone's name stands for: "<pretrain/NAME/SEED>", weights that exist, or a sum of others."""

    def __init__(self, file: StudyFile) -> None:
        self.file = file
        for name in file.backbones:
            self(name, file.seeds[0])  # a cycle is found also where no cell asks for it

    def members(self, name: str) -> list[str]:
        """The names of the backbones that a sum is of, through sums of sums; the name itself of any other."""
        given = self.file.backbones[name]
        if isinstance(given, Mapping) or (PLUS not in given and given not in self.file.backbones):
            return [name]
        parts = [part.strip() for part in given.split(PLUS)]
        parts[0] = parts[0] if parts[0] in self.file.backbones else parts[0].rpartition(":")[2]
        return [member for part in parts for member in self.members(part)]

    def origins(self, names: Sequence[str]) -> tuple[Any, ...]:
        """What the file says of every backbone that these are made of: a text or the settings of a pretraining."""
        given = [self.file.backbones[m] for m in dict.fromkeys(m for name in names for m in self.members(name))]
        return tuple({**self.file.pretrain, **own} if isinstance(own, Mapping) else own for own in given)

    def __call__(self, name: str, seed: int, above: tuple[str, ...] = ()) -> str:
        """The spec of a backbone at a seed; InputError for a cycle and for a part of a sum that is no name here."""
        if name in above:
            raise InputError(f"backbones: a cycle of fusions: {' -> '.join([*above, name])}")
        given = self.file.backbones[name]
        if isinstance(given, Mapping):
            return f"<pretrain/{name}/{seed}>"
        if not isinstance(given, str) or not given.strip():
            raise InputError(
                f"backbones: {name} is {given!r}; a text (a backbone, or names joined by `{PLUS}`) or the settings of "
                "a pretraining are expected"
            )
        parts = [part.strip() for part in given.split(PLUS)]
        if len(parts) == 1 and given not in self.file.backbones:
            return str(fill(given, {"seed": seed}, f"backbones: {name}"))
        kind, colon, first = parts[0].rpartition(":")  # standardised:A + B is a fusion of another kind
        if parts[0] in self.file.backbones:
            kind = colon = ""
        elif colon:
            parts[0] = first
        for part in parts:
            if part not in self.file.backbones:
                raise InputError(
                    f"backbones: {name}: {unknown_name('part of a fusion', part, self.file.backbones)} `{PLUS}` joins "
                    "names of this file; give existing weights a name of their own here."
                )
        return kind + colon + "+".join(self(part, seed, (*above, name)) for part in parts)


def _pretrainings(file: StudyFile, seed: int, stages: Mapping[str, Stage]) -> Iterator[Cell]:
    for name, own in file.backbones.items():
        if isinstance(own, Mapping):
            settings = {**file.pretrain, **own}
            yield _cell("pretrain", stages, f"backbones: {name}", settings, f"pretrain/{name}/{seed}", seed, "", name)


def _tasks(file: StudyFile, specs: Specs, seed: int, stages: Mapping[str, Stage]) -> Iterator[Cell]:
    for item, own in file.tasks.items():
        if seed not in listed(own or {}, "seeds", file.seeds, item):
            continue
        settings = {**file.transfer, **_without(own or {})}
        for name in listed(own or {}, "backbones", file.backbones, item):
            yield _of_backbone("transfer", stages, f"tasks: {item}", settings, item, name, specs, seed)


def _diagnoses(file: StudyFile, specs: Specs, seed: int, stages: Mapping[str, Stage]) -> Iterator[Cell]:
    for item, own in file.diagnoses.items():
        where = f"diagnoses: {item}"
        kind, stage = _stage_of(own or {}, where, stages)
        if seed not in listed(own, "seeds", file.seeds, item):
            continue
        settings = {k: v for k, v in _without(own).items() if k != "diagnose"}
        names = listed(own, "backbones", file.backbones, item)
        if kind == "nothing":
            yield _cell(stage, stages, where, settings, item, file.seeds[0], item)
        elif kind == "backbone":
            yield from (_of_backbone(stage, stages, where, settings, item, name, specs, seed) for name in names)
        elif kind == "backbones":
            yield _of_all(stage, stages, where, settings, item, names, specs, seed)
        else:
            yield from _of_predictions(file, stage, stages, where, settings, item, names, seed)


def _stage_of(own: Mapping[str, Any], where: str, stages: Mapping[str, Stage]) -> tuple[str, str]:
    """What there is one cell of, and the stage that a diagnosis names: "masks" is masks-quality."""
    known = {name.removeprefix(DIAGNOSE): name for name in stages if name.startswith(DIAGNOSE)}
    known |= {"masks": "masks-quality"} if "masks-quality" in stages else {}
    if "diagnose" not in own:
        raise InputError(f"{where}: which one? Add `diagnose: NAME`, NAME one of {', '.join(sorted(known))}")
    if own["diagnose"] not in known:
        raise InputError(f"{where}: {unknown_name('diagnosis', str(own['diagnose']), known)}")
    stage = known[own["diagnose"]]
    return stages[stage].takes, stage


def _without(own: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in own.items() if k not in ("backbones", "seeds")}


def _of_backbone(
    stage: str, stages: Mapping[str, Stage], where: str, settings: Mapping[str, Any], item: str, name: str,
    specs: Specs, seed: int,
) -> Cell:  # fmt: skip
    spec = specs(name, seed)
    given = {**_unlike(settings, ("backbone",), where), "backbone": [name]}
    return _cell(
        stage, stages, where, given, f"{item}/{name}/{seed}", seed, item, name,
        specs={"backbone": [spec]}, models={spec: name}, origins=specs.origins([name]),
    )  # fmt: skip


def _of_all(
    stage: str, stages: Mapping[str, Stage], where: str, settings: Mapping[str, Any], item: str, names: list[str],
    specs: Specs, seed: int,
) -> Cell:  # fmt: skip
    found = {specs(name, seed): name for name in names}
    given = {**_unlike(settings, ("backbone",), where), "backbone": names}
    read = {"backbone": list(found)}
    for setting in (key for key in stages[stage].beside if key in settings):
        beside = listed(settings, setting, (), where)
        if unknown := [name for name in beside if name not in specs.file.backbones]:
            raise InputError(f"{where}: {setting}: {unknown_name('backbone', str(unknown[0]), specs.file.backbones)}")
        read[setting] = [specs(name, seed) for name in beside]
        found |= {spec: name for spec, name in zip(read[setting], beside, strict=True)}
    return _cell(
        stage, stages, where, given, f"{item}/{seed}", seed, item, specs=read, models=found,
        origins=specs.origins(list(found.values())),
    )  # fmt: skip


def _of_predictions(
    file: StudyFile, stage: str, stages: Mapping[str, Stage], where: str, settings: dict[str, Any], item: str,
    names: list[str], seed: int,
) -> Iterator[Cell]:  # fmt: skip
    """One cell over what the backbones predicted in the task that `of` names."""
    of = settings.pop("of", None)
    if of not in file.tasks:
        raise InputError(f"{where}: `of` names a task of this file: {unknown_name('task', str(of), file.tasks)}")
    task = file.tasks[of] or {}
    if seed not in listed(task, "seeds", file.seeds, of):
        return
    there = listed(task, "backbones", file.backbones, of)
    names = [name for name in names if name in there] if names == list(file.backbones) else names
    if missing := [name for name in names if name not in there]:
        raise InputError(f"{where}: task {of} has no backbone {missing[0]}; it has {', '.join(there)}")
    found = [f"<{of}/{name}/{seed}>" for name in names]
    given = {**_unlike(settings, OF_PREDICTIONS, where), "truth": of, "detections": names, "names": names}
    specs = {"truth": found[0], "detections": found}
    yield _cell(
        stage, stages, where, given, f"{item}/{seed}", seed, item, specs=specs, models={name: name for name in names}
    )  # fmt: skip


def _unlike(settings: Mapping[str, Any], ours: tuple[str, ...], where: str) -> Mapping[str, Any]:
    for name in ours:
        if name in settings:
            raise InputError(f"{where}: {name} is given by the study; leave it out")
    return settings


def _cell(
    stage: str, stages: Mapping[str, Stage], where: str, settings: Mapping[str, Any], name: str, seed: int,
    item: str = "", backbone: str = "", specs: Mapping[str, Any] | None = None, models: Mapping[str, str] | None = None,
    origins: tuple[Any, ...] = (),
) -> Cell:  # fmt: skip
    """A cell whose settings are filled in for its seed, checked and complete; InputError says where in the file."""
    if stage not in stages:
        raise InputError(f"{where}: {unknown_name('stage', stage, stages)}")
    given = {**fill(dict(_unlike(settings, OURS, where)), {"seed": seed}, where), "seed": seed}
    try:
        complete = stages[stage].check(given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    needs = tuple(dict.fromkeys(need for spec in (specs or {}).values() for need in needs_of(spec)))
    return Cell(name, stage, complete, needs, seed, item, backbone, specs or {}, models or {}, origins)
