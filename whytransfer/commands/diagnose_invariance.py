"""`whytransfer diagnose invariance`: what backbones ignore, and which of it goes with good transfer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whytransfer.commands.common import Backbones, Settings, interval_text, print_json, print_table
from whytransfer.errors import InputError
from whytransfer.parsing import json_of

COUNTS = {"corrected": 200, "paper": 1000}  # pictures that are transformed
VALUES = {"corrected": 16, "paper": None}  # of each curve; None: all of the published grid
OWN = ("invariance", "real invariance", "trade-off", "transfer map", "complementarity")  # that are no score of a task


class DiagnoseInvarianceSettings(Settings):
    """What does a backbone ignore? Its features of a picture and of the picture changed, compared.

    18 synthetic transforms, 8 spatial and 10 of appearance, each over a range of strengths. Features are whitened by
    the mean and covariance of all of --images, so that "alike" is in units of how much pictures differ: a cosine of 1
    is full invariance, 0 what two unrelated pictures have; the Mahalanobis distance is there too. A backbone that
    ignores geometry suits a task that asks what is there, not one that asks where; so compare the trade-off below the
    table with your task. Take ten times as many --images as features (512 of resnet18, 2048 of resnet50): with fewer,
    the covariance is shrunk or noisy, which is said.

    mode corrected (the default) transforms the resized picture, without the values that change nothing, 16 strengths
    each. mode paper is the published code [Ericsson 2022], quirks included: 256 strengths, "off" among the values of
    flips, lengths in pixels of the files, a stray shear of 1 degree in translation and scale, 1,000 pictures drawn
    with replacement. --groups adds real changes (photographs of one thing), --latent what a readout still finds of the
    factors that made the images, --scores which invariance goes with which score over four backbones or more.

    Kept in --out: results.jsonl, every similarity and distance (the same command goes on where it was stopped), and
    figures with their tables in figures/.

    Examples:
      whytransfer diagnose invariance --backbone random:resnet18 --images scenes:2000 --size 64 --out why/
      whytransfer diagnose invariance --backbone runs/a runs/b --images photos/ --groups coil100:data/ --out why/
      whytransfer diagnose invariance --backbone runs/a runs/b --images photos/ --scores results/ --out why/
    """

    backbone: Backbones
    """One or more: run folder, weight file, random:ARCH[:SEED], torchvision:NAME:WEIGHTS, timm:NAME; A+B+C is a
    fusion."""

    images: str
    """What is transformed, and gives mean and covariance: folder, zip, scenes:COUNT:SEED, ..."""
    out: Path
    """Folder for results.jsonl, figures/ and what is kept; results of equal settings are replaced, others stay."""
    statistics: str | None = None
    """Other images for mean and covariance; --images when not given."""
    mode: Literal["corrected", "paper"] = "corrected"
    """corrected, or the published code with its quirks."""
    transforms: tuple[str, ...] = ("all",)
    """Names (rotation, hue, ...), groups (spatial, appearance), all, or none to leave them out."""
    values: Annotated[int, Field(ge=2, le=256)] | None = None
    """Strengths of each transform, spread over its grid; 16 when not given, in mode paper all 256."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Pictures that are transformed, drawn by the seed; 200 when not given, in mode paper 1,000."""
    stages: tuple[str, ...] = ("vector",)
    """vector (the pooled features) and stages of the backbone: layer1 layer2 ..."""
    groups: tuple[str, ...] = ()
    """Real changes: coil100:ROOT, coil20:, aloi-viewpoint:, aloi-illumination:, aloi-temperature:, alot-viewpoint:,
    alot-illumination:, alot-temperature:, dali:, flickr1024:, exposure-errors:, realblur:, any folder of folders that
    each hold the views of one thing; or, rendered, scenes:FACTOR:COUNT:SEED:SIZE with one factor changed in each thing
    (viewpoint, light-direction, light-colour)."""
    latent: tuple[str, str] | None = None
    """Training and test images with latent factors (scenes:4000:1 scenes:1000:2, causal3dident:ROOT:train ...)."""
    readouts: tuple[Literal["ridge", "rbf"], ...] = ("ridge", "rbf")
    """How latent factors are read out: linearly, or by Gaussian kernels."""
    scores: tuple[Path, ...] = ()
    """Folders of results.jsonl of `whytransfer transfer` on these backbones: which invariance goes with which score?"""
    family: tuple[str, ...] = ()
    """One name per backbone: relatives, left out together to see whether a correlation rests on them. When not given,
    the method of a run, else the kind of the backbone."""
    size: Annotated[int, Field(ge=8, le=2048)] | None = None
    """Side of the views in pixels; when not given, that of each pretraining (224 for weights from elsewhere)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides which pictures, the deformations and the bootstrap draws."""
    batch: Annotated[int, Field(ge=1)] = 256
    """Views per forward pass; changes only speed and memory."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the decoded cache; what does not fit is decoded at every access."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of stopping."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    figures: bool = True
    """Draw; the tables and results are written either way."""


def diagnose_invariance(**settings: Any) -> list[Any]:
    """Measure invariances; keywords are the fields of DiagnoseInvarianceSettings. Returns the Result records.

    diagnose_invariance(backbone="runs/mine", images="scenes:2000", out="why")[0].value
    """
    return DiagnoseInvarianceSettings.called_for_all(run, settings)


def run(s: DiagnoseInvarianceSettings) -> Iterator[Any]:
    """Wire the settings to objects; yields Results of one backbone after the other, then those over all of them."""
    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.pretrain import device_of
    from whytransfer.commands.result_files import keep, kept_results
    from whytransfer.commands.transfer import sizes_of
    from whytransfer.diagnosis.transfer_map import results_of
    from whytransfer.memory import keep_freed_memory
    from whytransfer.progress import say
    from whytransfer.runs import writable_folder

    keep_freed_memory()
    families = _families(s)
    backbones = [load_backbone(spec, device_of(s.device)) for spec in s.backbone]  # all of them before the work starts
    writable_folder(s.out, make=False)
    kept_results(s.out)
    scored = [row for folder in s.scores for row in _scored(folder)]
    sources = _Sources(s)
    found: list[Any] = []
    sizes = [s.size] * len(backbones) if s.size else sizes_of(s.backbone)
    for spec, backbone, size in zip(s.backbone, backbones, sizes, strict=True):
        if backbone.note:
            say(f"note: {spec}: {backbone.note}")
        for part in _parts(s, sources, spec, backbone, size):
            results = [_signed(result, s, size) for result in part]
            keep(s.out, results)
            found += results
            yield from results
    correlations = _correlations(s, found, families, scored)
    over_all = [_signed(r, s, sizes[0]) for r in results_of(correlations, found[0].data, s.seed, s.mode)]
    keep(s.out, over_all)
    yield from over_all
    if s.figures:
        from whytransfer.diagnosis.invariance_figures import draw

        most = s.values or VALUES[s.mode]
        (s.out / "figures").mkdir(parents=True, exist_ok=True)
        draw([r for r in found if r.task in OWN], s.out / "figures", s.mode, most, correlations["transfer map"])


class _Sources:
    """The image sets of the command, opened once, decoded once for each size."""

    def __init__(self, s: DiagnoseInvarianceSettings) -> None:
        from whytransfer.commands.data import opened
        from whytransfer.diagnosis.view_groups import as_published, open_groups

        self.s, self.caches = s, dict[Any, Any]()
        self.images = opened(s.images)
        self.statistics = self.images if s.statistics in (None, s.images) else opened(s.statistics or "")
        self.groups = [open_groups(as_published(spec, s.mode)) for spec in s.groups]
        self.latent = [opened(spec) for spec in s.latent or ()]

    def cached(self, images: Any, size: int) -> Any:
        """The PixelCache of a set for views of a size; of the files' own size in mode paper."""
        from whytransfer.commands.data import cached
        from whytransfer.diagnosis.transforms import canvas_px

        most = None if self.s.mode == "paper" else 2 * canvas_px(size)
        if (id(images), most) not in self.caches:
            self.caches[id(images), most] = cached(images, most, self.s.cache_gb, self.s.skip_unreadable)
        return self.caches[id(images), most]


