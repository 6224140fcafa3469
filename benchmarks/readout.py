"""The logistic readout beside scikit-learn's: the same 45 Cs, the same 5 folds, the same features.

    python benchmarks/readout.py                    ours in full; scikit-learn on every 11th C of one fold, scaled up
    python benchmarks/readout.py --full             scikit-learn in full too (226 fits, 5 to 15 minutes)
    python benchmarks/readout.py --features F.npz   arrays train, train_labels, test, test_labels, not made-up ones

Made-up features: 10,000 x 512, 40 classes, spectrum falling as a power law, skewed as pooled activations are; the
accuracy is about 50 %. scikit-learn is LogisticRegression(max_iter=100), its default solver (lbfgs), on standardised
features with as many threads. Seconds are wall-clock; processor seconds are printed too, for a machine that is busy.
Scaled up means: mean seconds of a fit at the sampled Cs x 225, plus the measured last fit at our C.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from whytransfer.tasks.logistic import CS, fit_path, stratified_folds

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def made_up(train: int = 10_000, test: int = 4_000, width: int = 512, classes: int = 40, seed: int = 0) -> Data:
    """Train features and labels, test features and labels."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, width + 1) ** -0.5
    labels = rng.permutation(np.arange(train + test) % classes)
    x = 0.12 * (rng.normal(size=(classes, width)) * spread)[labels] + rng.normal(size=(train + test, width)) * spread
    x = np.log1p(np.exp(2 * x @ np.linalg.qr(rng.normal(size=(width, width)))[0])).astype(np.float32)
    return x[:train], labels[:train], x[train:], labels[train:]


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    """Result, wall-clock seconds, processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def scikit_learn(data: Data, every: int, folds: tuple[int, ...]) -> tuple[float, float, np.ndarray]:
    """Wall-clock and processor seconds of the whole search (scaled up), and validation accuracy at the sampled Cs."""
    x, y, _, _ = data
    fold, wall, processor, scores = stratified_folds(y, 5, 0), [], [], []
    for c in CS[::every]:
        part = []
        for f in folds:
            kept = fold != f
            model, w, p = timed(lambda c=c, kept=kept: LogisticRegression(C=c).fit(x[kept], y[kept]))
            wall.append(w)
            processor.append(p)
            part.append(model.score(x[~kept], y[~kept]))
        scores.append(np.mean(part))
    fits = len(CS) * 5
    return float(np.mean(wall)) * fits, float(np.mean(processor)) * fits, np.array(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every C and fold for scikit-learn")
    parser.add_argument("--features", help="npz with train, train_labels, test, test_labels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of ours; the median counts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = ("train", "train_labels", "test", "test_labels")
    data: Data = made_up() if args.features is None else tuple(np.load(args.features)[n] for n in names)
    mean, scale = data[0].mean(0), data[0].std(0)
    data = ((data[0] - mean) / scale, data[1], (data[2] - mean) / scale, data[3])
    x, y, test, test_labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in data)
    classes = int(y.max()) + 1
    print(f"{len(x)} x {x.shape[1]} features, {classes} classes, {len(CS)} Cs, 5 folds, {args.threads} threads")
    runs = sorted((timed(lambda: fit_path(x, y, classes)) for _ in range(args.repeats)), key=lambda run: run[1])
    fit, wall, processor = runs[len(runs) // 2]
    ours = 100 * float((fit.predict(test) == test_labels).double().mean())
    print(
        f"ours: {wall:.1f} s ({processor:.1f} processor s), C {fit.c:.3g}, test {ours:.2f} %, "
        f"{fit.evaluations} evaluations of the loss"
    )
    with threadpool_limits(args.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        every, folds = (1, tuple(range(5))) if args.full else (11, (0,))
        their_wall, their_processor, scores = scikit_learn(data, every, folds)
        best = CS[::every][int(scores.argmax())] if args.full else fit.c
        model, w, p = timed(lambda: LogisticRegression(C=best).fit(data[0], data[1]))
    theirs = 100 * model.score(data[2], data[3])
    how = "measured" if args.full else f"scaled up from {len(scores)} fits; C is ours"
    print(
        f"scikit-learn: {their_wall + w:.1f} s ({their_processor + p:.1f} processor s; {how}), C {best:.3g}, "
        f"test {theirs:.2f} %"
    )
    print(f"ratio {(their_wall + w) / wall:.1f} (processor {(their_processor + p) / processor:.1f}), "
          f"test accuracy {ours - theirs:+.2f} points")  # fmt: skip


if __name__ == "__main__":
    main()
