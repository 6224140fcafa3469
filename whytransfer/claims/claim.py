"""A claim: a finding of a paper, the study that tests it, and the verdict that the study's numbers give it.

Verdicts are about our own runs at their own scale, and are free to contradict the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from whytransfer.errors import InputError
from whytransfer.study.scores import Scores
from whytransfer.study.statistics import Interval, Sign, Verdict, mean_interval, smallest_detectable, verdict

Scale = Literal["demo", "laptop", "gpu", "full"]
SCALES: tuple[Scale, ...] = ("demo", "laptop", "gpu", "full")
LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """One contrast of a claim: what it is at each seed, and the sign that the finding gives it.

    "+" and "-" are sides of 0; "0" is a difference of less than `margin` either way. `paper` is what the paper found,
    as text, in the paper's own units. `beside` is a standard error that seeds do not show: that of a rank correlation
    over few models (`statistics.rank_error`); `most` is the largest that there can be. Where two things compared are
    equal to the last digit at every seed (APs of 0), nothing was measured: undecided.
    """

    name: str
    sign: Sign
    values: Mapping[int, float]  # {seed: value}
    unit: str
    paper: str
    margin: float | None = None
    beside: float = 0.0
    most: float = math.inf

    @property
    def interval(self) -> Interval:
        """The mean over seeds and its 95 % interval."""
        return self._interval(LEVEL)

    @property
    def verdict(self) -> Verdict:
        """What the interval says of the sign."""
        return self.verdict_at(LEVEL)

    @property
    def smallest(self) -> float:
        """The effect that so many seeds, scattered as these are, would have shown in 80 of 100 studies."""
        return smallest_detectable(self.values.values(), beside=self.beside)

    def verdict_at(self, level: float) -> Verdict:
        """The verdict by the interval of another level."""
        return verdict(self._interval(level), self.sign, self.margin) if any(self.values.values()) else "undecided"

    def _interval(self, level: float) -> Interval:
        return mean_interval(self.values.values(), level, self.beside, self.most)


@dataclass(frozen=True)
class Claim:
    """A finding and how it is tested: `study(scale)` is a study file as a mapping, `effects(scores, scale)` reads its
    table.

    `lacking` says of a scale why the claim cannot be tested there: what images it has not.
    """

    id: str
    source: str  # author and year
    finding: str
    paper: str  # the paper's own numbers
    study: Callable[[Scale], dict[str, Any]]
    effects: Callable[[Scores, Scale], list[Effect]]
    lacking: Mapping[Scale, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a scale says of a claim: a verdict with the effects behind it, or "not run" and why."""

    claim: Claim
    scale: Scale
    verdict: Literal["holds", "contradicted", "undecided", "not run"]
    effects: tuple[Effect, ...] = ()
    why: str = ""

    def row(self) -> dict[str, Any]:
        """All of it as plain values; the ends of an interval and the smallest effect are None where not known."""
        return {
            "id": self.claim.id, "source": self.claim.source, "finding": self.claim.finding, "paper": self.claim.paper,
            "scale": self.scale, "verdict": self.verdict, "why": self.why,
            "effects": [_effect_row(effect) for effect in self.effects],
        }  # fmt: skip


def judge(claim: Claim, scores: Scores, scale: Scale) -> Answer:
    """The verdict of a claim by the table of its study; "not run", with what is missing, where cells are."""
    if scale in claim.lacking:
        return Answer(claim, scale, "not run", why=claim.lacking[scale])
    try:
        effects = tuple(claim.effects(scores, scale))
    except InputError as missing:  # Scores names what it has not
        return Answer(claim, scale, "not run", why=str(missing))
    return Answer(claim, scale, overall(effects), effects)


def overall(effects: Sequence[Effect]) -> Verdict:
    """Of several effects: the claim holds where all do; it is contradicted where one is, of E effects at 1 - 0.05 / E.

    That all hold together needs no correction for their number; that any one of them is contradicted by chance does.
    """
    if not effects:
        raise ValueError("a claim needs an effect")
    if all(effect.verdict == "holds" for effect in effects):
        return "holds"
    level = 1 - (1 - LEVEL) / len(effects)
    return "contradicted" if any(e.verdict_at(level) == "contradicted" for e in effects) else "undecided"


def _effect_row(effect: Effect) -> dict[str, Any]:
    interval = effect.interval
    return {
        "name": effect.name, "sign": effect.sign, "value": interval.value,
        "low": interval.low if interval.known else None, "high": interval.high if interval.known else None,
        "unit": effect.unit, "margin": effect.margin, "seeds": {str(k): v for k, v in effect.values.items()},
        "verdict": effect.verdict, "paper": effect.paper,
        "smallest": effect.smallest if interval.known else None,
    }  # fmt: skip
