"""Totals of a period by task, rung, model, workflow, policy, day or arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from cascade.core.arms import LADDER_ARMS, PLAN_ARMS
from cascade.costs.rows import By, PeriodSums, SpendRow, TrafficRow

__all__ = ["Line", "Tally", "Totals", "lines_of", "total_line", "totals"]

_NONE: Final = "(none)"
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Line:
    """The totals of one name. Money in nano-USD; `cost` includes those of shadow checks, the audit, plans and reviews (`shadow`, `audit`, `planning`, `review`).

    `planning`: of plans, the calls that plan and that review results. `share` of the whole spend. `steps`: all but theirs (`shadow_steps`,
    `audit_steps`, `planning_steps`); `errors`: those of them that failed.
    `requests`, `answers` and `resolved` without shadows, audits, planning and reviewing calls; None where the sums do not have them (by rung: only who answered;
    by model: nothing of requests). `served`: what finished requests cost, so that a cost per answer includes no request
    that was still running when the period ended. `climbs`: answered requests of the ladder, `escalated`: those of them
    that took more than one step. Of a rung or a model: its steps that did not fail, and those of them that escalated.
    """

    name: str
    cost: int
    shadow: int
    audit: int
    planning: int
    review: int
    share: float
    steps: int
    shadow_steps: int
    audit_steps: int
    planning_steps: int
    reviews: int
    errors: int
    input: int
    output: int
    requests: int | None
    answers: int | None
    resolved: int | None
    served: int | None
    climbs: int
    escalated: int
    cost_before: int
    escalation_before: float | None

    @property
    def cost_per_answer(self) -> float | None:
        """In nano-USD; None without answers."""
        return self.served / self.answers if self.served is not None and self.answers else None

    @property
    def cost_per_resolved(self) -> float | None:
        """The cost of all requests per answer that was not degraded, in nano-USD."""
        return self.served / self.resolved if self.served is not None and self.resolved else None

    @property
    def escalation(self) -> float | None:
        """From 0 to 1; None if there is nothing to count."""
        return self.escalated / self.climbs if self.climbs else None

    @property
    def escalation_change(self) -> float | None:
        """In percentage points, against the period before; None if either has no rate."""
        now, before = self.escalation, self.escalation_before
        return None if now is None or before is None else (now - before) * 100


class Tally:
    """The totals of one name, while rows are added."""

    __slots__ = (
        "answers", "audit", "audit_steps", "climbs", "cost", "errors", "escalated", "input", "output", "planning", "planning_steps", "requests", "resolved", "review",
        "reviews", "sent_up", "served", "shadow", "shadow_steps", "steps", "tried",
    )  # fmt: skip

    def __init__(self) -> None:
        self.steps = self.cost = self.shadow = self.shadow_steps = self.input = self.output = self.tried = 0
        self.errors = self.sent_up = self.audit = self.audit_steps = self.review = self.reviews = 0
        self.planning = self.planning_steps = 0
        self.requests = self.answers = self.resolved = self.served = self.climbs = self.escalated = 0

    def add_spend(self, row: SpendRow) -> None:
        """Add steps, those of shadows, audits and plans' overhead separately, and reviews, which are no steps. A failed step is an error, not an escalation."""
        self.cost += row.cost
        self.input += row.input
        self.output += row.output
        if row.is_review:
            self.review += row.cost
            self.reviews += row.steps
            return
        if row.arm == "shadow":
            self.shadow += row.cost
            self.shadow_steps += row.steps
            return
        if row.arm == "audit":
            self.audit += row.cost
            self.audit_steps += row.steps
            return
        if row.arm in PLAN_ARMS:
            self.planning += row.cost
            self.planning_steps += row.steps
            return
        self.steps += row.steps
        self.errors += row.errors
        if row.arm in LADDER_ARMS:
            self.tried += row.steps - row.errors
            self.sent_up += row.escalated - row.errors

    def add_traffic(self, row: TrafficRow) -> None:
        """Add requests; shadows, audits, planning and reviewing calls are not counted."""
        if row.arm in ("shadow", "audit") or row.arm in PLAN_ARMS:
            return
        self.requests += row.requests
        self.answers += row.answers
        self.resolved += row.resolved
        self.served += row.cost
        if row.arm in LADDER_ARMS and row.rung:
            self.climbs += row.requests
            self.escalated += row.escalated


