"""Who is told of a budget: the log at once, and what the policy's `notify` names, off the caller's thread.

One daemon worker takes notices from a bounded queue; each delivery has its time-out as a whole, whatever it hangs on
(a name that is not resolved, a server that drips). What cannot be queued is counted and told, never waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.core.budgets import Claim, Span
from cascade.core.operations import Limits, OnExhausted
from cascade.core.policy import Policy
from cascade.state import Alert

__all__ = ["Notice", "Notices", "places_of"]


def places_of(budgets: Sequence[Limits]) -> tuple[Mapping[Span, int], ...]:
    """Of each budget and span: how many before it in the list add up the very same spend (`Claim.nth`)."""
    seen: dict[tuple[str, Span], int] = {}
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
    """What is told of a budget: to functions as it is, to addresses as JSON.

    `event`: budget_alert or budget_refused.
    """

    event: str
    policy: str
    budget: str
    share: float
    spent_usd: float
    limit_usd: float
    on_exhausted: OnExhausted


class Notices:
    """Tells of a policy's budgets."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def tell(self, alert: Alert) -> None:
        """A budget has reached a share of its limit."""

    def tell_refusal(self, claim: Claim, bound: int) -> None:
        """A budget has refused a call."""

    def tell_call(self, limits: Limits, limit: int, spent: int) -> None:
        """A request has spent more than a budget that only tells allows it."""
