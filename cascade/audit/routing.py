"""The escalation side: is the routing table stale, is too much on the top rung, is a rung trusted too far; and what explains it.

Counts of escalations are the ledger's sums, with Wilson's bounds, 95 % on each side (`core.storm`); wrong answers are those of the uniform sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from cascade.audit.rates import Interval, Loss, grouped, is_below
from cascade.audit.sequence import interval_at_all_times
from cascade.core.arms import AUDITED_ARMS
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import wilson_lower_bound
from cascade.costs import PeriodSums, SpendRow, TrafficRow
from cascade.ledger.audit import Sample

__all__ = ["TOP_SHARE", "Cause", "EscalationLine", "Routing", "TopShare", "TrustLine", "routing_of"]

_MARGIN: Final = 0.10  # as the storm guard's limit: above the certified rate
TOP_SHARE: Final = 0.20
"""More than this share on the top rung is told."""
_MOST_CAUSES: Final = 3
_SMALLEST_CAUSE: Final = 0.1  # of the excess

Kind = Literal["all", "task", "workflow", "flag", "confidence"]
_Group = tuple[Kind, str]
_Groups = Mapping[_Group, tuple[int, int]]  # n, and how many of them count
_ALL: Final[_Group] = ("all", "")


@dataclass(frozen=True, slots=True)
class Cause:
    """A group of requests that explains `share` of an excess. Groups of different kinds overlap."""

    kind: Kind
    name: str
    share: float


@dataclass(frozen=True, slots=True)
class EscalationLine:
    """How often replies of a rung escalated; `task` None: of all tasks. Failed calls are not counted.

    `certified`: None without a certificate that holds, and where the floor or the ceiling decides; `is_own`: it is this task's own rate,
    not that of all tasks. `stale`: "above" or "below" what was certified by more than 0.10, with its whole interval.
    """

    task: str | None
    rung: str
    replies: int
    escalated: int
    rate: float
    interval: Interval
    certified: float | None
    is_own: bool
    stale: Literal["above", "below"] | None
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class TopShare:
    """What the top rung answered of `requests`, and its part of the ladder's `cost` (nano-USD). Both are told above 20 %."""

    rung: str
    answered: int
    requests: int
    cost: int
    whole_cost: int
    causes: tuple[Cause, ...] = ()

    @property
    def share(self) -> float:
        """Of the answered requests."""
        return self.answered / self.requests

    @property
    def cost_share(self) -> float | None:
        """Of what the ladder cost."""
        return self.cost / self.whole_cost if self.whole_cost else None

    @property
    def is_high(self) -> bool:
        """Whether the share is above 20 %, chance aside."""
        return wilson_lower_bound(self.answered, self.requests) > TOP_SHARE

    @property
    def is_cost_high(self) -> bool:
        """Whether the share of the cost is above 20 %."""
        return (self.cost_share or 0.0) > TOP_SHARE


@dataclass(frozen=True, slots=True)
class TrustLine:
    """How often a rung's answers are wrong, with the mean of the confidences that a threshold was held against.

    `is_over_trusted`: the rate's lower bound is above alpha, which bounds the rate over all requests.
    """

    rung: str
    graded: int
    wrong: int
    rate: float
    interval: Interval
    confidence: float | None
    is_over_trusted: bool
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything above. `top` None: nothing was answered. `alpha`: what `trust` is compared with."""

    escalation: tuple[EscalationLine, ...]
    top: TopShare | None
    trust: tuple[TrustLine, ...]
    alpha: float


def routing_of(
    policy: Policy, sums: PeriodSums, samples: Sequence[Sample], certified: Escalation, loss: Loss, alpha: float
) -> Routing:
    """From one policy's sums and uniform samples. `certified`: the rates that hold now; empty without a certificate."""
    rows = [row for row in sums.spend if row.arm in AUDITED_ARMS]
    lines: list[EscalationLine] = []
    for index, rung in enumerate(policy.ladder[: policy.top]):
        reached = [row for row in rows if row.rung == rung.rung and _is_free(policy, row.task, index)]
        seen = [one for one in samples if one.index >= index and one.rung and _is_free(policy, one.task, index)]
        by_task: dict[str, list[SpendRow]] = defaultdict(list)
        for row in reached:
            by_task[row.task].append(row)
        sampled = dict(grouped(seen, lambda one: one.task))
        found = [_escalation(None, rung.rung, reached, certified.rungs.get(rung.rung), _went_up(seen, index))]
        for task, own in sorted(by_task.items()):
            went_up = _went_up(sampled.get(task, ()), index)
            line = _escalation(task, rung.rung, own, certified.rate(task, rung.rung), went_up)
            found.append(line and replace(line, is_own=rung.rung in certified.tasks.get(task, {})))
        lines += [line for line in found if line is not None]
    return Routing(tuple(lines), _top(policy, sums, samples), tuple(_trust(samples, loss, alpha)), alpha)


def _is_free(policy: Policy, task: str, index: int) -> bool:
    """Whether the reply itself decides here; below a floor and from the ceiling on it does not."""
    route = policy.route(task)
    return route.floor <= index < route.ceiling


def _went_up(samples: Iterable[Sample], index: int) -> Iterable[tuple[Sample, bool]]:
    return [(one, one.index > index) for one in samples]


