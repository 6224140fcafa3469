"""`whytransfer masks quality`: how well regions cover what people annotated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from whytransfer.commands.common import Settings, interval_text, print_json, print_table
from whytransfer.errors import InputError


class MasksQualitySettings(Settings):
    """Score regions against annotated objects: each object's best overlap (IoU) with any region, and the mean.

    Better regions make better pretraining by contrasting them, so choose an engine here. Compare engines on the same
    images; grid is the floor. Means are over objects, per class too where there are classes, with 95 % bootstrap
    intervals over images. Images that the truth does not know are left out and counted. Where several people segmented
    an image (BSDS), every segment of each counts as an object. [Pont-Tuset 2017, J_i]

    Examples:
      whytransfer masks quality --images images/val/ --engine felzenszwalb --truth annotated:groundTruth/val
      whytransfer masks quality --images val2017/ --masks regions/ --truth annotated:instances_val2017.json --json
    """

    images: str
    """Folder, zip, coco:ROOT, ..."""
    truth: str
    """annotated (the set's own masks) or annotated:PATH: COCO json, VOC or CamVid PNG folder, BSDS .mat folder, ...
    annotated:PATH:void=11 names the values of a PNG folder that are no region (11 in CamVid)."""
    engine: str | None = None
    """Make regions now by this engine: grid:5, felzenszwalb, ..."""
    masks: Path | None = None
    """Or take those that `whytransfer masks` kept here: faster for a slow engine, as quality works in one process."""
    seed: int = 0
    """Decides the bootstrap draws."""


def masks_quality(**settings: Any) -> list[Any]:
    """Score regions; keywords are the fields of MasksQualitySettings. Returns the Result records, the mean first."""
    return MasksQualitySettings.called_for_all(run, settings)


def run(s: MasksQualitySettings) -> Iterator[Any]:
    """Wire the settings to objects; yields the mean over all objects, then one Result per class."""
    import numpy as np

    from whytransfer import progress
    from whytransfer.commands.data import opened
    from whytransfer.commands.regions import nothing_drawn, what_people_drew
    from whytransfer.masks.quality import measure

    truth = what_people_drew(s.truth)
    images = opened(s.images)
    regions_of, recipe = _regions(s, images)
    found, unknown = [], 0
    with progress.bar(f"quality on {images.name}", len(images)) as update:
        for i, covered in measure(images, regions_of, truth):
            update(i + 1)
            unknown += covered is None
            found += [] if covered is None else [covered]
    if not found:
        raise nothing_drawn(len(images), images, s.truth)
    overlaps = np.concatenate([covered.overlaps for covered in found])
    where = np.repeat(np.arange(len(found)), [len(covered.overlaps) for covered in found])
    classes = np.concatenate([covered.classes for covered in found])
    origin = {"recipe": recipe, "truth": s.truth, "images": s.images, "images_without_object": unknown}
    origin["regions_per_image"] = float(np.mean([covered.regions for covered in found]))
    model = s.engine or str(s.masks)
    for name, chosen in _groups(classes, truth, images):
        yield _result(overlaps[chosen], where[chosen], len(found), name, model, images.name, origin, s.seed)


def _regions(s: MasksQualitySettings, images: Any) -> tuple[Callable[[int, Any], Any], str]:
    """What gives the regions of an image, kept or made now, and the recipe they were made by."""
    from whytransfer.masks import RegionStore, open_engine
    from whytransfer.masks.quality import from_store

    if s.masks and not s.engine:
        store = RegionStore.open(s.masks)
        return from_store(store, images), store.recipe
    if s.engine and not s.masks:
        engine = open_engine(s.engine)
        return lambda _, sample: engine(sample), engine.recipe
    raise InputError("give either --engine, to make regions now, or --masks, the folder of regions made before")


def _groups(classes: Any, truth: Any, images: Any) -> Iterator[tuple[str, Any]]:
    """("", every object), then (class, its objects) by class."""
    import numpy as np

    yield "", np.ones(len(classes), dtype=bool)
    for label in np.unique(classes[classes >= 0]).tolist():
        yield truth.class_name(label, images), classes == label


def _result(
    overlaps: Any, where: Any, images: int, name: str, model: str, data: str, origin: dict[str, Any], seed: int
) -> Any:
    """The mean over objects in %, with its interval over images."""
    import numpy as np

    from whytransfer.records import Result
    from whytransfer.runs import command_line, versions
    from whytransfer.tasks.bootstrap import interval

    counted = np.stack([overlaps, np.ones_like(overlaps)], axis=1)  # (O, 2)
    sums = np.zeros((images, 2))
    np.add.at(sums, where, counted)

    def mean(totals: Any) -> Any:
        return np.divide(
            100 * totals[..., 0], totals[..., 1], out=np.full(totals.shape[:-1], np.nan), where=totals[..., 1] > 0
        )

    with_it = int((sums[:, 1] > 0).sum())
    low, high = interval(sums, mean, seed=seed) if with_it > 1 else (None, None)  # one image has no spread
    return Result(
        model=model,
        data=data,
        task="mask quality",
        metric=f"best overlap of {name}" if name else "best overlap",
        value=float(100 * overlaps.mean()),
        unit="%",
        direction="higher",
        n=with_it,
        seed=seed,
        low=low,
        high=high,
        provenance={
            **origin,
            "objects": len(overlaps),
            "objects_covered_by_half": int((overlaps >= 0.5).sum()),
            "command": command_line(),
            "versions": versions(),
        },
    )


def show(s: MasksQualitySettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    results = list(run(s))
    if s.as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    rows = [[r.metric, f"{r.value:.2f} {r.unit}", interval_text(r), r.provenance["objects"], r.n] for r in results]
    print_table(f"{s.engine or s.masks} on {s.images}", ["metric", "mean", "95 % interval", "objects", "images"], rows)
    first = results[0].provenance
    print(f"{first['regions_per_image']:.1f} regions per image; {first['recipe']}")
    if first["images_without_object"]:
        print(f"{first['images_without_object']:,} images without an annotated object left out")
