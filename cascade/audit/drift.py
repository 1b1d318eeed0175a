"""What the audit's uniform sample says of the rate of the loss now, and whether a detector alarms. `watch` is pure, `read_drift` reads.

Counted are the uniform samples of the current epoch (what decides has not changed since), shipped after the last reset, that are graded or
have a real outcome, in the order in which that became known. A loss is an answer that was shipped below the top rung and is wrong;
an answer of the top rung and a request without an answer are none.

Rates count every grade that is believed. Detectors count only grades that mean what the certificate's alpha means: of the
same grader, or real outcomes. A judge that failed its control items is not believed: its grades count nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final

from cascade.audit.detector import Detectors, EDetector
from cascade.audit.grading import grader_of
from cascade.audit.rates import OUTCOME, Loss, graded_by, is_below, skipped_because
from cascade.audit.sequence import interval_at_all_times
from cascade.core.modes import share_of
from cascade.core.policy import Policy
from cascade.core.policy.operations import Audit
from cascade.ledger.audit import AuditTables, Mark, Ratchet, Sample
from cascade.policy.certificates import epoch_of, is_of_policy
from cascade.policy.ratchet import step_in_force as ratchet_step

__all__ = [
    "MAX_RATE",
    "Drift",
    "Rate",
    "Seen",
    "judge_name",
    "newest_reset",
    "read_drift",
    "step_in_force",
    "told_alarms",
    "watch",
]

MAX_RATE: Final = 0.02
"""The rate that is right where neither a certificate nor `audit.max_rate` says one."""
RIGHT_AT: Final = 0.5

_RECENT = 250
_TOLD = 10  # samples of other thresholds in a row: at a change of them a few are no fault
_NOT_JUDGED = frozenset({OUTCOME, "top"})  # graders that compare with nothing


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of a policy's audit. `ratchet` is read first: a step is taken only if it is still in force."""

    ratchet: Ratchet | None
    samples: Sequence[Sample]
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of the loss over a policy's requests, or over one task's (`task`; "" for the policy).

    `counted`, `losses`: of the grades that are believed. `recent`: losses and results among the last 250. `interval`: of the rate,
    95 % at all times at once. `unknown`: samples shipped below the top of which nothing counts. `withheld`: why there is no rate.
    `alpha`: what the detector compares with; None: it has none. `compared`: results that it counted; `value`, `threshold`: it alarms
    when the value gets there. `crossed_at`: at which result it did. `alarm`: the alarm that was told and stands.
    """

    task: str
    counted: int
    losses: int
    recent: tuple[int, int]
    unknown: int
    withheld: str | None = None
    alpha: float | None = None
    compared: int = 0
    value: float | None = None
    threshold: float | None = None
    crossed_at: int | None = None
    alarm: Mark | None = None

    @property
    def rate(self) -> float | None:
        """Losses by results; None if it is withheld or there are none."""
        return self.losses / self.counted if self.counted and self.withheld is None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the rate, 95 % at all times at once; None if there is no rate."""
        return None if self.rate is None else interval_at_all_times(self.losses, self.counted)

    @property
    def is_alarming(self) -> bool:
        """Whether an alarm stands, told or not."""
        return self.crossed_at is not None or self.alarm is not None

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        interval = self.interval
        recent = None if self.rate is None else {"losses": self.recent[0], "results": self.recent[1]}
        return {
            "task": self.task or None,
            "rate": self.rate,
            "interval95": None if interval is None else list(interval),
            "results": self.counted,
            "losses": None if self.withheld else self.losses,
            "recent": recent,
            "unknown": self.unknown,
            "withheld": self.withheld,
            "alpha": self.alpha,
            "compared": self.compared,
            "value": self.value,
            "threshold": self.threshold,
            "alarm": self.is_alarming,
        }


@dataclass(frozen=True, slots=True)
class Drift:
    """What `watch` found. `rates`: the policy's first, then tasks by name.

    `epoch`, `step`: what decides now. `is_certified`: alpha is a certificate's that holds. `grader`: whose grades its alpha is about; None
    without one. `uncounted`: by reason, samples of which nothing is known. `incomparable`: by grader, results that no detector
    counts. `open`: samples not graded yet. `notes`: what the figures do not say of themselves. `elsewhere`: the one of them that says
    that the newest samples are of another version of the policy; None: they are not.
    """

    policy: str
    epoch: str
    step: int
    ratchet: Ratchet | None
    alpha: float
    is_certified: bool
    grader: str | None
    rates: tuple[Rate, ...]
    open: int = 0
    uncounted: Mapping[str, int] = field(default_factory=dict[str, int])
    incomparable: Mapping[str, int] = field(default_factory=dict[str, int])
    notes: tuple[str, ...] = ()
    elsewhere: str | None = None

    @property
    def alarms(self) -> tuple[Rate, ...]:
        """The rates whose alarm stands."""
        return tuple(rate for rate in self.rates if rate.is_alarming)

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "epoch": self.epoch,
            "ratchet_step": self.step,
            "alpha": self.alpha,
            "certified": self.is_certified,
            "grader": self.grader,
            "rates": [rate.fields for rate in self.rates],
            "open": self.open,
            "uncounted": dict(self.uncounted),
            "incomparable": dict(self.incomparable),
            "notes": list(self.notes),
        }


