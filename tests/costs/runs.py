"""Requests of runs of plans, as the ledger gives them back."""

from __future__ import annotations

from typing import Any

from cascade.costs.plans.subtasks import RunRecord, runs_of
from cascade.ledger.records import OutcomeBody, PlanBody, RequestBody, StepBody
from cascade.ledger.requests import RequestRecord

LADDER = ("haiku", "sonnet", "opus")
COST = {"haiku": 1, "sonnet": 20, "opus": 40}
AT = 1_795_000_500.0
WORDS = {"planner": "p1", "executor": "e1", "reviewer": "r1"}


def climb(
    run: str,
    subtask: str,
    trail: str,
    *,
    assigned: str = "haiku",
    attempt: int = 0,
    at: float = AT,
    ended: bool = True,
    **more: Any,
) -> RequestRecord:
    """An executor's climb. `trail`: such as "haiku:low_confidence sonnet"; the last rung answers, unless `more` says another outcome."""
    steps: list[StepBody] = []
    for asked in trail.split():
        rung, _, reason = asked.partition(":")
        steps.append(StepBody(LADDER.index(rung), rung, rung, "answered", COST[rung], reason=reason or None))
    kind, words = more.pop("kind", "classify"), more.pop("prompts", {"executor": WORDS["executor"]})
    outcome = {"rung": steps[-1].rung if steps else None, **more}
    body = OutcomeBody("executor", sum(step.cost for step in steps), len(steps), 1.0, **outcome) if ended else None
    return _record("executor", PlanBody(run, subtask, assigned, attempt), kind, words, steps, body, at)


def review(
    run: str, subtask: str, verdict: str, *, attempt: int = 0, at: float = AT, control: str | None = None, **more: Any
) -> RequestRecord:
    """A reviewer's call, which costs 5; with `control`, of a control item."""
    plan = PlanBody(run, "" if control else subtask, "haiku", attempt, control)
    body = OutcomeBody("reviewer", 5, 1, 1.0, "sonnet", review=verdict, error=more.pop("error", None))
    words = more.pop("prompts", {"reviewer": WORDS["reviewer"]})
    return _record("reviewer", plan, more.pop("kind", "classify"), words, [_call(5)], body, at)


def planning(run: str, *, at: float = AT, **more: Any) -> RequestRecord:
    """A planner's call, which costs 30."""
    words = more.pop("prompts", {"planner": WORDS["planner"]})
    return _record(
        "planner", PlanBody(run), "other", words, [_call(30)], OutcomeBody("planner", 30, 1, 1.0, "sonnet"), at
    )


def single(*records: RequestRecord) -> RunRecord:
    """The one run that these are parts of."""
    (run,) = runs_of(records)
    return run


def _call(cost: int) -> StepBody:
    return StepBody(0, "sonnet", "sonnet", "answered", cost)


def _record(
    role: str,
    plan: PlanBody,
    kind: str,
    words: dict[str, str],
    steps: list[StepBody],
    body: OutcomeBody | None,
    at: float,
) -> RequestRecord:
    request = RequestBody("fleet", "h", "p", kind, role, prompts=words, plan=plan)
    return RequestRecord(
        f"{plan.run}{plan.subtask}", at, "w", request, [(at, one) for one in steps], {}, body, at if body else None
    )
