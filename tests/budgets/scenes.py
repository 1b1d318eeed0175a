"""What the tests of budgets share: a policy with budgets, a wall clock that is told, a state, and a gate over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.budgets.gate import Gate
from cascade.budgets.notices import Notices
from cascade.core.budgets import ApplicableBudget
from cascade.core.climb import Observation
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.state import Alert
from cascade.state.memory import BudgetCounters
from tests.core.builders import policy_of

__all__ = ["USD", "Books", "Wall", "alert", "budgeted", "gate_of", "notices_of"]

USD = 1_000_000_000


class Wall:
    """Unix seconds that pass when they are told to."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """What time it is."""
        return self.now


class Books:
    """The books of the state in memory, without the process's registry of them; what is in them can be looked at."""

    is_remote = False
    is_down = False

    def __init__(self) -> None:
        self.asked: list[ApplicableBudget] = []
        self._counters = BudgetCounters()

    @property
    def settled(self) -> dict[str, int]:
        """What was spent, by counter."""
        return {one.counter: self._counters.spent(one.counter)[0] for one in self.asked}

    @property
    def reserved(self) -> dict[str, int]:
        """What calls under way may cost, by counter."""
        return {one.counter: self._counters.spent(one.counter)[1] for one in self.asked}

    def observe(self, observation: Observation) -> None:
        """No guard."""

    def tripped(self) -> tuple[()]:
        """No guard."""
        return ()

    def expect(self, escalation: Escalation) -> None:
        """No guard."""

    def may_wait(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """Nothing is asked of anybody."""
        return bool(budgets) and self.is_remote

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """As the state in memory."""
        self.asked += [budget for budget, _ in budgets]
        return self._counters.reserve(budgets, bound, None)

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As the state in memory."""
        return self._counters.settle(budgets, bound, cost)

    def remember(self, keys: Sequence[str], value: str, ttl_s: float) -> None:
        """Nothing is kept."""

    def recall(self, keys: Sequence[str]) -> str | None:
        """Nothing is known."""

    def close(self) -> None:
        """Nothing is held."""


def budgeted(*budgets: dict[str, Any], **more: Any) -> Policy:
    """A policy with these budgets."""
    return policy_of(budget=list(budgets), **more)


def gate_of(
    *budgets: dict[str, Any], books: Books | None = None, wall: Wall | None = None, **more: Any
) -> tuple[Gate, Books]:
    """A gate over these budgets, and the books behind it."""
    policy = budgeted(*budgets, **more)
    books = books or Books()
    return Gate(policy, books, Notices(policy), wall=wall or Wall()), books


def alert(on_exhausted: Any = "alert", share: float = 0.8, **more: Any) -> Alert:
    """A budget of 1.5 USD, with 1.2 of it spent."""
    values: dict[str, Any] = {"account": "test", "policy": "test", "scope": "policy", "value": "test", **more}
    budget = ApplicableBudget(
        **values, span="daily", period="2026-11-21", starts=0.0, ends=1.0, limit=USD * 3 // 2, alert_at=0.8,
        on_exhausted=on_exhausted,
    )  # fmt: skip
    return Alert(budget, share, USD * 6 // 5)


def notices_of(*notify: str, **more: Any) -> Notices:
    """Who is told by a policy with one daily budget."""
    return Notices(budgeted({"daily_usd": "1.5", "notify": list(notify), **more}))
