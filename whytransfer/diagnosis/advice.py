"""From what was measured of candidates on somebody's pictures to advice: which backbone, how sure, what else to know.

Nothing here measures: it compares, and puts into sentences what the numbers bear. A difference counts where the
intervals of all comparisons together exclude 0 (told_apart.py); what is tied is said to be tied, with the number of
pictures that would tell it apart.

Letters: N pictures, P of them changed, V changed views of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whytransfer.diagnosis.out_of_fold import WIDEN
from whytransfer.diagnosis.told_apart import Array, Comparison, Pair, picture_scores

Right = NDArray[np.bool_]
WORDS = {"spatial": ("pose", "turned, moved, cropped or scaled"), "appearance": ("colour", "in other light or colours")}
WORTH = 1.0  # points: smaller differences are not worth labelling for
MANY = 100_000  # pictures nobody labels for a comparison


@dataclass(frozen=True)
class Candidate:
    """What was measured of one backbone on the pictures."""

    name: str
    untrained: bool
    correct: Mapping[float, Right]  # {per cent of the labels: (N,)} by readouts that have not seen the picture
    labelled: Mapping[float, float]  # {per cent: pictures that a readout was fitted on}
    offered: Mapping[str, Array]  # {group: (P,)} cosine of changed and unchanged picture, mean over views
    correct_changed: Mapping[str, Right]  # {group: (P, V)} by the readouts of unchanged pictures
    images_per_second: float
    size_px: int
    width: int
    millions: float  # of parameters
    arch: str = ""
    weights_sha256: str = ""


@dataclass(frozen=True)
class Measured:
    """All candidates on the same pictures, and what needs no backbone."""

    candidates: Sequence[Candidate]
    labels: NDArray[np.int64]  # (N,)
    changed: NDArray[np.int64]  # (P,) rows of the pictures that were changed
    largest: Right  # (N,) by always saying the largest class
    alone: Mapping[str, Right]  # {group: (N,)} by a readout of pose or of colour alone
    per_class: bool = False  # every class counts alike, not every picture
    seed: int = 0

    def scores(self, correct: Right) -> Array:
        """(N, ...) whose mean is the accuracy in %."""
        return picture_scores(correct, self.labels, self.per_class)

    @property
    def shares(self) -> tuple[float, ...]:
        """Per cents of the labels, ascending; the last is 100."""
        return tuple(sorted(self.candidates[0].correct))

    @cached_property
    def comparison(self) -> Comparison:
        """Of all candidates with all labels."""
        return self._compared([c.correct[100] for c in self.candidates])

    def alone_over_largest(self, group: str) -> Pair:
        """What pose or colour alone tells of the labels, over always saying the largest class."""
        return self._pair(self.alone[group], self.largest)

    def gain_of_labels(self, candidate: Candidate) -> Pair | None:
        """All labels over the next smaller share; None where no share was asked for."""
        return self._pair(candidate.correct[100], candidate.correct[self.shares[-2]]) if self.shares[:-1] else None

    def fall(self, candidate: Candidate, group: str) -> Pair:
        """How much less often changed pictures are right, in points of the same pictures unchanged."""
        clean = 100.0 * candidate.correct[100][self.changed]
        changed = 100.0 * candidate.correct_changed[group].mean(1)
        return Comparison(np.stack([clean, changed], axis=1), self.seed).pair(0, 1)

    def interval(self, correct: Right) -> tuple[float, float, float]:
        """An accuracy and the ends of its interval."""
        alone = self._compared([correct])
        return float(alone.means[0]), *alone.interval(0)

    def _pair(self, one: Right, other: Right) -> Pair:
        return self._compared([one, other]).pair(0, 1)

    def _compared(self, correct: Sequence[Right]) -> Comparison:
        return Comparison(self.scores(np.stack(correct, axis=1)), self.seed, widen=WIDEN)

    @property
    def best(self) -> int | None:
        """The most accurate trained candidate; None without one."""
        trained = [i for i, c in enumerate(self.candidates) if not c.untrained]
        return max(trained, key=lambda i: self.comparison.means[i]) if trained else None

    @property
    def floor(self) -> int | None:
        """The most accurate untrained candidate; None without one."""
        bare = [i for i, c in enumerate(self.candidates) if c.untrained]
        return max(bare, key=lambda i: self.comparison.means[i]) if bare else None

    def tied_with_best(self) -> list[int]:
        """The trained candidates that cannot be told apart from the best, best first."""
        if self.best is None:
            return []
        others = [i for i, c in enumerate(self.candidates) if not c.untrained and i != self.best]
        others.sort(key=lambda i: -self.comparison.means[i])
        return [i for i in others if self.comparison.pair(self.best, i).tied]


def equally_fast(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with one speed per architecture and size, the best measured: other work slows some of them."""
    best: dict[tuple[str, int], float] = {}
    for c in candidates:
        best[c.arch, c.size_px] = max(c.images_per_second, best.get((c.arch, c.size_px), 0.0))
    return [dataclasses.replace(c, images_per_second=best[c.arch, c.size_px]) for c in candidates]


def sentences(m: Measured) -> list[str]:
    """The advice, most important first."""
    if m.best is None:
        return ["All candidates are untrained: this is the floor that a pretrained backbone would have to beat."]
    return [
        *_choice(m, m.best),
        *_floor(m, m.best),
        *_labels(m, m.candidates[m.best]),
        *_needs(m, m.candidates[m.best]),
    ]


