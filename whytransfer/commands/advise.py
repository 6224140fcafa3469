"""`whytransfer advise`: which of the backbones at hand suits somebody's own labelled pictures, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from whytransfer.commands.common import Names, Settings, print_json, print_table
from whytransfer.errors import InputError


class AdviseSettings(Settings):
    """Which backbone for my pictures? A small labelled folder is enough; the answer says how sure it is.

    No test set is needed: each picture is predicted by a logistic readout of frozen features that was fitted on other
    pictures (5 folds), with all labels and with shares of them. Candidates are compared picture by picture, all
    comparisons holding together with 95 %; what cannot be told apart is said to be tied, with the number of labels that
    would tell it apart. Random weights of the same architectures are measured too, as the floor.
    Then pose and colour: how much of the labels each tells by itself (measured on pixels), how much each backbone
    ignores it (cosine of whitened features of changed and unchanged pictures, 1 ignores it), and how much less often
    the readout is right when test pictures are changed. Pictures of one scene or video that lie in different folds make
    all candidates look better than they are: give one of each.

    Kept in --out: advice.json, results.jsonl, figures/advice.png (the label-efficiency curve, and invariance needed
    against offered), and what was measured (the same command goes on where it was stopped).

    Examples:
      whytransfer advise --images photos/ --candidates runs/ --out advice/
      whytransfer advise --images photos/ --labels labels.csv --backbone runs/a timm:resnet18.a1_in1k --out advice/
    """

    images: str
    """Labelled pictures, 50 to some thousands: a folder with one folder per class, a zip of one, scenes:COUNT, ..."""
    out: Path
    """Folder for advice.json, results.jsonl, figures and what is kept; results of equal settings are replaced."""
    labels: Path | None = None
    """CSV file with the columns name,label; when not given, the names of the folders are the labels."""
    backbone: Names = ()
    """Candidates by name: run folder, weight file, torchvision:NAME:WEIGHTS, timm:NAME, A+B+C, ..."""
    candidates: Annotated[tuple[Path, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    """Folders below which every run, export and weight file is a candidate."""
    shares: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (10.0, 25.0, 50.0)
    """Per cent of the labels for the curve; all labels are always on it."""
    metric: Literal["top1", "mean_per_class"] = "top1"
    """What decides: the share of pictures that is right, or the mean over classes (every class counts alike)."""
    changed: Annotated[int, Field(ge=2)] = 200
    """Pictures that are changed in pose and colour; all where there are fewer."""
    views: Annotated[int, Field(ge=1, le=64)] = 4
    """Changes of each group that each of them is seen under."""
    size: Annotated[int, Field(ge=8, le=2048)] | None = None
    """Side of the views in pixels; when not given, that of each pretraining (224 for weights from elsewhere)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides folds, shares, changes and bootstrap draws."""
    batch: Annotated[int, Field(ge=1)] = 64
    """Images per forward pass; changes only speed and memory."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the decoded cache; what does not fit is decoded at every access."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of stopping."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""


def advise(**settings: Any) -> dict[str, Any]:
    """Measure and advise; keywords are the fields of AdviseSettings. Returns what `--json` prints.

    advise(images="photos", candidates=["runs"], out="advice")["recommended"]
    """
    return AdviseSettings.called(run, settings)


