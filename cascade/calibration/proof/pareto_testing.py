"""Certified thresholds: points on the frontier of one half of the data, tested in order on the held-out half.

Pareto testing: Laufer-Goldshtein, B., Fisch, A., Barzilay, R. and Jaakkola, T. (2023), Efficiently controlling multiple
risks with Pareto testing, ICLR; in fixed sequence, which spends delta once: Bauer, P. (1991), Statistics in Medicine 10.

    tune A    → the path (fewest losses first) and its starting point: both fixed before any outcome of B is read
    certify B → each point in turn, until a test at level delta fails; the last point that passed is certified
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.calibration.bounds import Sample, chance_of_passing, keeps, passes, sample_of, units_needed, upper_bound
from cascade.calibration.halves import OperatingPoint, SplitHalf
from cascade.calibration.proof.power import ExpectedLosses
from cascade.calibration.search.counts import Loss as CountedLoss
from cascade.calibration.search.levels import NOT_COUNTED, CodedCorpus
from cascade.core.errors import ConfigurationError
from cascade.core.policy.certificate import Certificate, Escalation, Hashes, Loss, PathStep, Units, weighting_of
from cascade.corpora.shards import files_of
from cascade.policy.certificates import hash_of, hash_of_file
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.calibration.search.levels import At

__all__ = [
    "FEWEST_OF_TASK",
    "MOST_TASKS",
    "Certificate",
    "Certified",
    "NotCertified",
    "Target",
    "Tested",
    "certify",
    "escalation_of",
    "hash_of_corpus",
    "loss_limits",
    "start_on",
]

FEWEST_OF_TASK = 50
"""Items that a task needs at a rung for its own escalation rate: from here on the standard error, at most 0.071, is below the
margin of 0.10 that the storm guard adds. With fewer, the rung's rate over all tasks is the better estimate."""

MOST_TASKS = 256
"""The most tasks with their own rates: as many as a policy may define."""

_LONGEST_TASK = 128
_LIKELY = 0.9  # the predicted probability of passing at which the sequence of tests starts


@dataclass(frozen=True, slots=True)
class Target:
    """The claim to certify: the rate of `loss` is at most `alpha`, at confidence level 1 - `delta`.

    `disagreement` is counted as `false_confident`, on a corpus whose scores measure agreement with the baseline's answers.
    Raises ConfigurationError if alpha or delta is not between 0 and 1.
    """

    loss: Loss = "false_confident"
    alpha: float = 0.02
    delta: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("delta", self.delta)):
            if not 0 < value < 1:
                raise ConfigurationError(f"{name}: {value:g} must be between 0 and 1 (e.g. 0.02)")

    @property
    def counted(self) -> CountedLoss:
        """The loss under its name in the table of counts."""
        return "regression" if self.loss == "regression" else "false_confident"


@dataclass(frozen=True, slots=True)
class Tested:
    """Thresholds tested on held-out data.

    `errors`: how many of the `n` units have the loss; None for groups and graded losses. `rate`: the mean loss, each unit
    weighted equally. `upper_bound`: the upper confidence limit of the rate at 1 - delta.
    """

    units: Units
    n: int
    errors: int | None
    rate: float
    upper_bound: float

    @property
    def weighting(self) -> str:
        """What the mean is taken over, e.g. "every group weighted equally"."""
        return weighting_of(self.units)


@dataclass(frozen=True, slots=True)
class Certified:
    """The last point that passed its test: the cheapest certified one.

    `tested`: its figures on the certify half. `walked`: how many points were tested, including the one that failed.
    `fewer`: the path's points with fewer losses on the tune half, the nearest first; the first of them passed the same test.
    """

    point: OperatingPoint
    target: Target
    tested: Tested
    walked: int
    fewer: tuple[OperatingPoint, ...] = ()

    def certificate(
        self,
        hashes: Mapping[str, str],
        *,
        right_at: float,
        escalation: Escalation = Escalation(),  # noqa: B008 - frozen, and without anything in it
        grader: str | None = None,
        grader_error: float | None = None,
        path: Sequence[PathStep] = (),
        loss_by_task: Mapping[str, float] | None = None,
    ) -> Certificate:
        """What goes into the policy. `hashes`: `hash_of_corpus` as corpus, and `hashes_of` the policy *as written*."""
        return Certificate(
            loss=self.target.loss,
            right_at=right_at,
            alpha=self.target.alpha,
            delta=self.target.delta,
            units=self.tested.units,
            n=self.tested.n,
            errors=self.tested.errors,
            upper_bound=min(self.tested.upper_bound, self.target.alpha),  # equal but for the last bit
            escalation=dict(escalation.rungs),
            escalation_by_task={task: dict(rates) for task, rates in escalation.tasks.items()} or None,
            grader=grader,
            grader_error=grader_error,
            path=tuple(path),
            loss_by_task=dict(loss_by_task) if loss_by_task else None,
            hashes=Hashes(**hashes),
        )


@dataclass(frozen=True, slots=True)
class NotCertified:
    """Nothing could be certified. `point`: the first point, which failed its test; `tested`: its figures, held out.

    `further_units_needed`: beyond those n, at the rate that was observed; None where no number would be enough.
    `undecided`: the rate is not shown to be above alpha either.
    """

    point: OperatingPoint
    target: Target
    tested: Tested
    further_units_needed: int | None
    undecided: bool = False


