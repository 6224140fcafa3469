"""The readouts beside scikit-learn's on the same features, and feature extraction beside the forward pass alone.

    python benchmarks/readout.py                    logistic path; scikit-learn on every 11th C of one fold, scaled up
    python benchmarks/readout.py --width 2048       the same at the width of ResNet-50, classes as far apart
    python benchmarks/readout.py --full             scikit-learn in full too (226 fits, 5 to 15 minutes)
    python benchmarks/readout.py --warm             its fits starting where that of the last C ended (one fold x 5)
    python benchmarks/readout.py --features F.npz   arrays train, train_labels, test, test_labels, not made-up ones
    python benchmarks/readout.py --part ridge       45 alphas x 5 folds for 136 targets, beside ONE Ridge fit
    python benchmarks/readout.py --part features    extract() beside the forward pass on views made before

Made-up features: 10,000 x 512, 40 classes, spectrum falling as a power law, skewed as pooled activations are; the
accuracy is about 50 %. scikit-learn is LogisticRegression(max_iter=100), its default solver (lbfgs), on standardised
features with as many threads. Seconds are wall-clock; processor seconds are printed too, for a machine that is busy.
Its own tolerance ends far from the optimum where features are many: --tol 1e-6 is needed for our accuracy at 2,048.
Scaled up means: mean seconds of a fit at the sampled Cs x 225, plus the measured last fit at our C.
Ridge: both get the same standardised float64 features; the rounds alternate and the medians count. --count 19000 is
MAFL's training set: the eigenbases cost the same for any number of samples, one fit of scikit-learn does not.
Features: pictures of twice the size of the views, as the pixel cache holds them; rounds alternate, medians count.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from whytransfer.backbones import load_backbone
from whytransfer.tasks import ridge
from whytransfer.tasks.features import extract
from whytransfer.tasks.logistic import CS, fit_path, stratified_folds
from whytransfer.views import eval_views

REST_S = 0.1

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def made_up(train: int = 10_000, test: int = 4_000, width: int = 512, classes: int = 40, seed: int = 0) -> Data:
    """Train features and labels, test features and labels."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, width + 1) ** -0.5
    labels = rng.permutation(np.arange(train + test) % classes)
    apart = 0.12 * (512 / width) ** 0.5  # as hard to tell apart at any width
    x = apart * (rng.normal(size=(classes, width)) * spread)[labels] + rng.normal(size=(train + test, width)) * spread
    x = np.log1p(np.exp(2 * x @ np.linalg.qr(rng.normal(size=(width, width)))[0])).astype(np.float32)
    return x[:train], labels[:train], x[train:], labels[train:]


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    """Result, wall-clock seconds, processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def scikit_learn(data: Data, every: int, folds: tuple[int, ...], **how: float) -> tuple[float, float, np.ndarray]:
    """Wall-clock and processor seconds of the whole search (scaled up), and validation accuracy at the sampled Cs."""
    x, y, _, _ = data
    fold, wall, processor, scores = stratified_folds(y, 5, 0), [], [], []
    for c in CS[::every]:
        part = []
        for f in folds:
            kept = fold != f
            model, w, p = timed(lambda c=c, kept=kept: LogisticRegression(C=c, **how).fit(x[kept], y[kept]))
            wall.append(w)
            processor.append(p)
            part.append(model.score(x[~kept], y[~kept]))
        scores.append(np.mean(part))
    fits = len(CS) * 5
    return float(np.mean(wall)) * fits, float(np.mean(processor)) * fits, np.array(scores)


def scikit_learn_warm(data: Data) -> tuple[float, float]:
    """Wall-clock and processor seconds of the search as LogisticRegressionCV does it, strong to weak: one fold x 5."""
    x, y, _, _ = data
    kept = stratified_folds(y, 5, 0) != 0
    part, labels, model = x[kept], y[kept], LogisticRegression(warm_start=True)
    fits = [timed(lambda c=c: model.set_params(C=c).fit(part, labels))[1:] for c in CS]
    wall, processor = 5 * np.sum(fits, axis=0)
    return float(wall), float(processor)


def in_turn(rounds: int, *works: Callable[[], object]) -> list[tuple[float, float]]:
    """Median wall-clock and processor seconds of each piece of work; each runs once before anything is timed.

    Between two of them is a rest: threads of linear algebra spin for a while where the last work left them.
    """
    for work in works:
        work()
    times: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(rounds):
        for work, of_work in zip(works, times, strict=True):
            time.sleep(REST_S)
            of_work.append(timed(work)[1:])
    return [tuple(np.median(of_work, axis=0)) for of_work in times]


def logistic_part(args: argparse.Namespace) -> None:
    """The whole path beside scikit-learn's."""
    names = ("train", "train_labels", "test", "test_labels")
    if args.features is None:
        data: Data = made_up(args.count, width=args.width)
    else:
        data = tuple(np.load(args.features)[n] for n in names)
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
        exact = {} if args.tol is None else {"tol": args.tol, "max_iter": 5000}
        their_wall, their_processor, scores = scikit_learn(data, every, folds, **exact)
        best = CS[::every][int(scores.argmax())] if args.full else fit.c
        model, w, p = timed(lambda: LogisticRegression(C=best, **exact).fit(data[0], data[1]))
        if args.warm:
            warm_wall, warm_processor = scikit_learn_warm(data)
            print(
                f"scikit-learn, warm starts: {warm_wall + w:.1f} s ({warm_processor + p:.1f} processor s), "
                f"ratio {(warm_wall + w) / wall:.1f} (processor {(warm_processor + p) / processor:.1f})"
            )
    theirs = 100 * model.score(data[2], data[3])
    how = "measured" if args.full else f"scaled up from {len(scores)} fits; C is ours"
    print(
        f"scikit-learn: {their_wall + w:.1f} s ({their_processor + p:.1f} processor s; {how}), C {best:.3g}, "
        f"test {theirs:.2f} %"
    )
    print(f"ratio {(their_wall + w) / wall:.1f} (processor {(their_processor + p) / processor:.1f}), "
          f"test accuracy {ours - theirs:+.2f} points")  # fmt: skip


