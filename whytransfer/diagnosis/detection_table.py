"""Why a detector's average precision is not higher: every detection matched once, its error named by two taxonomies.

The match is COCO's [Lin 2014]: of each class and image the best detection first takes the free object that it overlaps
most, by half at least. Objects that do not count (crowds; difficult or ignored ones, as in VOC) take any number of
detections, which are then neither right nor wrong. Each detection keeps how far it overlaps objects of its own class,
of similar and of other ones, found or not; both taxonomies are read off these columns.

Hoiem [Hoiem 2012, section 3], of a wrong detection the first that holds: Loc overlaps an object of its class by .1 (a
second one on a found object too), Sim one of a similar class by .1, Oth one of another class by .1; BG anything else.
The toolbox's pie charts ask instead which single object is overlapped most; here the order decides everywhere.

TIDE [Bolya 2020, section 2.2], the first that holds: Loc overlaps an object of its class by .1 to .5; Cls one of
another class by .5; Dupe a found object of its class by .5; Bkg nothing by more than .1; Both is the rest. Miss is an
object that was not found and that repairing a Loc or a Cls would not find. As in its published numbers, of several
repairs of one object only that of the best score counts, be it Loc or Cls. Where we differ from the program tidecv
1.0.1: difficult objects do not count; what falls on a crowd is no error, nor can repairing it find an object; 100
detections of each class and image count (COCO's rule), not 100 of an image; classes without objects have no AP, not 0;
differences of AP keep their sign; and precision is read at COCO's 101 recalls bit by bit, of which a few differ from
the k / 100 there by rounding.

Shape letters: D detections, G objects, N images, K classes, T overlap thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.compiled import KEPT
from whytransfer.diagnosis.detection_files import found_by, ground_truth
from whytransfer.errors import InputError
from whytransfer.tasks.average_precision import MOST, THRESHOLDS
from whytransfer.tasks.coco_json import Detections, Truth
from whytransfer.tasks.matching import IGNORED, TRUE, Floats, Ints, Table, coco_states, table_of

HOIEM = ("Loc", "Sim", "Oth", "BG")
TIDE = ("Cls", "Loc", "Both", "Dupe", "Bkg")  # of detections; Miss is of objects
RIGHT, NOT_COUNTED = -1, -2  # codes of detections that are no error
WEAK, STRONG = 0.1, 0.5  # overlaps from which a detection touches an object, and finds it
VOC_SIMILAR = (
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bicycle", "motorbike"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)  # Hoiem 2012; bottle, pottedplant and tvmonitor are like nothing
_kernel = njit(cache=KEPT, nogil=True, error_model="numpy")
Codes = NDArray[np.int8]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorTable:
    """Detections and objects in the order of `table`, and what became of each; see the module for the words.

    states (1 + T, D) at the overlap WEAK and at COCO's ten. same_iou, similar_iou, other_iou (D,) are the largest with
    objects of that kind, crowds left out. hoiem and tide (D,) are positions in HOIEM and TIDE, RIGHT or NOT_COUNTED.
    matched (D,) is the object that a right detection found, target (D,) the one that repairing would find, -1 for none.
    """

    truth: Truth
    table: Table
    gt_boxes: Floats  # (G, 4) x, y, w, h
    counted: Flags  # (G,)
    states: NDArray[np.uint8]
    matched: Ints
    same_iou: Floats
    similar_iou: Floats
    other_iou: Floats
    hoiem: Codes
    tide: Codes
    target: Ints
    similar: Flags  # (K, K)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their ids, which is that of the table."""
        items = sorted(self.truth["categories"], key=lambda item: item["id"])
        return [str(item.get("name", item["id"])) for item in items]

    @cached_property
    def found(self) -> Flags:
        """(G,) whether an object was found."""
        found = np.zeros(len(self.counted), dtype=bool)
        found[self.matched[self.matched >= 0]] = True
        return found

    @cached_property
    def missed(self) -> Flags:
        """(G,) TIDE's Miss: not found, and not to be had by repairing a detection."""
        missed = self.counted & ~self.found
        missed[self.target[self.target >= 0]] = False
        return missed

    @cached_property
    def repaired(self) -> Flags:
        """(D,) the detections that become right when their kind of error is repaired: the best of each object."""
        candidates = np.flatnonzero(self.target >= 0)
        order = candidates[np.argsort(-self.table.det_score[candidates], kind="stable")]
        _, first = np.unique(self.target[order], return_index=True)
        repaired = np.zeros(len(self.target), dtype=bool)
        repaired[order[first]] = True
        return repaired

    def counts(self) -> dict[str, dict[str, int]]:
        """How often each error occurs, by taxonomy; of all detections that count and of all objects."""
        tide = {name: int((self.tide == k).sum()) for k, name in enumerate(TIDE)}
        hoiem = {name: int((self.hoiem == k).sum()) for k, name in enumerate(HOIEM)}
        return {"hoiem": hoiem, "tide": {**tide, "Miss": int(self.missed.sum())}}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One record per detection that was scored: its place in the given list, its errors, overlaps and object."""
        t = self.table
        images = sorted(item["id"] for item in self.truth["images"])
        words = {RIGHT: "right", NOT_COUNTED: "not counted"}
        for d in np.argsort(t.det_source).tolist():
            matched = self.matched[d] if self.matched[d] >= 0 else self.target[d]
            yield {
                "detection": int(t.det_source[d]), "image_id": images[t.det_image[d]],
                "class": self.classes[t.det_class[d]], "score": float(t.det_score[d]),
                "hoiem": words.get(int(self.hoiem[d])) or HOIEM[self.hoiem[d]],
                "tide": words.get(int(self.tide[d])) or TIDE[self.tide[d]],
                "same_iou": float(self.same_iou[d]), "similar_iou": float(self.similar_iou[d]),
                "other_iou": float(self.other_iou[d]),
                "object": int(t.gt_source[matched]) if matched >= 0 else None,
            }  # fmt: skip


def detection_errors(
    truth: Truth | Path | str,
    detections: Detections | Path | str,
    similar: Sequence[Sequence[str]] | None = None,
    any_scores: bool = False,
) -> ErrorTable:
    """Match detections with ground truth and name every error by Hoiem and by TIDE.

    Both arguments as in detection_files: COCO's JSON, VOC's folders, our task's results, or the records themselves,
    which stay as they are. `similar` are groups of names of classes; when not given VOC's where all classes are VOC's,
    else COCO's supercategories where there are some. InputError for what does not fit together.

    Of `table = detection_errors("instances_val2017.json", "results.json")`, `table.counts()["tide"]["Loc"]` is how
    often and `Measures(table).values["TIDE dAP Loc"]` at what cost.
    """
    known = ground_truth(truth)
    return matched_with(known, found_by(detections, known, any_scores), similar)


def matched_with(truth: Truth, found: Detections, similar: Sequence[Sequence[str]] | None = None) -> ErrorTable:
    """The same of records that were read by detection_files."""
    table = table_of(truth, found, MOST)
    objects = [truth["annotations"][i] for i in table.gt_source]
    boxes = np.array([item["bbox"] for item in found], dtype=np.float64).reshape(-1, 4)[table.det_source]
    gt_boxes = np.array([item["bbox"] for item in objects], dtype=np.float64).reshape(-1, 4)
    crowd = np.array([bool(item["iscrowd"]) for item in objects], dtype=bool)
    counted = ~crowd & ~np.array([bool(x.get("difficult") or x.get("ignore")) for x in objects], dtype=bool)
    if not counted.any():
        raise InputError("the ground truth holds no object that counts, so there are no errors in finding them")
    alike = similar_classes(truth, similar)
    states, matched = _matches(table, boxes, gt_boxes, crowd, counted)
    near, whose = _near(table, boxes, gt_boxes, crowd, counted, matched, alike)
    state = states[1]
    hoiem, tide = _hoiem(state, near), _tide(state, near)
    free = np.ones(len(counted) + 1, dtype=bool)
    free[matched] = False  # -1 is the last one
    target = np.full(len(state), -1)
    for error, column in ((TIDE.index("Cls"), 1), (TIDE.index("Loc"), 0)):
        chosen = tide == error
        target[chosen] = np.where(free[whose[chosen, column]], whose[chosen, column], -1)
    return ErrorTable(
        truth, table, gt_boxes, counted, states, matched, near[:, 3], near[:, 4], near[:, 5], hoiem, tide, target, alike
    )


def similar_classes(truth: Truth, groups: Sequence[Sequence[str]] | None = None) -> Flags:
    """(K, K) which classes are alike, by groups of names; no class is like itself."""
    items = sorted(truth["categories"], key=lambda item: item["id"])
    names = [str(item.get("name", item["id"])) for item in items]
    if groups is None:
        groups = VOC_SIMILAR if set(names) <= {name for group in _VOC_NAMES for name in group} else _above(items, names)
    elif strangers := sorted({name for group in groups for name in group} - set(names)):
        raise InputError(f"similar classes: the ground truth has no {', '.join(strangers)}. It has {', '.join(names)}.")
    member = np.array([[name in group for group in groups] for name in names], dtype=np.int64).reshape(len(names), -1)
    return (member @ member.T > 0) & ~np.eye(len(names), dtype=bool)


_VOC_NAMES = (*VOC_SIMILAR, ("bottle", "pottedplant", "tvmonitor"))


def _above(items: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """Names by supercategory, where that is told."""
    groups: dict[str, list[str]] = {}
    for item, name in zip(items, names, strict=True):
        if above := item.get("supercategory"):
            groups.setdefault(str(above), []).append(name)
    return list(groups.values())


def _matches(
    table: Table, boxes: Floats, gt_boxes: Floats, crowd: Flags, counted: Flags
) -> tuple[NDArray[np.uint8], Ints]:
    """COCO's states (1 + T, D) and the object (D,) that each right detection found."""
    sizes = np.diff(table.det_ends) * np.diff(table.gt_ends)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    flat = np.empty(starts[-1])
    _group_overlaps(table.det_ends, table.gt_ends, starts, boxes, gt_boxes, crowd, flat)
    groups = np.split(flat, starts[1:-1]) if len(sizes) else []
    nothing = np.zeros(len(boxes)), np.zeros(len(gt_boxes))  # areas do not matter over the whole range
    thresholds = np.array([WEAK, *THRESHOLDS])
    states, _ = coco_states(table, groups, *nothing, ~counted, np.array([[0.0, 1e10]]), thresholds)
    matched = np.full(len(boxes), -1)
    _take(table.det_ends, table.gt_ends, starts, flat, states[0, 1], counted, matched)
    return states[0], matched


