"""The numbers of error analysis as one function of how often each image counts: with weights 1 the values themselves,
with random counts one draw of a bootstrap, so that whatever is measured of two detectors can be compared pairwise.

Every AP is COCO's (101 recalls, mean over the classes that have objects), at overlap .5 unless named AP or AP75. What
an error costs is the AP of a changed list of detections less that of the list itself, sign kept. TIDE repairs (Cls and
Loc: the best detection of a free object becomes right, others go) or removes; Miss and FN take objects out that were
not found, FP takes away all that is wrong [Bolya 2020, section 2.3]. Hoiem removes errors of a kind, or repairs Loc by
asking for an overlap of .1 only, second ones removed [Hoiem 2012, section 3.3; the toolbox counts Oth into BG, here
BG+Oth]. A class of which no object is left then keeps the AP that it had, 0.

Normalised AP counts precision as if every class had .15 objects per image, R N / (R N + false), so that classes, and
groups of objects, of unequal number can be compared [Hoiem 2012, section 3.2]. For a group, objects of the others
neither count nor are errors when found. Values are means over the classes with `least` objects in every group, so that
the groups of a characteristic speak of the same classes; sensitivity is the mean over these classes of the best group
less the worst, impact of the best group less all [Hoiem 2012, section 4].

Shape letters: V lanes (variants of the list of detections), D detections, G objects, K classes, N images.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.compiled import KEPT
from whytransfer.diagnosis.detection_objects import Characteristic, characteristics
from whytransfer.diagnosis.detection_table import HOIEM, NOT_COUNTED, RIGHT, TIDE, WEAK, ErrorTable
from whytransfer.tasks.average_precision import COCO_RECALLS, THRESHOLDS
from whytransfer.tasks.matching import FALSE, IGNORED, TRUE, Floats

RANKS = (25, 50, 100, 200, 400, 800, 1600, 3200)  # false positives of a class, from the best score down
OBJECTS_PER_IMAGE = 0.15  # of each class, for normalised AP
LEAST = 5  # objects that a class needs in a group to have a say
TIDE_COSTS = (*TIDE, "Miss", "FP", "FN")
HOIEM_COSTS = ("remove Loc", "fix Loc", "remove Sim", "remove Oth", "remove BG", "remove BG+Oth", "fix Loc remove Sim")
_kernel = njit(cache=KEPT, nogil=True, error_model="numpy")
Bytes = NDArray[np.uint8]


class Measures:
    """All that is measured of one detector: `names`, their `values`, and the same `of` any weights of the images.

    `left_out` names the characteristics that are not measured: no class has `least` objects in every group of them.
    """

    def __init__(self, found: ErrorTable, least: int = LEAST) -> None:
        self.table = found
        objects = [found.truth["annotations"][i] for i in found.table.gt_source]
        self.characteristics = characteristics(objects, found.gt_boxes, found.table.gt_class, found.counted)
        self._groups(least)
        self._lanes()
        self._shares_of()
        self.names = self._names()
        self.values = dict(zip(self.names, self.of(np.ones(found.table.images)).tolist(), strict=True))

    def _groups(self, least: int) -> None:
        """Which groups of objects are measured, and in which classes: those with enough objects in every group."""
        kinds, classes = self.table.table.gt_class, self.table.table.classes
        self.groups: list[tuple[Characteristic, int]] = []
        self.left_out: list[str] = []
        enough: list[NDArray[np.bool_]] = []
        for c in self.characteristics:
            there = [k for k in range(len(c.groups)) if (c.group == k).any()]
            full = np.all([np.bincount(kinds[c.group == k], minlength=classes) >= least for k in there], axis=0)
            if len(there) > 1 and full.any():
                self.groups += [(c, k) for k in there]
                enough += [full] * len(there)
            else:
                self.left_out.append(c.name)
        self.characteristics = [c for c in self.characteristics if c.name not in self.left_out]
        self._enough = np.array(enough, dtype=bool).reshape(-1, classes)  # (groups, K)

    def _lanes(self) -> None:
        """Roles of all detections and which objects count, lane by lane: thresholds, TIDE, Hoiem, normalised."""
        t, found = self.table.table, self.table
        state = found.states[1]
        moved = np.flatnonzero(found.repaired & (found.tide == TIDE.index("Cls")))  # their copies in the right class
        lanes = [*found.states[1:], *_tide_lanes(found), *_hoiem_lanes(found), state]
        lanes += [_of_group(found, c, k) for c, k in self.groups]
        roles = np.full((len(state) + len(moved), len(lanes)), IGNORED, dtype=np.uint8)
        roles[: len(state)] = np.stack(lanes, axis=1)
        roles[len(state) :, len(THRESHOLDS) + TIDE.index("Cls")] = TRUE
        score = np.concatenate([t.det_score, t.det_score[moved]])
        kind = np.concatenate([t.det_class, t.gt_class[found.target[moved]]])
        order = np.lexsort((-score, kind))
        self._roles = np.ascontiguousarray(roles[order])
        self._event = (self._roles == TRUE).any(axis=1)
        self._image = np.concatenate([t.det_image, t.det_image[moved]])[order]
        self._ends = np.searchsorted(kind[order], np.arange(t.classes + 1)).astype(np.int64)
        counts = np.repeat(found.counted[:, None], len(lanes), axis=1).astype(np.uint8)  # (G, V)
        first = len(THRESHOLDS)
        counts[:, first + TIDE_COSTS.index("Miss")] &= ~found.missed
        counts[:, first + TIDE_COSTS.index("FN")] &= found.found
        first = self._first_group = len(lanes) - len(self.groups)
        for lane, (c, k) in enumerate(self.groups, first):
            counts[:, lane] = c.group == k
        self._counts = counts
        self._normal = np.zeros(len(lanes))
        self._normal[first - 1 :] = OBJECTS_PER_IMAGE * t.images

    @property
    def speaking(self) -> dict[str, list[str]]:
        """Of each characteristic the classes whose mean is taken: those with enough objects in all groups."""
        first = {c.name: i for i, (c, _) in reversed(list(enumerate(self.groups)))}
        return {
            name: [kind for kind, enough in zip(self.table.classes, self._enough[i], strict=True) if enough]
            for name, i in first.items()
        }

    @property
    def overall(self) -> int:
        """The lane of normalised AP over all objects."""
        return self._first_group - 1

    def _shares_of(self) -> None:
        """Hoiem's codes in the order of the ranking, and each image's number of TIDE's errors."""
        t, found = self.table.table, self.table
        order = np.lexsort((-t.det_score, t.det_class))
        self._kinds = found.hoiem[order], t.det_image[order]
        self._kind_ends = np.searchsorted(t.det_class[order], np.arange(t.classes + 1)).astype(np.int64)
        columns = [np.bincount(t.det_image[found.tide == k], minlength=t.images) for k in range(len(TIDE))]
        columns.append(np.bincount(t.gt_image[found.missed], minlength=t.images))
        self._tide_counts = np.stack(columns, axis=1).astype(np.float64)  # (N, 6)

    def _names(self) -> tuple[str, ...]:
        names = ["AP", "AP50", "AP75", "normalised AP50"]
        names += [f"TIDE dAP {name}" for name in TIDE_COSTS]
        names += [f"Hoiem dAP {name}" for name in HOIEM_COSTS]
        names += [f"TIDE errors {name}" for name in (*TIDE, "Miss")]
        names += [f"Hoiem share {name}" for name in HOIEM]
        names += [f"Hoiem share {name} of the first {rank} FPs" for rank in RANKS for name in HOIEM]
        names += [f"normalised AP50 {c.name} {c.groups[k]}" for c, k in self.groups]
        for c in self.characteristics:
            names += [f"normalised AP50 {c.name} all", f"sensitivity {c.name}", f"impact {c.name}"]
        return tuple(names)

    def of(self, weights: Floats) -> Floats:
        """All numbers when image n counts weights[n] times, in the order of `names`; nan for what nothing speaks."""
        per_class = self.average_precision(weights)  # (V, K)
        first, group = len(THRESHOLDS), self._first_group
        means, spread = 100 * _means(per_class), self._sensitivities(100 * per_class[group - 1 :])
        shares, ranked = self.shares(weights)
        head = [means[:first].mean(), means[0], means[5], means[group - 1]]
        parts = [
            head, means[first : group - 1] - means[0], weights @ self._tide_counts, _share(shares.sum(0)[1:]),
            *(_share(row) for row in ranked.sum(0)), means[group:], spread,
        ]  # fmt: skip
        return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])

    def average_precision(self, weights: Floats | None = None) -> Floats:
        """(V, K) in [0, 1], nan for classes without objects, and for groups of objects with too few."""
        t = self.table.table
        weights = np.ones(t.images) if weights is None else weights
        positives = np.zeros((t.classes, self._counts.shape[1]))
        _add(self._counts, t.gt_class, t.gt_image, weights, positives)
        values = np.zeros(positives.shape[::-1])
        _average(
            self._roles, self._event, self._image, self._ends, positives, weights, self._normal, COCO_RECALLS, values
        )
        group = self._first_group
        values[:group, positives[:, 0] <= 0] = np.nan
        values[group:][~self._enough | (positives.T[group:] <= 0)] = np.nan
        return values

    def shares(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Numbers by class: (K, 5) of right ones and Hoiem's four errors among as many detections as there are objects,
        and (K, ranks, 4) among the first false positives, 0 for classes that have fewer."""
        t = self.table.table
        weights = np.ones(t.images) if weights is None else weights
        limit = np.zeros((t.classes, 1))
        _add(self.table.counted[:, None].astype(np.uint8), t.gt_class, t.gt_image, weights, limit)
        shares, ranked = np.zeros((t.classes, 1 + len(HOIEM))), np.zeros((t.classes, len(RANKS), len(HOIEM)))
        codes, image = self._kinds
        _walk(codes, image, self._kind_ends, weights, limit[:, 0], np.array(RANKS, dtype=np.float64), shares, ranked)
        return shares, ranked

    def _sensitivities(self, per_class: Floats) -> list[float]:
        """Of each characteristic, means over its classes: all objects, best group less worst, and best group less all.

        Row 0 of per_class is all objects, then the groups follow. A draw without any object of a group leaves it out.
        """
        found: list[float] = []
        for c in self.characteristics:
            mine = [i for i, (own, _) in enumerate(self.groups, 1) if own is c]
            rows = per_class[mine]
            chosen = self._enough[mine[0] - 1] & (~np.isnan(rows)).any(0)
            if not chosen.any():
                found += [np.nan] * 3
                continue
            every = per_class[0, chosen]
            best, worst = np.nanmax(rows[:, chosen], axis=0), np.nanmin(rows[:, chosen], axis=0)
            found += [float(x.mean()) for x in (every, best - worst, best - every)]
        return found


def _tide_lanes(found: ErrorTable) -> list[Bytes]:
    """States after repairing each error of TIDE_COSTS; a repaired Cls is right in another class, and added there."""
    state, lanes = found.states[1], []
    for k, name in enumerate(TIDE):
        right = found.repaired & (name == "Loc")
        lanes.append(np.where(found.tide == k, np.where(right, TRUE, IGNORED), state))
    return [*lanes, state, np.where(state == FALSE, IGNORED, state), state]


def _hoiem_lanes(found: ErrorTable) -> list[Bytes]:
    """States after each change of HOIEM_COSTS."""
    weak, state = found.states[:2]
    loc, sim, oth, bg = (found.hoiem == k for k in range(len(HOIEM)))
    fixed = np.where((weak == FALSE) & (found.same_iou >= WEAK), IGNORED, weak)
    removed = [np.where(chosen, IGNORED, state) for chosen in (loc, sim, oth, bg, bg | oth)]
    return [removed[0], fixed, *removed[1:], np.where(sim & (fixed == FALSE), IGNORED, fixed)]


def _of_group(found: ErrorTable, characteristic: Characteristic, k: int) -> Bytes:
    """States when only one group's objects count: finding another is neither right nor wrong."""
    state = found.states[1]
    inside = np.append(characteristic.group == k, False)[found.matched]
    return np.where((state == TRUE) & ~inside, IGNORED, state)


def _means(values: Floats) -> Floats:
    """(V, K) -> (V,) means over what is a number, nan where nothing is."""
    there = ~np.isnan(values)
    number = there.sum(1)
    return np.divide(np.where(there, values, 0).sum(1), number, out=np.full(len(values), np.nan), where=number > 0)


def _share(counts: Floats) -> Floats:
    """Per cent of each of four errors; nan where there is none at all."""
    total = counts.sum()
    return 100 * counts / total if total > 0 else np.full(len(counts), np.nan)


@_kernel
def _add(counts, kinds, image, weights, positives):
    """positives (K, V) += the weights of the objects that count."""
    for g in range(len(kinds)):
        weight = weights[image[g]]
        if weight:
            for v in range(counts.shape[1]):
                positives[kinds[g], v] += weight * counts[g, v]


@_kernel
def _average(roles, event, image, ends, positives, weights, normal, recalls, values):
    """values (V, K): COCO's average precision of every lane in one pass over the detections of a class."""
    lanes = roles.shape[1]
    longest = 0
    for k in range(len(ends) - 1):
        longest = max(longest, np.sum(event[ends[k] : ends[k + 1]]))
    recall, precision = np.empty((longest, lanes)), np.empty((longest, lanes))
    for k in range(len(ends) - 1):
        if positives[k, 0] <= 0:
            continue
        true, false, n = np.zeros(lanes), np.zeros(lanes), 0
        for d in range(ends[k], ends[k + 1]):
            weight = weights[image[d]]
            if weight == 0:
                continue
            for v in range(lanes):
                false[v] += weight * (roles[d, v] == 0)
            if not event[d]:
                continue
            for v in range(lanes):
                true[v] += weight * (roles[d, v] == 1)
            for v in range(lanes):
                share = true[v] / positives[k, v]
                counted = share * normal[v] if normal[v] > 0 else true[v]
                recall[n, v] = share
                precision[n, v] = counted / (counted + false[v])
            n += 1
        for i in range(n - 2, -1, -1):
            for v in range(lanes):
                if not precision[i, v] >= precision[i + 1, v]:  # nan, 0 of 0, gives way too
                    precision[i, v] = precision[i + 1, v]
        for v in range(lanes):
            if positives[k, v] > 0:
                values[v, k] = _mean_at(recall[:n, v], precision[:n, v], recalls)


@_kernel
def _mean_at(recall, precision, recalls):
    total, i = 0.0, 0
    for r in recalls:
        while i < len(recall) and recall[i] < r:
            i += 1
        if i == len(recall):
            break
        if precision[i] > 0:
            total += precision[i]
    return total / len(recalls)


@_kernel
def _walk(codes, image, ends, weights, limit, ranks, shares, ranked):
    """Down each class's ranking: what is among the first detections, and among the first false ones."""
    for k in range(len(ends) - 1):
        seen, false, reached = 0.0, np.zeros(4), 0
        for d in range(ends[k], ends[k + 1]):
            code, weight = codes[d], weights[image[d]]
            if weight == 0 or code == NOT_COUNTED:
                continue
            if seen < limit[k]:
                shares[k, 0 if code == RIGHT else code + 1] += min(weight, limit[k] - seen)
                seen += weight
            if code == RIGHT:
                continue
            before = false.sum()
            while reached < len(ranks) and before + weight >= ranks[reached]:
                ranked[k, reached] = false
                ranked[k, reached, code] += ranks[reached] - before
                reached += 1
            false[code] += weight
            if reached == len(ranks) and seen >= limit[k]:
                break
