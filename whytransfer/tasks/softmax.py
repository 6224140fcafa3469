"""Many penalised softmax regressions on the same features, solved side by side along a path of penalties.

Objective of problem p (one cross-validation fold each; n_p is the sum of its sample weights w_ip):

    F_p(W, b) = 1/n_p * sum_i w_ip * cross_entropy(W' x_i + b, y_i)  +  penalty_p / 2 * |W|^2        (b is free)

which is scikit-learn's C * sum + |W|^2 / 2 for penalty_p = 1 / (C * n_p). Four facts make a whole path cheap:
- the folds share their features, so each step is one matrix product for all of them;
- in the eigenbasis of the features the Hessian is nearly diagonal, so its diagonal is a good metric [LeCun 1998, 4];
- the curvature pairs of L-BFGS [Liu & Nocedal 1989] are kept for the loss alone. Changing the penalty changes a pair
  (s, y) into (s, y + change * s) exactly, so what one penalty has taught serves the next;
- the path is smooth: a straight line through the last two solutions often ends near enough to the next one.

Letters: N samples, D features (the last column is the constant 1), P problems, K classes.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from whytransfer.tasks.matmul import matmul

_BLOCK = 2048  # rows at a time: the (N, P*K) matrix of probabilities never exists
_MEMORY = 20  # curvature pairs
_METRIC_SERVES = 3  # penalties


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(D, P, K), (D, P, K) -> (P,) float64; one axis after the other: ten times as fast as both at once."""
    return (a * b).sum(0, dtype=torch.float64).sum(1)


def _scale(factor: Tensor, a: Tensor) -> Tensor:
    """(P,) times (D, P, K)."""
    return factor.to(a.dtype)[:, None] * a


def _gain(s: Tensor, y: Tensor, rho: Tensor, metric: Tensor) -> Tensor:
    """(P,) how much shorter a step the last pair saw than the metric foresees [Nocedal & Wright 2006, eq. 7.20].

    Longer ones are not believed: along a path most of them had to be taken back.
    """
    return torch.where(rho > 0, _dot(s, y) / _dot(y, y / metric), 1.0).clamp(max=1.0)


