"""SYNTHIA-RAND-CITYSCAPES [Ros 2016]: rendered street scenes with a class for every pixel."""

from __future__ import annotations

from whytransfer.images.index import Names
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts
from whytransfer.images.published.maps import LabelMaps, read_deep_red, table

CLASSES = (
    "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car", "traffic sign", "pedestrian",
    "bicycle", "motorcycle", "parking slot", "road work", "traffic light", "terrain", "rider", "truck", "bus", "train",
    "wall", "lane marking",
)  # fmt: skip
LAYOUT = Layout(
    "synthia",
    "ROOT/RGB/0000000.png and ROOT/GT/LABELS/0000000.png (SYNTHIA-RAND-CITYSCAPES, also as ROOT/RAND_CITYSCAPES)",
    ("all",),
)
_VALUES = table({number: number - 1 for number in range(1, 23)}, void=[0])


def synthia(rest: str) -> AnnotatedFiles:
    """The set named "synthia:ROOT". Labels are the first channel of 16-bit colour PNGs; 0 is void.

    The video sequences (SYNTHIA-SEQS) number their classes differently and are refused.
    """
    root, _ = root_and_parts("synthia", rest, ())
    root = root / "RAND_CITYSCAPES" if (root / "RAND_CITYSCAPES").is_dir() else root
    pictures, labels = LAYOUT.find(root, ["RGB"]), LAYOUT.find(root, ["GT/LABELS"])
    names = sorted(named_files(pictures, (".png",)))
    if not names:
        raise LAYOUT.refusal(pictures, "any image (*.png)")
    require_files(LAYOUT, labels, names, named_files(labels, (".png",)), "label maps")
    index = unlabelled(Names(names))
    maps = LabelMaps(labels, index.names, str, _VALUES, CLASSES, read_deep_red)
    return AnnotatedFiles(pictures, index, "synthia", maps)