def is_recommended(m: Measured) -> bool:
    """Whether the best trained candidate is surely above random features, or there are none to compare with."""
    if m.best is None:
        return False
    return m.floor is None or m.comparison.pair(m.best, m.floor).low > 0


def _choice(m: Measured, best: int) -> Iterator[str]:
    c, n = m.candidates[best], len(m.labels)
    low, high = m.comparison.interval(best)
    reached = (
        f"{m.comparison.means[best]:.1f} % right [{low:.1f}, {high:.1f}] on {n:,} pictures that it was not fitted on"
    )
    tied = m.tied_with_best()
    trained = sum(not other.untrained for other in m.candidates)
    if not is_recommended(m):
        yield f"None of these is shown to help: the best, {c.name}, reaches {reached}."
    elif trained == 1:
        yield f"Take {c.name}, the only trained candidate: {reached}."
    elif not tied:
        yield f"Take {c.name}: {reached}, ahead of every other candidate beyond chance."
    else:
        names = ", ".join(m.candidates[i].name for i in tied)
        yield (
            f"Take {c.name} if you must choose now: {reached}, but it cannot be told apart from {names}; it leads in "
            f"{m.comparison.best_in(best):.0f} % of redrawn test sets."
        )
    if tied:
        yield _to_tell_apart(m, m.comparison.pair(best, tied[0]), m.candidates[tied[0]].name)
    faster = [m.candidates[i] for i in tied if m.candidates[i].images_per_second > 1.25 * c.images_per_second]
    if faster:
        quick = max(faster, key=lambda other: other.images_per_second)
        times = quick.images_per_second / c.images_per_second
        yield f"Of those tied {quick.name} is {times:.1f} times as fast: prefer it where speed counts."


def _to_tell_apart(m: Measured, pair: Pair, other: str) -> str:
    """What the test pictures could show, and how many more would show what was seen."""
    seen = f"{pair.difference:+.1f} points [{pair.low:+.1f}, {pair.high:+.1f}] over {other}"
    if pair.error == 0:
        return f"{other} is right on the very same pictures: nothing here can tell the two apart."
    target = max(abs(pair.difference), WORTH)
    more = pair.pictures_for(target) - pair.n
    if pair.detectable <= target:
        return (
            f"{seen}; {pair.n:,} pictures show a difference of {pair.detectable:.1f} points, so what is left is small."
        )
    labels = f"about {_rounded(more):,} more" if more < MANY else f"over {MANY:,} more"
    return (
        f"{seen}: {pair.n:,} pictures show differences from {pair.detectable:.1f} points on; label {labels} to see one "
        f"of {target:.1f}."
    )


def _floor(m: Measured, best: int) -> Iterator[str]:
    if m.floor is None:
        return
    pair = m.comparison.pair(best, m.floor)
    over = f"{pair.difference:+.1f} points [{pair.low:+.1f}, {pair.high:+.1f}] over random features"
    how = "beyond chance" if pair.low > 0 else "BELOW them beyond chance" if pair.high < 0 else "which may be chance"
    yield f"Pretraining: {over} ({m.candidates[m.floor].name}), {how}."


def _labels(m: Measured, c: Candidate) -> Iterator[str]:
    pair = m.gain_of_labels(c)
    if pair is None:
        return
    few, all_ = (round(c.labelled[share]) for share in (m.shares[-2], 100.0))
    says = "more labels still pay" if pair.low > 0 else "whether more labels would pay cannot be told"
    yield (
        f"Labels: from {few:,} to {all_:,} labelled pictures {pair.difference:+.1f} points "
        f"[{pair.low:+.1f}, {pair.high:+.1f}]: {says}."
    )


def _needs(m: Measured, c: Candidate) -> Iterator[str]:
    """What the labels need of each group of changes, what the candidate offers, and what changed pictures cost."""
    for group, (word, how) in WORDS.items():
        pair, fall = m.alone_over_largest(group), m.fall(c, group)
        told = f"{pair.difference:+.1f} points [{pair.low:+.1f}, {pair.high:+.1f}] over the largest class"
        if pair.low > 0:
            need = f"{word} alone tells some of the labels ({told}), so ignoring {word} can cost"
        else:
            need = f"{word} alone is not shown to tell the labels ({told}), so ignoring {word} costs little that shows"
        falls = f"{fall.difference:.1f} points [{fall.low:.1f}, {fall.high:.1f}] less often right"
        line = f"{word.capitalize()}: {need}; on pictures {how} {c.name} is {falls}"
        steady = _steadiest(m, group)
        yield f"{line}; least falls {steady}." if steady else f"{line}."


def _steadiest(m: Measured, group: str) -> str:
    """The trained candidate whose readout suffers least of the changes, with its fall; "" for a single one."""
    trained = [c for c in m.candidates if not c.untrained]
    if len(trained) < 2:
        return ""
    falls = {c.name: m.fall(c, group).difference for c in trained}
    name = min(falls, key=lambda n: falls[n])
    return f"{name} ({falls[name]:.1f})"


def _rounded(pictures: int) -> int:
    """Two digits: 1,873 -> 1,900."""
    unit = 10 ** max(len(str(pictures)) - 2, 0)
    return -(-pictures // unit) * unit
