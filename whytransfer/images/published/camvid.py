"""CamVid [Brostow 2008] in the layout of the SegNet tutorial [Badrinarayanan 2017]: 11 classes and void."""

from __future__ import annotations

from whytransfer.images.index import Names
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts
from whytransfer.images.published.maps import LabelMaps, table

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
LAYOUT = Layout("camvid", "ROOT/train/*.png and ROOT/trainannot/*.png, likewise val and test", ("train", "val", "test"))
_VALUES = table({value: value for value in range(11)}, void=[11])


def camvid(rest: str) -> AnnotatedFiles:
    """The set named "camvid:ROOT[:train|val|test]"; ROOT may hold it as CamVid."""
    root, parts = root_and_parts("camvid", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    root = root / "CamVid" if (root / "CamVid").is_dir() else root
    pictures, labels = LAYOUT.find(root, [split]), LAYOUT.find(root, [f"{split}annot"])
    names = sorted(named_files(pictures, (".png", ".jpg")))
    if not names:
        raise LAYOUT.refusal(pictures, "any image (*.png)")
    require_files(LAYOUT, labels, [_label_map(n) for n in names], named_files(labels, (".png",)), "label maps")
    index = unlabelled(Names(names))
    return AnnotatedFiles(
        pictures, index, f"camvid/{split}", LabelMaps(labels, index.names, _label_map, _VALUES, CLASSES)
    )


def _label_map(image: str) -> str:
    return f"{image.rpartition('.')[0]}.png"
