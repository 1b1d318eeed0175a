"""What decisions share: the storm guard's statistic, and what was spent of each budget. In memory, or in Redis.

    driver ── observe(Observation) ─> State ─> what the guard does at this rung
    driver ── reserve(budgets, bound) > State ─> None: the call may be made; a ApplicableBudget: that budget refuses it
    driver ── settle(budgets, bound, cost) ─> State

Each is one decision, and one round trip where the state is remote. None of them ever raises for the state's own
faults: a Redis that is slow or gone is told once, and what this process knows stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cascade.core.budgets import ApplicableBudget
from cascade.core.climb import Observation
from cascade.core.storm import Action

__all__ = ["Alert", "Seed", "State"]


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has reached a share of its limit (`share`: its `alert_at`, or 1.0), for the first time in its period."""

    budget: ApplicableBudget
    share: float
    spent: int


Seed = Callable[[ApplicableBudget], int]
"""What the ledger knows to be spent already of a budget's period, in nano-USD: asked once a counter."""


class State(Protocol):
    """Safe between threads. `is_remote`: a decision leaves the process, so an event loop must not wait for it."""

    @property
    def is_remote(self) -> bool:
        """Whether a decision takes a round trip."""
        ...

    @property
    def is_down(self) -> bool:
        """Whether what is shared cannot be reached: this process goes on alone, with what it holds."""
        ...

    def observe(self, observation: Observation) -> Action | None:
        """Count a step; returns what is in force at its rung, as it was before this step was counted."""
        ...

    def may_wait(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """Whether to decide on these may take a round trip, or a query of the ledger."""
        ...

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """Reserve `bound` nano-USD in every budget, if each that is hard (the flag) has room: settled + reserved + bound <= limit.

        Returns None where it was reserved; else the first that refuses, and nothing was reserved.
        """
        ...

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """Give back what was reserved and count what was spent.

        Returns what must be told, once a period for all who share the state. The counters are those of the reservation: a
        call's cost falls into the period it was let in.
        """
        ...

    def close(self) -> None:
        """Give back what this process still holds."""
        ...
