"""The regions and boxes of a run: made before, or read and made now; and what the card says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whytransfer import progress
from whytransfer.errors import InputError, unknown_name

FEW = 200  # images whose regions one process makes before others would have started


def check_masks(masks: str | None, method: str, needs: tuple[str, ...]) -> None:
    """InputError where a method needs regions and none are given, or where it would ignore those that are."""
    if "regions" in needs and masks is None:
        raise InputError(
            f"--method {method} contrasts regions: give --masks with a folder that `whytransfer masks` made, or with "
            "how to make them now, such as --masks grid:5 or --masks felzenszwalb"
        )
    if "semantic" in needs:
        _check_semantic(masks, method)
    elif "regions" not in needs and masks is not None:
        raise InputError(
            f"--masks {masks}: {method} looks at whole images and would ignore them. Leave it out, or choose detcon-s, "
            "detcon-b or a small preset of these."
        )


def _check_semantic(masks: str | None, method: str) -> None:
    """InputError for an engine whose regions are no classes."""
    from whytransfer.masks import ENGINES

    if masks and masks != "semantic" and masks.partition(":")[0] in ENGINES:
        raise InputError(
            f"--masks {masks}: {method} learns the classes that the images are labelled with. Leave it out, or give "
            "a folder that `whytransfer masks --engine semantic` made of these images."
        )


def open_targets(s: Any, needs: tuple[str, ...], pixels: Any) -> tuple[Any, Any]:
    """The StoredRegions and the BoxTable of a run, None where its method needs none.

    Raises InputError where annotations are damaged, and for a store of other things than a method learns from.
    """
    regions = boxes = None
    if "boxes" in needs:
        from whytransfer.images.targets import BoxTable

        with progress.bar(f"boxes of {pixels.name}", len(pixels)) as update:
            boxes = BoxTable.read(pixels, lambda done, total: update(done))
    if "semantic" in needs:
        regions = open_regions(s.masks or "semantic", pixels, s.images, s.skip_unreadable)
        _require_classes(regions, pixels, s)
    elif s.masks:
        regions = open_regions(s.masks, pixels, s.images, s.skip_unreadable)
    return regions, boxes


def _require_classes(regions: Any, pixels: Any, s: Any) -> None:
    from whytransfer.masks import making
    from whytransfer.masks.semantic import Semantic

    expected = making.full_recipe(Semantic(), pixels.images)
    if regions.recipe != expected:
        raise InputError(
            f"--masks {s.masks} holds regions of another recipe.\n  there:  {regions.recipe}\n  needed: {expected}\n"
            f"{s.method} learns the classes that these images are labelled with: leave it out, or make the regions "
            "with whytransfer masks --engine semantic."
        )


def open_regions(masks: str, pixels: Any, images: str | None = None, skip_unreadable: bool = False) -> Any:
    """The StoredRegions of a PixelCache, out of the store `masks`, or by the engine that it names.

    What an engine makes is kept beside the pixel caches and made once; all cores work on it where `images`, the string
    that named the pictures, is given. Raises InputError for what is neither, and for pictures without regions.
    """
    from whytransfer.masks import open_engine

    store = _kept(masks)
    if store is None:
        store = _made(open_engine(masks), masks, pixels, images, skip_unreadable)
    return store.for_pixels(pixels)


def check_masks_are_there(masks: str | None) -> None:
    """InputError for a string that names neither a store nor an engine that can work; asked before pictures are read.

    Only `mcg` alone is not tried: it learns its ranking when it is made, which takes minutes.
    """
    from whytransfer.masks import open_engine

    if masks is not None and masks != "mcg" and _kept(masks) is None:
        open_engine(masks)


def _kept(masks: str) -> Any:
    """The RegionStore that a string names, None where it names an engine; InputError where it names neither."""
    from whytransfer.masks import ENGINES, RegionStore

    path = Path(masks).expanduser()
    named = masks.partition(":")[0] in ENGINES
    if (path / "store.json").is_file() or (not named and (path.exists() or len(path.parts) > 1)):
        return RegionStore.open(path)
    if not named:
        raise unknown_name("region engine, and no folder of that name here,", masks, ENGINES)
    return None


def _made(engine: Any, spec: str, pixels: Any, images: str | None, skip_unreadable: bool) -> Any:
    """The engine's store in the cache, with the regions of these pictures in it."""
    from whytransfer.images.cache import default_folder
    from whytransfer.images.content import digest
    from whytransfer.masks import RegionStore, making
    from whytransfer.masks.annotated import Annotated
    from whytransfer.memory import usable_cores

    if isinstance(engine, Annotated):
        engine.require_own(pixels.images)
    recipe = making.full_recipe(engine, pixels.images)
    folder = default_folder().with_name("regions") / digest(recipe.encode()).hex()
    store = RegionStore.create(folder, recipe, spec)
    count = len(pixels.images)
    with progress.bar(f"reading {pixels.name}", count) as update:
        if not store.missing(pixels, lambda done, total: update(done)):
            return store
    with progress.bar(f"regions of {pixels.name} by {spec}", count) as update:
        if images is None or count <= FEW or usable_cores() == 1:
            making.make(pixels.images, engine, store, lambda made: update(made.done), skip_unreadable)
        else:
            job = making.Job(images, spec, str(folder), skip_unreadable)
            making.make_on_cores(job, count, usable_cores(), lambda made: update(made.done))
    return RegionStore.open(folder)


