"""Do backbones know different things, and does putting them side by side pay?  [Ericsson 2022, the question of fusion]

For every pair: linear CKA of their features, and whether they are wrong about the same test images more than chance
would have it. For every fusion: what it gains over its best single member on the same test images, drawn together. Over
all tasks: the mean rank of each model, who is the most consistent. Controls are single backbones that stand beside and
are not fused; one with as many features as the fusion says whether it is the knowledge or the width.

The best member is chosen without the test images, by the score on a fifth of the training images that a fit of its own
has not seen: taking the best on the test images would make every gain look smaller than it is, by as much as luck
chose. Both are in the provenance.

Letters: N test images, B draws, M models.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from whytransfer.backbones.fused import Fused
from whytransfer.backbones.standardised import SCHEME, Standardised
from whytransfer.diagnosis import overlap
from whytransfer.diagnosis.answers import Answers, answers_of
from whytransfer.diagnosis.cka import GROUPS, similarity
from whytransfer.diagnosis.consistency import mean_ranks
from whytransfer.errors import InputError
from whytransfer.images.subsets import holdout
from whytransfer.progress import say
from whytransfer.records import Result
from whytransfer.tasks import predictions
from whytransfer.tasks.features import Take
from whytransfer.tasks.standardising import standardise

TASK = "complementarity"
HELD_OUT = 0.2  # of the training images, to choose the best member by
EVERY = 4  # backbones up to which every subset is fused; beyond, pairs and all of them together


@dataclass(frozen=True)
class Job:
    """One task on one pair of image sets: `make(train, test, folder)` builds it, `name` is the task's."""

    name: str
    train: Any
    test: Any
    make: Callable[[Any, Any, Path], Any]
    pictures: Any  # PixelCache of the test images, for the features that CKA compares

    @property
    def data(self) -> str:
        """Both sets in one name."""
        return self.train.name if self.train.name == self.test.name else f"{self.train.name} -> {self.test.name}"


