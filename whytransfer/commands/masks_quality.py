"""`whytransfer masks quality`: how well regions cover what people annotated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from whytransfer.commands.common import Names, Settings, interval_text, one_is_enough, print_json, print_table
from whytransfer.errors import InputError

BEST, OF_CLASS, LESS = "best overlap", "best overlap of ", "best overlap, difference"  # the metrics
FEWEST_IMAGES = 5  # that have an interval: draws of fewer are far too alike


class MasksQualitySettings(Settings):
    """Score regions against annotated objects: each object's best overlap (IoU) with any region, and the mean.

    Better regions make better pretraining by contrasting them, so choose an engine here. Compare engines on the same
    images; grid is the floor. Means are over objects, per class too where there are classes, with 95 % bootstrap
    intervals over images where there are at least 5. Images that the truth does not know are left out and counted.
    Where several people segmented an image (BSDS), every segment of each counts as an object. [Pont-Tuset 2017, J_i]

    Several engines are measured on the same images, and each is compared with the first: the difference of their means,
    paired, its interval over images.

    Examples:
      whytransfer masks quality --images images/val/ --engine felzenszwalb --truth annotated:groundTruth/val
      whytransfer masks quality --images images/val/ --engine grid:5 felzenszwalb mcg --truth annotated:groundTruth/val
      whytransfer masks quality --images val2017/ --masks regions/ --truth annotated:instances_val2017.json --json
    """

    images: str
    """Folder, zip, coco:ROOT, ..."""
    truth: str
    """annotated (the set's own masks) or annotated:PATH: COCO json, VOC or CamVid PNG folder, BSDS .mat folder, ...
    annotated:PATH:void=11 names the values of a PNG folder that are no region (11 in CamVid)."""
    engine: Names = ()
    """Make regions now by this engine: grid:5, felzenszwalb, ... Several are compared with the first."""
    masks: Annotated[tuple[Path, ...], BeforeValidator(one_is_enough)] = ()
    """Or take those that `whytransfer masks` kept here: faster for a slow engine, as quality works in one process."""
    seed: int = 0
    """Decides the bootstrap draws."""


def masks_quality(**settings: Any) -> list[Any]:
    """Score regions; keywords are the fields of MasksQualitySettings. Returns the Result records, the mean first."""
    return MasksQualitySettings.called_for_all(run, settings)


def run(s: MasksQualitySettings) -> Iterator[Any]:
    """Wire the settings to objects; yields each engine's mean over all objects, then per class; then differences."""
    from whytransfer.commands.data import opened
    from whytransfer.commands.regions import what_people_drew

    truth = what_people_drew(s.truth)
    images = opened(s.images)
    regions = list(_regions(s, images))  # all of them known before the first is measured
    # folders, which are last, are measured first: what one lacks is told before a slow engine works
    measured = [(name, _Measured(s, images, truth, of, recipe)) for name, of, recipe in reversed(regions)][::-1]
    for name, found in measured:
        for group, chosen in _groups(found.classes, truth, images):
            yield found.mean(name, f"{OF_CLASS}{group}" if group else BEST, chosen)
    for name, found in measured[1:]:
        yield found.less(measured[0][1], f"{name} - {measured[0][0]}")


def _regions(s: MasksQualitySettings, images: Any) -> Iterator[tuple[str, Callable[[int, Any], Any], str]]:
    """(name, what gives the regions of an image, kept or made now, the recipe they were made by) of each asked for."""
    from whytransfer.masks import RegionStore, open_engine
    from whytransfer.masks.quality import from_store

    if not (s.engine or s.masks):
        raise InputError("give --engine, to make regions now, or --masks, the folder of regions made before")
    names = [*s.engine, *map(str, s.masks)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is named twice: name each engine and folder once")
    for name in s.engine:
        engine = open_engine(name)
        yield name, _made_by(engine), engine.recipe
    for folder in s.masks:
        store = RegionStore.open(folder)
        yield str(folder), from_store(store, images), store.recipe


def _made_by(engine: Any) -> Callable[[int, Any], Any]:
    return lambda _, sample: engine(sample)


def _groups(classes: Any, truth: Any, images: Any) -> Iterator[tuple[str, Any]]:
    """("", every object), then (class, its objects) by class."""
    import numpy as np

    yield "", np.ones(len(classes), dtype=bool)
    for label in np.unique(classes[classes >= 0]).tolist():
        yield truth.class_name(label, images), classes == label


class _Measured:
    """The best overlaps that one engine's regions have with the objects of a set, and the Results that they make."""

    def __init__(
        self, s: MasksQualitySettings, images: Any, truth: Any, regions_of: Callable[..., Any], recipe: str
    ) -> None:
        import numpy as np

        from whytransfer import progress
        from whytransfer.commands.regions import nothing_drawn
        from whytransfer.masks.quality import measure

        found, unknown = [], 0
        with progress.bar(f"quality of {recipe.split()[0]} on {images.name}", len(images)) as update:
            for i, covered in measure(images, regions_of, truth):
                update(i + 1)
                unknown += covered is None
                found += [] if covered is None else [covered]
        if not found:
            raise nothing_drawn(len(images), images, s.truth)
        self.overlaps = np.concatenate([covered.overlaps for covered in found])
        self.classes = np.concatenate([covered.classes for covered in found])
        self._image = np.repeat(np.arange(len(found)), [len(covered.overlaps) for covered in found])
        self._images, self._data, self._seed = len(found), images.name, s.seed
        self._origin = {"recipe": recipe, "truth": s.truth, "images": s.images, "images_without_object": unknown}
        self._origin["regions_per_image"] = float(np.mean([covered.regions for covered in found]))

    def mean(self, name: str, metric: str, chosen: Any) -> Any:
        """The mean over the chosen objects in %, with its interval over images."""
        from whytransfer.tasks.bootstrap import interval

        sums = self._sums(chosen)
        overlaps, with_it = self.overlaps[chosen], int((sums[:, 1] > 0).sum())
        ends = interval(sums, _mean, seed=self._seed) if with_it >= FEWEST_IMAGES else (None, None)
        counted = {"objects": len(overlaps), "objects_covered_by_half": int((overlaps >= 0.5).sum())}
        return self._result(name, metric, float(100 * overlaps.mean()), "%", with_it, ends, counted)

    def less(self, first: _Measured, name: str) -> Any:
        """By how many points the mean over all objects is above that of other regions of the same images."""
        from whytransfer.tasks.bootstrap import paired_difference

        everything = slice(None)
        value, *ends = paired_difference(self._sums(everything), first._sums(everything), _mean, seed=self._seed)
        counted = {"objects": len(self.overlaps), "first": first._origin["recipe"]}
        found = tuple(ends) if self._images >= FEWEST_IMAGES else (None, None)
        return self._result(name, LESS, value, "points", self._images, found, counted)

    def _sums(self, chosen: Any) -> Any:
        """(images, 2) sum of best overlaps and number of the chosen objects of each image."""
        import numpy as np

        sums = np.zeros((self._images, 2))
        counted = np.stack([self.overlaps, np.ones_like(self.overlaps)], axis=1)[chosen]
        np.add.at(sums, self._image[chosen], counted)
        return sums

    def _result(
        self, name: str, metric: str, value: float, unit: str, n: int, ends: tuple[Any, ...], more: dict[str, Any]
    ) -> Any:
        from whytransfer.records import Result
        from whytransfer.runs import command_line, versions

        low, high = ends
        return Result(
            model=name, data=self._data, task="mask quality", metric=metric, value=value, unit=unit,
            direction="higher", n=n, seed=self._seed, low=low, high=high,
            provenance={**self._origin, **more, "command": command_line(), "versions": versions()},
        )  # fmt: skip


def _mean(totals: Any) -> Any:
    """(..., 2) sums of overlaps and of objects -> (...,) mean overlap in %, nan without an object."""
    import numpy as np

    none = np.full(totals.shape[:-1], np.nan)
    return np.divide(100 * totals[..., 0], totals[..., 1], out=none, where=totals[..., 1] > 0)


def _by_class(results: list[Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table that has a row for each class and a column for each engine."""
    engines = list(dict.fromkeys(r.model for r in results if r.metric == BEST))
    rows: dict[str, dict[str, Any]] = {}
    for r in results:
        if r.metric.startswith(OF_CLASS):
            cells = rows.setdefault(r.metric.removeprefix(OF_CLASS), {"": (r.provenance["objects"], r.n)})
            cells[r.model] = f"{r.value:.2f} {interval_text(r)}".rstrip()
    return ["class", "objects", "images", *engines], [
        [name, *cells[""], *(cells.get(engine, "") for engine in engines)] for name, cells in rows.items()
    ]


def show(s: MasksQualitySettings) -> None:
    """Run and print the answer for people, or as JSON lines."""
    from whytransfer.progress import several

    results = list(run(s))
    if s.as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    whole = [r for r in results if r.metric in (BEST, LESS)]
    rows = [
        [r.model, r.metric, f"{r.value:.2f} {r.unit}", interval_text(r), r.provenance["objects"], r.n] for r in whole
    ]
    print_table(f"regions of {s.images}", ["regions", "metric", "mean", "95 % interval", "objects", "images"], rows)
    if len(whole) < len(results):
        print_table("best overlap by class in % [95 % interval]", *_by_class(results))
    for r in results:
        if r.metric == BEST:
            print(f"{r.model}: {r.provenance['regions_per_image']:.1f} regions per image; {r.provenance['recipe']}")
    if unknown := results[0].provenance["images_without_object"]:
        print(f"left out: {several(unknown, 'image')} without an annotated object")