def _parts(
    s: DiagnoseInvarianceSettings, sources: _Sources, spec: str, backbone: Any, size: int
) -> Iterator[list[Any]]:
    """The Results of one backbone: synthetic transforms, groups of real views, latent factors."""
    from whytransfer import progress
    from whytransfer.commands.transfer import is_untrained
    from whytransfer.diagnosis import invariance

    statistics = sources.cached(sources.statistics, size)
    ridge = invariance.RIDGE if s.mode == "paper" and is_untrained(spec) else 0.0
    if s.transforms != ("none",):
        yield _synthetic(s, sources, spec, backbone, size, ridge)
    if sources.groups:
        with progress.bar(f"statistics of {spec}", len(statistics)) as update:
            made = invariance.whitenings(
                backbone, statistics, size, s.stages, s.batch, ridge, lambda done, total: update(done)
            )
        for groups in sources.groups:
            yield _real(s, sources, groups, spec, backbone, size, made)
    if s.latent:
        yield from _latent(s, sources, spec, backbone, size)


def _synthetic(
    s: DiagnoseInvarianceSettings, sources: _Sources, spec: str, backbone: Any, size: int, ridge: float
) -> list[Any]:
    from whytransfer import progress
    from whytransfer.diagnosis.grids import chosen, grid
    from whytransfer.diagnosis.invariance import SyntheticInvariance
    from whytransfer.tasks.readout import fingerprint_of

    statistics = sources.cached(sources.statistics, size)
    images = _drawn(s, sources.cached(sources.images, size))
    most = s.values or VALUES[s.mode]
    names = chosen(s.transforms)
    work = len(images) * (sum(len(grid(name, s.mode, most)) for name in names) + 1) + len(statistics)
    with progress.bar(f"invariance of {spec}: views of {size} px", work) as update:
        diagnosis = SyntheticInvariance(
            images, statistics, size, names, s.mode, most, s.stages, s.seed, s.batch, ridge=ridge, folder=s.out,
            progress=lambda done, total: update(done),
        )  # fmt: skip
        content = {
            "test_fingerprint": str(fingerprint_of(images)), "train_fingerprint": str(fingerprint_of(statistics)),
            "options": {"transforms": names, "mode": s.mode, "values": most, "stages": s.stages, "images": len(images)},
        }  # fmt: skip
        return _with(list(diagnosis.run(backbone)), content)


