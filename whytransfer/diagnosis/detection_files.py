"""What error analysis reads: ground truth and detections as COCO's JSON, VOC's XML and text, or our task's folders.

All become COCO's records (see tasks/coco_json.py). VOC counts pixels from 1 and includes both ends; its boxes become
pixel edges from 0, so that widths hold both end pixels, as in VOC's own overlaps. There an image's id is its name
without suffix, and categories are numbered from 1 in the order of VOC's classes (other classes: by name).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from whytransfer.errors import InputError
from whytransfer.images.published.annotated import read_bytes
from whytransfer.images.published.voc import CLASSES
from whytransfer.images.published.xml import parse
from whytransfer.tasks.coco_json import Detections, Truth, categories_of, read_detections, read_truth

FLAGS = ("difficult", "truncated", "occluded")  # what VOC tells of an object besides class and box


def ground_truth(source: Truth | Path | str, split: str | None = None) -> Truth:
    """Ground truth of a JSON file, a dictionary, a folder of VOC XML files, or a result of our task "detection".

    A VOC folder is that of the XML files or the one that holds Annotations; `split` names a list in its
    ImageSets/Main, and without it every XML file counts. InputError where `split` is given for anything else.
    """
    folder = _folder(source)
    own = None if folder is None else _own(folder, "truth.json")
    if folder is None or own is not None:
        if split is not None:
            raise InputError(f"a split ({split}) is chosen of a folder of VOC XML files, and {source} is none.")
        return read_truth(source if own is None else own)
    return _voc_truth(folder, split)


def found_by(source: Detections | Path | str, truth: Truth, any_scores: bool = False) -> Detections:
    """Detections of a results file, a list, a folder of VOC's comp4 text files, or a result of our task "detection".

    InputError for what is not in the ground truth, a detection without box, and scores outside [0, 1] unless
    `any_scores`: only their order decides, but such a number is more often a mistake than a margin.
    """
    folder = _folder(source)
    own = None if folder is None else _own(folder, "detections.json")
    if folder is not None and own is None:
        found = read_detections(list(_comp4(folder, truth)), truth)
    else:
        found = read_detections(source if own is None else own, truth)
    name = str(source) if isinstance(source, str | Path) else "what was given"
    for k, item in enumerate(found):
        if "bbox" not in item:
            raise InputError(f"{name}: detection {k} has no bbox: errors are analysed of boxes.")
        if not any_scores and not 0 <= item["score"] <= 1:
            raise InputError(
                f"{name}: detection {k} has the score {item['score']!r}, outside [0, 1]. If scores are margins, of "
                "which only the order counts, say so: --any-scores."
            )
    return found


def _folder(source: Any) -> Path | None:
    """The folder that was named; None for files and for records."""
    if not isinstance(source, str | Path):
        return None
    return Path(source) if Path(source).is_dir() else None


def _own(folder: Path, name: str) -> Path | None:
    """A file that our detection task keeps, in its own folder or in the only such folder of the results."""
    if (folder / name).is_file():
        return folder / name
    below = sorted(folder.glob(f"*/{name}"))
    if len(below) > 1:
        raise InputError(
            f"{folder} holds {len(below)} results of detection tasks: name one of them, "
            f"{', '.join(str(path.parent) for path in below[:5])}"
        )
    return below[0] if below else None


def _voc_truth(folder: Path, split: str | None) -> Truth:
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    stems = _listed(annotations, split) if split else sorted(path.stem for path in annotations.glob("*.xml"))
    if not stems:
        raise InputError(
            f"{folder} holds no ground truth: neither *.xml files (of VOC, or in Annotations) nor truth.json of our "
            "task detection were found."
        )
    roots = {stem: _root(annotations / f"{stem}.xml") for stem in stems}
    names = {thing.findtext("name", "").strip() for root in roots.values() for thing in root.findall("object")}
    classes = CLASSES if names <= set(CLASSES) else sorted(names)
    truth: Truth = {"images": [], "annotations": [], "categories": categories_of(classes)}
    number = {name: k for k, name in enumerate(classes, 1)}
    for stem, root in roots.items():
        path = str(annotations / f"{stem}.xml")
        height, width = _numbers(root.find("size"), ("height", "width"), path)
        truth["images"].append({"id": stem, "file_name": f"{stem}.jpg", "height": int(height), "width": int(width)})
        for thing in root.findall("object"):
            item = _object(thing, path)
            kind = number[thing.findtext("name", "").strip()]
            truth["annotations"].append({**item, "image_id": stem, "category_id": kind})
    return read_truth(truth)


def _listed(annotations: Path, split: str) -> list[str]:
    """Names of images in ImageSets/Main/SPLIT.txt."""
    path = annotations.parent / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))[:8]) or "none"
        raise InputError(f"there is no split {split!r}: {path} is no file. Splits there: {there}.")
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def _root(path: Path) -> Element:
    return parse(read_bytes(str(path)), str(path))


def _object(thing: Element, path: str) -> dict[str, Any]:
    left, top, right, bottom = _numbers(thing.find("bndbox"), ("xmin", "ymin", "xmax", "ymax"), path)
    told = {flag: thing.findtext(flag) for flag in FLAGS}
    flags = {flag: int(text.strip() == "1") for flag, text in told.items() if text is not None}
    return {"bbox": [left - 1, top - 1, right - left + 1, bottom - top + 1], "iscrowd": 0, **flags}


def _numbers(parent: Element | None, names: tuple[str, ...], path: str) -> list[float]:
    texts = ["" if parent is None else parent.findtext(name, "") for name in names]
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise InputError(f"{path}: a number among {', '.join(names)} is missing or is none: copy or unpack it again.")
    return values


def _comp4(folder: Path, truth: Truth) -> Iterator[dict[str, Any]]:
    """Records of files ..._CLASS.txt with lines "image score left top right bottom", images by name."""
    kinds = {str(item.get("name", item["id"])): item["id"] for item in truth["categories"]}
    images = {Path(str(item.get("file_name", item["id"]))).stem: item["id"] for item in truth["images"]}
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise InputError(
            f"{folder} holds no detections: neither VOC's text files (comp4_det_test_cat.txt, ...) nor detections.json "
            "of our task detection were found."
        )
    for path in paths:
        kind = _class_of(path, kinds)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if fields := line.split():
                yield {**_detection(fields, f"line {number} of {path}", images), "category_id": kind}


def _class_of(path: Path, kinds: Mapping[str, Any]) -> Any:
    """The category whose name ends the name of the file; the longest, as one name may end another."""
    fitting = [name for name in kinds if path.stem == name or path.stem.endswith(f"_{name}")]
    if not fitting:
        raise InputError(
            f"{path}: no class of the ground truth ends its name (..._CLASS.txt). Classes: {', '.join(kinds)}."
        )
    return kinds[max(fitting, key=len)]


def _detection(fields: list[str], where: str, images: Mapping[str, Any]) -> dict[str, Any]:
    try:
        score, left, top, right, bottom = map(float, fields[1:])
    except ValueError:
        raise InputError(f"{where} is {' '.join(fields)!r}, not: image score left top right bottom.") from None
    if fields[0] not in images:
        raise InputError(f"{where} is of image {fields[0]!r}, which the ground truth does not list.")
    box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
    return {"image_id": images[fields[0]], "score": score, "bbox": box}
