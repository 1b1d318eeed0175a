"""What the ladder saved, measured: its requests against the holdout's, which the baseline answered on the same days.

Units (a rollout's `by`: customers, or requests) fall into the arms by hash, so the holdout's mean cost is what the ladder's
requests would have cost at the baseline, but for chance. The mean is of an answer: a request that failed or abstained
saves nothing, and what it cost is counted in its arm. Requests of one unit are alike, so chance is estimated by the 64
slots that the units fall into as wholes:

- The variance of each arm's mean (a ratio: cost by answers) by the delete-a-group jackknife: Kott, P. S. (2001), The
  Delete-a-Group Jackknife, Journal of Official Statistics 17(4), 521-526, over the slots that an arm has requests in.
- Two things are unknown about what these requests would have cost: the holdout's mean, and how far the ladder's units are
  from all units by chance. The second cannot be observed (the baseline was not asked for them), so it is taken from the holdout's
  variance, scaled by how much fewer or more units the ladder has (from the spread of the slots' sizes: units that fall into slots at
  random spread them by the sum of their squares), or from the ladder's own where that is larger. So the interval holds for
  what these requests saved, and for what such traffic saves on average.
- Slots of unequal size count as fewer: the effective number (Kish, L. (1965), Survey Sampling: the square of the sum by the sum
  of the squares) stands for their number in the variance's correction for few, and bounds its degrees of freedom. These are
  Satterthwaite's (1946, Biometrics Bulletin 2(6), 110-114), from the scatter of what deleting each slot moves.
- The interval is Student's t on the logarithm of the cost: it is skewed, and never below zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cascade.core.modes import SLOTS
from cascade.costs.rows import TrafficRow

__all__ = ["FEWEST_SLOTS", "Interval", "Measured", "TooFew", "measure", "student_t"]

FEWEST_SLOTS: Final = 6
"""Effective slots that each arm needs: with fewer, a 95 % interval holds less often than it says."""

_SHARE_RATIO = 2.0
_DAY_COUNTS = 100  # requests; the holdout's share of a day with fewer moves by chance
_NORMAL_FROM = 1000  # from here on t is the normal's
_LARGEST_LOG = 300.0  # of a logarithm: no figure overflows


@dataclass(frozen=True, slots=True)
class Interval:
    """At 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A policy's saving, in nano-USD, over `requests` that the ladder answered, on days on which both arms had some.

    `cost`: what the ladder cost on these days, that of `unanswered` requests (failed or abstained) included; `baseline`: what
    the answered ones would have cost; `saved` their difference, and `relative` to the baseline (0.6: 60 % less), each with its
    95 % interval. `holdout`: the answered requests that it is measured on; `units`: the effective number of slots that they
    fall into. `left_out`: requests of the ladder on other days. `share_changed`: the holdout's share changed within the period, so
    that the arms may differ by their days.
    """

    requests: int
    cost: int
    holdout: int
    units: float
    baseline: float
    baseline_interval: Interval
    left_out: int = 0
    unanswered: int = 0
    share_changed: bool = False

    @property
    def saved(self) -> float:
        """In nano-USD; below 0 where the ladder costs more."""
        return self.baseline - self.cost

    @property
    def saved_interval(self) -> Interval:
        """Its interval; only the baseline is uncertain."""
        return Interval(self.baseline_interval.low - self.cost, self.baseline_interval.high - self.cost)

    @property
    def relative(self) -> float:
        """The saving as a share of the baseline's cost."""
        return 1 - self.cost / self.baseline

    @property
    def relative_interval(self) -> Interval:
        """Its interval."""
        return Interval(1 - self.cost / self.baseline_interval.low, 1 - self.cost / self.baseline_interval.high)


