"""`whytransfer masks`: the regions of every image of a set, made once and kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json, print_table
from whytransfer.errors import InputError

IMAGENET, CORES = 1_281_167, 16  # what the projection is for
FEWEST = 8  # images that are worth the start of a process
BUSY = 0.8  # share of its core below which a process was held up
# of the answer, for people: its words, and how its number is shown
ROWS = {
    "images": ("images", "{:,}"),
    "made": ("of which made now", "{:,}"),
    "unreadable": ("of which unreadable", "{:,}"),
    "without_region": ("without any region", "{:,}"),
    "more_than_255": ("with more than 255 regions", "{:,}"),
    "seconds": ("time", "{:,.1f} s"),
}
OF_THE_SET = ("annotated", "semantic")  # engines that ImageNet has nothing for


class MasksSettings(Settings):
    """Make the regions of every image and keep them in a folder, for methods that contrast regions.

    Stopped anywhere, killed too, the same command goes on; images that are in the folder already, under any name, are
    not computed again. `whytransfer masks quality --help`: how good are they?
    Engines, by what they cost:
      grid:N                        n x n cells; free
      annotated, annotated:PATH     what people drew: the set's own masks, COCO json, VOC or CamVid PNG folder, folder
                                    (annotated:PATH:void=11: values that are no region, 11 in CamVid)
      semantic                      the set's classes of pixels
      felzenszwalb:SCALE:MIN_SIZE   DetCon's (1000:1000 pixels when not given), equal to scikit-image's; several scales:
                                    500,1000,1500; 40 ms a photograph
      felzenszwalb-skimage          scikit-image's own: the same, slower
      felzenszwalb-opencv           OpenCV's: other segments, slower too
      mcg, mcg:FILE                 grouping of regions over several scales, overlapping, the best 16; seconds a
                                    photograph; FILE: its ranking, by `whytransfer masks rank`

    Examples:
      whytransfer masks --images photos/ --engine felzenszwalb --out regions/
      whytransfer masks --images train2017/ --engine annotated:instances_train2017.json --out regions/ --allow-missing
    """

    images: str
    """Folder, zip, coco:ROOT, scenes:COUNT, ..."""
    out: Path
    """Folder of the store; may be one that a run with the same engine left unfinished."""
    engine: str = "felzenszwalb"
    """How regions are made, see above."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes; one per usable core when not given. 1 works in this process."""
    on: str | None = None
    """ray or ray:ADDRESS: work on a Ray cluster (extra `ray`) whose machines share the disk of --images and --out."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read instead of stopping at the first."""
    allow_missing: bool = False
    """annotated: images without masks have no region, instead of stopping at the first."""


def make_masks(**settings: Any) -> dict[str, Any]:
    """Make regions; keywords are the fields of MasksSettings. Returns what `--json` prints."""
    return MasksSettings.called(run, settings)


def run(s: MasksSettings) -> dict[str, Any]:
    """Wire the settings to objects, work, and say what was done and how fast."""
    import time

    from whytransfer.commands.data import opened
    from whytransfer.masks import Engine, RegionStore, open_engine
    from whytransfer.masks import annotated as drawn
    from whytransfer.masks.making import full_recipe
    from whytransfer.memory import keep_freed_memory

    _check(s)
    engine: Engine = open_engine(s.engine)
    if s.allow_missing and not isinstance(engine, drawn.Annotated):
        raise InputError(f"--allow-missing is for --engine annotated; {s.engine} finds regions in every image")
    if isinstance(engine, drawn.Annotated):
        engine.missing_ok = s.allow_missing
    images = opened(s.images)
    if isinstance(engine, drawn.Annotated):
        engine.require_own(images)
    store = RegionStore.create(s.out, full_recipe(engine, images), s.engine)
    keep_freed_memory()
    began = time.perf_counter()
    made = _made(s, images, engine, store)
    return {
        "store": str(s.out),
        "recipe": store.recipe,
        "images": made.done,
        "made": made.made,
        "unreadable": made.unreadable,
        "without_region": made.empty,
        "more_than_255": made.crowded,
        "bytes_per_image": made.bytes / max(made.made, 1),
        "megapixels_per_image": made.pixels / max(made.made, 1) / 1e6,
        "seconds": time.perf_counter() - began,
        "images_per_second_per_core": made.images_per_second,
        "share_of_core": made.cpu_seconds / made.seconds if made.seconds else None,
        "imagenet_hours_on_16_cores": projection_hours(made.images_per_second),
    }