def read_drift(policy: Policy, tables: AuditTables, withheld: Mapping[str, str] | None = None) -> Drift:
    """`watch` what is on the tables now. Raises LedgerDown, NoPrice."""
    ratchet, marks = tables.ratchet(policy.name), tables.marks(policy.name)
    reset = newest_reset(marks)
    samples = tables.samples(policy.name, since=reset)
    return watch(policy, Seen(ratchet, samples, marks), withheld)


def watch(policy: Policy, seen: Seen, withheld: Mapping[str, str] | None = None) -> Drift:
    """Count what was seen. `withheld`: by judge ("judge:opus"), why it is not believed. Raises NoPrice."""
    return _Watching(policy, seen, withheld or {}).drift()


def judge_name(grader: str, policy: Policy) -> str:
    """A grader's name; `judge` alone is the top rung, and is named so."""
    return f"judge:{policy.ladder[policy.top].rung}" if grader == "judge" else grader


def step_in_force(policy: Policy, ratchet: Ratchet | None) -> int:
    """How many steps the policy is ratcheted now: a ratchet ends with its certificate."""
    return 0 if ratchet is None else ratchet_step(policy, ratchet.certificate, ratchet.step)


def told_alarms(epoch: str, marks: Sequence[Mark]) -> dict[str, Mark]:
    """The alarms that were told and stand, by task ("" for the policy): those of this epoch since the last reset, the first of each."""
    reset = newest_reset(marks)
    alarms: dict[str, Mark] = {}
    for mark in marks:
        if mark.kind == "alarm" and mark.at > reset and mark.details.get("epoch") == epoch:
            alarms.setdefault(mark.details.get("task") or "", mark)
    return alarms


def newest_reset(marks: Sequence[Mark]) -> float:
    """When the audit was reset last, in Unix seconds; 0 if it never was."""
    return max((mark.at for mark in marks if mark.kind == "reset"), default=0.0)


@dataclass(slots=True)
class _Counts:
    """Of one task, or of all. `known`, `compared`: answers that were shipped below the top."""

    known: int = 0
    losses: list[bool] = field(default_factory=list[bool])
    unknown: Counter[str] = field(default_factory=Counter[str])
    compared: int = 0

    def add(self, *, loss: bool, below: bool, compares: bool, share: float) -> bool:
        """Count a result; returns whether the detector counts it. `share`: of the request, uniform in 0..1.

        What is not below the top is always known: it counts with the probability with which the others are known, else their rate
        would look lower than it is. That probability is of the results so far, so that it does not depend on this one.
        """
        others = self.known + self.unknown.total() + 1
        if below or share * others < self.known + 1:
            self.losses.append(loss)
        counts = compares if below else share * others < self.compared + 1
        self.known += below
        self.compared += below and compares
        return counts