def run(s: AdviseSettings) -> dict[str, Any]:
    """Wire the settings to objects; the answer as plain values, which is advice.json too."""
    from whytransfer.commands.labelled import LabelledPictures
    from whytransfer.commands.result_files import keep, kept_results, signed
    from whytransfer.commands.transfer import sizes_of
    from whytransfer.diagnosis import advice_figures
    from whytransfer.diagnosis.advice_results import answer_of, results_of
    from whytransfer.figures import altair
    from whytransfer.memory import keep_freed_memory
    from whytransfer.runs import writable_folder, write_json

    keep_freed_memory()
    altair()  # whether pictures can be drawn is known before the work
    specs, left_out = _candidates(s)
    writable_folder(s.out, make=False)
    kept_results(s.out)  # a file that is not ours is refused before the work
    sizes = [s.size] * len(specs) if s.size else sizes_of(specs)
    pictures = LabelledPictures(s.images, s.labels, max(sizes), s.cache_gb, s.skip_unreadable)
    s.out.mkdir(parents=True, exist_ok=True)
    m = _measured(s, pictures, dict(zip(specs, sizes, strict=True)))
    for candidate in m.candidates:
        content = _content(s, pictures, candidate)
        keep(s.out, [signed(r, content) for r in results_of(m, candidate, pictures.name)])
    answer = answer_of(m, pictures.name, pictures.classes, [*pictures.notes, *left_out])
    write_json(s.out / "advice.json", answer, "Free some space and run the same command again.")
    advice_figures.draw(answer, s.out / "figures")
    return answer


def _measured(s: AdviseSettings, pictures: Any, sizes: Mapping[str, int]) -> Any:
    """Every candidate on the same pictures; `sizes` are those of their views, by backbone string."""
    from whytransfer import progress
    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.pretrain import device_of
    from whytransfer.commands.transfer import is_untrained
    from whytransfer.diagnosis.advice import Measured, equally_fast
    from whytransfer.diagnosis.candidates import measure
    from whytransfer.diagnosis.out_of_fold import largest_class

    question, device = _question(s, pictures.labels), device_of(s.device)
    alone = _alone(pictures.at(max(sizes.values())), question)
    candidates = []
    with progress.bar("candidates: pictures seen and fitted", question.work * len(sizes)) as update:
        seen = _Seen(update)
        for spec, size in sizes.items():  # one in memory at a time
            seen.what = spec
            backbone = load_backbone(spec, device)
            candidates.append(measure(backbone, is_untrained(spec), pictures.at(size), size, question, seen))
    largest, per_class = largest_class(pictures.labels, question.fold), s.metric == "mean_per_class"
    return Measured(equally_fast(candidates), pictures.labels, question.changed, largest, alone, per_class, s.seed)


def _content(s: AdviseSettings, pictures: Any, candidate: Any) -> dict[str, Any]:
    """For provenance: what the pictures, the weights and the settings were."""
    images = str(pictures.at(candidate.size_px).fingerprint)
    return {
        "train_fingerprint": images, "test_fingerprint": images, "weights_sha256": candidate.weights_sha256,
        "options": {"changed": s.changed, "views": s.views}, "images": s.images, "notes": list(pictures.notes),
    }  # fmt: skip


class _Seen:
    """Adds up the work on all candidates, for one bar."""

    def __init__(self, update: Any) -> None:
        self.update, self.done, self.what = update, 0, ""

    def __call__(self, units: int) -> None:
        self.done += units
        self.update(self.done, self.what)


def _candidates(s: AdviseSettings) -> tuple[list[str], list[str]]:
    """The backbone strings of candidates and their floors, and what was found that is no backbone (said).

    Each is loaded once here, so that what cannot be is known before the work.
    """
    from whytransfer.backbones.at_hand import backbones_below
    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.transfer import is_untrained
    from whytransfer.progress import say

    found = [spec for folder in s.candidates for spec in backbones_below(folder)]
    if not s.backbone and not found:
        where = " and ".join(str(folder) for folder in s.candidates)
        raise InputError(
            (f"no run, export or weight file below {where}. " if where else "Nothing to choose among. ")
            + "Name backbones (--backbone runs/mine timm:NAME) or folders that hold some (--candidates FOLDER)."
        )
    arch, left_out = dict[str, str](), []
    for spec in dict.fromkeys((*s.backbone, *found)):
        try:
            backbone = load_backbone(spec)
        except InputError as error:
            if spec in s.backbone:  # which was asked for by name
                raise
            left_out.append(f"{spec} is no candidate: {error}")
            say(f"note: {left_out[-1]}")
            continue
        arch[spec] = backbone.arch
        if backbone.note:
            say(f"note: {spec}: {backbone.note}")
    if not arch:
        raise InputError("nothing of what was found can be loaded as a backbone; see the notes above")
    bare = {arch[spec] for spec in arch if is_untrained(spec)}
    floors = {floor_of(name) for name in arch.values() if name not in bare} - {""}
    return [*arch, *sorted(floors - set(arch))], left_out