def ridge_part(args: argparse.Namespace) -> None:
    """The path for many targets beside one fit of scikit-learn at one alpha."""
    x = made_up(args.count, 0, args.width)[0].astype(np.float64)
    x = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng(0)
    y = x @ rng.normal(size=(args.width, args.targets)) / 5 + rng.normal(size=(args.count, args.targets))
    tensor = torch.from_numpy(x)
    fit = ridge.fit_path(tensor, y)
    oracle = Ridge(alpha=fit.alphas[0]).fit(x, y[:, 0]).predict(x)
    differ = float(np.abs(fit.predict(tensor)[:, 0] - oracle).max())
    with threadpool_limits(args.threads):
        (ours, ours_cpu), (theirs, theirs_cpu) = in_turn(
            args.repeats, lambda: ridge.fit_path(tensor, y), lambda: Ridge(alpha=1.0).fit(x, y)
        )
    print(f"{args.count} x {args.width} features, {args.targets} targets, {args.threads} threads")
    print(f"ours, 45 alphas x 5 folds and the last fit: {ours:.2f} s ({ours_cpu:.2f} processor s)")
    print(f"scikit-learn, one Ridge(alpha=1).fit: {theirs:.2f} s ({theirs_cpu:.2f} processor s)")
    print(
        f"ours / one fit {ours / theirs:.1f} (processor {ours_cpu / theirs_cpu:.1f}); largest difference {differ:.1e}"
    )


@dataclass
class Pictures:
    """Random pictures as a PixelCache holds them: decoded, the shorter side twice that of the views."""

    pictures: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(len(self), dtype=np.int64)

    def pixels(self, i: int) -> np.ndarray:
        return self.pictures[i]


def features_part(args: argparse.Namespace) -> None:
    """Extraction from pictures beside the forward pass of ready tensors."""
    rng, size = np.random.default_rng(0), args.size
    images = Pictures([rng.integers(0, 256, (2 * size, 8 * size // 3, 3), dtype=np.uint8) for _ in range(args.images)])
    backbone = load_backbone(args.backbone, args.device)
    parts = [range(k, min(k + args.batch, len(images))) for k in range(0, len(images), args.batch)]
    ready = [
        eval_views([images.pixels(i) for i in part], size).to(args.device).contiguous(memory_format=torch.channels_last)
        for part in parts
    ]

    def forward() -> None:
        with torch.inference_mode():
            out = [backbone(views).vector for views in ready]
            torch.cat(out).cpu()

    (ours, ours_cpu), (alone, alone_cpu) = in_turn(
        args.repeats, lambda: extract(backbone, images, size, args.batch).vectors.cpu(), forward
    )
    print(f"{args.backbone}, {len(images)} images at {size} px from {2 * size} px, batch {args.batch}, {args.device}")
    print(f"extract {len(images) / ours:.1f} images/s, forward pass alone {len(images) / alone:.1f} images/s")
    print(f"share of the forward pass {alone / ours:.3f} (processor {alone_cpu / ours_cpu:.3f})")


PARTS = {"logistic": logistic_part, "ridge": ridge_part, "features": features_part}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="logistic")
    parser.add_argument("--full", action="store_true", help="every C and fold for scikit-learn")
    parser.add_argument(
        "--tol", type=float, help="of scikit-learn, with as many iterations as it takes (its own: 1e-4, 100)"
    )
    parser.add_argument("--warm", action="store_true", help="scikit-learn with warm starts too")
    parser.add_argument("--features", help="npz with train, train_labels, test, test_labels")
    parser.add_argument("--count", type=int, default=10_000, help="training samples")
    parser.add_argument("--width", type=int, default=512, help="of the made-up features")
    parser.add_argument("--targets", type=int, default=136, help="of ridge: 68 landmarks")
    parser.add_argument("--backbone", default="random:resnet18")
    parser.add_argument("--size", type=int, default=64, help="of the views, in pixels")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    PARTS[args.part](args)


if __name__ == "__main__":
    main()
