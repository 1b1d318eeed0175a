"""Who is told of a budget: the log at once, and whom the policy's `notify` names, off the caller's thread.

What is told holds amounts and the budget's name; nothing of a request, no key, and of an address its host at most.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cascade.budgets.delivering import Deliveries, Target, target_of
from cascade.core.budgets import Claim, Span, usd_text
from cascade.core.policy import Policy
from cascade.core.policy.operations import Limits, OnExhausted, Per
from cascade.logs import log_event
from cascade.state import Alert

__all__ = ["Notice", "Notices", "places_of"]

_MOST_TOLD = 4096  # refusals; each counter's is told once a process
_THEN: dict[OnExhausted, str] = {
    "alert": "it only tells: calls go on",
    "hold": "it is a soft limit: the first rung is asked all the same, and the climb stops there",
    "reject": "no call that might pass it is made",
}


def places_of(budgets: Sequence[Limits]) -> tuple[Mapping[Span, int], ...]:
    """Of each budget and span: how many before it in the list add up the very same spend (`Claim.nth`)."""
    seen: dict[tuple[Per | Literal["arm"], Span], int] = {}
    places: list[Mapping[Span, int]] = []
    for limits in budgets:
        own: dict[Span, int] = {}
        spans: tuple[tuple[Span, Any], ...] = (("daily", limits.daily_usd), ("monthly", limits.monthly_usd))
        for span, usd in spans:
            if usd is not None:
                own[span] = seen.get((limits.per, span), 0)
                seen[limits.per, span] = own[span] + 1
        places.append(own)
    return tuple(places)


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of a budget: to a function as it is, to an address as JSON.

    `event`: budget_alert (a share of it is spent) or budget_refused (a call was not made for it). `budget` names it for
    people, `scope` and `value` whose spend it is ("task", "refund"); `span` is daily, monthly or call, `period`
    "2026-11-21", "2026-11" or "". `share` of the limit is reached. `text` says it all in one line.
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
    """Tells of one policy's budgets. LookupError for a function that is not there (`policy.budgets.budget_faults` looks before)."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy.name
        self._deliveries = Deliveries(_log)
        self._by_limits = [tuple(target_of(one, limits.notify_timeout_s) for one in limits.notify) for limits in policy.budget]  # fmt: skip
        self._limits = policy.budget
        self._by_place: dict[tuple[Per | Literal["arm"], Span, int], tuple[Target, ...]] = {
            (limits.per, span, nth): targets
            for limits, targets, spans in zip(policy.budget, self._by_limits, places_of(policy.budget), strict=True)
            for span, nth in spans.items()
        }
        self._longest_s = max((limits.notify_timeout_s for limits in policy.budget if limits.notify), default=0.0)
        self._refused: set[str] = set()

    @property
    def dropped(self) -> int:
        """Notices that were dropped because too many waited."""
        return self._deliveries.dropped

    def tell(self, alert: Alert) -> None:
        """A budget has reached a share of its limit."""
        claim = alert.claim
        spent = f"{usd_text(alert.spent)}"
        reached = "all of it is spent" if alert.share >= 1 else f"{alert.share:.0%} of it is spent"
        self._send(
            _of_claim("budget_alert", claim, alert.share, alert.spent, f"{reached} ({spent})"), self._targets_of(claim)
        )

    def tell_refusal(self, claim: Claim, bound: int) -> None:
        """A budget has refused a call: told once a period in this process, for with `reject` it may never be all spent."""
        if claim.counter in self._refused:
            return
        if len(self._refused) >= _MOST_TOLD:
            self._refused.clear()
        self._refused.add(claim.counter)
        why = f"it has no room for a call that may cost {usd_text(bound)}"
        self._send(_of_claim("budget_refused", claim, 1.0, None, why), self._targets_of(claim))

    def tell_call(self, limits: Limits, limit: int, spent: int) -> None:
        """A request has spent more than a budget that only tells allows it; both in nano-USD."""
        told = f"the budget of {self._policy} a request, {usd_text(limit)}"
        notice = Notice(
            "budget_alert", self._policy, told, "policy", self._policy, "call", "", 1.0, spent / 1e9, limit / 1e9,
            limits.on_exhausted, f"{told}: a request has spent {usd_text(spent)}; {_THEN[limits.on_exhausted]}",
        )  # fmt: skip
        number = next((n for n, one in enumerate(self._limits) if one is limits), None)
        self._send(notice, () if number is None else self._by_limits[number])

    def close(self, timeout_s: float | None = None) -> bool:
        """Wait for what is being told, at most as long as one delivery may take; whether all of it went out.

        It blocks: an event loop lets a thread do it. A process that ends does it by itself.
        """
        return self._deliveries.drain(self._longest_s if timeout_s is None else timeout_s)

    def _targets_of(self, claim: Claim) -> tuple[Target, ...]:
        if claim.policy != self._policy:  # observe's own cap is no budget of the list
            return ()
        return self._by_place.get((claim.scope, claim.span, claim.nth), ())

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
            details["hint"] = _THEN["hold"]
        if notice.event == "budget_refused":
            del details["share"], details["spent_usd"]
        _log(notice.event, **details)
        for target in targets:
            self._deliveries.put(target, json.dumps(asdict(notice)).encode() if target.is_post else notice)


def _of_claim(
    event: Literal["budget_alert", "budget_refused"], claim: Claim, share: float, spent: int | None, what: str
) -> Notice:
    return Notice(
        event, claim.policy, claim.description, claim.scope, claim.value, claim.span, claim.period, share,
        None if spent is None else spent / 1e9, claim.limit / 1e9, claim.on_exhausted,
        f"{claim.description}: {what}; {_THEN[claim.on_exhausted]}",
    )  # fmt: skip


def _log(event: str, **details: Any) -> None:
    log_event("warning", event, **details)
