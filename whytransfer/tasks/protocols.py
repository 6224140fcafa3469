"""Readouts exactly as two papers published them, by name, with scikit-learn itself: what is odd in them included.

"ssl-transfer" [Ericsson 2021, arXiv 2011.13377] and "ssl-invariances" [Ericsson 2022, arXiv 2111.11398]. Each lists by
name what its scripts do differently from the readouts here (`reproduced`), and what of their behaviour is left out,
with the reason (`not_reproduced`); both stand in every Result. Chance is seeded where the scripts leave it open.

Letters: N, M training and test images, D features, T targets.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whytransfer import progress
from whytransfer.errors import InputError, unknown_name
from whytransfer.tasks import multilabel
from whytransfer.tasks.bootstrap import Array

FOLDS, VALIDATION = 5, 0.2
_WIDE = re.compile(r"resnet\d+x3(-small)?")  # not timm's resnext101_32x32d
PAPERS_PX = 224


@dataclass(frozen=True)
class Published:
    """A protocol as published: how its images are resized, and what is odd about it, each under a name."""

    source: str
    resampling: Literal["bilinear", "bicubic"]
    reproduced: Mapping[str, str]
    not_reproduced: Mapping[str, str]


PUBLISHED: dict[str, Published] = {
    "ssl-transfer": Published(
        "Ericsson, Gouk, Hospedales, CVPR 2021, arXiv 2011.13377; linear.py",
        "bicubic",
        {
            "bicubic-views": "shorter side to the size with Pillow's bicubic filter, then the centre",
            "raw-features": "features neither centred nor scaled",
            "one-split": "a random fifth of the training images, not stratified, chooses C; NumPy's old generator, so "
            "that seed 0 is the paper's permutation",
            "unfinished-fits": "L-BFGS stops after 100 iterations, converged or not, without a word",
            "warm-start": "every fit starts from the last one, across strengths and classes, into the final fit",
            "ties-to-the-larger-c": "of equal validation scores the largest C",
            "metric-of-the-data": "the validation metric is the one the paper gives the data set",
            "softmax-of-two": "two classes are a softmax with two weight vectors: C counts twice",
            "eleven-points-from-one": "the precision at recall 0 is taken as 1 in the 11-point metric",
        },
        {
            "calibration-on-test": "expected calibration error after temperature scaling on the test set: another task",
            "official-validation-split": "Aircraft, DTD, Flowers and VOC2007 have one; here it is a random fifth, as "
            "for the other sets",
            "recalls-in-floating-point": "recall 3/10 is under 0.3 there; here it is 0.3",
            "cached-pixels": "pictures with a shorter side over twice the size are first shrunk to that",
        },
    ),
    "ssl-invariances": Published(
        "Ericsson, Gouk, Hospedales, BMVC 2022, arXiv 2111.11398; eval_downstream.py, eval_causal3dident.py",
        "bilinear",
        {
            "raw-features": "features neither centred nor scaled (kernel ridge: standardised)",
            "metric-by-class": "the score is the mean per class for Caltech-101 only; for Flowers the script falls "
            "back to plain accuracy (s)",
            "alpha-is-1-over-wd": "ridge's alpha is C = 1 / wd (t)",
            "shifted-grid": "two decades more of wd per further backbone of a fusion, four for a width of 3: less "
            "regularisation for ridge, more for logistic regression (t)",
            "one-alpha": "all targets share the alpha of the best mean R2",
            "warm-start": "every fit starts from the last one, across folds and strengths, into the final fit (u)",
            "unfinished-fits": "L-BFGS stops after 100 iterations, converged or not, without a word (u)",
            "folds-per-strength": "five shuffled folds, not stratified, drawn anew for every strength (v); the script "
            "leaves them to chance, here they are a function of the seed",
            "truncated-landmarks": "CelebA's landmarks are cut to whole pixels (y)",
            "random-train-part": "kernel ridge fits on 20,480 random training images (r), here a function of the seed",
            "uncentred-targets": "kernel ridge has no intercept and targets are taken as they are",
        },
        {
            "fractions": "scores are printed as fractions of two decimals (w); here in %",
            "repeated-caltech": "its list of Caltech-101 has 3,060 rows of 2,416 images, and the class of background "
            "pictures (x): that is the image set's affair",
            "swapped-sides": "CelebA's width and height are unpacked in the wrong order (y): harmless for squares",
            "crop-of-300w": "300W is cropped to the box of its landmarks without a margin, and its coordinates count "
            "from 1 (z): that is the image set's affair",
            "no-fusion-for-kernels": "kernel ridge reads single backbones only (r); here fusions too",
        },
    ),
}
METRICS = {  # data set, in a name without signs -> the metric that ssl-transfer gives it
    "aircraft": "mean_per_class", "caltech101": "mean_per_class", "cars": "top1", "cifar100": "top1", "cifar10": "top1",
    "dtd": "top1", "flowers": "mean_per_class", "food": "top1", "pets": "mean_per_class", "sun397": "top1",
}  # fmt: skip


def published(name: str, allowed: tuple[str, ...] = tuple(PUBLISHED)) -> Published:
    """The protocol of that name; InputError for one that does not exist or has no such task."""
    if name not in PUBLISHED:
        raise unknown_name("published protocol", name, PUBLISHED)
    if name not in allowed:
        raise InputError(
            f"{name} published no such task on such data; protocols that did: {', '.join(allowed) or 'none'}. Without "
            "--protocol the corrected readout is taken."
        )
    return PUBLISHED[name]


def settings(name: str, size_px: int) -> dict[str, Any]:
    """What a Result should say of the protocol; another size than the paper's is told."""
    protocol = PUBLISHED[name]
    if size_px != PAPERS_PX:
        progress.say(f"note: {name} shows images at {PAPERS_PX} px, here they have {size_px}; --size {PAPERS_PX}")
    return {
        "protocol": name,
        "protocol_source": protocol.source,
        "quirks_reproduced": sorted(protocol.reproduced),
        "quirks_not_reproduced": sorted(protocol.not_reproduced),
        "papers_size": size_px == PAPERS_PX,
    }


