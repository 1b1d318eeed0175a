"""Thresholds that are proved: a walk along the frontier of one half of the data, tested on the half it never saw.

Pareto testing: Laufer-Goldshtein, B., Fisch, A., Barzilay, R. and Jaakkola, T. (2023), Efficiently controlling multiple
risks with Pareto testing, ICLR; in fixed sequence, which spends delta once: Bauer, P. (1991), Statistics in Medicine 10.

    tune A    → the path (least losses first), and where on it to start: settled before an outcome of B is read
    certify B → each point in turn, until one cannot be shown to keep its losses at alpha; the last that could is proved
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.calibration.bounds import Sample, chance_of_passing, passes, units_needed, upper_bound
from cascade.calibration.coded import Coded
from cascade.calibration.counts import Loss as CountedLoss
from cascade.calibration.foresight import Foresight
from cascade.calibration.sides import Found, Side
from cascade.certificates import hash_of
from cascade.core.certificate import Certificate, Hashes, Loss, Units
from cascade.core.errors import ConfigurationError
from cascade.corpora.arrays import np

if TYPE_CHECKING:
    from cascade.calibration.coded import At

__all__ = [
    "Certificate",
    "Certified",
    "NotCertified",
    "Target",
    "Tested",
    "certify",
    "escalation_of",
    "hash_of_corpus",
    "start_on",
]

_SURE = 0.9  # the predicted probability of passing that the walk starts at


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be proved: the rate of `loss` is at most `alpha`, with probability 1 - `delta`.

    `disagreement` is counted as false_confident is, on a corpus whose scores say how far an answer agrees with the
    baseline's. Raises ConfigurationError where alpha or delta is not between 0 and 1.
    """

    loss: Loss = "false_confident"
    alpha: float = 0.02
    delta: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("delta", self.delta)):
            if not 0 < value < 1:
                raise ConfigurationError(f"{name}: {value:g} is not between 0 and 1 (give e.g. 0.02)")

    @property
    def counted(self) -> CountedLoss:
        """The loss as the table of counts has it."""
        return "regression" if self.loss == "regression" else "false_confident"


@dataclass(frozen=True, slots=True)
class Tested:
    """One vector of thresholds on data that had no part in choosing it.

    `errors`: how many of the `n` units were lost, None for groups and graded losses. `rate`: the units' mean loss, every
    unit alike. `upper_bound`: of the rate, at 1 - delta.
    """

    units: Units
    n: int
    errors: int | None
    rate: float
    upper_bound: float

    @property
    def weighting(self) -> str:
        """What counts as much as what, in words."""
        return "every item alike" if self.units == "items" else "every group alike, whatever its size"


@dataclass(frozen=True, slots=True)
class Certified:
    """The last point of the walk that passed: cheapest of those that are proved.

    `tested`: its figures on the certify half. `walked`: how many points were tested, the one that failed included.
    """

    point: Found
    target: Target
    tested: Tested
    walked: int

    def certificate(
        self,
        hashes: Mapping[str, str],
        *,
        right_at: float,
        escalation: Mapping[str, float] | None = None,
        grader: str | None = None,
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
            escalation=dict(escalation or {}),
            grader=grader,
            hashes=Hashes(**hashes),
        )


@dataclass(frozen=True, slots=True)
class NotCertified:
    """Nothing could be proved. `point`: where the walk stopped at once; `tested`: its figures on the certify half.

    `further_units_needed`: beyond those n, at the rate that was observed; None where no number would do.
    """

    point: Found
    target: Target
    tested: Tested
    further_units_needed: int | None


def certify(
    path: Sequence[Found], tune: Side, held: Side, target: Target, foresight: Foresight | None = None
) -> Certified | NotCertified:
    """Walk along `path`, the `risk_path` of `tune`'s counts, on `held`: the two share levels, and no group.

    `foresight`: what each point is expected to lose on other data; None: what it lost on `tune`.

    Raises ConfigurationError for an empty path, or where a group has items in both halves.
    """
    if not path:
        raise ConfigurationError("there is nothing to certify: the tune half has no items (give --tune 0.5)")
    if tune.shares_groups_with(held):
        raise ConfigurationError("a group has items in both halves: nothing can be proved (split by group)")
    start = start_on(len(path), foresight or (lambda at: tune.sample(path[at], target.counted)), held.units, target)
    best: tuple[Found, Sample] | None = None
    walked = 0
    for point in path[start:]:
        sample = held.sample(point, target.counted)
        walked += 1
        if not passes(sample, target.alpha, target.delta):
            if best is None:
                return _not_certified(point, sample, target)
            break
        best = point, sample
    assert best is not None  # the path has a first point: it failed, or it is the best
    return Certified(best[0], target, _tested(best[1], target.delta), walked)


def start_on(points: int, foresight: Foresight, n: int, target: Target) -> int:
    """Where the walk starts: at the most losses that n units of the other half would likely (0.9) show to be few enough.

    Higher up a start would most often fail at once, and prove nothing; further down each step is one more test to pass.
    """

    def likely(index: int) -> bool:
        return chance_of_passing(foresight(index), n, target.alpha, target.delta) >= _SURE

    low, high = 0, points
    while high - low > 1:  # the more losses, the less likely: from here on the point at low is likely, or the first
        middle = (low + high) // 2
        low, high = (middle, high) if likely(middle) else (low, middle)
    return low


def escalation_of(coded: Coded, at: At) -> dict[str, float]:
    """For each rung below the top, the share of those that reached it whose climb goes on; a `never` rung has none.

    That is what the storm guard counts, but for floors: their tasks climb without being counted, and are told here.
    """
    ends, rates, levels = coded.shipped(at), dict[str, float](), np.asarray(at).T
    for index, rung in enumerate(coded.rungs[: coded.top]):
        reached = int(np.count_nonzero(ends >= index))
        if (levels[index] <= len(coded.levels[index])).any() and reached:
            rates[rung] = round(int(np.count_nonzero(ends > index)) / reached, 4)
    return rates


def hash_of_corpus(files: Sequence[str | Path]) -> str:
    """SHA-256 of a corpus's bytes; of several, of their digests in order."""
    digests = [hash_of(Path(file).read_bytes()) for file in files]
    return digests[0] if len(digests) == 1 else hash_of("\n".join(digests).encode())


def _tested(sample: Sample, delta: float) -> Tested:
    return Tested(sample.units, sample.n, sample.errors, sample.rate, upper_bound(sample, delta))


def _not_certified(point: Found, sample: Sample, target: Target) -> NotCertified:
    needed = units_needed(sample, target.alpha, target.delta)
    further = None if needed is None else max(1, needed - sample.n)
    return NotCertified(point, target, _tested(sample, target.delta), further)
