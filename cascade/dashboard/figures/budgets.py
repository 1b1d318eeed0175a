"""Where the budgets stand: each limit of the policies at hand, with what the ledger's sums say was spent of it in its span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Final

from cascade.core.budgets import ApplicableBudget, applicable_budgets
from cascade.core.policy import Policy
from cascade.core.policy.operations import Limits
from cascade.dashboard.values import BudgetState
from cascade.ledger.marks import HappenedMark, read_marks
from cascade.ledger.records import BUCKET_S
from cascade.ledger.stores import Reader
from cascade.ledger.whole_sums import spent_by, spent_by_policy
from cascade.policy.budgets import zone_of

__all__ = ["MOST_VALUES", "budget_states"]

MOST_VALUES: Final = 20
"""Of a budget per task, workflow or key: the values that have spent most of it."""

_MONTH_S: Final = 32 * 86_400.0


def budget_states(reader: Reader, policies: Sequence[Policy], now: float) -> tuple[BudgetState, ...]:
    """Every limit, in the order of the policies, those nearest to their limit first. `now`: Unix seconds. Raises LedgerDown.

    What was spent is that of the steps so far, without the audit's: an announced call without a result is not in it. A limit in a time
    zone that this machine does not know is left out.
    """
    marks = read_marks(reader, now - _MONTH_S, now + BUCKET_S, ("budget_alert", "budget_refused"))
    found, until = list[BudgetState](), int(now // BUCKET_S + 1) * BUCKET_S
    whole: dict[int, Mapping[str, int]] = {}
    for policy in policies:
        sums: dict[tuple[str, int], Mapping[str, int]] = {}
        own: list[BudgetState] = []
        for budget in _budgets(policy, now):
            since = int(budget.starts // BUCKET_S) * BUCKET_S
            if budget.scope == "policy":
                if since not in whole:
                    whole[since] = spent_by_policy(reader, since, until)
                own += _states(budget, whole[since], marks)
                continue
            if (budget.scope, since) not in sums:
                sums[budget.scope, since] = spent_by(reader, policy.name, budget.scope, since, until)
            own += _states(budget, sums[budget.scope, since], marks)
        found += sorted(own, key=lambda state: -state.share)
    return tuple(found)


def _budgets(policy: Policy, now: float) -> Iterator[ApplicableBudget]:
    """Each limit, for its current span; the value of those per task, workflow or key is open ("")."""
    for limits in policy.budget:
        yield from _of(limits, policy.name, now)
    zone = policy.budget[0].timezone if policy.budget else "UTC"
    if policy.mode == "observe" and policy.observe.daily_usd is not None:
        limits = Limits(daily_usd=policy.observe.daily_usd, on_exhausted="reject", timezone=zone)
        yield from (replace(one, scope="arm", value="shadow") for one in _of(limits, policy.name, now))
    if policy.audit is not None and policy.audit.daily_usd is not None:
        limits = Limits(daily_usd=policy.audit.daily_usd, on_exhausted="reject")
        yield from (replace(one, scope="arm", value="audit") for one in _of(limits, policy.name, now))


def _of(limits: Limits, policy: str, now: float) -> Iterator[ApplicableBudget]:
    try:
        zone: tzinfo = zone_of(limits.timezone)
    except LookupError:
        return
    yield from applicable_budgets(limits, policy, "", {}, datetime.fromtimestamp(now, zone))


def _states(budget: ApplicableBudget, spent: Mapping[str, int], marks: Sequence[HappenedMark]) -> Iterator[BudgetState]:
    if budget.scope in ("policy", "arm"):
        value = budget.policy if budget.scope == "policy" else budget.value
        yield _state(budget, value, spent.get(value, 0), marks)
        return
    dearest = sorted(spent.items(), key=lambda one: (-one[1], one[0]))[:MOST_VALUES]
    for value, cost in dearest:
        yield _state(budget, value, cost, marks)


def _state(budget: ApplicableBudget, value: str, spent: int, marks: Sequence[HappenedMark]) -> BudgetState:
    told = {
        "scope": budget.scope,
        "value": value,
        "span": budget.span,
        "period": budget.period,
        "limit_usd": budget.limit / 1e9,
    }
    alerts = tuple(
        (mark.at, str(mark.details.get("text", "")))
        for mark in marks
        if mark.policy == budget.policy and all(mark.details.get(name) == one for name, one in told.items())
    )
    account = budget.policy if budget.scope == "policy" else f"{budget.policy}/{budget.scope}={value}"
    return BudgetState(
        budget.policy, account, budget.span, budget.scope, value, budget.limit, spent, budget.alert_at, budget.on_exhausted,
        budget.starts, alerts,
    )  # fmt: skip