def floor_of(arch: str) -> str:
    """The backbone string of random weights of an architecture, member by member of a fusion; "" for one of others."""
    from whytransfer.backbones.resnet import names

    members = arch.split("+")
    if not set(members) <= set(names()):
        return ""
    seeded = [f"random:{member}:{i}" if i else f"random:{member}" for i, member in enumerate(members)]
    return "+".join(seeded)


def _question(s: AdviseSettings, labels: Any) -> Any:
    """What all candidates are asked: folds, shares, and which pictures are changed how."""
    import numpy as np

    from whytransfer.diagnosis.candidates import Question
    from whytransfer.diagnosis.changed import draw
    from whytransfer.diagnosis.grids import GROUPS
    from whytransfer.diagnosis.out_of_fold import folds_for
    from whytransfer.tasks.labels import part_of

    fold = folds_for(labels, s.seed)
    share = 100 * min(s.changed, len(labels)) / len(labels)
    changed = np.flatnonzero(part_of(labels, share, s.seed))  # a share of every class, one picture at least
    drawn = {group: draw(group, len(changed), s.views, s.seed) for group in GROUPS}
    return Question(labels, fold, changed, drawn, s.shares, s.seed, s.batch, s.out)


def _alone(images: Any, question: Any) -> dict[str, Any]:
    """{group: (N,) right by pose or colour alone}."""
    from whytransfer import progress
    from whytransfer.diagnosis.nuisance import numbers_of
    from whytransfer.diagnosis.out_of_fold import out_of_fold

    numbers = numbers_of(images)
    found = {}
    with progress.bar("pose and colour alone: readouts", len(numbers)) as update:
        for group, values in numbers.items():
            found[group] = out_of_fold(values, question.labels, question.fold, seed=question.seed).correct()
            update(len(found))
    return found


def show(s: AdviseSettings) -> None:
    """Run and print the answer for people, or as one JSON object."""
    answer = run(s)
    if s.as_json:
        print_json([answer])
        return
    print_table(*_table(answer))
    if len(answer["candidates"][0]["curve"]) > 1:
        print_table(*_curve_table(answer))
    for sentence in answer["advice"]:
        print(sentence)
    print(f"saved in {s.out}: advice.json, results.jsonl, figures/advice.png (.svg, .pdf) and its tables")


def _table(answer: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows: candidates from the best on, below them what needs no backbone."""
    columns = ["backbone", "% right", "95 % interval", "ignores pose", "ignores colour", "images/s", "px"]
    rows = [
        [
            c["backbone"], *_percent(c), *(f"{c['ignores'][word]:.2f}" for word in ("pose", "colour")),
            f"{c['images_per_second']:,.0f}", str(c["size_px"]),
        ]
        for c in answer["candidates"]
    ]  # fmt: skip
    rows += [[f"{word} alone", *_percent(told), "", "", "", ""] for word, told in answer["alone"].items()]
    rows.append(["always the largest class", *_percent(answer["largest_class"]), "", "", "", ""])
    title = (
        f"{answer['images']}: {answer['pictures']:,} pictures of {len(answer['classes'])} classes, {answer['metric']}"
    )
    return title, columns, rows


def _percent(row: Mapping[str, float]) -> list[str]:
    return [f"{row['value']:.1f}", f"[{row['low']:.1f}, {row['high']:.1f}]"]


def _curve_table(answer: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The label-efficiency curve: a row per candidate, a column per share of the labels."""
    shares = [f"{row['pictures']:,} ({row['percent']:g} %)" for row in answer["candidates"][0]["curve"]]
    rows = [[c["backbone"], *(" ".join(_percent(row)) for row in c["curve"])] for c in answer["candidates"]]
    return "% right by labelled pictures (95 % interval over pictures)", ["backbone", *shares], rows
