"""`whytransfer diagnose inversion`: pictures made again from what backbones see of them."""

from __future__ import annotations

import dataclasses
import io
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whytransfer.commands.common import Backbones, Settings, digits_of, interval_text, print_json, print_table
from whytransfer.errors import InputError


class DiagnoseInversionSettings(Settings):
    """Show what backbones keep of a picture: make it again from its features (deep image prior), and score what comes.

    A fresh network is fitted for each picture and backbone until the backbone sees in its output what it saw in the
    picture. What the features do not hold comes out as the network likes it: blurred, displaced, in other colours.
    Several pictures and backbones are fitted at once; a stopped command goes on where it was. 3,000 steps are the
    published length, hours on a processor: --budget 0.1 takes 300 and says so; compare backbones at equal steps.

    Scores, as means over pictures with 95 % intervals: 1 - MS-SSIM (a distance of structure; published inversions are
    scored by LPIPS, which --lpips computes from its weight files), PSNR, SSIM, hue error (90 degrees is chance; grey
    does not count), chroma kept, and coverage: of the places where the picture has structure, the share where the
    inversion shows the same structure at the same place, in any hue; of annotated objects and of the background too.
    Put random:ARCH beside your own: what an untrained network keeps was not learned.

    Writes OUT/inversion.png and .html (the gallery), .npz (its pictures), -scores and -loss as figures with their
    tables, and results.jsonl.

    Examples:
      whytransfer diagnose inversion --backbone random:resnet18-small --images scenes:4 --budget 0.1 --out inverted
      whytransfer diagnose inversion --backbone moco:m.pth torchvision:resnet50:s.pth --images photos/ --out inverted
    """

    backbone: Backbones
    """One or more: run folder, weight file, random:ARCH[:SEED], moco:FILE, torchvision:NAME:FILE, A+B, ..."""

    images: str
    """Folder, zip, scenes:COUNT:SEED, ...; annotated objects are scored where there are any."""
    out: Path
    """Folder for the gallery, figures, results.jsonl, and the state of what is not finished."""
    count: Annotated[int, Field(ge=1)] = 8
    """At most so many pictures, spread evenly over the set."""
    stage: str | None = None
    """Features of this stage (layer3, ..., vector) instead of the last map (layer4 after its ReLU, as published)."""
    size: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Side of the inverted view in pixels, 32 at least; when not given, that of the pretraining (224 for weights from
    elsewhere)."""
    budget: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the 3,000 steps. The results say so."""
    batch: Annotated[int, Field(ge=1)] = 8
    """Inversions at once; changes speed and memory (about 0.3 GB each at 224 px) and only the last digits."""
    previews: Annotated[int, Field(ge=0)] = 10
    """How many times OUT/preview.png is drawn on the way."""
    lpips: tuple[Path, ...] | None = None
    """Weight file of torchvision's squeezenet1_1, and behind it the linear weights of LPIPS (squeeze.pth)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides initial weights, noise and bootstrap draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""


def diagnose_inversion(**settings: Any) -> list[Any]:
    """Invert pictures; keywords are the fields of DiagnoseInversionSettings. Returns the Result records.

    diagnose_inversion(backbone=["runs/mine"], images="photos/", budget=0.1, out="inverted")[0].value
    """
    return DiagnoseInversionSettings.called_for_all(run, settings)


def run(s: DiagnoseInversionSettings) -> Iterator[Any]:
    """Wire the settings to objects; yields Results, keeps results.jsonl, writes the gallery and figures."""
    from whytransfer import figures, progress
    from whytransfer.backbones.load import load_backbone
    from whytransfer.commands.data import opened
    from whytransfer.commands.pretrain import device_of
    from whytransfer.commands.result_files import keep, kept_results, signed
    from whytransfer.diagnosis import gallery, inverted_pictures
    from whytransfer.diagnosis.inversion import Inversion
    from whytransfer.files import locked, writable_folder
    from whytransfer.memory import keep_freed_memory

    if len(set(s.backbone)) < len(s.backbone):
        raise InputError(f"--backbone names one twice: {', '.join(s.backbone)}")
    figures.altair()  # refused now where it is missing, not after hours
    keep_freed_memory()
    backbones = [load_backbone(spec, device_of(s.device)) for spec in s.backbone]
    for spec, backbone in zip(s.backbone, backbones, strict=True):
        if backbone.note:
            progress.say(f"note: {spec}: {backbone.note}")
    writable_folder(s.out)
    kept_results(s.out)
    task = Inversion(
        opened(s.images), size_of(s), count=s.count, stage=s.stage, budget=s.budget, batch=s.batch, seed=s.seed,
        folder=s.out, lpips=_lpips(s.lpips), previews=s.previews,
    )  # fmt: skip
    for line in told(task):
        progress.say(f"note: {line}")
    title = f"Inversions of {task.images.name}"
    with locked(s.out / ".inversion.lock", wait=False) as mine:
        if not mine:
            raise InputError(f"another process is inverting into {s.out}; wait for it or choose another --out.")
        preview = s.out / "preview.png"
        made = task.make(backbones, lambda all_: _save(gallery.sheet(all_, f"{title}, on the way"), preview))
        results = [signed(result, {"images": s.images}) for result in task.results(backbones, made)]
        keep(s.out, results)
        _save(gallery.sheet(made, title, gallery.captions(results, made)), s.out / "inversion.png")
        _write(gallery.page(made, title, told(task), results).encode(), s.out / "inversion.html")
        inverted_pictures.keep(made, results, s.out)
        draw(s.out, results, made)
        preview.unlink(missing_ok=True)
    yield from results


def size_of(s: DiagnoseInversionSettings) -> int:
    """The side of what is inverted, one for all: pictures of different sizes are not compared."""
    from whytransfer.commands.transfer import sizes_of

    sizes = [s.size] if s.size else sizes_of(s.backbone)
    if len(set(sizes)) > 1:
        seen = ", ".join(f"{spec} at {size} px" for spec, size in zip(s.backbone, sizes, strict=True))
        raise InputError(f"the backbones were pretrained at different sizes ({seen}): give --size for all of them")
    return sizes[0]


def _lpips(files: tuple[Path, ...] | None) -> Any:
    from whytransfer.diagnosis.lpips import Lpips

    if files is None:
        return None
    if len(files) > 2:
        raise InputError(f"--lpips takes one or two files, the network's and the linear weights; got {len(files)}")
    return Lpips(*files)


def told(task: Any) -> list[str]:
    """What a reader of the gallery must know of how it was made."""
    from whytransfer.diagnosis.inverting import STEPS

    share = "" if task.steps == STEPS else f", {100 * task.steps / STEPS:.3g} % of the published {STEPS:,}"
    where = "the last map" if task.stage is None else task.stage
    lines = [f"{task.steps:,} steps{share}; features of {where}; {len(task.chosen)} pictures at {task.size_px} px"]
    if small := task.enlarged():
        more = f" and {len(small) - 3} more" if len(small) > 3 else ""
        lines.append(f"pictures smaller than {task.size_px} px were enlarged: {', '.join(small[:3])}{more}")
    return lines


def draw(out: Path, results: Sequence[Any], made: Any) -> None:
    """The scores with their intervals and every picture's value, and the loss by steps; figures with their tables."""
    from whytransfer import figures

    alt = figures.altair()
    rows = [
        {"model": r.model, "score": named(r), "value": r.value, "low": r.low, "high": r.high, "n": r.n} for r in results
    ]
    base = alt.Chart().encode(y=alt.Y("model:N", title=None, sort=list(made.models)))
    means = base.transform_filter("isValid(datum.value)")
    value = alt.X("value:Q", title=None, scale=alt.Scale(zero=False))
    colour = alt.Color("model:N", legend=None, sort=list(made.models))
    layers = alt.layer(
        base.transform_filter("isValid(datum.each)")
        .mark_tick(opacity=0.35, thickness=1, color="#777777")
        .encode(x="each:Q"),
        means.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", color=colour),
        means.mark_point(filled=True, size=70, opacity=1).encode(x=value, color=colour),
        data=alt.Data(values=[*rows, *each_of(results, made)]),
    ).properties(width=200, height=28 * len(made.models))
    chart = layers.facet(
        facet=alt.Facet("score:N", title=None, sort=list(dict.fromkeys(map(named, results)))), columns=3
    )
    chart = chart.resolve_scale(x="independent").properties(
        title="Means over pictures with 95 % intervals; thin lines are pictures"
    )
    figures.save(chart, out, "inversion-scores")
    figures.save_table([*rows, *each_of(results, made)], out, "inversion-scores")
    losses = loss_rows(made)
    lines = alt.Chart(alt.Data(values=losses)).mark_line(strokeWidth=2).encode(
        x=alt.X("step:Q", title="step"),
        y=alt.Y("left:Q", title="feature error left, % (median)", scale=alt.Scale(type="log", nice=False)),
        color=alt.Color("model:N", title="backbone", sort=list(made.models)),
        strokeDash=alt.StrokeDash("model:N", title="backbone", sort=list(made.models)),
    )  # fmt: skip
    figures.save(lines.properties(width=420, height=260), out, "inversion-loss")
    figures.save_table(losses, out, "inversion-loss")


