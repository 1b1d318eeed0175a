"""Everything that `cascade costs` shows, from the sums of a period and of the one before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cascade.core.arms import LADDER_ARMS, PLAN_ARMS
from cascade.costs.holdout import Interval, Measured, TooFew, measure
from cascade.costs.rows import ARMS, By, PeriodSums, TrafficRow
from cascade.costs.tallies import Line, lines_of, total_line, totals
from cascade.ledger.records import REVIEW_BY

__all__ = ["Costs", "ResponseCaching", "Saving", "TopWorkflows", "costs"]

_TOP_SHARE: Final = 0.8
_MOST_WORKFLOWS: Final = 10


@dataclass(frozen=True, slots=True)
class TopWorkflows:
    """The most expensive workflows: as many as make up 80 % of the spend, ten at most. `of`: how many there are in all."""

    lines: tuple[Line, ...]
    share: float
    of: int


@dataclass(frozen=True, slots=True)
class Saving:
    """What one policy's ladder saved against its baseline, in nano-USD; or, with no policy, what all of them did.

    `basis`: "holdout" is measured, `interval` and `relative_interval` are at 95 %; "estimate" is computed from the tokens
    seen, of batches at their prices on both sides. `requests`: those that are counted, all of them answered. `notes`: which
    requests are not counted, and why it was not measured.
    """

    policy: str | None
    basis: Literal["holdout", "estimate"]
    requests: int
    cost: int
    baseline: float
    interval: Interval | None = None
    relative_interval: Interval | None = None
    holdout: int = 0
    notes: tuple[str, ...] = ()

    @property
    def saved(self) -> float:
        """In nano-USD; below 0 where the ladder costs more."""
        return self.baseline - self.cost

    @property
    def relative(self) -> float | None:
        """As a share of what the baseline would have cost; None where that is nothing."""
        return 1 - self.cost / self.baseline if self.baseline > 0 else None


@dataclass(frozen=True, slots=True)
class ResponseCaching:
    """What the response cache did. `hits`: requests that it answered; `misses`: those that it had no answer for.

    `saved`: what the climbs had cost whose answers it returned again, in nano-USD.
    """

    hits: int
    misses: int
    saved: int

    @property
    def rate(self) -> float:
        """The hits' share of the requests that asked it, from 0 to 1."""
        return self.hits / (self.hits + self.misses)


@dataclass(frozen=True, slots=True)
class Costs:
    """A period's figures. `lines`: by the requested dimension; `reviewers`: the rungs that reviewed answers; `saving`: all policies, of which `savings` are the parts.

    `response_cache`: None where it was not used. What it saved is not in `saving`, which is the ladder's.
    """

    by: By
    total: Line
    lines: tuple[Line, ...]
    arms: tuple[Line, ...]
    rungs: tuple[Line, ...]
    reviewers: tuple[str, ...]
    workflows: TopWorkflows | None
    saving: Saving | None
    savings: tuple[Saving, ...]
    response_cache: ResponseCaching | None = None


def costs(now: PeriodSums, before: PeriodSums, by: By) -> Costs:
    """Compute a period's figures. `before`: the sums of the period before, of the same length."""

    def lines(name: str) -> tuple[Line, ...]:
        return lines_of(totals(now, name), totals(before, name), name)

    arms = sorted(lines("arm"), key=lambda line: ARMS.index(line.name) if line.name in ARMS else len(ARMS))
    rungs, workflows = lines("rung"), lines("workflow")
    savings = _savings(now)
    return Costs(
        by=by,
        total=total_line(totals(now, ""), totals(before, "")),
        lines={"rung": rungs, "workflow": workflows}.get(by) or lines(by),
        arms=tuple(arms),
        rungs=tuple(sorted((line for line in rungs if line.climbs or line.errors), key=lambda line: -line.climbs)),
        reviewers=tuple(line.name.removeprefix(REVIEW_BY) for line in rungs if line.reviews),
        workflows=_top_workflows([line for line in workflows if line.cost], len(workflows)),
        saving=_combined(savings),
        savings=savings,
        response_cache=_response_caching(now),
    )


def _response_caching(sums: PeriodSums) -> ResponseCaching | None:
    hits = [row for row in sums.traffic if row.arm == "cache"]
    found = ResponseCaching(
        sum(row.requests for row in hits), sum(row.requests for row in sums.missed), sum(row.estimate for row in hits)
    )
    return found if found.hits or found.misses else None


def _top_workflows(lines: Sequence[Line], of: int) -> TopWorkflows | None:
    if not lines:
        return None
    taken, share = 0, 0.0
    while taken < min(len(lines), _MOST_WORKFLOWS) and share < _TOP_SHARE:
        share += lines[taken].share
        taken += 1
    return TopWorkflows(tuple(lines[:taken]), share, of)


