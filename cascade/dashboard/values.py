"""What the dashboard's pages are told: frozen values, made by `figures` and drawn by `pages`.

Money is integer nano-USD, times are Unix seconds, shares are 0..1. Names come from callers and may hold anything: pages escape them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cascade.core.policy.operations import Mode
from cascade.costs import Costs, Line, Period, Saving

__all__ = [
    "AuditState", "BudgetState", "Episode", "EscalationSeries", "Event", "LargeRequest", "ModelView", "Overview", "PolicyMode", "RequestRow",
    "SpendPoint", "StepRow",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SpendPoint:
    """One slice of the period: what was spent, and what the baseline alone would have cost the requests that it is known of."""

    since: int
    until: int
    cost: int
    baseline: int
    requests: int


@dataclass(frozen=True, slots=True)
class Episode:
    """A storm of one task at one rung. `until` None: it goes on. `rate` and `limit`: of natural escalations, as it tripped."""

    task: str
    rung: str
    since: float
    until: float | None
    rate: float
    limit: float
    action: str


@dataclass(frozen=True, slots=True)
class EscalationSeries:
    """A task's escalation rate by slice of the period: (since, requests, those that took more than one step)."""

    task: str
    points: tuple[tuple[int, int, int], ...]

    @property
    def rate(self) -> float:
        """Of the whole period; 0 if there was no request."""
        requests = sum(point[1] for point in self.points)
        return sum(point[2] for point in self.points) / requests if requests else 0.0


@dataclass(frozen=True, slots=True)
class AuditState:
    """What the audit says of one policy. `state`: off, no_data, holding, drifting or alarmed; `text`: one line for people."""

    policy: str
    state: Literal["off", "no_data", "holding", "drifting", "alarmed"]
    text: str
    graded: int = 0
    open: int = 0
    error_rate: float | None = None
    error_ci95: tuple[float, float] | None = None
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One limit and what is spent of it in its current span. `alert_at`: the share at which it alerts."""

    policy: str
    budget: str
    span: Literal["daily", "monthly"]
    scope: str
    value: str
    limit: int
    spent: int
    alert_at: float
    on_exhausted: str

    @property
    def share(self) -> float:
        """Of the limit; may be above 1."""
        return self.spent / self.limit if self.limit else 0.0

    @property
    def state(self) -> Literal["ok", "alert", "exhausted"]:
        """Where the spend stands."""
        return "exhausted" if self.share >= 1 else "alert" if self.share >= self.alert_at else "ok"


@dataclass(frozen=True, slots=True)
class LargeRequest:
    """A request that cost more than its policy's `call_usd`, or one of the dearest where no policy has one."""

    request: str
    cost: int


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a trail. `confidence` None: none was reported."""

    rung: str
    model: str
    verdict: str
    confidence: float | None
    reason: str | None
    cost: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request with its trail. `ended` False: it still runs, or its process died. `prompt`, `answer`: None unless the ledger keeps texts."""

    request: str
    at: float
    policy: str
    task: str
    workflow: str
    arm: str
    steps: tuple[StepRow, ...]
    ended: bool
    rung: str | None
    degraded: str | None
    error: str | None
    cost: int
    latency_ms: float
    prompt: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a storm, a budget's alert, an audit's alarm. `text`: one line."""

    at: float
    kind: str
    policy: str
    text: str


@dataclass(frozen=True, slots=True)
class PolicyMode:
    """A policy's mode in force on this machine. `source`: what sets it, as `cascade mode` says it; `configured`: the policy's own (None: not here)."""

    policy: str
    mode: Mode | None
    source: str
    configured: Mode | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page. `costs`: exactly what `cascade costs --json` shows of the same ledger and period.

    `large_above`: the least that a request in `large` cost; None: the dearest of the period are shown. `policy`: what the page is filtered by, "" for all.
    """

    ledger: str
    period: Period
    made_at: float
    policy: str
    costs: Costs
    saving: Saving | None
    spend: tuple[SpendPoint, ...]
    escalations: tuple[EscalationSeries, ...]
    episodes: tuple[Episode, ...]
    audits: tuple[AuditState, ...]
    budgets: tuple[BudgetState, ...]
    large: tuple[LargeRequest, ...]
    large_above: int | None
    last: tuple[RequestRow, ...]
    events: tuple[Event, ...]
    modes: tuple[PolicyMode, ...]
    models: tuple[Line, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the period has no request at all: the page says what to do."""
        return not self.costs.total.requests and not self.last


@dataclass(frozen=True, slots=True)
class ModelView:
    """The page of one model. `line`: its totals, `spend`: by slice (no baseline: 0), `last`: its last requests, with whole trails."""

    name: str
    period: Period
    made_at: float
    line: Line
    spend: tuple[SpendPoint, ...]
    last: tuple[RequestRow, ...]