def _drawn(s: DiagnoseInvarianceSettings, images: Any) -> Any:
    """The pictures that are transformed: without replacement, in mode paper with, by NumPy's old generator."""
    import numpy as np

    from whytransfer import chance
    from whytransfer.images import subset

    count = s.count or COUNTS[s.mode]
    if s.mode == "paper":
        return subset(images, np.random.RandomState(s.seed).choice(np.arange(len(images)), count))
    if s.count and s.count > len(images):
        raise InputError(f"--count {s.count}: {images.name} has {len(images):,} images")
    return subset(images, np.sort(chance.permutation(s.seed, 0, len(images))[:count]))


def _real(
    s: DiagnoseInvarianceSettings, sources: _Sources, groups: Any, spec: str, backbone: Any, size: int, made: Any
) -> list[Any]:
    from whytransfer import progress
    from whytransfer.diagnosis.real_invariance import RealInvariance
    from whytransfer.tasks.readout import fingerprint_of

    images = sources.cached(groups.images, size)
    if len(images) != len(groups.images):
        raise InputError(
            f"{groups.name}: {len(groups.images) - len(images)} views cannot be read; groups need them all"
        )
    with progress.bar(f"{groups.name} of {spec}", len(images)) as update:
        diagnosis = RealInvariance(
            images, groups.groups, groups.factor, size, s.mode, s.seed, s.batch,
            progress=lambda done, total: update(done),
        )  # fmt: skip
        statistics = str(fingerprint_of(sources.cached(sources.statistics, size)))
        content = {"test_fingerprint": str(fingerprint_of(images)), "train_fingerprint": statistics}
        options = {"factor": groups.factor, "mode": s.mode, "stages": s.stages}
        return _with(list(diagnosis.run(backbone, made)), {**content, "options": options})


