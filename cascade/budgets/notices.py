"""Budget alerts: each is logged at once, and sent to the targets in the policy's `notify` off the caller's thread.

A notice holds amounts and the budget's name. It holds nothing of a request and no key; of an address only the host is logged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cascade.budgets.delivering import Deliveries, Target, target_of
from cascade.core.budgets import ApplicableBudget, Span, usd_text
from cascade.core.policy import Policy
from cascade.core.policy.operations import Limits, OnExhausted, Per
from cascade.logs import log_event
from cascade.state import Alert

__all__ = ["Notice", "Notices", "number_budgets"]

_MAX_REFUSED = 4096  # counters whose refusal was notified, which happens once per counter and process
_CONSEQUENCES: dict[OnExhausted, str] = {
    "alert": "this budget only alerts: calls go on",
    "hold": "it is a soft limit: the first rung is still called, and the climb stops there",
    "reject": "no call that might exceed it is made",
}


def number_budgets(budgets: Sequence[Limits]) -> tuple[Mapping[Span, int], ...]:
    """For each budget, by span: how many before it in the list add up the same spend (`ApplicableBudget.nth`)."""
    seen: dict[tuple[Per | Literal["arm"], Span], int] = {}
    numbered: list[Mapping[Span, int]] = []
    for limits in budgets:
        own: dict[Span, int] = {}
        spans: tuple[tuple[Span, Any], ...] = (("daily", limits.daily_usd), ("monthly", limits.monthly_usd))
        for span, usd in spans:
            if usd is not None:
                own[span] = seen.get((limits.per, span), 0)
                seen[limits.per, span] = own[span] + 1
        numbered.append(own)
    return tuple(numbered)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice about a budget. A function gets this object, an address gets it as JSON.

    `event`: budget_alert (a share of the budget is spent) or budget_refused (it had no room for a call). `budget`
    describes it, `scope` and `value` say whose spend it is ("task", "refund"). `span`: daily, monthly or call. `period`:
    "2026-11-21", "2026-11" or "". `share`: of the limit, 0..1. `text`: all of it in one line.
    """

    event: Literal["budget_alert", "budget_refused"]
    policy: str
    budget: str
    scope: Per | Literal["arm"]
    value: str
    span: Literal["daily", "monthly", "call"]
    period: str
    share: float
    spent_usd: float | None
    limit_usd: float
    on_exhausted: OnExhausted
    text: str


class Notices:
    """Sends the notices of one policy's budgets. `told`: of each, beside the log; it must not block.

    Raises LookupError if a `notify` function does not exist; `policy.budgets.budget_faults` reports that earlier.
    """

    def __init__(self, policy: Policy, told: Callable[[Notice], None] | None = None) -> None:
        self._policy, self._told = policy.name, told
        self._deliveries = Deliveries(_log)
        self._by_limits = [tuple(target_of(one, limits.notify_timeout_s) for one in limits.notify) for limits in policy.budget]  # fmt: skip
        self._limits = policy.budget
        self._by_counter: dict[tuple[Per | Literal["arm"], Span, int], tuple[Target, ...]] = {
            (limits.per, span, nth): targets
            for limits, targets, spans in zip(
                policy.budget, self._by_limits, number_budgets(policy.budget), strict=True
            )
            for span, nth in spans.items()
        }
        self._refused: set[str] = set()

    @property
    def dropped(self) -> int:
        """How many notices were dropped because the queue was full."""
        return self._deliveries.dropped

    def notify(self, alert: Alert) -> None:
        """A budget has reached a share of its limit."""
        budget = alert.budget
        reached = "all of it is spent" if alert.share >= 1 else f"{alert.share:.0%} of it is spent"
        self._send(
            _notice("budget_alert", budget, alert.share, alert.spent, f"{reached} ({usd_text(alert.spent)})"),
            self._targets_of(budget),
        )

    def notify_refusal(self, budget: ApplicableBudget, bound: int) -> None:
        """A budget has refused a call. Notified once per counter and process: with `reject` it may never be used up."""
        if budget.counter in self._refused:
            return
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused.add(budget.counter)
        why = f"it has no room for a call that may cost {usd_text(bound)}"
        self._send(_notice("budget_refused", budget, 1.0, None, why), self._targets_of(budget))

    def notify_overspent_call(self, limits: Limits, limit: int, spent: int) -> None:
        """A request has spent more than `call_usd` of a budget that only alerts; both amounts in nano-USD."""
        name = f"the budget of {self._policy} per request, {usd_text(limit)}"
        notice = Notice(
            "budget_alert", self._policy, name, "policy", self._policy, "call", "", 1.0, spent / 1e9, limit / 1e9,
            limits.on_exhausted, f"{name}: a request has spent {usd_text(spent)}; {_CONSEQUENCES[limits.on_exhausted]}",
        )  # fmt: skip
        number = next((n for n, one in enumerate(self._limits) if one is limits), None)
        self._send(notice, () if number is None else self._by_limits[number])

    def close(self, timeout_s: float) -> bool:
        """Wait until all notices are sent; returns whether they are. At exit a process does it by itself."""
        return self._deliveries.drain(timeout_s)

    def _targets_of(self, budget: ApplicableBudget) -> tuple[Target, ...]:
        if budget.policy != self._policy:  # observe.daily_usd has no `notify`
            return ()
        return self._by_counter.get((budget.scope, budget.span, budget.nth), ())

    def _send(self, notice: Notice, targets: tuple[Target, ...]) -> None:
        details: dict[str, Any] = {
            "policy": notice.policy,
            "budget": notice.budget,
            "share": notice.share,
            "spent_usd": notice.spent_usd,
            "limit_usd": notice.limit_usd,
            "on_exhausted": notice.on_exhausted,
        }
        if notice.on_exhausted == "hold":
            details["hint"] = _CONSEQUENCES["hold"]
        if notice.event == "budget_refused":
            del details["share"], details["spent_usd"]
        _log(notice.event, **details)
        if self._told is not None:
            self._told(notice)
        for target in targets:
            self._deliveries.put(target, json.dumps(asdict(notice)).encode() if target.is_post else notice)


def _notice(
    event: Literal["budget_alert", "budget_refused"],
    budget: ApplicableBudget,
    share: float,
    spent: int | None,
    what: str,
) -> Notice:
    return Notice(
        event, budget.policy, budget.description, budget.scope, budget.value, budget.span, budget.period, share,
        None if spent is None else spent / 1e9, budget.limit / 1e9, budget.on_exhausted,
        f"{budget.description}: {what}; {_CONSEQUENCES[budget.on_exhausted]}",
    )  # fmt: skip


def _log(event: str, **details: Any) -> None:
    log_event("warning", event, **details)
