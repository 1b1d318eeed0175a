"""The ledger's sums as `ledger.stores.Reader` returns them: a row per day (UTC) and combination of keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from cascade.ledger.records import MISSED_SLOT, REVIEW_BY

__all__ = ["ARMS", "BYS", "PLAN_BYS", "By", "PeriodSums", "SpendRow", "TrafficRow"]

By = Literal["task", "rung", "model", "workflow", "policy", "day"]

BYS: Final[tuple[By, ...]] = ("task", "rung", "model", "workflow", "policy", "day")
PLAN_BYS: Final = ("assigned", "role")
"""Of runs of plans. The sums do not have them: entries are read."""
ARMS: Final = (
    "cascade",
    "batch",
    "cache",
    "holdout",
    "observe",
    "shadow",
    "bypass",
    "relay",
    "audit",
    "executor",
    "planner",
    "reviewer",
)
"""Who answered, see `core.trail.Arm`. What a shadow or an audit
finds is returned to nobody: its cost is counted, its requests and steps are not."""


class SpendRow(NamedTuple):
    """Steps. `day`: days since 1970-01-01, UTC; `escalated`: those with a reason to escalate, of which `errors` failed; `cost` in nano-USD.

    Reviews are in rows of their own (`is_review`), whose `steps` are the reviews.
    """

    day: int
    policy: str
    task: str
    workflow: str
    key: str
    arm: str
    rung: str
    model: str
    steps: int
    escalated: int
    cost: int
    input: int
    output: int
    errors: int

    @property
    def is_review(self) -> bool:
        """Whether it sums reviews instead of steps."""
        return self.rung.startswith(REVIEW_BY)


class TrafficRow(NamedTuple):
    """Requests. `rung`: who answered, "" if nobody did; `escalated`: those that took more than one step.

    `slot`: NO_SLOT, or a slot (`core.modes`) or MISSED_SLOT, whose row counts requests again, by policy, day and arm alone.
    `estimate`: what the baseline alone would have cost the `estimated` of them, in nano-USD; of the arm cache, what their climbs would.
    """

    day: int
    policy: str
    task: str
    workflow: str
    arm: str
    rung: str
    slot: int
    requests: int
    answers: int
    resolved: int
    escalated: int
    cost: int
    cost_squared: float
    estimate: int
    estimated: int


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """A period's sums. `slots`: requests of the arms cascade and holdout, again, by slot. `missed`: those that the response cache had no answer for, again."""

    spend: tuple[SpendRow, ...] = ()
    traffic: tuple[TrafficRow, ...] = ()
    slots: tuple[TrafficRow, ...] = ()
    missed: tuple[TrafficRow, ...] = ()
    totals: dict[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)
    """Kept by `tallies.totals`, by dimension."""

    @classmethod
    def of(cls, spend: Iterable[Any], traffic: Iterable[Any], policy: str | None = None) -> PeriodSums:
        """From the reader's rows; only those of `policy`, if given."""
        requests, slots, missed = list[TrafficRow](), list[TrafficRow](), list[TrafficRow]()
        for row in map(TrafficRow._make, traffic):
            if policy is None or row.policy == policy:
                (slots if row.slot >= 0 else missed if row.slot == MISSED_SLOT else requests).append(row)
        steps = [row for row in map(SpendRow._make, spend) if policy is None or row.policy == policy]
        return cls(tuple(steps), tuple(requests), tuple(slots), tuple(missed))