def say_how_coarse(backbone: str, size_px: int) -> None:
    """A note where the last map is so coarse that most regions own no cell of it."""
    cell = cell_px(backbone)
    cells = -(-size_px // cell)
    if cells < 3:
        finer = "" if cell == 8 else ", or a backbone whose name ends in -small, with cells of 8 px"
        progress.say(
            f"note: views of {size_px} px are {cells} x {cells} cells on the last map of {backbone}, and a region "
            f"counts only where it fills most of a cell. Choose a larger --size ({3 * cell} and more){finer}."
        )


def say_how_many_are_bare(regions: Any) -> None:
    """A note where pictures have no region, which then teach nothing; InputError where all looked at have none.

    A loss of 0 would be all there is to see of it.
    """
    bare, looked_at = regions.bare()
    every = "" if looked_at == len(regions) else f" that were looked at, evenly spread over {len(regions):,},"
    if bare == looked_at:
        raise InputError(
            f"none of the {looked_at:,} pictures{every} has a region ({regions.recipe}), so there is nothing to learn "
            "from. Annotate them; DetCon also learns from what an engine finds, such as --masks felzenszwalb."
        )
    if bare:
        progress.say(
            f"note: {bare:,} of the {looked_at:,} pictures{every} have no region: they count as pictures seen and "
            "teach nothing. Leave them out; DetCon also learns from what an engine finds, such as --masks felzenszwalb."
        )


def cell_px(backbone: str) -> int:
    """Side of the part of a view that one cell of the last map stands for."""
    return 8 if backbone.endswith("-small") else 32


def with_regions(card: dict[str, Any], masks: str | None, regions: Any | None) -> dict[str, Any]:
    """The card of a run on these regions, if any: only the same regions may continue it.

    Boxes are part of the images' fingerprint.
    """
    if regions is None:
        return card
    known = {"recipe": regions.recipe, "fingerprint": regions.fingerprint}
    config = card["config"] | {f"regions_{key}": value for key, value in known.items()}
    return card | {"config": config, "regions": {"spec": masks or "semantic", **known}}


def what_people_drew(truth: str) -> Any:
    """The Annotated engine that --truth names; InputError for one that makes regions itself."""
    from whytransfer.masks import ENGINES, open_engine
    from whytransfer.masks.annotated import Annotated

    if truth.partition(":")[0] not in ENGINES and Path(truth).expanduser().exists():
        raise InputError(f"--truth {truth}: say annotated:{truth}, if that is what people drew of these images")
    engine = open_engine(truth)
    if not isinstance(engine, Annotated):
        raise InputError(f"--truth {truth}: what people drew is needed: annotated, or annotated:PATH")
    return engine


def nothing_drawn(count: int, images: Any, truth: str) -> InputError:
    """What to say of images of which the truth knows none."""
    return InputError(
        f"none of the {count:,} images of {images.name} has an object in {truth}: give --truth annotated:PATH with a "
        "COCO json or a folder of masks that are called as their images, or open the images by the spec of an "
        "annotated set (coco:ROOT, voc:ROOT::segmentation-train, camvid:ROOT)"
    )