def fusions_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The members of every fusion: all subsets of up to 4 backbones; of more, every pair and all of them."""
    sizes = range(2, len(names) + 1) if len(names) <= EVERY else (2, len(names))
    return [members for size in sizes for members in itertools.combinations(names, size)]


@dataclass(frozen=True)
class Complementarity:
    """Two backbones or more on one task or more; run() yields the tasks' Results and those of this diagnosis.

    `backbones` are single ones by their specs, `controls` others that are not fused. With `standardised` every fusion
    is there twice, plain and standardised. `folder` keeps the predictions. `take` extracts features (a FeatureBank).
    """

    backbones: Mapping[str, nn.Module]
    jobs: Sequence[Job]
    size_px: int
    folder: Path
    take: Take
    controls: Mapping[str, nn.Module] = field(default_factory=dict)
    standardised: bool = False
    seed: int = 0
    batch: int = 256
    draws: int = 2000
    tick: Callable[[int], object] = lambda done: None
    models: dict[str, nn.Module] = field(init=False, repr=False, compare=False)
    members: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.backbones) < 2:
            raise InputError(f"complementarity is a matter of two backbones or more, got {len(self.backbones)}")
        for job in self.jobs:
            job.make(*holdout(job.train, HELD_OUT, self.seed), self.folder)  # what cannot be parted is refused here
        object.__setattr__(self, "models", dict(self.backbones))
        object.__setattr__(self, "members", {})
        for members in fusions_of(list(self.backbones)):
            self._fuse("+".join(members), members)
            if self.standardised:
                self._fuse(SCHEME + "+".join(members), members)
        self.models.update(self.controls)

    def _fuse(self, spec: str, members: tuple[str, ...]) -> None:
        fused: Any = Fused([self.backbones[name] for name in members])  # type: ignore[misc]
        fused = Standardised(fused) if spec.startswith(SCHEME) else fused
        fused.spec = spec
        self.models[spec], self.members[spec] = fused.eval(), members

    @property
    def work(self) -> int:
        """How many fits there are, which `tick` counts."""
        return len(self.jobs) * (len(self.models) + len(self.backbones))

    def run(self) -> Iterator[list[Result]]:
        """Lists of Results that belong together: for each job how alike features are, the task's of each model, and
        their comparison; at the end the ranks over all jobs. InputError for features without spread or number."""
        compared: dict[str, dict[str, Answers]] = {}
        alike: set[str] = set()
        for job in self.jobs:
            if job.pictures.fingerprint not in alike:  # before the fits: broken features are refused here
                alike.add(job.pictures.fingerprint)
                yield list(self._alike(job))
            answers: dict[str, dict[str, Answers]] = {}
            for spec, model in self.models.items():
                standardise(model, job.train, self.size_px, self.batch, self.seed)
                results, answers[spec] = self._answered(job, model, job.train, job.test, self.folder)
                yield results
            held = self._held_out(job)
            yield [*self._overlaps(job, answers), *self._gains(job, answers, held)]
            for metric in _conflicting(answers[next(iter(answers))]):
                name = f"{job.name} {metric}, {job.data}"
                compared[name] = {spec: by[metric] for spec, by in answers.items()}
        if len(compared) > 1:
            yield list(self._ranks(compared))

    def _answered(
        self, job: Job, model: nn.Module, train: Any, test: Any, folder: Path
    ) -> tuple[list[Result], dict[str, Answers]]:
        results = list(job.make(train, test, folder).run(model, self.seed))
        self.tick(1)
        where = results[0].provenance["predictions"]
        return results, answers_of(results, predictions.read(folder, where))

    def _held_out(self, job: Job) -> dict[str, dict[str, float]]:
        """{metric: {single backbone: its score on training images that were put aside}}."""
        rest, held = holdout(job.train, HELD_OUT, self.seed)
        found: dict[str, dict[str, float]] = {}
        for spec in self.backbones:
            _, answers = self._answered(job, self.models[spec], rest, held, self.folder / "held-out")
            for metric, answer in answers.items():
                found.setdefault(metric, {})[spec] = answer.value
        return found

    def _overlaps(self, job: Job, answers: Mapping[str, Mapping[str, Answers]]) -> Iterator[Result]:
        """For every pair of single backbones: do they fail on the same images?"""
        for a, b in itertools.combinations(self.backbones, 2):
            for metric, one in answers[a].items():
                for found in overlap.measures(one, answers[b][metric], self.draws, self.seed):
                    what = {"kind": "overlap", "of_task": job.name, "of_metric": metric, "models": [a, b]}
                    yield self._result(
                        f"{a} with {b}", job.data, f"{job.name} {metric}: {found.name}", found.value, "", "lower",
                        len(one), (found.low, found.high), {**what, **found.told},
                    )  # fmt: skip

    def _gains(
        self, job: Job, answers: Mapping[str, Mapping[str, Answers]], held: Mapping[str, Mapping[str, float]]
    ) -> Iterator[Result]:
        """For every fusion and control: the difference to the best single member (of all), and to the controls."""
        candidates = {**self.members, **dict.fromkeys(self.controls, tuple(self.backbones))}
        for spec, members in candidates.items():
            for metric, fusion in answers[spec].items():
                scores = held[metric]
                best = max(members, key=lambda m: fusion.sign * scores[m])  # noqa: B023
                on_test = max(members, key=lambda m: fusion.sign * answers[m][metric].value)  # noqa: B023
                difference, low, high = overlap.gain(fusion, answers[best][metric], self.draws, self.seed)
                what = {
                    "kind": "gain", "of_task": job.name, "of_metric": metric, "members": list(members),
                    "variant": self._variant(spec), "value_of_it": fusion.value, "best_single": best,
                    "value_of_best_single": answers[best][metric].value, "features": self._width(spec),
                    "chosen_by": f"the score on {HELD_OUT:.0%} of the training images, held out of a fit of its own",
                    "held_out_scores": {m: scores[m] for m in members}, "best_on_test": on_test,
                    "gain_over_best_on_test": fusion.sign * (fusion.value - answers[on_test][metric].value),
                    "gain_over_controls": self._over_controls(spec, metric, answers),
                }  # fmt: skip
                unit = "points" if fusion.unit == "%" else fusion.unit
                name = f"{job.name} {metric}: gain over the best single"
                yield self._result(spec, job.data, name, difference, unit, "higher", len(fusion), (low, high), what)

    def _variant(self, spec: str) -> str:
        if spec in self.controls:
            return "control"
        if spec in self.backbones:
            return "single"
        return "standardised" if spec.startswith(SCHEME) else "plain"

    def _width(self, spec: str) -> int | None:
        return getattr(self.models[spec], "width", None)

    def _over_controls(
        self, spec: str, metric: str, answers: Mapping[str, Mapping[str, Answers]]
    ) -> dict[str, list[float]]:
        """{control: difference, low, high}."""
        return {
            control: list(overlap.gain(answers[spec][metric], answers[control][metric], self.draws, self.seed))
            for control in self.controls
            if control != spec
        }

    def _alike(self, job: Job) -> Iterator[Result]:
        """CKA of every pair of single backbones on the test images."""
        tables = {
            spec: self.take(model, job.pictures, self.size_px, self.batch).vectors
            for spec, model in self.backbones.items()
        }
        if len(job.pictures) < 2 * GROUPS:
            say(f"note: {len(job.pictures)} images are too few for an interval of CKA: {2 * GROUPS} are enough")
        for a, b in itertools.combinations(self.backbones, 2):
            found = similarity(tables[a], tables[b], (a, b), self.seed)
            what = {
                "kind": "cka",
                "models": [a, b],
                "plain_cka": found.plain,
                "interval": f"jackknife of {GROUPS} groups",
            }
            yield self._result(
                f"{a} with {b}", job.pictures.name, "unbiased linear CKA", found.value, "", "lower", found.images,
                (found.low, found.high), what,
            )  # fmt: skip

    def _ranks(self, compared: Mapping[str, Mapping[str, Answers]]) -> Iterator[Result]:
        for spec, found in mean_ranks(compared, self.draws, self.seed).items():
            what = {"kind": "rank", "tasks": list(compared), "ranks": found.ranks, "variant": self._variant(spec)}
            what["interval"] = "over test images; the tasks are as chosen"
            yield self._result(
                spec, f"{len(compared)} tasks", "mean rank", found.value, "rank", "lower", len(compared),
                (found.low, found.high), what,
            )  # fmt: skip

    def _result(
        self,
        model: str,
        data: str,
        metric: str,
        value: float,
        unit: str,
        direction: Any,
        n: int,
        ends: tuple[float | None, float | None],
        what: Mapping[str, Any],
    ) -> Result:
        decides = ("kind", "of_task", "of_metric", "tasks")
        told = {"size_px": self.size_px, "bootstrap_draws": self.draws, **what}
        told["options"] = {name: what[name] for name in decides if name in what}
        return Result(model, data, TASK, metric, value, unit, direction, n, self.seed, *ends, told)


def _conflicting(answers: Mapping[str, Answers]) -> list[str]:
    """The metrics that count as tasks in a rank: groups of targets rather than their mean."""
    groups = [metric for metric in answers if metric != "mean"]
    return groups or list(answers)
