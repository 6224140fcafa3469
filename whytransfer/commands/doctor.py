"""`whytransfer doctor`: what this machine can do, what holds a run back, and what a planned run will cost."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, in_words, print_json, print_table

SAMPLE = 2000  # pictures that are decoded and measured


class DoctorSettings(Settings):
    """Measure this machine before training: processor, GPU, reading, views, step; ETA and memory of a planned run.

    Takes about half a minute: of more than 2,000 pictures a sample is decoded and measured, evenly spread over the set.
    Views are measured with their reading; the slower of views and step bounds a run.

    Examples:
      whytransfer doctor
      whytransfer doctor --images photos/ --backbone resnet50 --size 224 --batch 256 --epochs 100
    """

    images: str = "scenes:2000"
    """What would be trained on; generated scenes when not given."""
    method: str = "moco-v2-small"
    """The planned method."""
    recipe: str | None = None
    """The planned views; the method's own when not given."""
    backbone: str = "resnet18"
    """The planned architecture."""
    size: Annotated[int, Field(ge=8, le=2048)] = 64
    """Side of the views in pixels."""
    batch: Annotated[int, Field(ge=2)] | None = None
    """Images per step; the method's own when not given."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the images; the method's own when not given."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps, instead of --epochs."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads that make views; all cores when not given."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the decoded cache."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of stopping."""
    seconds: Annotated[float, Field(gt=0)] = 4.0
    """How long each ceiling is measured."""


def doctor(**settings: Any) -> dict[str, Any]:
    """Measure; keywords are the fields of DoctorSettings. Returns what `--json` prints."""
    return DoctorSettings.called(run, settings)


def run(s: DoctorSettings) -> dict[str, Any]:
    """The machine, the ceilings, and the plan."""
    from whytransfer.commands import pretrain as p
    from whytransfer.commands.data import opened
    from whytransfer.commands.method import build_method, known_method, planned
    from whytransfer.loading import steps_per_epoch
    from whytransfer.memory import keep_freed_memory

    keep_freed_memory()  # as pretrain does: the step is a tenth faster with it
    shared = {k: v for k, v in dict(s).items() if k in p.PretrainSettings.model_fields}
    plan = p.PretrainSettings.made_from(shared | {"out": Path("unused")})
    known_method(s.method)
    images = opened(s.images)
    training, options = planned(plan, len(images))
    steps = s.iterations or steps_per_epoch(len(images), training.batch) * training.epochs
    method = build_method(plan, images, options)
    pixels, share = _sampled(plan, images)
    device = p.device_of("auto")
    rates = _ceilings(s, pixels, method, training, device)
    if share < 1:
        rates["views_of_undecoded"] = _undecoded_rate(plan, s, images, method, training, device)
    parameters = sum(x.numel() for x in method.parameters())
    return {
        **machine(),
        **{f"{k}_images_per_second": v for k, v in rates.items()},
        **forecast(rates, device.type, steps * training.batch, share),
        "images": len(images),
        "epochs": training.epochs,
        "batch": training.batch,
        "state_bytes_per_image": pixels.state_bytes_per_image,
        "decoded_share": share,
        "parameters_millions": parameters / 1e6,
        "peak_memory_gb": peak_memory_gb(device.type),
    }


def _sampled(plan: Any, images: Any) -> tuple[Any, float]:
    """The decoded sample, and the share of the whole set that will fit into the cache, judged by it."""
    import numpy as np

    from whytransfer.commands import pretrain as p

    pixels = p.open_pixels(plan, _sample_of(images, SAMPLE))
    sides = np.array([pixels.size(i) for i in range(len(pixels))], dtype=np.float64)
    needed = 3 * sides.prod(axis=1).mean() * len(images)
    return pixels, min(1.0, 1e9 * plan.cache_gb / needed)


def _sample_of(images: Any, most: int) -> Any:
    """At most so many images, evenly spread."""
    import numpy as np

    from whytransfer.images import subset

    return images if len(images) <= most else subset(images, np.linspace(0, len(images) - 1, most).astype(int))


def _undecoded_rate(plan: Any, s: DoctorSettings, images: Any, method: Any, training: Any, device: Any) -> float:
    """Images per second of making views of pictures that are decoded at each use."""
    from whytransfer import speed
    from whytransfer.commands import pretrain as p

    least = plan.model_copy(update={"cache_gb": 1e-9})  # nothing fits
    return speed.view_rate(
        p.open_pixels(least, _sample_of(images, 256)), _viewer(s, method, device), training.batch, s.seconds
    )


