"""One call of a model, with what a budget counts for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.budgets.gate import BudgetReservation
from cascade.core import prices
from cascade.core.messages import Failure, Reply
from cascade.core.triage import Prompt
from cascade.hooks import Calling

__all__ = ["Call", "settle", "spent_on"]

_REPLY_LOST = frozenset({"timeout", "deadline"})
"""Failures whose reply never came. It may have been billed, so a budget counts the most that the call may have cost."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call to be made. `bound`: the most it may cost, in nano-USD; 0 if nothing needs it."""

    prompt: Prompt
    rates: prices.Rates
    bound: int
    calling: Calling
    is_triage: bool = True


def spent_on(call: Call, outcome: Reply | Failure) -> int:
    """What a call counts as, in nano-USD: its cost, or the most it may have cost if its reply was lost."""
    cost = prices.total(call.rates, outcome.billed)
    lost = isinstance(outcome, Failure) and outcome.kind in _REPLY_LOST and outcome.attempts
    return max(cost, call.bound) if lost else cost


def settle(reservation: BudgetReservation, spent: Sequence[tuple[int, int]]) -> None:
    """Settle calls: of each the amount that was reserved, and what it counts as."""
    for bound, cost in spent:
        reservation.settle(bound, cost)
