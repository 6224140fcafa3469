"""Which candidates look like objects: a random forest from their features to the IoU with the best annotated mask.

Fitted by scikit-learn, kept as plain arrays (safetensors: loading a file runs nothing of it) and evaluated here. The
best candidates are picked one by one, each losing what it overlaps with those picked before [Carreira and Sminchisescu
2012, "CPMC", section 4.2; Pont-Tuset et al. 2017, section 5]. Letters: N candidates, F features, T trees, M nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.chance import uniform
from whytransfer.compiled import KEPT
from whytransfer.errors import InputError
from whytransfer.files import atomic_write, writable_folder
from whytransfer.masks.candidates import FEATURES, Candidates

TREES = 50
SMALLEST_LEAF = 5  # samples
SAMPLES = 120  # per image, evenly over four ranges of IoU
OBJECTNESS, DIVERSITY = 0.5, 0.5  # paper: 0.7, 0.3, for thousands of candidates; a few must differ more
FORMAT = "whytransfer mcg ranking 1"
STREAM = 0x3C6  # the epoch word of chance.uniform

kernel = njit(cache=KEPT, nogil=True, error_model="numpy")


@dataclass(frozen=True)
class Ranking:
    """A regression forest as arrays; the nodes of tree t are first[t] : first[t + 1], children count from first[t]."""

    first: NDArray[np.int64]  # (T + 1,)
    feature: NDArray[np.int64]  # (M,) column that is compared, -1 at an end
    threshold: NDArray[np.float64]  # (M,) left if the feature is not greater
    left: NDArray[np.int64]  # (M,)
    right: NDArray[np.int64]  # (M,)
    value: NDArray[np.float64]  # (M,) expected IoU

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, F) features -> (N,) expected IoU, bit for bit what scikit-learn's predict gives for the fitted forest."""
        rows = features.astype(np.float32)
        return predict(self.first, self.feature, self.threshold, self.left, self.right, self.value, rows)

    def digest(self) -> str:
        """12 letters that stand for all numbers of the forest."""
        total = hashlib.blake2b(digest_size=6)
        for field in fields(self):
            total.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return total.hexdigest()

    def save(self, path: Path) -> None:
        """Write one safetensors file, aside first; equal forests give equal bytes."""
        from safetensors.numpy import save

        content = save({f.name: getattr(self, f.name) for f in fields(self)}, {"format": FORMAT})
        writable_folder(path.parent)
        atomic_write(path, lambda file: file.write(content))

    @classmethod
    def load(cls, path: Path) -> Ranking:
        """Read what `save` wrote. Raises InputError for a missing file and for one that is no sound forest."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise InputError(f"ranking {path}: there is no such file; `whytransfer masks rank` makes one")
        try:
            with safe_open(path, framework="numpy") as file:
                known = (file.metadata() or {}).get("format") == FORMAT
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"ranking {path}: not a ranking file ({error})") from None
        if not known or set(arrays) != {f.name for f in fields(cls)}:
            raise InputError(f"ranking {path}: not a ranking made by `whytransfer masks rank` ({FORMAT!r})")
        if complaint := _unsound(arrays):
            raise InputError(f"ranking {path}: damaged: {complaint}")
        return cls(**arrays)


def _unsound(arrays: dict[str, NDArray]) -> str | None:
    """Why these arrays are no forest that can be evaluated, or None."""
    if wrong := [name for name, a in arrays.items() if a.dtype != _dtype(name) or a.ndim != 1]:
        return f"{', '.join(wrong)} of a wrong type"
    first, feature, nodes = arrays["first"], arrays["feature"], len(arrays["value"])
    if len({len(a) for name, a in arrays.items() if name != "first"}) != 1:
        return "arrays of unequal length"
    if len(first) < 2 or first[0] != 0 or first[-1] != nodes or (np.diff(first) < 1).any():
        return "trees that do not follow each other"
    inner = feature >= 0
    tree = np.repeat(np.arange(len(first) - 1), np.diff(first))
    own, end = np.arange(nodes) - first[tree], np.diff(first)[tree]
    for child in (arrays["left"], arrays["right"]):
        if (inner & ((child <= own) | (child >= end))).any():
            return "children that lie outside their tree or before their parent"
    if feature.max() >= len(FEATURES):
        return f"a feature beyond the {len(FEATURES)} known"
    finite = np.isfinite(arrays["threshold"]).all() and np.isfinite(arrays["value"]).all()
    return None if finite else "numbers that are not finite"


def _dtype(name: str) -> type:
    return np.float64 if name in ("threshold", "value") else np.int64


def best_of(found: Candidates, scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of at most `count` candidates, best first: score / 2 - half the greatest IoU with any before."""
    nearest = np.zeros(len(scores))
    value = OBJECTNESS * scores
    chosen: list[int] = []
    while len(chosen) < min(count, len(scores)):
        chosen.append(int(np.argmax(value)))
        nearest = np.maximum(nearest, overlap_with(found.members, found.areas, chosen[-1]))
        value = OBJECTNESS * scores - DIVERSITY * nearest
        value[chosen] = -np.inf
    return np.array(chosen)