class _Watching:
    """One look. `_limits`: by task, the rates that are certified for it."""

    def __init__(self, policy: Policy, seen: Seen, withheld: Mapping[str, str]) -> None:
        audit, certificate = policy.audit or Audit(), policy.certificate
        self._policy, self._seen, self._withheld = policy, seen, withheld
        self._step = step_in_force(policy, seen.ratchet)
        self._epoch = epoch_of(policy, self._step)
        holds = certificate if is_of_policy(policy) else None
        self._certificate = holds
        self._loss = Loss(RIGHT_AT if certificate is None else certificate.right_at, withheld)
        self._alpha = audit.max_rate or MAX_RATE if holds is None else holds.alpha
        limits = {} if holds is None else holds.loss_by_task or {}
        self._detectors = Detectors(self._alpha, limits, audit.arl)
        self._counts: dict[str, _Counts] = {"": _Counts(), **{task: _Counts() for task in limits}}
        self._incomparable: Counter[str] = Counter()
        self._by_outcome_alone = 0
        self._by_another = 0

    def drift(self) -> Drift:
        reset = newest_reset(self._seen.marks)
        uniform = [one for one in self._seen.samples if one.is_uniform and one.at > reset]
        current = [one for one in uniform if one.epoch == self._epoch]
        last = max((one.at for one in current), default=reset)
        self._by_another = sum(one.at > last for one in uniform)
        known = [one for one in current if one.state != "open" or one.outcome is not None]
        for sample in current:
            self._hold(sample)
        for sample in sorted(known, key=_when_known):
            self._count(sample)
        alarms = told_alarms(self._epoch, self._seen.marks)
        names = ["", *sorted(self._counts.keys() - {""})]
        return Drift(
            self._policy.name, self._epoch, self._step, self._seen.ratchet, self._alpha, self._certificate is not None,
            self._grader, tuple(self._rate(name, alarms.get(name)) for name in names), len(current) - len(known),
            dict(self._counts[""].unknown.most_common()), dict(self._incomparable.most_common()), tuple(self._notes()),
            self._elsewhere,
        )  # fmt: skip

    @property
    def _elsewhere(self) -> str | None:
        if self._by_another < _TOLD:
            return None
        return (
            f"the newest {self._by_another} samples count nowhere: other thresholds, or another version of the policy,"
            " shipped them; if that goes on, what runs the audit or what answers has an old policy: start it again"
        )

    @property
    def _grader(self) -> str | None:
        if self._certificate is None or self._certificate.grader is None:
            return None
        return judge_name(self._certificate.grader, self._policy)

    def _hold(self, sample: Sample) -> None:
        """An open sample that waits for a judge that is believed: those of the top rung are graded without it, and alone look perfect."""
        if sample.state != "open" or sample.outcome is not None or not is_below(sample) or not self._withheld:
            return
        grader = grader_of(self._policy, sample.task)
        if grader in self._withheld:
            for counts in (self._counts[""], self._counts.setdefault(sample.task, _Counts())):
                counts.unknown[f"{grader} is not believed"] += 1

    def _count(self, sample: Sample) -> None:
        below, grader = is_below(sample), graded_by(sample)
        judged = self._loss.judged(sample) if below else "right"
        own = self._counts.setdefault(sample.task, _Counts())
        if judged not in ("right", "wrong"):
            reason = f"{grader} is not believed" if judged == "withheld" else judged
            reason = skipped_because(sample) if judged == "skipped" else reason
            for counts in (self._counts[""], own):
                counts.unknown[reason] += 1
            return
        compares = not below or self._compares(grader)
        share = share_of("audit:known", sample.request)
        for task, counts in (("", self._counts[""]), (sample.task, own)):
            loss, detector = judged == "wrong", self._detector(task)
            if counts.add(loss=loss, below=below, compares=compares, share=share) and detector is not None:
                detector.update(float(loss))
        if not compares:
            self._incomparable[grader] += 1
        self._by_outcome_alone += below and sample.state == "skipped"

    def _compares(self, grader: str) -> bool:
        return self._certificate is None or grader in _NOT_JUDGED or judge_name(grader, self._policy) == self._grader

    def _rate(self, task: str, alarm: Mark | None) -> Rate:
        counts, detector = self._counts[task], self._detector(task)
        recent = counts.losses[-_RECENT:]
        rate = Rate(
            task, len(counts.losses), sum(counts.losses), (sum(recent), len(recent)), counts.unknown.total(),
            self._why_withheld(counts), alarm=alarm,
        )  # fmt: skip
        if detector is None:
            return rate
        # Answers of the top rung alone would compare nothing, and look like a perfect rate.
        is_compared = counts.compared > 0 or not (counts.known or rate.unknown)
        return replace(
            rate, alpha=detector.alpha, compared=detector.count if is_compared else 0,
            value=detector.value if is_compared else None, threshold=detector.threshold, crossed_at=detector.crossed_at,
        )  # fmt: skip

    def _detector(self, task: str) -> EDetector | None:
        return self._detectors.tasks.get(task) if task else self._detectors.policy

    def _why_withheld(self, counts: _Counts) -> str | None:
        """Answers of the top rung are graded in any case: without the others they would look like a rate of 0."""
        disbelieved = {grader: counts.unknown[f"{grader} is not believed"] for grader in self._withheld}
        judge, judged = max(disbelieved.items(), key=itemgetter(1), default=("", 0))
        if judged and judged >= counts.known:
            return f"{judge} is not believed: {self._withheld[judge]}"
        if counts.unknown and not counts.known:
            reason, _ = counts.unknown.most_common(1)[0]
            return f"no answer that was shipped below the top rung could be graded ({reason})"
        return None

    def _notes(self) -> Iterable[str]:
        counts, certificate = self._counts[""], self._certificate
        if certificate is None:
            what = "no certificate" if self._policy.certificate is None else "the certificate no longer holds"
            yield f"uncertified ({what}): {self._alpha:g} is not a certified rate, and no task has one of its own"
        elif self._incomparable:
            graders, by = ", ".join(self._incomparable), self._grader or "a grader that it does not name"
            yield f"no detector counts the grades of {graders}: the certificate's rate was graded by {by}"
        if self._elsewhere is not None:
            yield self._elsewhere
        if self._by_outcome_alone:
            yield (
                f"{self._by_outcome_alone} results are known only from a reported outcome: if mostly bad answers are"
                " reported, the rate is too high"
            )
        if counts.unknown.total() > (counts.known + counts.unknown.total()) / 10:
            yield (
                f"{counts.unknown.total()} of {counts.known + counts.unknown.total()} answers shipped below the top rung"
                " are not known to be right or wrong; they are taken to be as often wrong as the others"
            )
        if certificate is not None and certificate.units == "groups":
            yield "the certificate weighs groups equally, the audit requests: groups that ask more weigh more"
        if certificate is not None and certificate.loss != "disagreement" and counts.compared:
            yield (
                f"the certified loss is {certificate.loss}; an answer that was compared with the top rung's counts as wrong where they"
                " differ, although the top rung may be wrong itself"
            )


def _when_known(sample: Sample) -> tuple[float, int, float]:
    return (sample.graded_at or sample.at, sample.number, sample.at)