def _viewer(s: DoctorSettings, method: Any, device: Any) -> Any:
    from whytransfer.commands import pretrain as p
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    seen = p.views_for(recipe(p.recipe_for(s.recipe or method.recipe, method)), method.views)
    viewer: Any = Viewer(seen, s.size, 0, threads=s.threads, device=device)
    targets = {"regions", "boxes", "semantic"}.intersection(method.needs)
    return on_a_grid(viewer, targets) if targets else viewer


def _ceilings(s: DoctorSettings, pixels: Any, method: Any, training: Any, device: Any) -> dict[str, float]:
    """Images per second of reading, of making views, of the step."""
    import numpy as np

    from whytransfer import progress, speed
    from whytransfer.commands import pretrain as p

    viewer = _viewer(s, method, device)
    progress.say("measuring reading, views, step ...")
    views = speed.make_views(pixels, viewer, np.arange(training.batch) % len(pixels))
    return {
        "reading": speed.reading_rate(pixels, training.batch, s.seconds / 2),
        "views": speed.view_rate(pixels, viewer, training.batch, s.seconds),
        "step": speed.step_rate(method, views, training, device, p.in_bf16("auto", s.size), s.seconds),
    }


def on_a_grid(viewer: Any, needs: Collection[str]) -> Any:
    """The viewer with 5 x 5 equal regions for every picture, all of class 0, or with one box: others take as long."""
    import torch

    def views(pixels: Any, index: Any, labels: Any, epoch: int) -> Any:
        regions = boxes = None
        if "boxes" in needs:
            boxes = [torch.tensor([[0.0, 0.0, p.shape[1], p.shape[0], 0.0]]) for p in pixels]
        else:
            rows = [[torch.arange(side) * 5 // side for side in p.shape[:2]] for p in pixels]
            regions = [(("regions" in needs) * (5 * y[:, None] + x)).to(torch.uint8) for y, x in rows]
        return viewer(pixels, index, labels, epoch, regions, boxes)

    return views


def forecast(rates: dict[str, float], device: str, images: int, decoded_share: float = 1.0) -> dict[str, Any]:
    """Speed, share of waiting for data, duration of a run. On a CPU the parts take turns; beside a GPU they overlap.

    Where not all pictures fit into the cache, the others are decoded at each use, at rates["views_of_undecoded"].
    """
    data_s = decoded_share / rates["views"]  # seconds per image; pictures are read as views are made, so both are in it
    if decoded_share < 1:
        data_s += (1 - decoded_share) / rates["views_of_undecoded"]
    step_s = 1 / rates["step"]
    together_s = data_s + step_s if device == "cpu" else max(data_s, step_s)
    advice = "the step is the limit: a smaller backbone or size, or a faster device, shortens the run"
    if data_s > step_s:
        advice = "data is the limit: more cores shorten the run"
    if decoded_share < 1:
        advice += (
            f"; {100 * (1 - decoded_share):.0f} % of the pictures do not fit into the cache and are decoded at each "
            "use: a larger --cache-gb, or a smaller --cache-px of pretrain, spares that"
        )
    return {
        "expected_images_per_second": 1 / together_s,
        "waiting_for_data": (together_s - step_s) / together_s,
        "eta_seconds": images * together_s,
        "advice": advice,
    }


def machine() -> dict[str, Any]:
    """Processor features that matter here, GPU, memory, versions."""
    import torch

    from whytransfer.commands.pretrain import has_bf16
    from whytransfer.memory import usable_cores
    from whytransfer.runs import versions

    v, gpu = versions(), "none"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    return {
        "processor": v["processor"],
        "cores": usable_cores(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": "yes" if has_bf16() else "no: arithmetic stays in 32 bits",
        "gpu": gpu,
        "memory_gb": memory_gb(),
        "torch": v["torch"],
        "jpeg_decoder": v["jpeg decoder"],
    }


def memory_gb() -> float | None:
    """Memory of the machine in GiB, None where the system does not tell."""
    import os

    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def peak_memory_gb(device: str) -> float | None:
    """Peak memory in GiB of what was measured: on the GPU if there is one, else of this process."""
    import sys

    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def show(s: DoctorSettings) -> None:
    """Run and print the answer for people, or as JSON."""
    from whytransfer.progress import duration, several

    found = run(s)
    if s.as_json:
        print_json([found])
        return
    rows = [in_words(key, value) for key, value in found.items() if key != "advice"]  # which is said below
    print_table(f"doctor: {s.method} on {s.images}", ["", "value"], rows)
    share = 100 * found["waiting_for_data"]
    length = several(s.iterations, "iteration") if s.iterations else several(found["epochs"], "epoch")
    print(f"a run of {length} takes about {duration(found['eta_seconds'])}, {share:.0f} % of it for data.")
    print(found["advice"])
