"""Average precision of detections: COCO's, for boxes and masks, by faster-coco-eval, and VOC's.

COCO: the mean over 101 recalls, ten overlaps (.50 to .95) and all classes; AP50 and AP75 at one overlap; small, medium
and large objects by their area (32^2, 96^2 pixels); 100 detections an image and class at most [Lin 2014].
VOC: one overlap; the mean over 11 recalls until 2009, the area under the curve since [Everingham 2010]. Averaged over
COCO's ten overlaps with 11 recalls it is what detectron2, and so MoCo and its kin, call AP on VOC07.

Intervals are bootstraps over the test images: the detections are matched once, and every draw weighs the images anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError, unknown_name
from whytransfer.memory import usable_cores
from whytransfer.tasks import bootstrap
from whytransfer.tasks.coco_json import Detections, Truth, library, read_detections, read_truth
from whytransfer.tasks.matching import Curves, Floats, Table, coco_states, table_of, voc_states

KINDS = {"boxes": "bbox", "masks": "segm"}
THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS, VOC_RECALLS = np.linspace(0, 1, 101), np.arange(0, 1.1, 0.1)
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
MOST = 100
DRAWS = 200
COCO_METRICS: dict[str, tuple[int, slice]] = {  # area range, thresholds
    "AP": (0, slice(None)),
    "AP50": (0, slice(0, 1)),
    "AP75": (0, slice(5, 6)),
    "AP_small": (1, slice(None)),
    "AP_medium": (2, slice(None)),
    "AP_large": (3, slice(None)),
}


class Coco:
    """COCO's metrics of detections against ground truth; `values` in %, without those that no object speaks for.

    Both arguments as in coco_json (files or objects). `kind` is "boxes" or "masks". InputError where the ground truth
    has no object at all, or detections lack what is scored.
    """

    def __init__(self, truth: Truth | Path | str, found: Detections | Path | str, kind: str = "boxes") -> None:
        if kind not in KINDS:
            raise unknown_name("kind of average precision", kind, KINDS)
        self.truth = read_truth(truth)
        self.found = _with(kind, read_detections(found, self.truth))
        self.kind = kind
        if not any(not item["iscrowd"] for item in self.truth["annotations"]):
            raise InputError("the ground truth holds no object, so there is no average precision of finding them")
        self._scored = _scored(self.truth, self.found, KINDS[kind])
        precision = np.asarray(self._scored.eval["precision"])[..., 0].transpose(3, 0, 2, 1)  # (A, T, K, R)
        self.values = _metrics(np.where(precision[..., 0] < 0, np.nan, precision.mean(-1)))

    def matched(self) -> tuple[Table, Curves]:
        """Every detection with what it is at each threshold and in each area range: what intervals are drawn from."""
        table = table_of(self.truth, self.found, MOST)
        objects = [self.truth["annotations"][i] for i in table.gt_source]
        overlaps = []
        ids = [sorted(item["id"] for item in self.truth[part]) for part in ("images", "categories")]
        for d, d1, g, g1 in zip(
            table.det_ends[:-1], table.det_ends[1:], table.gt_ends[:-1], table.gt_ends[1:], strict=True
        ):
            if d == d1 or g == g1:
                overlaps.append(np.empty(0))
                continue
            overlaps.append(self._scored.ious[ids[0][table.det_image[d]], ids[1][table.det_class[d]]])
        states, positives = coco_states(
            table,
            overlaps,
            np.array([self.found[i]["area"] for i in table.det_source], dtype=np.float64),
            np.array([item["area"] for item in objects], dtype=np.float64),
            np.array([bool(item["iscrowd"]) for item in objects], dtype=bool),
            np.array(list(AREAS.values()), dtype=np.float64),
            THRESHOLDS,
        )
        return table, Curves(table, states, positives)

    def intervals(self, draws: int = DRAWS, seed: int = 0) -> dict[str, tuple[float, float]]:
        """95 % bootstrap interval of each value, over images drawn with replacement.

        About 15 s of one core for 5,000 images with 50 detections each and 200 draws.
        """
        _, curves = self.matched()
        return _intervals(lambda w: _metrics(curves.average_precision(COCO_RECALLS, w)), self, draws, seed)


class Voc:
    """VOC's average precision of boxes, in %: `values` voc07_AP50 (11 recalls), voc_AP50 (area), and voc07_AP, _AP75.

    Objects that are difficult (or to be ignored, or crowds) neither have to be found nor count when they are.
    voc07_AP is the mean over COCO's ten overlaps, as detectron2 reports it for VOC07.
    """

    def __init__(self, truth: Truth | Path | str, found: Detections | Path | str) -> None:
        self.truth = read_truth(truth)
        self.found = _with("boxes", read_detections(found, self.truth))
        table = table_of(self.truth, self.found)
        objects = [self.truth["annotations"][i] for i in table.gt_source]
        difficult = np.array([_difficult(item) for item in objects], dtype=bool)
        if difficult.all():
            raise InputError("the ground truth holds no object that counts, so there is no average precision")
        boxes = (_corners([self.found[i] for i in table.det_source]), _corners(objects))
        self._curves = Curves(table, *voc_states(table, *boxes, difficult, THRESHOLDS))
        self.values = self._metrics(None)

    def _metrics(self, weights: Floats | None) -> dict[str, float]:
        eleven = self._curves.average_precision(VOC_RECALLS, weights)[0]  # (T, K)
        area = self._curves.average_precision(None, weights)[0]
        parts = {"voc07_AP": eleven, "voc07_AP50": eleven[:1], "voc07_AP75": eleven[5:6], "voc_AP50": area[:1]}
        return _means(parts)

    def intervals(self, draws: int = DRAWS, seed: int = 0) -> dict[str, tuple[float, float]]:
        """95 % bootstrap interval of each value, over images drawn with replacement."""
        return _intervals(self._metrics, self, draws, seed)


def _scored(truth: Truth, found: Detections, kind: str) -> Any:
    """faster-coco-eval's evaluation with its overlaps and accumulated precision."""
    there = library()
    known = there.COCO(truth)
    scored = there.COCOeval_faster(known, known.loadRes(found), iouType=kind, print_function=lambda *_: None)
    scored.params.maxDets = [MOST]
    scored.evaluate()
    scored.accumulate()
    return scored


