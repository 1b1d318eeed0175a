"""What the dashboard's pages are told: frozen values, made by `figures` and drawn by `pages`.

Money is integer nano-USD, times are Unix seconds, shares are 0..1. Names come from callers and may hold anything: pages escape them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cascade.core.policy.operations import Mode
from cascade.costs import Costs, Line, Period, Saving

__all__ = [
    "AuditState", "BudgetState", "Episode", "EscalationSeries", "Event", "LargeRequest", "ModelPage", "OpenCallRow", "Overview",
    "PolicyMode", "PolicyPage", "RequestRow", "SpendPoint", "StepRow",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SpendPoint:
    """One slice of the period. `cost`: all that was spent, so that the slices' costs add up to the total's.

    `baseline`: the estimate of what the baseline alone would have cost the ladder's answered requests that have one; `compared`: what these
    same requests cost. `requests`: that ended in the slice, without shadows, audits, planning and reviewing calls.
    """

    since: int
    until: int
    cost: int
    baseline: int
    compared: int
    requests: int


@dataclass(frozen=True, slots=True)
class Episode:
    """A storm of one task at one rung. `until` None: it goes on. `rate` and `limit`: of natural escalations, as it tripped.

    `action`: what the guard did (escalate, hold or alert). `limit_wrong`: it lasted so long that the guard called its limit wrong, and only
    alerted from then on. `what` "errors": failures of a rung, whatever the task (`task` is then "other").
    """

    task: str
    rung: str
    since: float
    until: float | None
    rate: float
    limit: float
    action: str
    policy: str = ""
    limit_wrong: bool = False
    what: Literal["storm", "errors"] = "storm"


@dataclass(frozen=True, slots=True)
class EscalationSeries:
    """A task's escalation rate by slice of the period: (since, answered requests of the ladder, those that took more than one step)."""

    task: str
    points: tuple[tuple[int, int, int], ...]

    @property
    def requests(self) -> int:
        """Of the whole period."""
        return sum(point[1] for point in self.points)

    @property
    def rate(self) -> float:
        """Of the whole period; 0 if there was no request."""
        requests = self.requests
        return sum(point[2] for point in self.points) / requests if requests else 0.0


@dataclass(frozen=True, slots=True)
class AuditState:
    """What the audit says of one policy. `state`: off, no_data, holding, drifting or alarmed; `text`: one line for people.

    `graded`, `open`: sampled requests, of all time. `error_rate`: of the loss since the current thresholds are in force, with its interval
    at all times at once; None where the audit has none.
    """

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
    """One limit and what is spent of it in its current span, which began at `since`. `alert_at`: the share at which it alerts.

    `alerts`: what was told of it in this span, oldest first: (Unix seconds, one line).
    """

    policy: str
    budget: str
    span: Literal["daily", "monthly"]
    scope: str
    value: str
    limit: int
    spent: int
    alert_at: float
    on_exhausted: str
    since: float = 0.0
    alerts: tuple[tuple[float, str], ...] = ()

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
    """A request that cost more than its policy's `call_usd`, or one of the dearest where no policy has one. `at`: when it began."""

    request: str
    cost: int
    at: float = 0.0
    policy: str = ""
    task: str = ""
    workflow: str = ""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One call of a trail. `confidence` None: none was reported. `reason`: why it was sent up; None: it was not.

    `role`: "rung" for a rung's own call, else what it is beside it: "sample", "judge", "review" (of the answer before it), or the kind of an
    auxiliary call, such as "summary". `text`: the answer, if the ledger has it.
    """

    rung: str
    model: str
    verdict: str
    confidence: float | None
    reason: str | None
    cost: int
    latency_ms: float
    at: float = 0.0
    role: str = "rung"
    input_tokens: int = 0
    output_tokens: int = 0
    detail: str = ""
    failed_checks: tuple[str, ...] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class OpenCallRow:
    """A call that was announced and has no result yet. `bound`: the most that it may cost."""

    rung: str
    model: str
    bound: int


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request with its trail. `ended` False: it still runs, or its process died.

    `rung`: who answered, None if nobody did. `prompt` (JSON: system and messages), `answer`: None unless the ledger keeps texts and has these.
    `texts_removed`: it had them, and they were removed (`keep_days`, or erased). `cache`: hit or miss of the response cache.
    """

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
    model: str | None = None
    abstained: str | None = None
    confidence: float | None = None
    estimate: int | None = None
    cache: str | None = None
    certificate: str = ""
    observed_as: str | None = None
    texts_removed: bool = False
    open_calls: tuple[OpenCallRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a storm, a budget's alert, an audit's alarm. `text`: one line.

    `kind`: storm_tripped, storm_released, storm_limit_wrong, errors_tripped, errors_released, errors_continue, budget_alert, budget_refused,
    audit_alarm, audit_step, audit_reset.
    """

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
    """The first page. `costs`: exactly what `cascade costs --json` shows of the same ledger and period, by task.

    `rungs`, `models`, `workflows`, `by_policy`: the same figures by rung, model, workflow and policy, the dearest first; `workflows` are cut
    to the first of them. `slice_s`: the length of a slice of `spend` and `escalations`, in seconds. `large_above`: the least that a request
    in `large` cost; None: the dearest of the period are shown. `policy`: what the page is filtered by, "" for all. `last`: newest first.
    `events`: newest first. `stamp`: changes when the ledger does, see `ledger.trails`. `exists`: False if there is no ledger yet.
    """

    ledger: str
    period: Period
    made_at: float
    policy: str
    costs: Costs
    saving: Saving | None
    slice_s: int
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
    rungs: tuple[Line, ...]
    models: tuple[Line, ...]
    workflows: tuple[Line, ...]
    by_policy: tuple[Line, ...]
    stamp: str = ""
    exists: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether the period has no request at all: the page says what to do."""
        return not self.costs.total.requests and not self.last

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever asked with this ledger."""
        return not self.exists or not self.stamp.strip("0-")

    @property
    def head_of_workflows(self) -> float:
        """Of all workflows, the share that `costs.workflows` names; with `costs.workflows.share`: so few make so much of the bill. 0 without any."""
        head = self.costs.workflows
        return len(head.lines) / head.of if head is not None and head.of else 0.0


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """One policy. `overview`: all figures, filtered by it. `is_here`: whether its file is at hand; if not, what follows is empty.

    `ladder`: (rung, model, threshold: None if it never ships on its own or is the last). `certificate`: what proves its thresholds, or why
    nothing does, in one line.
    """

    overview: Overview
    is_here: bool
    ladder: tuple[tuple[str, str, float | None], ...] = ()
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class ModelPage:
    """One model: `line` its figures (None: it was not called in the period), and the same by policy, task and rung."""

    ledger: str
    period: Period
    made_at: float
    model: str
    line: Line | None
    slice_s: int
    spend: tuple[SpendPoint, ...]
    by_policy: tuple[Line, ...]
    by_task: tuple[Line, ...]
    by_rung: tuple[Line, ...]