def _near(
    table: Table, boxes: Floats, gt_boxes: Floats, crowd: Flags, counted: Flags, matched: Ints, alike: Flags
) -> tuple[Floats, Ints]:
    """Largest overlaps (D, 6) and the objects (D, 2) of the first two columns.

    With objects that count: of the class itself, of others, of the class and found already. With difficult ones too:
    of the class itself, of similar, of other classes.
    """
    order = np.argsort(table.gt_image, kind="stable")
    ends = np.searchsorted(table.gt_image[order], np.arange(table.images + 1)).astype(np.int64)
    used = np.zeros(len(gt_boxes) + 1, dtype=bool)
    used[matched[matched >= 0]] = True
    near, whose = np.zeros((len(boxes), 6)), np.full((len(boxes), 2), -1)
    _nearest(
        table.det_image, table.det_class, boxes, order, ends, table.gt_class, gt_boxes, crowd, counted, used, alike,
        near, whose,
    )  # fmt: skip
    return near, whose


def _hoiem(state: NDArray[np.uint8], near: Floats) -> Codes:
    touches = [near[:, column] >= WEAK for column in (3, 4, 5)]
    codes = np.select(touches, range(3), HOIEM.index("BG"))
    return np.select([state == TRUE, state == IGNORED], [RIGHT, NOT_COUNTED], codes).astype(np.int8)


