"""The state in memory: the guard of one driver, and the budgets' counters of one process.

Drivers of one policy name and one home share their books: two of them in a process must not spend a budget twice. A
forked child keeps what was settled; the calls in flight are its parent's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.core.budgets import ApplicableBudget
from cascade.core.climb import Observation
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action
from cascade.forks import renew_in_children
from cascade.home import home
from cascade.logs import log_event
from cascade.state import Alert, Seed
from cascade.state.memory_guard import MemoryGuard
from cascade.state.seeds import Asking, reached

__all__ = ["BudgetCounters", "MemoryState", "process_counters"]

_MOST_COUNTERS = 100_000  # some 40 MB: a workflow per customer must not fill the memory


@dataclass(slots=True)
class _Tally:
    """One counter, in nano-USD. `told`: the shares that were. `seeded`: what the ledger knows is in it."""

    ends: float
    settled: int
    seeded: bool
    reserved: int = 0
    told: set[float] = field(default_factory=set[float])


class BudgetCounters:
    """What was spent and reserved of each counter: exact, and safe between threads.

    A finished period's counters go when a budget of a later one is seen (the budgets tell the time) and nothing of them
    is reserved. In a period up to `most` are kept; those that come after share one counter per budget, which may refuse
    early but can never be overspent, and that is told.
    """

    def __init__(self, most: int = _MOST_COUNTERS) -> None:
        self._most = most
        self._tallies: dict[str, _Tally] = {}
        self._asking = Asking()
        self._now = 0.0  # the latest beginning of a period seen: it cannot be earlier
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()
        for tally in self._tallies.values():
            tally.reserved = 0

    def spent(self, counter: str) -> tuple[int, int]:
        """What is settled and what is reserved of a counter; zeros where it is not known."""
        with self._lock:
            tally = self._tallies.get(counter)
            return (tally.settled, tally.reserved) if tally else (0, 0)

    def knows(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """Whether nothing need be asked to decide on these."""
        with self._lock:
            return not any(self._must_ask(budget) for budget in budgets)

    def reserve(
        self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int, seed: Seed | None
    ) -> ApplicableBudget | None:
        """As `State.reserve`. `seed` is asked outside the lock, and what it says counts once.

        Where it cannot say, the counter goes on with what is spent here, and it is asked again at the next reservation.
        """
        with self._lock:
            missing = [(budget, self._settled(budget)) for budget, _ in budgets if self._must_ask(budget)]
        seeds: dict[str, int] = {}
        for budget, settled in missing:
            known = self._asking.ask(seed, budget)
            if known is None:
                break  # nor can it say more of the others
            seeds[budget.counter] = max(0, known - settled)  # what was spent here is in the ledger as well
        with self._lock:
            tallies = [self._take(budget, seeds.get(budget.counter)) for budget, _ in budgets]
            for tally, (budget, hard) in zip(tallies, budgets, strict=True):
                if hard and tally.settled + tally.reserved + bound > budget.limit:
                    return budget
            for tally in tallies:
                tally.reserved += bound
        return None

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        alerts: list[Alert] = []
        with self._lock:
            for budget in budgets:
                tally = self._find(budget)
                if tally is None:
                    continue  # of a period that is over, in a child that was forked meanwhile
                tally.reserved = max(0, tally.reserved - bound)
                tally.settled += cost
                for share, least in reached(budget):
                    if tally.settled >= least and share not in tally.told:
                        tally.told.add(share)
                        alerts.append(Alert(budget, share, tally.settled))
        return tuple(alerts)

    def _find(self, budget: ApplicableBudget) -> _Tally | None:
        return self._tallies.get(budget.counter) or self._tallies.get(_shared_name(budget))

    def _must_ask(self, budget: ApplicableBudget) -> bool:
        tally = self._find(budget)
        return tally is None or not tally.seeded

    def _settled(self, budget: ApplicableBudget) -> int:
        tally = self._find(budget)
        return 0 if tally is None else tally.settled

    def _take(self, budget: ApplicableBudget, more: int | None) -> _Tally:
        """Its tally, with what the ledger knows beside what is spent here (None: it could not say)."""
        tally = self._find(budget)
        if tally is None:
            tally = self._begin(budget)
        if more is not None and not tally.seeded:
            tally.seeded = True
            tally.settled += more
            # Whoever spent it was told; only what is spent here is told here.
            tally.told.update(share for share, least in reached(budget) if more >= least)
        return tally

    def _begin(self, budget: ApplicableBudget) -> _Tally:
        name = budget.counter
        if budget.starts > self._now:
            self._now = budget.starts
            over = [key for key, one in self._tallies.items() if one.ends <= self._now and not one.reserved]
            for key in over:
                del self._tallies[key]
        if len(self._tallies) >= self._most:
            name = _shared_name(budget)
            _tell_full(budget, self._most)
        tally = self._tallies[name] = _Tally(budget.ends, 0, seeded=False)
        return tally


def _shared_name(budget: ApplicableBudget) -> str:
    return f"{budget.policy}/{budget.scope}|*|{budget.span}|{budget.period}|{budget.nth}"


def _tell_full(budget: ApplicableBudget, most: int) -> None:
    log_event(
        "error",
        "budget_counters_full",
        policy=budget.policy,
        per=budget.scope,
        period=budget.period,
        counters=most,
        hint=f"more values of {budget.scope!r} than counters are kept for: the rest share one budget until the period ends",
    )


class _Registry:
    """The process's counters, by home and policy name. They outlive the drivers: a new one must not start at zero."""

    def __init__(self) -> None:
        self._counters: dict[tuple[Path, str], BudgetCounters] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def books(self, key: tuple[Path, str]) -> BudgetCounters:
        """Made when first asked for."""
        with self._lock:
            return self._counters.setdefault(key, BudgetCounters())


_registry = _Registry()


def process_counters(policy: str) -> BudgetCounters:
    """The counters that this process keeps for a policy's name, at today's home."""
    return _registry.books((home().absolute(), policy))


class MemoryState:
    """What the decisions of one process share. `clock`: seconds from any origin, for the guard."""

    is_remote = False
    is_down = False

    def __init__(
        self, policy: Policy, escalation: Escalation, clock: Callable[[], float], *, seed: Seed | None = None
    ) -> None:
        self._guard = MemoryGuard(policy.name, policy.storm_guard, clock, escalation)
        self._counters = process_counters(policy.name)
        self._seed = seed

    def observe(self, observation: Observation) -> Action | None:
        """As `State.observe`."""
        return self._guard.observe(observation)

    def may_wait(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """As `State.may_wait`: the ledger is asked of a counter that is new here."""
        return self._seed is not None and not self._counters.knows(budgets)

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """As `State.reserve`."""
        return self._counters.reserve(budgets, bound, self._seed)

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        return self._counters.settle(budgets, bound, cost)

    def close(self) -> None:
        """Nothing is held that others wait for."""