def _with(kind: str, found: Detections) -> Detections:
    """The detections with what is scored, and without what would be taken for it: the area of a mask is its own."""
    key, other = ("bbox", "segmentation") if kind == "boxes" else ("segmentation", "bbox")
    lacking = [k for k, item in enumerate(found) if key not in item]
    if lacking and kind == "boxes":
        mask = library().mask
        for k in lacking:
            found[k]["bbox"] = [float(x) for x in mask.toBbox(found[k]["segmentation"])]
    elif lacking:
        raise InputError(
            f"{len(lacking)} of {len(found)} detections have no segmentation, so their masks cannot be scored: score "
            "boxes, or keep the masks of a detector that makes some."
        )
    for item in found:
        item.pop(other, None)
        if kind == "boxes":
            item["segmentation"] = None  # else the library makes a polygon of every box
    return found


def _difficult(item: Mapping[str, Any]) -> bool:
    return bool(item.get("difficult") or item.get("ignore") or item["iscrowd"])


def _corners(items: list[dict[str, Any]]) -> Floats:
    boxes = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _metrics(precision: NDArray[np.float64]) -> dict[str, float]:
    """(A, T, K) with nan for classes without objects -> the metrics, in %."""
    return _means({name: precision[area, thresholds] for name, (area, thresholds) in COCO_METRICS.items()})


def _means(parts: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """100 times the mean of each part over what is a number; parts of no number are left out."""
    return {name: 100 * float(np.nanmean(part)) for name, part in parts.items() if not np.isnan(part).all()}


def _intervals(metrics: Any, scores: Coco | Voc, draws: int, seed: int) -> dict[str, tuple[float, float]]:
    """Of each metric of `scores` over draws of the images, of which one without any object of it does not count."""
    names, n = list(scores.values), len(scores.truth["images"])

    def of(counts: Floats) -> list[float]:
        drawn = metrics(counts)
        return [drawn.get(name, np.nan) for name in names]

    with ThreadPoolExecutor(usable_cores()) as pool:
        rows = [row for block in bootstrap.resamples(n, draws, seed) for row in pool.map(of, block)]
    low, high = bootstrap.around(np.array(list(scores.values.values())), np.array(rows)).clip(0, 100)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