def metric_of(name: str, data: str) -> str:
    """The metric by which a protocol chooses C for a data set, known by its name; top1 for one that it does not know.

    Where several names fit, the one listed first counts: cifar100 before cifar10.
    """
    plain = "".join(letter for letter in data.lower() if letter.isalnum())
    if name == "ssl-invariances":
        return "mean_per_class" if "caltech101" in plain else "top1"
    return next((metric for key, metric in METRICS.items() if key in plain), "top1")


def weight_decays(backbone: nn.Module, name: str) -> Array:
    """The 45 strengths, 10^-6 ... 10^5 ascending; ssl-invariances moves them for fusions and for a width of 3."""
    shift = 0
    if name == "ssl-invariances":
        arch = str(getattr(backbone, "arch", ""))
        shift = 2 if any(_WIDE.fullmatch(part) for part in arch.split("+")) else arch.count("+")
    return np.logspace(-6 + 2 * shift, 5 + 2 * shift, 45)


def choose_and_fit(
    name: str, x: Array, labels: NDArray[np.int64], decays: Array, metric: str, seed: int
) -> tuple[Any, dict[str, Any]]:
    """scikit-learn's logistic regression with the C of the best validation score; x (N, D), labels (N,).

    A fit whose classes differ from those of the fit before (a rare class is in no training part) starts from zero: the
    scripts stop with an error there.
    """
    splits = _one_split if name == "ssl-transfer" else _folds
    lowest = 0.0 if name == "ssl-transfer" else -np.inf
    fitted = _Warm()
    score = top1 if metric == "top1" else mean_per_class
    c, scores = _search(
        decays,
        lambda i: splits(len(x), seed, i),
        lambda c, kept, held: score(labels[held], fitted(x[kept], labels[kept], c).predict(x[held])),
        lowest,
    )
    return fitted(x, labels, c), _chosen(c, decays, scores, metric)


