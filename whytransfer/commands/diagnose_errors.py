"""`whytransfer diagnose errors`: why average precision is not higher, of one detector or several compared pairwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from whytransfer.commands.common import Settings, interval_text, print_json, print_table
from whytransfer.errors import InputError

SHOWN = ("AP", "AP50", "AP75", "normalised AP50", "TIDE dAP", "TIDE errors", "Hoiem dAP", "Hoiem share", "sensitivity")


class DiagnoseErrorsSettings(Settings):
    """Name every error of a detector, say what each kind costs, and compare detectors on the same images pairwise.

    TIDE: class, localisation, both, duplicate, background, missed, and the AP50 gained if that kind were repaired.
    Hoiem: is a false positive badly localised, confused with a similar or another class, or background; along the
    ranking, and among as many detections as there are objects; the AP50 gained by removing a kind; and normalised AP
    by size, aspect, truncation and occlusion of the objects. Objects marked difficult, and crowds, do not count.
    All intervals are 95 % bootstraps over images; detectors are drawn on the same images, so trust the interval of
    their difference, not whether two intervals overlap. AP is COCO's. Boxes are enough, and no input is changed.

    Truth and detections: COCO's JSON; VOC's XML folder and comp4 text folder; or a result of our task detection.

    Examples:
      whytransfer diagnose errors --truth instances_val2017.json --detections a.json b.json --out errors/
      whytransfer diagnose errors --truth VOCdevkit/VOC2007 --split test --detections comp4/ --out errors/
    Detectors of one's own, on generated scenes, which need no download:
      whytransfer transfer --backbone random:resnet18 --task detection --train scenes:400:1:96 --test scenes:200:2:96 \\
        --size 96 --architecture fpn --budget 0.002 --fit-batch 4 --out det/random
      whytransfer diagnose errors --truth det/random --detections det/random --out errors/
    The first line again with --backbone runs/mine and --out det/mine, and then both, pairwise:
      whytransfer diagnose errors --truth det/random --detections det/random det/mine --out errors/
    """

    truth: str
    """JSON file, folder of VOC XML files (or the one that holds Annotations), or results of our task detection."""
    detections: Annotated[tuple[str, ...], Field(min_length=1)]
    """One or more on the same images: JSON file, folder of ..._CLASS.txt files, or results of our task detection."""
    out: Path
    """Folder for results.jsonl, per-class.csv and .parquet, figures/ (SVG, PDF, PNG, their numbers as CSV, Parquet)."""
    names: tuple[str, ...] | None = None
    """What to call the detectors, in their order; their files' or folders' names when not given."""
    split: str | None = None
    """Of a VOC folder, a list in ImageSets/Main, such as test; all its images when not given."""
    similar: tuple[str, ...] | None = None
    """Groups of classes that are alike, such as cat,dog car,bus; when not given VOC's, or COCO's supercategories."""
    any_scores: bool = False
    """Allow scores outside [0, 1]: margins, of which only the order counts."""
    least_objects: Annotated[int, Field(ge=1)] = 5
    """Objects that a class needs in every group (by size, aspect, ...) to have a say in sensitivities."""
    draws: Annotated[int, Field(ge=2)] = 1000
    """Bootstrap draws of the images."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides the draws."""
    figures: bool = True
    """Draw the figures; the numbers come without."""
    matches: bool = False
    """Also write matches-NAME.csv and .parquet: every detection with its errors, overlaps and object."""

    @field_validator("detections", "names", "similar", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (str(value),) if isinstance(value, str | Path) else value


def diagnose_errors(**settings: Any) -> list[Any]:
    """Analyse detections; keywords are the fields of DiagnoseErrorsSettings. Returns the Result records.

    diagnose_errors(truth="truth.json", detections=["a.json", "b.json"], out="errors")[0].value
    """
    return DiagnoseErrorsSettings.called_for_all(run, settings)


def run(s: DiagnoseErrorsSettings) -> Iterator[Any]:
    """Wire the settings to objects; yields the Results once results.jsonl and the figures are written."""
    from whytransfer import figures, progress
    from whytransfer.commands.result_files import keep, kept_results
    from whytransfer.diagnosis.detection_figures import save_all
    from whytransfer.runs import writable_folder

    if s.figures:
        figures.altair()  # what is missing is said before the work
    writable_folder(s.out, make=False)
    kept_results(s.out)
    with progress.bar("detection errors: bootstrap draws", s.draws) as update:
        analysis = _analysis(s, update)
        _say_notes(analysis)
        results = [_signed(r, s) for r in analysis.run()]
    keep(s.out, results)
    figures.save_table(list(analysis.per_class()), s.out, "per-class")
    if s.matches:
        for name, measures in analysis.measures.items():
            figures.save_table(list(measures.table.rows()), s.out, f"matches-{_file_name(name)}")
    if s.figures:
        (s.out / "figures").mkdir(exist_ok=True)
        save_all(results, s.out / "figures")
    yield from results


def _analysis(s: DiagnoseErrorsSettings, update: Any) -> Any:
    from whytransfer.diagnosis.detection_analysis import DetectionErrors
    from whytransfer.diagnosis.detection_files import found_by, ground_truth

    names = names_of(s.detections, s.names)
    truth = ground_truth(s.truth, s.split)
    found = {
        name: found_by(source, truth, s.any_scores) for name, source in zip(names, s.detections, strict=True)
    }  # fmt: skip
    groups = None if s.similar is None else [[c.strip() for c in group.split(",")] for group in s.similar]
    return DetectionErrors(
        truth, found, Path(s.truth).name, groups, s.least_objects, s.draws, s.seed, progress=update
    )  # fmt: skip


def _signed(result: Any, s: DiagnoseErrorsSettings) -> Any:
    """The result with where it came from; `options` are what decides it besides the ground truth."""
    from whytransfer.commands.result_files import signed

    options = {name: getattr(s, name) for name in ("split", "similar", "any_scores", "least_objects", "draws")}
    options["detections_sha256"] = result.provenance["detections_sha256"]
    return signed(result, {"truth": s.truth, "files": list(s.detections), "options": options})


def _say_notes(analysis: Any) -> None:
    from whytransfer import progress

    for name in analysis.measures:
        if not analysis.found[name]:
            progress.say(f"note: {name} has no detection at all: every object is missed, and there are no shares")
    first = next(iter(analysis.measures.values()))
    if first.left_out:
        progress.say(
            f"note: sensitivity to {' and '.join(first.left_out)} is not measured: no class has {analysis.least} "
            "objects in every group; --least-objects 1 asks for fewer"
        )
    for name, kinds in first.speaking.items():
        if len(kinds) < len(first.table.classes):
            shown = ", ".join(kinds[:5]) + (f" and {len(kinds) - 5} more" if len(kinds) > 5 else "")
            progress.say(
                f"note: {name} speaks of {len(kinds)} of {len(first.table.classes)} classes, those with "
                f"{analysis.least} objects or more in every group: {shown}"
            )
    if not first.table.similar.any():
        progress.say("note: no classes are known to be similar: --similar cat,dog car,bus names groups of them")
    apart = int((~first.table.counted).sum())
    if apart:
        progress.say(f"note: {apart:,} objects do not count: crowds, or marked difficult or to be ignored")


def names_of(sources: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """What the detectors are called; InputError where two are called alike or names are missing."""
    if names is not None and len(names) != len(sources):
        raise InputError(f"{len(sources)} detections and {len(names)} names were given: each needs one.")
    found = list(names) if names is not None else [_short(Path(source)) for source in sources]
    if len(set(found)) < len(found) and names is None:
        found = list(sources)
    if twice := [name for name in dict.fromkeys(found) if found.count(name) > 1]:
        raise InputError(f"two detections are called {twice[0]!r}: give other files, or --names for each.")
    return found


def _short(path: Path) -> str:
    """The name of a folder or file; that of the folder where the file is our task's."""
    return path.resolve().parent.name if path.name == "detections.json" else path.stem


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def show(s: DiagnoseErrorsSettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    results = list(run(s))
    if s.as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    alone = [r for r in results if "paired_difference_of" not in r.provenance and _is_shown(r.metric)]
    models = list(dict.fromkeys(r.model for r in alone))
    cells = {(r.metric, r.model): _cell(r) for r in alone}
    metrics = dict.fromkeys(r.metric for r in alone)
    rows = [[metric, *(cells.get((metric, m), "") for m in models)] for metric in metrics]
    print_table(f"errors of detections on {s.truth} (95 % interval over {alone[0].n:,} images)", ["", *models], rows)
    apart = [r for r in results if "paired_difference_of" in r.provenance and _is_shown(r.metric) and _is_apart(r)]
    if apart:
        print_table(
            "paired differences whose 95 % interval leaves out 0 (about one in twenty does so by chance)",
            ["detectors", "", "difference"],
            [[r.model, r.metric, _cell(r)] for r in apart],
        )
    elif len(models) > 1:
        print("no paired difference has an interval that leaves out 0")
    print(f"saved in {s.out}: results.jsonl, per-class.csv" + (", figures/" if s.figures else ""))


def _is_shown(metric: str) -> bool:
    return metric.startswith(SHOWN) and "FPs" not in metric and not metric.endswith(" all")


def _is_apart(r: Any) -> bool:
    return r.low is not None and (r.low > 0 or r.high < 0)


def _cell(r: Any) -> str:
    if r.unit == "errors":
        return f"{r.value:,.0f}" + ("" if r.low is None else f" [{r.low:,.0f}, {r.high:,.0f}]")
    return f"{r.value:.2f} {interval_text(r)}".rstrip()
