"""The state that requests share: the storm guard's statistic, what was spent of each budget, and what a request leaves for a later one.

In memory, or in Redis.

    observe(Observation) ─> what the storm guard does at this rung
    reserve(budgets, bound) ─> None: the call may be made; an ApplicableBudget: this one refuses it
    settle(budgets, bound, cost) ─> the alerts that are due
    remember(keys, value, ttl_s), recall(keys) ─> the value of the first key that is known

Each is one decision, and one round trip with a remote state. None of them raises for the state's own faults: a Redis that is
slow or unreachable is logged once, and this process goes on with what it knows itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cascade.core.budgets import ApplicableBudget
from cascade.core.climb import Observation
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action, Change, Tripped

__all__ = ["Alert", "Seed", "State", "Told"]


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has reached a share of its limit (`share`: its `alert_at`, or 1.0), for the first time in its period."""

    budget: ApplicableBudget
    share: float
    spent: int


Seed = Callable[[ApplicableBudget], int]
"""What the ledger knows to be spent already in a budget's period, in nano-USD; called once per counter."""


Told = Callable[[Change, bool], None]
"""Told of each change of the storm guard that this process is the first to see, and whether it is the only one that could. It must not block."""


class State(Protocol):
    """What a driver asks of the state. Safe between threads."""

    @property
    def is_remote(self) -> bool:
        """Whether a decision takes a round trip, for which an event loop must not wait."""
        ...

    @property
    def is_down(self) -> bool:
        """Whether the shared state cannot be reached: this process goes on alone, with what it holds."""
        ...

    def observe(self, observation: Observation) -> Action | None:
        """Count a step. Returns the guard's action at its rung, as it was before this step was counted."""
        ...

    def tripped(self) -> tuple[Tripped, ...]:
        """The watches of the storm guard that are tripped now: for those who watch, not for a decision."""
        ...

    def expect(self, escalation: Escalation) -> None:
        """From now on these escalation rates are normal: other thresholds are in force. What was counted of storms before is left out."""
        ...

    def may_wait(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """Whether to decide on these may take a round trip, or a query of the ledger."""
        ...

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """Reserve `bound` nano-USD in every budget, if each that is hard (the flag) has room: settled + reserved + bound <= limit.

        Returns None if it was reserved. Otherwise nothing was, and the first budget that refuses is returned.
        """
        ...

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """Give back what was reserved, and count what was spent.

        Returns the alerts that are due, each once per period for all who share the state. The budgets are those of the
        reservation: a call's cost counts in the period in which it was admitted.
        """
        ...

    def remember(self, keys: Sequence[str], value: str, ttl_s: float) -> None:
        """Keep a short value under each of the keys for `ttl_s` seconds; it replaces what was there. It may be forgotten sooner.

        Keys are kept as digests. The value is kept as it is: it must not hold anything of what users wrote,
        unless the policy's ledger keeps content (`engine.carrying`).
        """
        ...

    def recall(self, keys: Sequence[str]) -> str | None:
        """The value of the first of these keys that is known; None if none is."""
        ...

    def close(self) -> None:
        """Give back what this process holds."""
        ...
