"""`whytransfer masks rank`: learn from annotated images which regions look like objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json
from whytransfer.errors import InputError

if TYPE_CHECKING:
    import numpy as np


class RankMasksSettings(Settings):
    """Learn the ranking of the engine mcg from images with annotated masks, and write it to a file.

    Give the file to the engine as mcg:FILE. Without one, mcg learns from generated scenes, which is quick and needs no
    annotation, but real masks of the kind that you want to find teach more. Images that the truth does not know are
    left out and counted; where several people segmented an image (BSDS), the first one's segments count.

    Examples:
      whytransfer masks rank --images coco/train2017 --truth annotated:coco/instances_train2017.json --out mine.ranking
      whytransfer masks --images photos/ --engine mcg:mine.ranking --out masks/
    """

    images: str
    """Folder, zip, scenes:COUNT, ...: a few hundred images are enough."""
    out: Path
    """File to write."""
    truth: str = "annotated"
    """Where the masks are: annotated (those of the image set itself) or annotated:PATH (COCO json, PNG folder, BSDS
    .mat folder)."""
    count: Annotated[int, Field(ge=1)] = 500
    """At most so many images, spread evenly over the set; each takes about a second."""
    seed: int = 0
    """Decides which candidates are sampled, and the forest."""


def rank_masks(**settings: Any) -> Path:
    """Write the ranking; keywords are the fields of RankMasksSettings. Returns the file's path."""
    return RankMasksSettings.called(run, settings)


def run(s: RankMasksSettings) -> Path:
    import numpy as np

    from whytransfer.commands.data import opened
    from whytransfer.commands.regions import nothing_drawn, what_people_drew
    from whytransfer.files import writable_folder
    from whytransfer.masks.mcg import learn
    from whytransfer.masks.regions import pixels_of
    from whytransfer.progress import bar, say

    if s.out.is_dir():
        raise InputError(f"--out {s.out} is a folder: give the name of a file")
    annotated = what_people_drew(s.truth)
    images = opened(s.images)
    annotated.require_own(images)
    writable_folder(s.out.parent)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(s.count, len(images))).astype(int))

    def samples() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        unknown = 0
        with bar("learning to rank", len(chosen)) as update:
            for done, i in enumerate(chosen, start=1):
                sample = images[int(i)]
                drawn = annotated.segmentations(sample)
                unknown += not drawn
                for truth in (regions.stack() for regions in drawn[:1]):
                    yield pixels_of(sample), truth[truth.any(axis=(1, 2))]
                update(done)
        if unknown == len(chosen):
            raise nothing_drawn(unknown, images, s.truth)
        if unknown:
            say(f"{unknown:,} of the {len(chosen):,} images left out: {s.truth} knows nothing of them")

    learn(samples(), s.seed).save(s.out)
    return s.out


def show(s: RankMasksSettings) -> None:
    path = run(s)
    if s.as_json:
        print_json([{"file": str(path)}])
    else:
        print(f"{path}: use it as --engine mcg:{path}")
