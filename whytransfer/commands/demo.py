"""`whytransfer demo`: the whole way on generated scenes, up to the trade-off of spatial and appearance views."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, interval_text, print_json, print_table

# name in the table -> (method, recipe); None is the untrained backbone
MODELS: dict[str, tuple[str, str] | None] = {
    "random": None,
    "supervised": ("supervised", "supervised"),
    "default": ("moco-v2-small", "default"),
    "spatial": ("moco-v2-small", "spatial"),
    "appearance": ("moco-v2-small", "appearance"),
}


class DemoSettings(Settings):
    """The whole way in minutes, no download: generated scenes, four pretrainings, what their frozen features can tell.

    Three backbones see the same images and the same number of them; only the views differ. Spatial views (crop, flip)
    teach to ignore where things are, appearance views (colour, grey, blur) teach to ignore colour, and the table shows
    what each of them forgot. At this scale it is a demonstration, not a benchmark.

    Examples:
      whytransfer demo
      whytransfer demo --quick          a minute, to see that everything runs; its numbers mean little
    """

    out: Path = Path("whytransfer-demo")
    """Folder for runs, results and pictures. The same command goes on where it was stopped."""
    quick: bool = False
    """Few images and one epoch: checks the way, not the science."""
    seed: Annotated[int, Field(ge=0, lt=2**20)] = 0
    """Decides scenes, initial weights, views and folds."""


def demo(**settings: Any) -> list[Any]:
    """Run the demo; keywords are the fields of DemoSettings. Returns the Result records behind the table."""
    return run(DemoSettings.made_from(settings))


def run(s: DemoSettings) -> list[Any]:
    """Pretrain, read out, draw the views."""
    from whytransfer import progress
    from whytransfer.commands.pretrain import pretrain
    from whytransfer.commands.show import show_views
    from whytransfer.commands.transfer import transfer

    count, epochs = (400, 1) if s.quick else (2000, 5)
    train, test = (f"scenes:{n}:{seed}:48" for n, seed in ((count, 2 * s.seed), (3 * count // 4, 2 * s.seed + 1)))
    specs = []
    for name, way in MODELS.items():
        if way is None:
            specs.append(f"random:resnet18:{s.seed}")
            continue
        method, recipe = way
        progress.say(f"— {name}: {method} under recipe {recipe}")
        pretrain(
            images=train, out=s.out / "runs" / name, method=method, recipe=recipe, backbone="resnet18", size=48,
            epochs=epochs, batch=64, seed=s.seed,
        )  # fmt: skip
        specs.append(str(s.out / "runs" / name))
    results = []
    for task in ("readout", "factors"):
        results += transfer(backbone=specs, train=train, test=test, task=task, size=48, out=s.out, seed=s.seed)
    for recipe in ("default", "spatial", "appearance"):
        show_views(images=train, recipe=recipe, out=s.out / f"views-{recipe}.png", size=96, count=5, seed=s.seed)
    return results


COLUMNS = {"class, % right": ("readout", "top1"), "pose, R2": ("factors", "pose"), "colour, R2": ("factors", "colour")}


def table(results: list[Any]) -> list[list[str]]:
    """Rows of the answer: one per model, value and 95 % interval in each column."""
    models = list(dict.fromkeys(r.model for r in results))
    found = {(r.model, r.task, r.metric): r for r in results}
    rows = []
    for name, model in zip(MODELS, models, strict=True):
        cells = [found[model, *column] for column in COLUMNS.values()]
        rows.append([name, *(f"{r.value:.2f} {interval_text(r)}" for r in cells)])
    return rows


def show(s: DemoSettings) -> None:
    """Run and print the table, or every result as JSON."""
    import dataclasses

    results = run(s)
    if s.as_json:
        print_json(dataclasses.asdict(r) for r in results)
        return
    print_table(
        "What frozen features can tell (95 % interval over test images, one seed)", ["model", *COLUMNS], table(results)
    )
    print(reading(results))
    for line in against_random(results):
        print(line)
    if s.quick:
        print("--quick is over before anything is learned: it shows that the way works, its numbers mean nothing.")
    print(f"runs, results.jsonl and pictures of the views are in {s.out}/")


def against_random(results: list[Any]) -> list[str]:
    """Per column, which models read more than random features do, beyond their intervals, and which read less."""
    models = dict(zip(MODELS, dict.fromkeys(r.model for r in results), strict=True))
    found = {(r.model, r.task, r.metric): r for r in results}
    lines = []
    for title, column in COLUMNS.items():
        untrained = found[models["random"], *column]
        rest = {name: found[model, *column] for name, model in models.items() if name != "random"}
        above = [name for name, r in rest.items() if r.low > untrained.high]
        below = [name for name, r in rest.items() if r.high < untrained.low]
        level = [name for name in rest if name not in (*above, *below)]
        parts = [("above", above), ("within intervals", level), ("BELOW", below)]
        said = "; ".join(f"{', '.join(names)} {where}" for where, names in parts if names)
        lines.append(f"against random features, {title.partition(',')[0]}: {said}")
    return lines


def reading(results: list[Any]) -> str:
    """The trade-off in words, as far as the intervals carry it."""
    models = dict(zip(MODELS, dict.fromkeys(r.model for r in results), strict=True))
    found = {(r.model, r.metric): r for r in results}
    sentences = []
    for metric, better, worse in (("pose", "appearance", "spatial"), ("colour", "spatial", "appearance")):
        a, b = found[models[better], metric], found[models[worse], metric]
        if not (a.low > b.high or b.low > a.high):
            sentences.append(f"{metric}: {better} and {worse} cannot be told apart here")
            continue
        more = f"{better} over {worse}" if a.value > b.value else f"{worse} over {better}"
        sentences.append(f"{metric}: {more} by {abs(a.value - b.value):.2f} R2, beyond their intervals")
    return "Trade-off — " + "; ".join(sentences) + "."