def _savings(sums: PeriodSums) -> tuple[Saving, ...]:
    """The saving of each policy whose ladder was used."""
    requests, in_rollout = _by_policy(sums.traffic), _by_policy(sums.slots)
    return tuple(
        _saving(policy, rows, in_rollout.get(policy, ()))
        for policy, rows in sorted(requests.items())
        if any(row.arm in LADDER_ARMS for row in rows)
    )


def _by_policy(rows: Iterable[TrafficRow]) -> dict[str, list[TrafficRow]]:
    found: dict[str, list[TrafficRow]] = {}
    for row in rows:
        found.setdefault(row.policy, []).append(row)
    return found


def _saving(policy: str, requests: Sequence[TrafficRow], in_rollout: Sequence[TrafficRow]) -> Saving:
    """One policy's saving. `requests`: all its requests; `in_rollout`: those inside a rollout, by slot."""
    found = measure(in_rollout)
    notes = [f"not measured: {found.reason}"] if isinstance(found, TooFew) else []
    unnamed = _requests(requests, "holdout") - _requests(in_rollout, "holdout")
    if unnamed:
        notes.append(
            f"{unnamed} requests of the holdout are not counted: their metadata lack the name that the rollout divides by"
        )
    if isinstance(found, Measured):
        notes += _beside_the_holdout(found, requests, in_rollout)
        return Saving(
            policy, "holdout", found.requests, found.cost, found.baseline, found.saved_interval, found.relative_interval,
            found.holdout, notes=tuple(notes),
        )  # fmt: skip
    ladder = [row for row in requests if row.arm in LADDER_ARMS]
    answered = [row for row in ladder if row.rung]
    counted = [row for row in answered if row.estimated == row.requests]
    unanswered = [row for row in ladder if not row.rung]
    if failed := _requests(unanswered, *LADDER_ARMS):
        cost = sum(row.cost for row in unanswered) / 1e9
        notes.append(f"{failed} failed or abstained requests are not counted (they cost {cost:.6f} USD)")
    requests_counted = _requests(counted, *LADDER_ARMS)
    if unknown := _requests(answered, *LADDER_ARMS) - requests_counted:
        notes.append(f"{unknown} requests without an estimate of the baseline's cost are not counted")
    overhead = sum(row.cost for row in requests if row.arm in PLAN_ARMS)
    if overhead:
        notes.append(
            f"what planned and reviewed runs is counted ({overhead / 1e9:.6f} USD): the baseline is asked nothing in its place"
        )
    return Saving(
        policy, "estimate", requests_counted, sum(row.cost for row in counted) + overhead,
        float(sum(row.estimate for row in counted)), notes=tuple(notes),
    )  # fmt: skip


def _beside_the_holdout(
    found: Measured, requests: Sequence[TrafficRow], in_rollout: Sequence[TrafficRow]
) -> Iterator[str]:
    """What a measured saving leaves out, and what limits it."""
    others = _requests(requests, "cascade") - _requests(in_rollout, "cascade")
    if others:
        yield f"{others} requests outside the rollout are not counted"
    if batch := _requests(requests, "batch"):
        yield f"{batch} requests through batches are not counted: the holdout is asked live"
    if planned := _requests(requests, "executor"):
        yield f"{planned} requests of plans, and what planned and reviewed them, are not counted: the holdout has none"
    if found.left_out:
        yield f"{found.left_out} requests on days without a holdout are not counted"
    if found.unanswered:
        yield f"{found.unanswered} failed or abstained requests save nothing; what they cost is counted"
    if found.share_changed:
        yield "the rollout's share changed within the period: choose a period after the change (--since)"


def _requests(rows: Iterable[TrafficRow], *arms: str) -> int:
    return sum(row.requests for row in rows if row.arm in arms)


def _combined(savings: Sequence[Saving]) -> Saving | None:
    """The sum of all policies' savings. It is measured if each of them is.

    The intervals' ends are added: policies may share customers, so their errors are not independent.
    """
    if len(savings) < 2:
        return savings[0] if savings else None
    intervals = [one.interval for one in savings if one.interval is not None]
    measured = len(intervals) == len(savings)
    cost, baseline = sum(one.cost for one in savings), sum(one.baseline for one in savings)
    interval = Interval(sum(one.low for one in intervals), sum(one.high for one in intervals)) if measured else None
    relative = None
    if interval is not None:
        low, high = interval.low + cost, interval.high + cost  # of what the baseline would have cost: above 0
        relative = Interval(1 - cost / low, 1 - cost / high)
    notes = ("the policies' intervals are added up",) if measured else ()
    return Saving(
        None, "holdout" if measured else "estimate", sum(one.requests for one in savings), cost, baseline, interval, relative,
        sum(one.holdout for one in savings), notes,
    )  # fmt: skip
