"""What the tests of budgets share: a policy with budgets, a wall clock that is told, a state, and a gate over them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cascade.budgets.gate import Gate
from cascade.budgets.notices import Notices
from cascade.core.budgets import Claim
from cascade.core.climb import Observation
from cascade.core.policy import Policy
from cascade.state import Alert
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
    """A state in memory, by the letter of its protocol; it can be looked into."""

    is_remote = False

    def __init__(self) -> None:
        self.settled: dict[str, int] = defaultdict(int)
        self.reserved: dict[str, int] = defaultdict(int)
        self.asked: list[Claim] = []
        self._told: set[tuple[str, float]] = set()
        self._lock = threading.Lock()

    def observe(self, observation: Observation) -> None:
        """No guard."""

    def reserve(self, claims: Sequence[tuple[Claim, bool]], bound: int) -> Claim | None:
        """All or none."""
        self.asked += [claim for claim, _ in claims]
        with self._lock:
            for claim, hard in claims:
                if hard and self.settled[claim.counter] + self.reserved[claim.counter] + bound > claim.limit:
                    return claim
            for claim, _ in claims:
                self.reserved[claim.counter] += bound
        return None

    def settle(self, claims: Sequence[Claim], bound: int, cost: int) -> tuple[Alert, ...]:
        """Count what was spent."""
        alerts: list[Alert] = []
        with self._lock:
            for claim in claims:
                self.reserved[claim.counter] -= bound
                self.settled[claim.counter] += cost
                spent = self.settled[claim.counter]
                for share in sorted({claim.alert_at, 1.0}):
                    if spent >= claim.limit * share and (claim.counter, share) not in self._told:
                        self._told.add((claim.counter, share))
                        alerts.append(Alert(claim, share, spent))
        return tuple(alerts)

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
    values: dict[str, Any] = {"book": "test", "policy": "test", "scope": "policy", "value": "test", **more}
    claim = Claim(
        **values, span="daily", period="2026-11-21", starts=0.0, ends=1.0, limit=USD * 3 // 2, alert_at=0.8,
        on_exhausted=on_exhausted,
    )  # fmt: skip
    return Alert(claim, share, USD * 6 // 5)


def notices_of(*notify: str, **more: Any) -> Notices:
    """Who is told by a policy with one daily budget."""
    return Notices(budgeted({"daily_usd": "1.5", "notify": list(notify), **more}))
