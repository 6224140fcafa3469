"""ADE20K scene parsing [Zhou 2017, ADEChallengeData2016] and sets in its layout: a class for every pixel, 0 is none."""

from __future__ import annotations

from pathlib import Path

from whytransfer.images.index import Names
from whytransfer.images.published.annotated import AnnotatedFiles
from whytransfer.images.published.instances import unlabelled
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts, rows
from whytransfer.images.published.maps import LabelMaps, table

LAYOUT = Layout(
    "ade",
    "ROOT/images/training/*.jpg, ROOT/annotations/training/*.png, likewise validation, and ROOT/objectInfo150.txt (or "
    "ROOT/classes.txt, a name per line); all may lie in ROOT/ADEChallengeData2016",
    ("training", "validation"),
)
MOST = 254  # classes; 255 is void


def ade(rest: str) -> AnnotatedFiles:
    """The set named "ade:ROOT[:training|validation]"; value v of a label map is class v - 1, 0 ("other") is void."""
    root, parts = root_and_parts("ade", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    root = root / "ADEChallengeData2016" if (root / "ADEChallengeData2016").is_dir() else root
    pictures, labels = LAYOUT.find(root, [f"images/{split}"]), LAYOUT.find(root, [f"annotations/{split}"])
    classes = _classes(LAYOUT.find(root, ["objectInfo150.txt", "classes.txt"]))
    names = sorted(named_files(pictures, (".jpg", ".jpeg", ".png")))
    if not names:
        raise LAYOUT.refusal(pictures, "any image (*.jpg)")
    require_files(LAYOUT, labels, [_label_map(n) for n in names], named_files(labels, (".png",)), "label maps")
    values = table({number + 1: number for number in range(len(classes))}, void=[0])
    index = unlabelled(Names(names))
    return AnnotatedFiles(pictures, index, f"ade/{split}", LabelMaps(labels, index.names, _label_map, values, classes))


def _label_map(image: str) -> str:
    return f"{image.rpartition('.')[0]}.png"


def _classes(path: Path) -> tuple[str, ...]:
    """Names in the order of their numbers: a line each, or the columns Idx ... Name of objectInfo150.txt."""
    if path.name == "classes.txt":
        names = [" ".join(fields) for _, fields in rows(path)]
    else:
        names = []
        for line, fields in rows(path, "\t"):
            if fields[0] == "Idx":
                continue
            if fields[0] != str(len(names) + 1) or len(fields) < 5:
                raise LAYOUT.damaged(path, line, f"{len(names) + 1}<TAB>...<TAB>NAME", "\t".join(fields))
            names.append(fields[-1].split(",")[0].strip())
    if not 1 <= len(names) <= MOST:
        raise LAYOUT.damaged(path, 1, f"one of 1 to {MOST} classes", f"{len(names)} classes")
    return tuple(names)