@dataclass(frozen=True, slots=True)
class TooFew:
    """The holdout is too small to measure on: `reason` says why, and what to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Variance:
    """A variance and its degrees of freedom."""

    variance: float
    freedom: float

    def plus(self, other: _Variance) -> _Variance:
        """The sum, if the two are independent."""
        whole = self.variance + other.variance
        parts = self.variance**2 / self.freedom + other.variance**2 / other.freedom
        return _Variance(whole, whole**2 / parts if parts else self.freedom)


class _Arm:
    """One arm's answered requests and its whole cost, by slot, and its number of unanswered requests."""

    __slots__ = ("cost", "requests", "unanswered")

    def __init__(self) -> None:
        self.requests, self.cost = [0] * SLOTS, [0] * SLOTS
        self.unanswered = 0

    @property
    def n(self) -> int:
        return sum(self.requests)

    @property
    def mean(self) -> float:
        return sum(self.cost) / self.n

    @property
    def effective(self) -> float:
        """The effective number of slots (Kish)."""
        return self.n**2 / sum(n * n for n in self.requests)

    @property
    def concentration(self) -> float:
        """The sum of the squares of the units' shares of the requests, from the spread of the slots' sizes."""
        n = self.n
        return sum((one - n / SLOTS) ** 2 for one in self.requests) / (n * n * (1 - 1 / SLOTS))

    def variance_of_mean(self) -> _Variance:
        """Of the mean, by the jackknife: delete each slot, see how far it moves."""
        n, cost, mean, effective = self.n, sum(self.cost), self.mean, self.effective
        there = [
            (requests, spent) for requests, spent in zip(self.requests, self.cost, strict=True) if requests or spent
        ]
        moved = [((cost - spent) / (n - requests) - mean) ** 2 for requests, spent in there]
        whole, slots = sum(moved), len(moved)
        scatter = sum(one * one for one in moved) - whole * whole / slots
        freedom = min(effective - 1, 2 * whole * whole / scatter) if scatter > 0 else effective - 1
        return _Variance((slots - 1) / slots * effective / (effective - 1) * whole, freedom)


def measure(rows: Iterable[TrafficRow]) -> Measured | TooFew | None:
    """One policy's saving, from its requests; None if one of the arms has no answer, or the holdout cost nothing."""
    days: dict[int, dict[str, _Arm]] = {}
    for row in rows:
        if row.arm in ("cascade", "holdout"):
            arms = days.setdefault(row.day, {})
            arm = arms.get(row.arm) or arms.setdefault(row.arm, _Arm())
            arm.requests[row.slot] += row.answers
            arm.unanswered += row.requests - row.answers
            arm.cost[row.slot] += row.cost
    both = [arms for arms in days.values() if len(arms) == 2 and all(arm.n for arm in arms.values())]
    if not both:
        return None
    ladder, holdout = _combined(both, "cascade"), _combined(both, "holdout")
    for name, arm in (("holdout", holdout), ("ladder", ladder)):
        if arm.effective < FEWEST_SLOTS:
            return TooFew(
                f"the {name}'s {arm.n} requests are spread as over {arm.effective:.1f} of {SLOTS} slots, {FEWEST_SLOTS} are needed"
                " (more customers, a longer period, or another share of the rollout)"
            )
    if not holdout.mean:
        return None
    n, mean = ladder.n, holdout.mean
    known, unseen = holdout.variance_of_mean(), ladder.variance_of_mean()
    more = ladder.concentration / holdout.concentration if holdout.concentration else 1.0
    if known.variance * more >= unseen.variance:
        all_of_it = _Variance(known.variance * (1 + more), known.freedom)
    else:
        all_of_it = known.plus(unseen)
    error = math.sqrt(all_of_it.variance) / mean
    factor = math.exp(min(_LARGEST_LOG, student_t(max(1, int(all_of_it.freedom))) * error))
    left_out = sum(arms["cascade"].n for arms in days.values() if "cascade" in arms and arms not in both)
    return Measured(
        n, sum(ladder.cost), holdout.n, holdout.effective, n * mean, Interval(n * mean / factor, n * mean * factor),
        left_out, ladder.unanswered, _share_changed(both),
    )  # fmt: skip


def _combined(days: Iterable[dict[str, _Arm]], name: str) -> _Arm:
    whole = _Arm()
    for arms in days:
        one = arms[name]
        whole.unanswered += one.unanswered
        for slot in range(SLOTS):
            whole.requests[slot] += one.requests[slot]
            whole.cost[slot] += one.cost[slot]
    return whole


def _share_changed(days: Iterable[dict[str, _Arm]]) -> bool:
    counts = [(arms["holdout"].n, arms["cascade"].n) for arms in days]
    shares = [one / (one + other) for one, other in counts if one + other >= _DAY_COUNTS]
    return bool(shares) and max(shares) > _SHARE_RATIO * min(shares)


def student_t(freedom: int) -> float:
    """The 97.5 % point of Student's t: its distribution function is a finite sum where `freedom` is whole.

    Abramowitz, M. and Stegun, I. A. (1964), Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    if freedom >= _NORMAL_FROM:
        return 1.96
    low, high = 0.0, math.pi / 2  # t = sqrt(freedom) tan(angle)
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(freedom, angle) < 0.95 else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _within(freedom: int, angle: float) -> float:
    """P(|T| < sqrt(freedom) tan(angle))."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for step in range(3 if odd else 2, freedom - 1, 2):
        term *= (step - 1) / step * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