def projection_hours(images_per_second: float) -> float | None:
    """Hours for the 1.28 million images of ImageNet on 16 cores at a rate per core; None without a rate."""
    return IMAGENET / images_per_second / CORES / 3600 if images_per_second else None


def _check(s: MasksSettings) -> None:
    if s.on is not None and s.on.partition(":")[0] != "ray":
        raise InputError(f"--on {s.on}: work can be done here (leave it out) or --on ray[:ADDRESS]")
    if s.on is not None and s.workers is not None:
        raise InputError("--workers is for this machine; a Ray cluster (--on ray) uses all its cores")


def _made(s: MasksSettings, images: Any, engine: Any, store: Any) -> Any:
    from whytransfer import progress
    from whytransfer.masks import making
    from whytransfer.memory import usable_cores

    count = len(images)
    workers = min(s.workers or usable_cores(), max(count // FEWEST, 1))
    job = making.Job(s.images, s.engine, str(store.folder.absolute()), s.skip_unreadable, s.allow_missing, os.getcwd())
    with progress.bar(f"regions of {images.name} by {s.engine}", count) as update:

        def tell(total: Any) -> None:
            rate = f"{progress.rate(total.images_per_second)} per core" if total.timed else ""
            update(total.done, rate)

        if s.on is not None:
            return making.make_on_ray(job, count, s.on.partition(":")[2] or None, tell)
        if workers > 1:
            return making.make_on_cores(job, count, workers, tell)
        return making.make(images, engine, store, tell, s.skip_unreadable)


def show(s: MasksSettings) -> None:
    """Run and print the answer for people, or as a JSON line."""
    from whytransfer.progress import rate, several

    answer = run(s)
    if s.as_json:
        print_json([answer])
        return
    speed = answer["images_per_second_per_core"]
    rows = [[words, shown.format(answer[key])] for key, (words, shown) in ROWS.items()]
    rows += [["regions take", f"{answer['bytes_per_image']:,.0f} bytes per image"]] if answer["made"] else []
    rows += [["speed", f"{rate(speed)} per core"]] if speed else []
    print_table(f"{answer['recipe']}", ["", "value"], rows)
    if speed and s.engine.partition(":")[0] not in OF_THE_SET:
        print(projection(speed, answer["share_of_core"], answer["megapixels_per_image"]))
    if answer["without_region"]:
        print(f"without any region: {several(answer['without_region'], 'image')}, which teach nothing")
    if answer["more_than_255"]:
        crowded = several(answer["more_than_255"], "image")
        print(f"more than 255 regions in {crowded}: the 255 largest of each are kept")
    print(f"kept in {answer['store']}: use it with --masks {answer['store']}")


def projection(images_per_second: float, share: float, megapixels: float) -> str:
    """What ImageNet would cost at so many images per second per core, of which the processes had a share.

    Where they were held up, the rate of a free core comes first, and what it was here second.
    """
    from whytransfer.progress import duration, rate

    free = share >= BUSY or not share
    alone = images_per_second if free else images_per_second / share
    needed, here = (duration(IMAGENET / r / CORES) for r in (alone, images_per_second))
    told = (
        f"at {rate(alone)} per core ImageNet's {IMAGENET:,} images would take {needed} on {CORES} "
        f"cores, if they had {megapixels:.2f} megapixels as these do (its mean is about 500 x 375: 0.19)"
    )
    if free:
        return told
    return (
        f"{told}\nthat is on free cores: here the processes had {100 * share:.0f} % of theirs, as other work or slow "
        f"reading held them up, which makes {rate(images_per_second)} per core and {here}"
    )
