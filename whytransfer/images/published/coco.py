"""COCO [Lin 2014]: images and the boxes and masks of objects, from instances_*.json."""

from __future__ import annotations

from whytransfer.images.index import is_image
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.instances import Instances, unlabelled
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts

LAYOUT = Layout(
    "coco",
    "ROOT/train2017/*.jpg, ROOT/val2017/*.jpg (or in ROOT/images) and ROOT/annotations/instances_train2017.json, "
    "ROOT/annotations/instances_val2017.json",
    ("train2017", "val2017", "train2014", "val2014"),
)


def coco(rest: str) -> AnnotatedFiles:
    """The set named "coco:ROOT[:train2017|val2017|train2014|val2014]"; its images are those of the JSON file.

    No label per image, but boxes and masks; see instances.Instances.
    """
    root, parts = root_and_parts("coco", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    folder = LAYOUT.find(root, [split, f"images/{split}"])
    path = LAYOUT.find(root, [f"annotations/instances_{split}.json"])
    instances = Instances.open(path)
    there = {name for name in named_files(folder, (".jpg", ".jpeg", ".png")) if is_image(name)}
    require_files(LAYOUT, folder, list(instances.names), there, f"images of {path.name}")
    notes = [f"{len(there) - len(instances.names):,} images of {folder} are not in {path.name}, and left out"]
    index = unlabelled(instances.names, (*(notes if len(there) > len(instances.names) else ()), *instances.notes))
    return AnnotatedFiles(folder, index, f"coco/{split}", instances)