def named(result: Any) -> str:
    """ "PSNR, dB"; the score alone where its unit says no more."""
    return result.metric if result.metric == result.unit else f"{result.metric}, {result.unit}"


def each_of(results: Sequence[Any], made: Any) -> list[dict[str, Any]]:
    """One row per picture, model and score."""
    return [
        {"model": r.model, "score": named(r), "picture": name, "each": float(each)}
        for r in results
        for name, each in zip(made.names, r.provenance["each"], strict=True)
        if each == each
    ]


def loss_rows(made: Any, points: int = 200) -> list[dict[str, Any]]:
    """The loss in % of the mean square of the features, the median over pictures, at about `points` of the steps."""
    steps = made.losses.shape[2]
    at = sorted({round(k * (steps - 1) / max(1, points - 1)) for k in range(points)})
    rows = []
    for m, model in enumerate(made.models):
        shares = 100 * made.losses[m] / made.scales[m][:, None]  # (N, steps)
        rows += [{"model": model, "step": k, "left": statistics.median(shares[:, k].tolist())} for k in at]
    return rows


def _save(picture: Any, path: Path) -> None:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    _write(content.getvalue(), path)


def _write(content: bytes, path: Path) -> None:
    from whytransfer.files import atomic_write

    atomic_write(path, lambda file: file.write(content))


def show(s: DiagnoseInversionSettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    results = list(run(s))
    if s.as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    columns = ["backbone", "score", "value", "95 % interval", "n"]
    first = results[0].model
    rows = [[r.model, r.metric, f"{r.value:.{digits_of(r)}f} {r.unit}", interval_text(r), r.n] for r in results]
    if len(s.backbone) > 1:
        columns.append(f"minus {first}, paired")
        for row, r in zip(rows, results, strict=True):
            row.append(_difference(r))
    print_table(f"inversion of {s.images}", columns, rows)
    print(f"gallery in {s.out / 'inversion.html'}, results in {s.out / 'results.jsonl'}")


def _difference(result: Any) -> str:
    """ "-3.21 [-5.60, -1.02]", empty for the first backbone."""
    if "minus_first" not in result.provenance:
        return ""
    difference, low, high = (f"{x:+.{digits_of(result)}f}" for x in result.provenance["minus_first"])
    return f"{difference} [{low}, {high}]"