def certify(
    path: Sequence[OperatingPoint],
    tune: SplitHalf,
    held_out: SplitHalf,
    target: Target,
    expected: ExpectedLosses | None = None,
) -> Certified | NotCertified:
    """Walk along `path`, the `risk_path` of `tune`'s counts, on `held_out`: the two share levels, and no group.

    `expected`: what each point is expected to lose on other data; None: what it lost on `tune`.

    Raises ConfigurationError for an empty path, or where a group has items in both halves.
    """
    if not path:
        raise ConfigurationError("the tuning half has no items, so there is nothing to certify (give --tune 0.5)")
    if tune.shares_groups_with(held_out):
        raise ConfigurationError("a group has items in both halves, so nothing can be certified (split by group)")
    start = start_on(len(path), expected or (lambda at: tune.sample(path[at], target.counted)), held_out.units, target)
    best: tuple[int, Sample] | None = None
    walked = 0
    for place in range(start, len(path)):
        sample = held_out.sample(path[place], target.counted)
        walked += 1
        if not passes(sample, target.alpha, target.delta):
            if best is None:
                return _not_certified(path[place], sample, target)
            break
        best = place, sample
    assert best is not None  # the path has a first point: it failed, or it is the best
    place, sample = best
    return Certified(path[place], target, _tested(sample, target.delta), walked, tuple(path[:place])[::-1])


def start_on(points: int, expected: ExpectedLosses, n: int, target: Target) -> int:
    """The first point to test: the one with the most losses that n certify units pass with predicted probability 0.9.

    A later start would often fail at once and certify nothing; an earlier one adds tests that must all pass.
    """

    def likely(index: int) -> bool:
        return chance_of_passing(expected(index), n, target.alpha, target.delta) >= _LIKELY

    low, high = 0, points
    while high - low > 1:  # more losses are less likely to pass; the point at `low` is likely to pass, or is the first
        middle = (low + high) // 2
        low, high = (middle, high) if likely(middle) else (low, middle)
    return low


def escalation_of(coded: CodedCorpus, at: At) -> Escalation:
    """By rung below the top, and by task: the share of the requests reaching it whose reply would not ship there.

    Counted as the storm guard does: floors, ceilings, errors and overflows are left out, and so are rungs whose threshold
    is `never`. A task needs FEWEST_OF_TASK counted items for its own rate. With more than MOST_TASKS tasks, those with the
    most items have one.
    """
    ends, levels = coded.shipped(at), np.asarray(at).T
    own = coded.codes if coded.natural is None else coded.natural
    rungs, tasks = dict[str, float](), dict[str, dict[str, float]]()
    most = _largest_tasks(coded)
    for index, rung in enumerate(coded.rungs[: coded.top]):
        threshold = levels[index]
        counted = (ends >= index) & (own[:, index] != NOT_COUNTED) & (threshold <= len(coded.levels[index]))
        if coded.reviews is not None:  # a review that could not be used is an error, where it is read
            read = coded.reviews.level[:, index] >= threshold
            counted &= ~(coded.reviews.unusable[:, index] & read)
        climbs = counted & (own[:, index] < threshold)
        reached = int(np.count_nonzero(counted))
        if not reached:
            continue
        rungs[rung] = round(int(np.count_nonzero(climbs)) / reached, 4)
        of_task = np.bincount(coded.task[counted], minlength=len(coded.tasks)).tolist()
        up = np.bincount(coded.task[climbs], minlength=len(coded.tasks)).tolist()
        for code in most:
            if of_task[code] >= FEWEST_OF_TASK:
                tasks.setdefault(coded.tasks[code], {})[rung] = round(up[code] / of_task[code], 4)
    return Escalation(rungs, tasks if len(coded.tasks) > 1 else {})


def loss_limits(coded: CodedCorpus, at: At, target: Target) -> dict[str, float]:
    """By task: the upper confidence limit, at 1 - delta, of its own rate of the loss; rounded up to four digits.

    Each limit holds by itself, not all of them together. A task needs FEWEST_OF_TASK units. Empty if there is one task only:
    its rate is the one that is certified.
    """
    limits, losses = dict[str, float](), coded.losses(at, target.counted)
    for code in _largest_tasks(coded) if len(coded.tasks) > 1 else ():
        rows = coded.task == code
        sample = sample_of(losses[rows], coded.group[rows])
        if sample.n >= FEWEST_OF_TASK:
            limits[coded.tasks[code]] = min(1.0, ceil(upper_bound(sample, target.delta) * 1e4) / 1e4)
    return limits


def _largest_tasks(coded: CodedCorpus) -> list[int]:
    """The codes of at most MOST_TASKS tasks that a policy can name, those with the most items first."""
    sizes = np.bincount(coded.task, minlength=len(coded.tasks)).tolist()
    order = sorted(range(len(sizes)), key=lambda code: (-sizes[code], coded.tasks[code]))
    return [code for code in order if _can_be_named(coded.tasks[code])][:MOST_TASKS]


def _can_be_named(task: str) -> bool:
    """Whether a policy can hold the name as a key: a corpus may use any name, and `${…}` would be expanded."""
    return 0 < len(task) <= _LONGEST_TASK and task.isprintable() and "$" not in task


def hash_of_corpus(files: Sequence[str | Path]) -> str:
    """SHA-256 of a corpus's bytes; of several files, shards among them, of their digests in order."""
    digests = [hash_of_file(file) for corpus in files for file in files_of(corpus)]
    return digests[0] if len(digests) == 1 else hash_of("\n".join(digests).encode())


def _tested(sample: Sample, delta: float) -> Tested:
    return Tested(sample.units, sample.n, sample.errors, sample.rate, upper_bound(sample, delta))


def _not_certified(point: OperatingPoint, sample: Sample, target: Target) -> NotCertified:
    needed = units_needed(sample, target.alpha, target.delta)
    further = None if needed is None else max(1, needed - sample.n)
    undecided = keeps(sample, target.alpha, target.delta) is None
    return NotCertified(point, target, _tested(sample, target.delta), further, undecided)