def _latent(
    s: DiagnoseInvarianceSettings, sources: _Sources, spec: str, backbone: Any, size: int
) -> Iterator[list[Any]]:
    """R2 of every latent factor: the tasks `factors` and `kernel-readout`, on each stage."""
    from whytransfer import progress
    from whytransfer.commands.result_files import Counted
    from whytransfer.tasks import TASKS
    from whytransfer.tasks.readout import fingerprint_of

    train, test = (sources.cached(images, size) for images in sources.latent)
    for readout in s.readouts:
        task = "factors" if readout == "ridge" else "kernel-readout"
        for stage in s.stages:
            with progress.bar(f"{task} of {spec}: features", len(train) + len(test)) as update:
                diagnosis = TASKS[task](
                    train, test, size_px=size, targets="factors", seed=s.seed, batch=s.batch, stage=stage,
                    progress=Counted(update), folder=s.out,
                )  # fmt: skip
                content = {
                    "train_fingerprint": str(fingerprint_of(train)), "test_fingerprint": str(fingerprint_of(test)),
                    "options": {"stage": stage} if stage != "vector" else {},
                }  # fmt: skip
                yield _with(list(diagnosis.run(backbone)), content)


def _with(results: Sequence[Any], content: Mapping[str, Any]) -> list[Any]:
    return [dataclasses.replace(r, provenance={**r.provenance, **content}) for r in results]


def _signed(result: Any, s: DiagnoseInvarianceSettings, size: int) -> Any:
    """The result with where it came from."""
    from whytransfer.commands.result_files import signed

    return signed(result, {"images": s.images, "size_px": size})


def _scored(folder: Path) -> list[Any]:
    """The rows of a folder's results.jsonl; InputError where there are none."""
    from whytransfer.commands.result_files import kept_results

    rows = kept_results(folder)
    if not rows:
        raise InputError(f"--scores {folder}: no results.jsonl with results there; `whytransfer transfer` writes one")
    return rows


def _families(s: DiagnoseInvarianceSettings) -> dict[str, str]:
    """Of each backbone the name given, else the method on a run's card, else the kind of backbone."""
    if len(set(s.backbone)) < len(s.backbone):
        raise InputError("--backbone names the same backbone twice")
    if s.family and len(s.family) != len(s.backbone):
        raise InputError(f"--family: {len(s.family)} names for {len(s.backbone)} backbones; give one for each")
    return dict(zip(s.backbone, s.family or [_family(spec) for spec in s.backbone], strict=True))


def _family(spec: str) -> str:
    card = Path(spec) / "card.json"
    if card.is_file():
        try:
            return str(json_of(card.read_text())["config"]["method"])
        except (ValueError, KeyError, TypeError):
            return Path(spec).name  # an export's card has no method
    return "fusion" if "+" in spec else spec.partition(":")[0]