Totals = Mapping[str, Tally]

_SPEND: Final[Mapping[str, Callable[[SpendRow], str]]] = {
    "task": lambda row: row.task,
    "rung": lambda row: row.rung,
    "model": lambda row: row.model,
    "workflow": lambda row: row.workflow or _NONE,
    "policy": lambda row: row.policy,
    "day": lambda row: date.fromordinal(_EPOCH + row.day).isoformat(),
    "arm": lambda row: row.arm,
    "": lambda _row: "",
}
_TRAFFIC: Final[Mapping[str, Callable[[TrafficRow], str]]] = {
    "task": lambda row: row.task,
    "rung": lambda row: row.rung,
    "workflow": lambda row: row.workflow or _NONE,
    "policy": lambda row: row.policy,
    "day": lambda row: date.fromordinal(_EPOCH + row.day).isoformat(),
    "arm": lambda row: row.arm,
    "": lambda _row: "",
}


def totals(sums: PeriodSums, by: By | str) -> Totals:
    """The totals by one dimension ("": everything together). They are added up once."""
    held: Totals | None = sums.totals.get(by)
    if held is not None:
        return held
    found: dict[str, Tally] = {}
    name_of = _SPEND[by]
    for row in sums.spend:
        name = name_of(row)
        tally = found.get(name)
        if tally is None:
            tally = found[name] = Tally()
        tally.add_spend(row)
    if (asked_of := _TRAFFIC.get(by)) is not None:
        for row in sums.traffic:
            name = asked_of(row)
            if by == "rung" and not name:
                continue  # nobody answered
            tally = found.get(name)
            if tally is None:
                tally = found[name] = Tally()
            tally.add_traffic(row)
    sums.totals[by] = found
    return found


def lines_of(now: Totals, before: Totals, by: By | str) -> tuple[Line, ...]:
    """Most expensive first; days in order."""
    whole = sum(tally.cost for tally in now.values())
    lines = [_line(name, tally, before.get(name), whole, by) for name, tally in now.items()]
    if by == "day":
        return tuple(sorted(lines, key=lambda line: line.name))
    return tuple(sorted(lines, key=lambda line: (-line.cost, line.name)))


def total_line(now: Totals, before: Totals) -> Line:
    """Everything together, from totals by ""."""
    tally = now.get("", Tally())
    return _line("", tally, before.get(""), tally.cost, "")


def _line(name: str, tally: Tally, before: Tally | None, whole: int, by: str) -> Line:
    of_steps = by in ("rung", "model")

    def climbed(one: Tally) -> tuple[int, int]:
        return (one.tried, one.sent_up) if of_steps else (one.climbs, one.escalated)

    climbs, escalated = climbed(tally)
    earlier, sent = (0, 0) if before is None else climbed(before)
    return Line(
        name, tally.cost, tally.shadow, tally.audit, tally.planning, tally.review, tally.cost / whole if whole else 0.0, tally.steps,
        tally.shadow_steps, tally.audit_steps, tally.planning_steps, tally.reviews, tally.errors, tally.input, tally.output,
        requests=None if of_steps else tally.requests,
        answers=None if by == "model" else tally.answers,
        resolved=None if by == "model" else tally.resolved,
        served=None if of_steps else tally.served,
        climbs=climbs,
        escalated=escalated,
        cost_before=0 if before is None else before.cost,
        escalation_before=sent / earlier if earlier else None,
    )  # fmt: skip