def fit(images: Iterable[tuple[Candidates, NDArray[np.bool_]]], seed: int = 0) -> Ranking:
    """Learn from candidates of images and their annotated masks (T, H, W); a function of these and the seed.

    Raises InputError when no image has a mask.
    """
    features, targets = [], []
    for i, (found, truth) in enumerate(images):
        if len(truth):
            overlap = found.overlaps(truth).max(axis=1)
            chosen = _sample(overlap, seed, i)
            features.append(found.features[chosen])
            targets.append(overlap[chosen])
    if not features:
        raise InputError("a ranking is learnt from annotated masks, and no image has any")
    return _fitted(np.concatenate(features), np.concatenate(targets), seed)


def _sample(overlap: NDArray[np.float64], seed: int, image: int) -> NDArray[np.int64]:
    """SAMPLES candidates of one image, as many from each quarter of the range of IoU as there are."""
    order = np.argsort(uniform(seed, STREAM, np.array([image]), 0, 0, len(overlap))[0], kind="stable")
    quarter = np.minimum((overlap[order] * 4).astype(np.int64), 3)
    return np.concatenate([order[quarter == q][: SAMPLES // 4] for q in range(4)])


def _fitted(features: NDArray[np.float64], targets: NDArray[np.float64], seed: int) -> Ranking:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        TREES, min_samples_leaf=SMALLEST_LEAF, max_features=1 / 3, random_state=seed, n_jobs=1
    ).fit(features.astype(np.float32), targets)
    return from_trees([each.tree_ for each in forest.estimators_])


def from_trees(trees: list) -> Ranking:
    """The Ranking of scikit-learn's trees (`estimator.tree_`)."""
    feature = np.concatenate([np.where(t.children_left < 0, -1, t.feature) for t in trees]).astype(np.int64)
    threshold = np.where(feature < 0, 0.0, np.concatenate([t.threshold for t in trees]))
    first = np.cumsum([0] + [t.node_count for t in trees])
    left, right = (np.concatenate([getattr(t, f"children_{s}") for t in trees]) for s in ("left", "right"))
    value = np.concatenate([t.value[:, 0, 0] for t in trees])
    return Ranking(first.astype(np.int64), feature, threshold, left.astype(np.int64), right.astype(np.int64), value)


@kernel
def predict(first, feature, threshold, left, right, value, rows):
    """(N, F) float32 rows -> (N,) mean over the trees, summed in their order."""
    total = np.zeros(len(rows))
    for tree in range(len(first) - 1):
        start = first[tree]
        for i in range(len(rows)):
            node = start
            while feature[node] >= 0:
                node = start + (left[node] if rows[i, feature[node]] <= threshold[node] else right[node])
            total[i] += value[node]
    return total / (len(first) - 1)


@kernel
def overlap_with(members, areas, k):
    """(N,) IoU of every candidate with candidate k."""
    iou = np.empty(len(members))
    for i in range(len(members)):
        both, either = 0.0, 0.0
        for leaf in range(len(areas)):
            both += areas[leaf] * (members[i, leaf] & members[k, leaf])
            either += areas[leaf] * (members[i, leaf] | members[k, leaf])
        iou[i] = both / either
    return iou
