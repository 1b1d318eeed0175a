"""What both states need for a budget's counter: what the ledger knows to be spent, and when an alert is due."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cascade.core.budgets import ApplicableBudget
from cascade.logs import log_event
from cascade.state import Seed

__all__ = ["SeedReader", "alert_amounts"]


def alert_amounts(budget: ApplicableBudget) -> Iterator[tuple[float, int]]:
    """The shares of the limit that trigger an alert, each with the spend in nano-USD that reaches it."""
    for share in sorted({budget.alert_at, 1.0}):
        yield share, math.ceil(share * budget.limit)


class SeedReader:
    """Asks the ledger what is spent. A failure is logged once, until the ledger can be read again."""

    __slots__ = ("_is_logged",)

    def __init__(self) -> None:
        self._is_logged = False

    def read(self, seed: Seed | None, budget: ApplicableBudget) -> int | None:
        """In nano-USD; 0 without a ledger. None: it cannot be read now, try again. It may be slow, so hold no lock."""
        if seed is None:
            return 0
        try:
            spent = max(0, seed(budget))
        except Exception as problem:  # noqa: BLE001 - a ledger that cannot be read must not cost the answer
            if not self._is_logged:
                self._is_logged = True
                _log_failure(budget, problem)
            return None
        self._is_logged = False
        return spent


def _log_failure(budget: ApplicableBudget, problem: Exception) -> None:
    log_event(
        "error",
        "budget_seed_failed",
        policy=budget.policy,
        counter=budget.counter,
        problem=type(problem).__name__,
        hint="earlier spend is not counted until the ledger can be read; it is tried again (run `cascade doctor`)",
    )