def one_vs_rest(
    x: Array, present: NDArray[np.bool_], test: Array, decays: Array, seed: int
) -> tuple[Array, dict[str, Any]]:
    """Scores (M, C) of test images by ssl-transfer's logistic regressions, one class after the other, one C for all."""
    fitted = _Warm()
    both = np.flatnonzero(present.any(0) & ~present.all(0))  # others cannot be fitted: their scores stay 0

    def decided(kept: NDArray[np.int64], images: Array, c: float) -> Array:
        out = np.zeros((len(images), present.shape[1]))
        for k in both:
            if 0 < present[kept, k].sum() < len(kept):
                out[:, k] = fitted(x[kept], present[kept, k].astype(int), c).decision_function(images)
        return out

    c, scores = _search(
        decays,
        lambda i: _one_split(len(x), seed, i),
        lambda c, kept, held: multilabel.mean_ap(present[held], decided(kept, x[held], c))[0, 2] / 100,
        0.0,
    )
    return decided(np.arange(len(x)), test, c), _chosen(c, decays, scores, multilabel.METRICS[2])


def ridge(x: Array, y: Array, decays: Array, seed: int) -> tuple[Any, dict[str, Any]]:
    """Ridge regression of all targets with one alpha = 1 / wd, that of the best mean R2; x (N, D), y (N, T)."""
    from sklearn.linear_model import Ridge

    c, scores = _search(
        decays,
        lambda i: _folds(len(x), seed, i),
        lambda c, kept, held: Ridge(alpha=c).fit(x[kept], y[kept]).score(x[held], y[held]),
        -np.inf,
    )
    return Ridge(alpha=c).fit(x, y), {**_chosen(c, decays, scores, "R2"), "alpha": c}


def top1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The share that is right."""
    return float((truth == predicted).mean())


def mean_per_class(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The mean over the classes of `truth` of the share that is right."""
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes that were predicted and are not there
        return float(balanced_accuracy_score(truth, predicted))


class _Warm:
    """One scikit-learn classifier for all fits, each from where the last one ended: the scripts' quirk."""

    def __init__(self) -> None:
        self.model: Any = None

    def __call__(self, x: Array, labels: NDArray[np.int64], c: float) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        classes = np.unique(labels)
        if len(classes) < 2:
            raise InputError("a training part of the protocol holds one class only: too few images of the others")
        if self.model is None or not np.array_equal(self.model.classes_, classes):
            self.model = LogisticRegression(warm_start=True)  # L-BFGS, 100 iterations
        # The scripts asked for a softmax of two vectors, which is one vector at twice the C.
        self.model.set_params(C=c * (2 if len(classes) == 2 else 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.model.fit(x, labels)


Split = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to fit on, rows to score on


def _one_split(n: int, seed: int, strength: int) -> Iterator[Split]:
    """The same for every strength."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    held = int(VALIDATION * n)
    if not held:
        raise InputError(f"a fifth of {n} training images is none: the protocol needs 5 or more")
    yield order[held:], order[:held]


def _folds(n: int, seed: int, strength: int) -> Iterator[Split]:
    """Five folds of their own for every strength."""
    from sklearn.model_selection import KFold

    if n < FOLDS:
        raise InputError(f"cannot make {FOLDS} folds of {n} training images")
    state = int(np.random.SeedSequence([seed, strength]).generate_state(1)[0])
    yield from KFold(FOLDS, shuffle=True, random_state=state).split(np.zeros(n))


def _search(
    decays: Array,
    splits: Callable[[int], Iterator[Split]],
    score: Callable[[float, NDArray[np.int64], NDArray[np.int64]], float],
    lowest: float,
) -> tuple[float, list[float]]:
    """The C = 1 / wd of the first best mean score, from weak to strong regularisation, and all scores.

    InputError where no score is above `lowest`, which ends the scripts with an error too.
    """
    best, chosen, scores = lowest, None, []
    with progress.bar("published protocol: strengths", len(decays)) as update:
        for i, decay in enumerate(decays.tolist()):
            scores.append(float(np.mean([score(1 / decay, kept, held) for kept, held in splits(i)])))
            if scores[-1] > best:
                best, chosen = scores[-1], 1 / decay
            update(i + 1)
    if chosen is None:
        raise InputError("no strength of the protocol has a validation score above 0: too few images to choose by")
    return chosen, scores


def _chosen(c: float, decays: Array, scores: list[float], metric: str) -> dict[str, Any]:
    return {
        "c": c,
        "c_at_edge_of_grid": c in (1 / float(decays[0]), 1 / float(decays[-1])),
        "weight_decays": decays.tolist(),
        "validation_scores": [round(s, 6) for s in scores],
        "validation_metric": metric,
    }