def _correlations(
    s: DiagnoseInvarianceSettings, found: Sequence[Any], families: Mapping[str, str], scored: Sequence[Any]
) -> dict[str, list[Any]]:
    """{"trade-off": spatial with appearance, "transfer map": every similarity with every score} over the backbones."""
    from whytransfer.diagnosis.grids import GROUPS, NAMES
    from whytransfer.diagnosis.transfer_map import correlate, scores_of, transfer_map
    from whytransfer.progress import say

    similar: dict[str, dict[str, float]] = {name: {} for name in (*GROUPS, *NAMES)}
    for r in found:
        if r.provenance.get("stage") == "vector" and r.provenance.get("measure") == "similarity":
            what = r.provenance.get("group") or r.provenance.get("transform") or f"{r.data} {r.provenance['factor']}"
            similar.setdefault(what, {})[r.model] = r.value
    similar = {name: by for name, by in similar.items() if by}
    spatial, appearance = similar.get("spatial"), similar.get("appearance")
    across = correlate(spatial, appearance, ("spatial", "appearance"), families) if spatial and appearance else None
    answer: dict[str, list[Any]] = {"trade-off": [across] if across else [], "transfer map": []}
    if scored:
        weights = {r.model: r.provenance["weights_sha256"] for r in found}
        scores, others = scores_of(scored, weights, OWN)
        if others:
            say(f"note: {others} scores are of backbones of the same names and other weights; they are left out")
        answer["transfer map"] = transfer_map(similar, scores, families)
    return answer


def show(s: DiagnoseInvarianceSettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    results = []
    for result in run(s):
        results.append(result)
        if s.as_json:
            print_json([dataclasses.asdict(result)])
    if s.as_json:
        return
    for line in _told(s, results):
        print(line)
    print(f"saved in {s.out}: results.jsonl" + (", figures/" if s.figures else ""))


def _told(s: DiagnoseInvarianceSettings, results: Sequence[Any]) -> Iterator[str]:
    """Prints the tables; yields the lines below them."""
    models = list(s.backbone)
    similar = [r for r in results if r.provenance.get("measure") == "similarity"]
    for task, title in (
        ("invariance", "Invariance to synthetic transforms"),
        ("real invariance", "Invariance to real changes"),
    ):
        part = [r for r in similar if r.task == task]
        names = sorted(dict.fromkeys((r.data if "real" in task else "", r.metric) for r in part), key=lambda n: n[0])
        cell = {
            ((r.data if "real" in task else "", r.metric), r.model): f"{r.value:.3f} {interval_text(r)}" for r in part
        }
        if part:
            rows = [[" ".join(filter(None, n)), *(cell.get((n, m), "") for m in models)] for n in names]
            print_table(f"{title}: cosine, 1 no change, 0 unrelated (95 % interval)", ["", *models], rows)
    latent = [r for r in results if r.task in ("factors", "kernel-readout")]
    if latent:
        cell = {((r.task, r.metric), r.model): f"{r.value:.2f} {interval_text(r)}" for r in latent}
        rows = [[f"{n[0]} {n[1]}", *(cell.get((n, m), "") for m in models)] for n in dict.fromkeys(k[0] for k in cell)]
        print_table("Latent factors in the features: R2 (95 % interval)", ["", *models], rows)
    yield from _correlations_told([r for r in results if r.task in ("trade-off", "transfer map")])


def _correlations_told(results: Sequence[Any]) -> Iterator[str]:
    """Of the groups all, of the single transforms how many are beyond chance: figures/ has each of them."""
    for r in (r for r in results if r.metric.startswith(("spatial with", "appearance with"))):
        rests = (
            "; all are of one family" if len(r.provenance["without_family"]) < 2 else "; its sign rests on one family"
        )
        ends = f"[{r.low:+.2f}, {r.high:+.2f}] over {r.n} backbones"
        yield f"{r.metric}: rank correlation {r.value:+.2f} {ends}{'' if r.provenance['sign_holds'] else rests}"
    found = [r for r in results if r.task == "transfer map"]
    if found:
        sure = sum(r.low * r.high > 0 for r in found)
        yield f"{sure} of {len(found)} correlations with scores exclude 0; by chance alone {len(found) / 20:.0f} would"
