"""Ground truth and detections as COCO's JSON files: read and checked, and written of our own image sets and runs.

Ground truth is {"images", "annotations", "categories"} with boxes [x, y, w, h]; detections are a list of {"image_id",
"category_id", "score", "bbox" and / or "segmentation"}. Category ids may have gaps. An object may be a crowd
("iscrowd"), or not count in VOC's metrics ("difficult" or "ignore").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError
from whytransfer.files import atomic_write
from whytransfer.parsing import json_of

Truth = dict[str, Any]
Detections = list[dict[str, Any]]
PARTS = ("images", "annotations", "categories")


def read_truth(source: Truth | Path | str) -> Truth:
    """Ground truth from a file or a dictionary, checked: a copy, so that scoring leaves the given one as it is.

    InputError for what is missing, ids given twice, an annotation of an image or category that is not listed, a box
    that is none.
    """
    truth, where = _content(source)
    if not isinstance(truth, Mapping) or (lacking := [part for part in PARTS if part not in truth]):
        missing = ", ".join(PARTS if not isinstance(truth, Mapping) else lacking)
        raise InputError(f"{where} is no ground truth in COCO's form: it has no {missing}.")
    if wrong := next((part for part in PARTS if not isinstance(truth[part], list | tuple)), None):
        raise InputError(f"{where} is no ground truth in COCO's form: {wrong} is {str(truth[wrong])[:60]!r}, no list.")
    images, categories = (_ids(truth[part], f"{where}: {part}") for part in ("images", "categories"))
    _ids([item for item in truth["annotations"] if isinstance(item, Mapping) and "id" in item], f"{where}: annotations")
    annotations: list[dict[str, Any]] = []
    for item in truth["annotations"]:
        name = f"{where}: annotation {item.get('id') if isinstance(item, Mapping) else ''}".rstrip()
        _known(item, images, categories, name)
        _box(item.get("bbox"), name)
        area = item.get("area", item["bbox"][2] * item["bbox"][3])
        if not isinstance(area, int | float) or not math.isfinite(area):
            raise InputError(f"{name} has the area {area!r}, no number.")
        crowd = int(bool(item.get("iscrowd", 0)))
        annotations.append({**item, "id": len(annotations) + 1, "area": area, "iscrowd": crowd})
    return {"images": list(truth["images"]), "annotations": annotations, "categories": list(truth["categories"])}


def read_detections(source: Detections | Path | str, truth: Truth) -> Detections:
    """Detections from a results file or a list, checked against the ground truth; copies, in the order given.

    InputError for a detection of an image or category that the ground truth does not list, a score that is no number,
    or neither box nor mask.
    """
    found, where = _content(source)
    if not isinstance(found, list):
        raise InputError(f"{where} is no results file in COCO's form: a list of detections is needed.")
    images, categories = ({item["id"] for item in truth[part]} for part in ("images", "categories"))
    for k, item in enumerate(found):
        name = f"{where}: detection {k}"
        _known(item, images, categories, name)
        score = item.get("score")
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise InputError(f"{name} has the score {score!r}, no number.")
        if "bbox" in item:
            _box(item["bbox"], name)
        elif "segmentation" not in item:
            raise InputError(f"{name} has neither bbox nor segmentation.")
    return [dict(item) for item in found]


def _content(source: Any) -> tuple[Any, str]:
    """What a file holds, or what was given, and what to call it."""
    if not isinstance(source, str | Path):
        return source, "what was given"
    try:
        return json_of(Path(source).read_bytes()), str(source)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"{source} is no JSON file, or is damaged: {error}.") from None


def _ids(items: Any, name: str) -> set[Any]:
    """The ids of records; InputError for a record without one and for an id that two have."""
    found: set[Any] = set()
    for item in items:
        number = item.get("id") if isinstance(item, Mapping) else None
        if not isinstance(number, int | float | str):
            raise InputError(f"{name} hold {str(item)[:60]!r}, no record with an id.")
        if number in found:
            raise InputError(f"{name} have the id {number!r} twice, so it is not told which one is meant.")
        found.add(number)
    return found


def _known(item: Any, images: set[Any], categories: set[Any], name: str) -> None:
    if not isinstance(item, Mapping):
        raise InputError(f"{name} is {str(item)[:60]!r}, no record.")
    for key, ids, part in (("image_id", images, "images"), ("category_id", categories, "categories")):
        if not isinstance(item.get(key), int | float | str) or item[key] not in ids:
            raise InputError(f"{name} is of {key} {item.get(key)!r}, which the ground truth's {part} do not list.")


def _box(box: Any, name: str) -> None:
    numbers = isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(x, int | float) for x in box)
    if not numbers or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise InputError(f"{name} has the bbox {box!r}, not [x, y, w, h] with w and h of 0 or more.")


def coco_boxes(boxes_xyxy: NDArray[np.floating]) -> list[list[float]]:
    """(R, 4) corners -> [x, y, w, h] each."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def library() -> Any:
    """faster-coco-eval, with .COCO, .COCOeval_faster and .mask; InputError naming the extra where it is missing."""
    try:
        import faster_coco_eval
        from faster_coco_eval.core import mask
    except ImportError:
        raise InputError(
            "detection and instance segmentation are scored by faster-coco-eval: pip install 'whytransfer[detection]'"
        ) from None
    faster_coco_eval.mask = mask
    return faster_coco_eval


def run_lengths(masks: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """(R, H, W) masks -> COCO's compressed run-length codes, as JSON can hold them."""
    codes = library().mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))) if len(masks) else []
    return [{"size": [int(n) for n in c["size"]], "counts": _text(c["counts"])} for c in codes]


def _text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def write(folder: Path | None, truth: Truth, found: Detections) -> dict[str, str]:
    """detections.json and truth.json in a fit's folder; their paths below the results, for a Result's provenance."""
    if folder is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "truth.json", truth)
    _write(folder / "detections.json", found)
    return {"predictions": f"{folder.name}/detections.json", "truth": f"{folder.name}/truth.json"}


def _write(path: Path, content: Any) -> None:
    text = json.dumps(content, separators=(",", ":")).encode()
    atomic_write(path, lambda file: file.write(text))


def categories_of(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Categories numbered from 1, as torchvision's detectors number them."""
    return [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
