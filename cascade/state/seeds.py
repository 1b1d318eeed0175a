"""What both states do with budgets: ask what is spent already, know when an alert is due."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cascade.core.budgets import ApplicableBudget
from cascade.logs import log_event
from cascade.state import Seed

__all__ = ["Asking", "reached"]


def reached(budget: ApplicableBudget) -> Iterator[tuple[float, int]]:
    """The shares that are told, each with the least spend (nano-USD) that reaches it."""
    for share in sorted({budget.alert_at, 1.0}):
        yield share, math.ceil(share * budget.limit)


class Asking:
    """Asks the ledger what is spent. That it cannot say is told once, until it can again."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told = False

    def ask(self, seed: Seed | None, budget: ApplicableBudget) -> int | None:
        """In nano-USD; 0 without a ledger; None: it cannot say now, ask again. May take its time: hold no lock."""
        if seed is None:
            return 0
        try:
            known = max(0, seed(budget))
        except Exception as problem:  # noqa: BLE001 - a ledger that cannot be read must not cost the answer
            if not self._told:
                self._told = True
                _tell(budget, problem)
            return None
        self._told = False
        return known


def _tell(budget: ApplicableBudget, problem: Exception) -> None:
    log_event(
        "error",
        "budget_seed_failed",
        policy=budget.policy,
        counter=budget.counter,
        problem=type(problem).__name__,
        hint="what was spent before is not counted until the ledger can be read, which is tried again (`cascade doctor`)",
    )