def _escalation(
    task: str | None,
    rung: str,
    rows: Sequence[SpendRow],
    certified: float | None,
    went_up: Iterable[tuple[Sample, bool]],
) -> EscalationLine | None:
    counted = [(row, row.steps - row.errors, max(0, row.escalated - row.errors)) for row in rows]
    n, hits = sum(replies for _, replies, _ in counted), sum(up for _, _, up in counted)
    if n <= 0:
        return None
    low, high = wilson_lower_bound(hits, n), 1 - wilson_lower_bound(n - hits, n)
    stale: Literal["above", "below"] | None = None
    causes: tuple[Cause, ...] = ()
    if certified is not None:
        stale = "above" if low > certified + _MARGIN else "below" if high < certified - _MARGIN else None
        causes = _causes(certified, _count_rows(counted), _count_samples(went_up, whole=False)) if stale else ()
    return EscalationLine(task, rung, n, hits, hits / n, (low, high), certified, True, stale, causes)


def _top(policy: Policy, sums: PeriodSums, samples: Sequence[Sample]) -> TopShare | None:
    rows = [row for row in sums.traffic if row.arm in AUDITED_ARMS and row.rung]
    requests = sum(row.requests for row in rows)
    if not requests:
        return None
    top = policy.ladder[policy.top].rung
    answered = sum(row.requests for row in rows if row.rung == top)
    counted = [(row, row.requests, row.requests if row.rung == top else 0) for row in rows]
    sampled = [(one, one.is_top) for one in samples if one.rung]
    spend = [row for row in sums.spend if row.arm in AUDITED_ARMS]
    found = TopShare(
        top, answered, requests, sum(row.cost for row in spend if row.rung == top), sum(row.cost for row in spend)
    )  # fmt: skip
    if not found.is_high:
        return found
    return replace(found, causes=_causes(TOP_SHARE, _count_rows(counted), _count_samples(sampled, whole=False)))


def _trust(samples: Sequence[Sample], loss: Loss, alpha: float) -> Iterable[TrustLine]:
    known = [one for one in samples if is_below(one) and loss.judged(one) in ("right", "wrong")]
    by_rung: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for one in known:
        by_rung[one.index, one.answered_by].append(one)
    for (_, rung), own in sorted(by_rung.items()):
        judged = [(one, loss.is_wrong(one)) for one in own]
        n, wrong = len(own), sum(is_wrong for _, is_wrong in judged)
        stated = [
            one.confidence
            for one in own
            if one.source in ("self_reported", "calibrated") and one.confidence is not None
        ]
        interval = interval_at_all_times(wrong, n)
        is_over = interval[0] > alpha
        yield TrustLine(
            rung, n, wrong, wrong / n, interval, sum(stated) / len(stated) if stated else None, is_over,
            _causes(alpha, _count_samples(judged, whole=True)) if is_over else (),
        )  # fmt: skip


def _count(of: Iterable[tuple[Iterable[_Group], int, int]]) -> _Groups:
    """Add up (groups, n, hits) by group, and everything under _ALL."""
    found: dict[_Group, tuple[int, int]] = {_ALL: (0, 0)}
    for groups, n, hits in of:
        for group in {*groups, _ALL}:
            before = found.get(group, (0, 0))
            found[group] = before[0] + n, before[1] + hits
    return found


def _count_rows(rows: Iterable[tuple[SpendRow | TrafficRow, int, int]]) -> _Groups:
    return _count(([("task", row.task), ("workflow", row.workflow or "(none)")], n, hits) for row, n, hits in rows)


def _count_samples(judged: Iterable[tuple[Sample, bool]], *, whole: bool) -> _Groups:
    """By flag; `whole`: also by what the ledger's sums tell of all requests, and by confidence."""
    return _count((_groups_of(one, whole=whole), 1, int(hit)) for one, hit in judged)


def _groups_of(sample: Sample, *, whole: bool) -> Iterable[_Group]:
    for flag in sample.flags:
        yield "flag", flag
    if whole:
        yield "task", sample.task
        yield "workflow", sample.workflow or "(none)"
        if sample.confidence is not None:
            yield "confidence", f"{sample.confidence:.2f}"


def _causes(expected: float, whole: _Groups, *more: _Groups) -> tuple[Cause, ...]:
    """The groups with the largest parts of the excess (or of what is missing). A group of everything explains nothing."""
    found: list[Cause] = []
    is_excess = _excess(whole[_ALL], expected) > 0
    for groups in (whole, *more):
        n, _ = groups[_ALL]
        excess = _excess(groups[_ALL], expected)
        if not excess or (excess > 0) is not is_excess:  # this part, a sample, does not show it
            continue
        found += [
            Cause(kind, name, min(1.0, _excess(own, expected) / excess))
            for (kind, name), own in groups.items()
            if own[0] != n
        ]
    large = (one for one in found if one.share >= _SMALLEST_CAUSE)
    return tuple(sorted(large, key=lambda one: (-one.share, one.kind, one.name)))[:_MOST_CAUSES]


def _excess(counted: tuple[int, int], expected: float) -> float:
    n, hits = counted
    return hits - expected * n