def _tide(state: NDArray[np.uint8], near: Floats) -> Codes:
    same, other, again = near[:, 0], near[:, 1], near[:, 2]
    rules = {
        "Loc": (same >= WEAK) & (same <= STRONG),
        "Cls": other >= STRONG,
        "Dupe": again >= STRONG,
        "Bkg": np.maximum(same, other) <= WEAK,
    }
    codes = np.select(list(rules.values()), [TIDE.index(name) for name in rules], TIDE.index("Both"))
    return np.select([state == TRUE, state == IGNORED], [RIGHT, NOT_COUNTED], codes).astype(np.int8)


@_kernel
def _iou(one, other, crowd):
    """Intersection over union of boxes x, y, w, h, over the area of `one` where the other is a crowd; 0 of nothing."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both, own = width * height, one[2] * one[3]
    return both / (own if crowd else own + other[2] * other[3] - both)


@_kernel
def _group_overlaps(det_ends, gt_ends, starts, boxes, gt_boxes, crowd, flat):
    for j in range(len(det_ends) - 1):
        n = starts[j]
        for d in range(det_ends[j], det_ends[j + 1]):
            for g in range(gt_ends[j], gt_ends[j + 1]):
                flat[n] = _iou(boxes[d], gt_boxes[g], crowd[g])
                n += 1


@_kernel
def _take(det_ends, gt_ends, starts, flat, state, counted, matched):
    """Which object each right detection took: the best free one that counts, the last of equal ones (COCO's order)."""
    for j in range(len(det_ends) - 1):
        g0, count = gt_ends[j], gt_ends[j + 1] - gt_ends[j]
        free = counted[g0 : g0 + count].copy()
        for d in range(det_ends[j], det_ends[j + 1]):
            if state[d] != TRUE:
                continue
            best = -1.0
            for g in range(count):
                overlap = flat[starts[j] + (d - det_ends[j]) * count + g]
                if free[g] and overlap >= best:
                    best, matched[d] = overlap, g0 + g
            free[matched[d] - g0] = False


@_kernel
def _nearest(
    det_image, det_class, boxes, order, ends, gt_class, gt_boxes, crowd, counted, used, alike, near, whose
):  # fmt: skip
    for d in range(len(boxes)):
        k = det_class[d]
        for i in range(ends[det_image[d]], ends[det_image[d] + 1]):
            g = order[i]
            if crowd[g]:
                continue
            overlap = _iou(boxes[d], gt_boxes[g], False)
            same = gt_class[g] == k
            if counted[g]:
                column = 0 if same else 1
                if overlap > near[d, column]:
                    near[d, column], whose[d, column] = overlap, g
                if same and used[g]:
                    near[d, 2] = max(near[d, 2], overlap)
            column = 3 if same else 4 if alike[k, gt_class[g]] else 5
            near[d, column] = max(near[d, column], overlap)