@dataclass(frozen=True)
class Problems:
    """P softmax regressions: the same (N, D) features and (N,) labels, each with its own sample weights (N, P)."""

    features: Tensor  # (N, D), last column 1
    labels: Tensor  # (N,) int64
    sample_weights: Tensor  # (N, P), 0 leaves a sample out
    classes: int

    @property
    def count(self) -> int:
        """P."""
        return self.sample_weights.shape[1]

    @functools.cached_property
    def runs(self) -> list[tuple[slice, Tensor]]:
        """Rows to take at a time, with the problems (Q,) that have any of them.

        Where rows come fold by fold, no problem sees the rows of its own held-out fold.
        """
        inside = self.sample_weights != 0
        cuts = 1 + (inside[1:] != inside[:-1]).any(1).nonzero().flatten()
        cuts = cuts[: 0 if len(cuts) > 2 * self.count else None]  # rows in another order: whole blocks
        ends = sorted({*range(0, len(inside), _BLOCK), *cuts.tolist(), len(inside)})
        runs = [(slice(a, b), inside[a:b].any(0).nonzero().flatten()) for a, b in itertools.pairwise(ends)]
        return [(rows, live) for rows, live in runs if len(live)]

    @functools.cached_property
    def columns(self) -> list[Tensor]:
        """The features of each run, transposed (D, B): kept, since on a CPU every product with them would copy them."""
        parts = [self.features[rows].T for rows, _ in self.runs]
        return [x.contiguous() for x in parts] if self.features.device.type == "cpu" else parts

    @property
    def total(self) -> Tensor:
        """(P,) float64: the sum of each problem's sample weights."""
        return self.sample_weights.sum(0, dtype=torch.float64)

    def evaluate(self, weights: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (P,) in float64 and its gradient (D, P, K) at weights (D, P, K), without the penalty.

        Of the problems of which (P,) bool; 0 for the others.
        """
        loss = torch.zeros(weights.shape[1], dtype=torch.float64, device=weights.device)
        gradient = torch.zeros_like(weights)
        for live, columns, target, w, log_p in self._blocks(weights, which):
            loss[live] -= (log_p.gather(2, target).squeeze(2) * w).sum(0, dtype=torch.float64)
            residual = log_p.exp_().scatter_add_(2, target, log_p.new_full((1, 1, 1), -1.0).expand_as(target))
            residual *= w[:, :, None]  # (B, Q, K)
            gradient.index_add_(1, live, matmul(columns, residual.flatten(1)).view(-1, len(live), self.classes))
        return loss / self.total, _scale(1 / self.total, gradient)

    def curvature(self, weights: Tensor) -> Tensor:
        """Diagonal of the mean loss's Hessian, (D, P, K): mean of x^2 p (1 - p)."""
        diagonal = torch.zeros_like(weights)
        for live, columns, _, w, log_p in self._blocks(weights, torch.ones_like(self.total, dtype=torch.bool)):
            p = log_p.exp_()
            spread = ((p - p * p) * w[:, :, None]).flatten(1)
            diagonal.index_add_(1, live, matmul(columns.square(), spread).view(-1, len(live), self.classes))
        return _scale(1 / self.total, diagonal)

    def _blocks(self, weights: Tensor, which: Tensor):
        """Problems (Q,), features (D, B), target index (B, Q, 1), sample weights (B, Q), log p (B, Q, K)."""
        for (rows, inside), columns in zip(self.runs, self.columns, strict=True):
            live = inside[which[inside]]
            if not len(live):
                continue
            w = self.sample_weights[rows, live]
            target = self.labels[rows].view(-1, 1, 1).expand(-1, len(live), 1)
            logits = matmul(self.features[rows], weights[:, live].flatten(1)).view(-1, len(live), self.classes)
            yield live, columns, target, w, torch.log_softmax(logits, dim=2)


@dataclass(frozen=True)
class OneVsRest:
    """P = F x C two-class logistic regressions on the same features: each class against the rest, in each of F folds.

    Objective of a problem: mean of log(1 + exp(z)) - y z over its samples, z = w' x + b, plus the penalty above;
    weights are (D, P, 1), the problems of one fold beside each other. The Solver takes it in place of Problems.
    """

    features: Tensor  # (N, D), last column 1
    present: Tensor  # (N, C) of the features' type, 1 where the sample has the class
    member: Tensor  # (N, F), 0 leaves a sample out of a fold's problems
    classes: int = 1  # weight vectors per problem

    @property
    def count(self) -> int:
        """P."""
        return self.member.shape[1] * self.present.shape[1]

    @property
    def total(self) -> Tensor:
        """(P,) float64: the samples of each problem."""
        return self.member.sum(0, dtype=torch.float64).repeat_interleave(self.present.shape[1])

    def evaluate(self, weights: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (P,) in float64 and its gradient (D, P, 1), without the penalty.

        Of all problems, not of `which` alone: they share one product, from which taking some out costs more.
        """
        loss = torch.zeros(self.count, dtype=torch.float64, device=weights.device)
        gradient = torch.zeros_like(weights)
        for x, y, w, z in self._blocks(weights):
            loss += ((F.softplus(z) - y * z) * w).sum(0, dtype=torch.float64).flatten()
            gradient.flatten(1).add_(matmul(x.T, ((z.sigmoid() - y) * w).flatten(1)))
        return loss / self.total, _scale(1 / self.total, gradient)

    def curvature(self, weights: Tensor) -> Tensor:
        """Diagonal of the mean loss's Hessian, (D, P, 1)."""
        diagonal = torch.zeros_like(weights)
        for x, _, w, z in self._blocks(weights):
            p = z.sigmoid()
            diagonal.flatten(1).add_(matmul(x.square().T, ((p - p * p) * w).flatten(1)))
        return _scale(1 / self.total, diagonal)

    def _blocks(self, weights: Tensor):
        """Features, targets (B, 1, C), sample weights (B, F, 1) and logits (B, F, C), block by block."""
        shape = -1, self.member.shape[1], self.present.shape[1]
        for start in range(0, len(self.features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            x = self.features[rows]
            yield x, self.present[rows, None], self.member[rows, :, None], matmul(x, weights.flatten(1)).view(shape)


@dataclass
class Point:
    """Where the P problems stand: weights, mean loss and gradient, both without the penalty."""

    weights: Tensor  # (D, P, K)
    loss: Tensor  # (P,)
    gradient: Tensor  # (D, P, K)

    def objective(self, penalty: Tensor) -> Tensor:
        """(P,): loss plus penalty (P,) / 2 * |W|^2; the last row, the intercept, is free."""
        return self.loss + penalty / 2 * _dot(self.weights[:-1], self.weights[:-1])

    def slope(self, penalty: Tensor) -> Tensor:
        """(D, P, K): gradient of the objective."""
        slope = self.gradient.clone()
        slope[:-1] += _scale(penalty, self.weights[:-1])
        return slope

    def where(self, choose: Tensor, other: Point) -> Point:
        """Per problem: this point where `choose` (P,) holds, the other elsewhere."""
        wide = choose[:, None]
        return Point(
            torch.where(wide, self.weights, other.weights),
            torch.where(choose, self.loss, other.loss),
            torch.where(wide, self.gradient, other.gradient),
        )


@dataclass
class Solver:
    """Batched L-BFGS that walks one path of penalties: solve(strongest) first, then ever weaker ones.

    A problem has converged when four times the decrease still expected is under `tolerance` of its objective (or under
    tolerance / 100 nats, where the objective itself vanishes); it is left where it stands then, and also when no step
    along its direction helps: floating point is exhausted.
    """

    problems: Problems | OneVsRest
    tolerance: float = 1e-4
    max_iterations: int = 40  # per penalty
    iterations: int = 0
    evaluations: int = 0
    point: Point | None = None
    _aim: Tensor | None = None  # where the last step, not taken, would have led: nearer the solution than `point`
    _before: Tensor | None = None  # the same, one penalty earlier
    _pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _curvature: tuple[int, Tensor] | None = None  # penalties since it was taken, diagonal of the loss's Hessian

    def solve(self, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (D, P, K) at penalty (P,), and which problems are done (P,) rather than out of iterations."""
        point = self._start(penalty)
        metric = self._metric(point, penalty)
        done = torch.zeros_like(penalty, dtype=torch.bool)
        self._aim = point.weights
        for _ in range(self.max_iterations):
            direction, expected = self._direction(point, penalty, metric)
            done = done | (2 * expected <= self.tolerance * point.objective(penalty).clamp_min(0.01))
            self._aim = point.weights + direction
            if bool(done.all()):
                break
            moved, stuck = self._search(point, direction, expected, penalty, ~done)
            done = done | stuck
            self._learn(point, moved)
            point = moved
            self.iterations += 1
        self.point = point
        return point.weights, done

    def begin(self, weights: Tensor) -> None:
        """Start the path at weights (D, P, K) instead of at zero."""
        self.point = self._evaluate(weights)

    def _evaluate(self, weights: Tensor, which: Tensor | None = None) -> Point:
        self.evaluations += 1
        which = torch.ones(weights.shape[1], dtype=torch.bool, device=weights.device) if which is None else which
        return Point(weights, *self.problems.evaluate(weights, which))

    def _start(self, penalty: Tensor) -> Point:
        """Zero at first; then the last solution or its continuation along the path, whichever is lower."""
        if self.point is None:
            x = self.problems.features
            return self._evaluate(x.new_zeros(x.shape[1], self.problems.count, self.problems.classes))
        last, before, self._before = self.point, self._before, self._aim
        if before is None or self._aim is None:
            return last
        ahead = self._evaluate(2 * self._aim - before)
        self._learn(last, ahead)
        return ahead.where(ahead.objective(penalty) < last.objective(penalty), last)

    def _metric(self, point: Point, penalty: Tensor) -> Tensor:
        """Diagonal of the objective's Hessian (D, P, K), positive; the loss's part serves a few penalties."""
        age, loss = self._curvature or (0, self.problems.curvature(point.weights))
        self._curvature = (age + 1, loss) if age + 1 < _METRIC_SERVES else None
        metric = loss.clone()
        metric[:-1] += penalty.to(metric.dtype)[:, None]
        return metric.clamp_(min=torch.finfo(metric.dtype).eps * float(metric.max()))

    def _learn(self, one: Point, two: Point) -> None:
        """Keep what the way from one point to another says about the loss's curvature."""
        self._pairs = [*self._pairs, (two.weights - one.weights, two.gradient - one.gradient)][-_MEMORY:]

    def _direction(self, point: Point, penalty: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        """The quasi-Newton descent direction (D, P, K), and minus its slope (P,): twice the decrease to expect."""
        slope = point.slope(penalty)
        q, pairs = slope.clone(), []
        for s, loss_y in reversed(self._pairs):
            y = loss_y.clone()
            y[:-1] += _scale(penalty, s[:-1])
            curvature = _dot(s, y)
            rho = torch.where(curvature > 0, 1 / curvature, 0.0)  # a problem that stood still teaches nothing
            alpha = rho * _dot(s, q)
            q -= _scale(alpha, y)
            pairs.append((s, y, rho, alpha))
        q = _scale(_gain(*pairs[0][:3], metric), q / metric) if pairs else q / metric
        for s, y, rho, alpha in reversed(pairs):
            q += _scale(alpha - rho * _dot(y, q), s)
        return -q, _dot(q, slope)

    def _search(
        self, point: Point, direction: Tensor, expected: Tensor, penalty: Tensor, active: Tensor
    ) -> tuple[Point, Tensor]:
        """Backtracking line search of the active problems, a step length each, and which are stuck (P,).

        The others stand still.
        """
        step, start = torch.ones_like(penalty), point.objective(penalty)
        noise = 16 * torch.finfo(direction.dtype).eps * start
        moved = self._evaluate(point.weights + _scale(step, direction), active).where(active, point)
        while True:
            excess = moved.objective(penalty) - start
            short = ~(excess <= noise - 1e-4 * step * expected)
            tried = short & active
            if not bool(tried.any()) or float(step[tried].max()) < 1e-5:
                return point.where(short, moved), tried
            best = step * expected / (2 * (excess / step + expected))  # minimum of the parabola through what is known
            step = torch.where(short, best.clamp(min=0.1 * step, max=0.5 * step).nan_to_num(0.0), step)
            moved = self._evaluate(point.weights + _scale(step, direction), tried).where(tried, moved)
